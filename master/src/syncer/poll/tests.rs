use super::*;
use crate::syncer::book::FeedId;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An etcd that tells of no change; counts those who want to be told.
fn deaf() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let watches = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&watches);
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let count = stream.read(&mut head).unwrap();
            if head[..count].starts_with(b"POST /v3/watch ") {
                counted.fetch_add(1, Ordering::SeqCst);
                open.push(stream);
                continue;
            }
            let body = r#"{"header":{"revision":"7"}}"#;
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .unwrap();
        }
    });
    (port, watches)
}

#[test]
fn a_bell_that_missed_a_change_is_hung_anew() {
    let (port, watches) = deaf();
    let upsync = Upsync {
        kind: Kind::Etcd3,
        ..Upsync::folder("127.0.0.1", port, "up/a")
    };
    let mut poller = Poller::new(
        upsync,
        vec![target(0, "up/a")],
        Arc::default(),
        Arc::default(),
    );
    let wait = Duration::from_millis(20);
    for _ in 0..3 {
        assert_eq!(poller.ask(7, wait, true).unwrap().index, 7);
    }
    assert_eq!(
        watches.load(Ordering::SeqCst),
        1,
        "there was nothing to tell"
    );
    poller.is_news();
    poller.ask(7, wait, true).unwrap();
    assert_eq!(watches.load(Ordering::SeqCst), 2);
}

/// A Consul that says these one after the other.
fn says(bodies: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for body in bodies {
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).unwrap() > 0);
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nContent-Length: {length}\r\n\r\n");
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .unwrap();
        }
    });
    port
}

#[test]
fn what_is_in_force_is_not_said_again() {
    const ONE: &str = r#"[{"Key":"up/a/10.0.0.1:1","Value":"e30=","ModifyIndex":5}]"#;
    const TWO: &str = r#"[{"Key":"up/a/10.0.0.2:1","Value":"e30=","ModifyIndex":5}]"#;
    let port = says(&[ONE, ONE, ONE, TWO, TWO]);
    let upsync = Upsync::folder("127.0.0.1", port, "up/a");
    let targets = vec![target(0, "up/a")];
    let mut poller = Poller::new(upsync, targets, Arc::default(), Arc::default());
    let mut servers = |in_force| {
        let answer = poller.ask(5, Duration::ZERO, in_force).unwrap();
        answer.heard.map(|heard| heard[0].servers.len())
    };
    let heard = [false, true, false, true, true].map(&mut servers);
    assert_eq!(heard, [Some(1), None, Some(1), Some(1), None]);
}

fn target(feed: FeedId, prefix: &str) -> Target {
    let upsync = Upsync::folder("127.0.0.1", 8500, prefix);
    Target::new(feed, prefix, &upsync)
}
