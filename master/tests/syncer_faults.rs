//! The syncer against a Consul that misbehaves: no change is lost, no table is wiped, no index is
//! asked for in a hot loop.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use common::scripted::{Asked, Consul, Fault, check_no_hot_loop};
use common::{Options, Syncer, poll};

const FAKE: &str = "127.0.0.1:11111";

fn text(consul: &Consul) -> String {
    format!("test {FAKE} {} upstreams/test 5000 500 off -", consul.port)
}

fn start(consul: &Consul) -> Syncer {
    Syncer::start(Options::new(text(consul))).ready()
}

fn key(port: u16) -> String {
    format!("upstreams/test/192.168.56.12:{port}")
}

const ONE: &[&str] = &["192.168.56.12:8001"];
const TWO: &[&str] = &["192.168.56.12:8002", "192.168.56.12:8001"];
const THREE: &[&str] = &[
    "192.168.56.12:8003",
    "192.168.56.12:8002",
    "192.168.56.12:8001",
];

/// The article: Consul resets every connection right behind a complete answer.
#[test]
fn one_put_alone_appears_although_every_answer_is_followed_by_a_reset() {
    let consul = Consul::start(Fault::ResetAfter);
    consul.set_index(168);
    consul.put(
        &key(8001),
        r#"{"weight":1, "max_fails":2, "fail_timeout":10}"#,
    );
    let syncer = start(&consul);
    syncer.wait_for("test", ONE);
    poll("a parked query", || {
        consul.asked().last().filter(|a| a.index == 169).cloned()
    });

    let put = Instant::now();
    consul.put(&key(8002), "");
    syncer.wait_for("test", TWO);
    assert!(
        put.elapsed() < Duration::from_secs(2),
        "{:?}",
        put.elapsed()
    );
    consul.put(&key(8003), "");
    syncer.wait_for("test", THREE);

    check_no_hot_loop(&consul.asked()).unwrap();
    assert!(!syncer.log().contains("[error]"), "{}", syncer.log());
    let indices: Vec<u64> = consul.asked().iter().map(|asked| asked.index).collect();
    assert_eq!(
        indices[..4.min(indices.len())],
        [0, 169, 170, 171][..4.min(indices.len())]
    );
}

/// A client as in the article: the reset takes the answer along, and the index never moves.
#[test]
fn the_check_for_hot_loops_bites() {
    let consul = Consul::start(Fault::ResetAfter);
    consul.put(&key(8001), "");
    for _ in 0..20 {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", consul.port)).unwrap();
        let request = "GET /v1/kv/upstreams/test?recurse&index=99&wait=10s HTTP/1.1\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.read(&mut [0; 4096]);
    }
    poll("the requests", || {
        (consul.asked().len() >= 20).then_some(())
    });
    assert_eq!(check_no_hot_loop(&consul.asked()), Err(99));
    let at = Instant::now();
    let slow: Vec<Asked> = (0..20)
        .map(|n| Asked {
            target: String::new(),
            index: 99,
            at: at + Duration::from_millis(n * 110),
        })
        .collect();
    assert_eq!(check_no_hot_loop(&slow), Ok(()));
}

/// Runs one fault over a parked query, a change behind it, and its end.
fn survives(fault: Fault, reason: Option<&str>) {
    let consul = Consul::start(Fault::None);
    consul.put(&key(8001), "");
    let syncer = start(&consul);
    syncer.wait_for("test", ONE);
    let faults_began = consul.asked().len();
    consul.fault(fault.clone(), true);
    consul.put(&key(8002), "");
    if let Some(reason) = reason {
        let host = format!("127.0.0.1:{}", consul.port);
        syncer.wait_for_log(&format!(
            "upsync_recv: recv error with upsync_server: {host}"
        ));
        syncer.wait_for_log(reason);
        assert_eq!(syncer.table("test").1.unwrap(), ONE, "{fault:?}");
        let asked = consul.asked();
        let moved = asked[faults_began..].iter().any(|a| a.index > 102);
        assert!(!moved, "{fault:?}: an index was committed: {asked:?}");
    }
    let ended = Instant::now();
    consul.fault(Fault::None, true);
    syncer.wait_for("test", TWO);
    assert!(
        ended.elapsed() < Duration::from_secs(4),
        "{fault:?}: {:?}",
        ended.elapsed()
    );
    check_no_hot_loop(&consul.asked()).unwrap_or_else(|index| panic!("{fault:?}: hot at {index}"));
    assert!(!syncer.log().contains("[alert]") && !syncer.log().contains("panic"));
    consul.delete(&key(8001));
    syncer.wait_for("test", &TWO[..1]);
}

#[test]
fn resets_and_ends_lose_nothing() {
    let reset = Some("recv() failed (104: Connection reset by peer)");
    survives(Fault::ResetBefore, reset);
    survives(Fault::ResetInHead, reset);
    survives(Fault::ResetInBody, reset);
    survives(Fault::CloseBefore, Some("prematurely closed connection"));
    survives(Fault::CloseInBody, Some("prematurely closed connection"));
}

#[test]
fn answers_that_are_none_lose_nothing() {
    survives(
        Fault::Status(500),
        Some("status 500: \"No cluster leader\""),
    );
    survives(Fault::Status(429), Some("status 429"));
    survives(Fault::Status(403), Some("status 403"));
    survives(Fault::NoIndex, Some("X-Consul-Index"));
    survives(
        Fault::Raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        Some("not an HTTP/1 response"),
    );
    survives(
        Fault::Raw(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
        Some("invalid response head"),
    );
    survives(Fault::Body("[]"), Some("empty list"));
    survives(Fault::Body("[{\"Key\":"), Some("invalid JSON"));
    survives(Fault::Body("{\"x\":1}"), Some("invalid JSON"));
    survives(Fault::Body(""), Some("invalid JSON"));
}

#[test]
fn odd_forms_of_good_answers_are_good() {
    survives(Fault::Trickle, None);
    survives(Fault::Chunked, None);
    survives(Fault::ToEnd, None);
    survives(Fault::ResetAfter, None);
}

/// With a request capped at 400 ms instead of some 12 s.
#[test]
fn a_half_open_consul_is_noticed() {
    for fault in [Fault::Silent, Fault::SilentInBody] {
        let consul = Consul::start(Fault::None);
        consul.put(&key(8001), "");
        let text = format!("test {FAKE} {} upstreams/test 400 500 off -", consul.port);
        let syncer = Syncer::start(Options::new(text)).ready();
        syncer.wait_for("test", ONE);
        consul.fault(fault, true);
        consul.put(&key(8002), "");
        syncer.wait_for_log("timed out (110: Connection timed out)");
        consul.fault(Fault::None, false);
        syncer.wait_for("test", TWO);
        check_no_hot_loop(&consul.asked()).unwrap();
    }
}

#[test]
fn a_consul_that_is_away_is_found_again() {
    let port = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap().port()
    };
    let text = format!("test {FAKE} {port} upstreams/test 5000 500 off -");
    let syncer = Syncer::start(Options::new(text)).ready();
    assert_eq!(syncer.table("test").1.unwrap(), [FAKE]);
    syncer.wait_for_log("connect() failed (111: Connection refused)");
    syncer.wait_for_log(&format!(
        "upsync_recv: recv error with upsync_server: 127.0.0.1:{port}"
    ));
}

#[test]
fn an_empty_prefix_keeps_the_last_list() {
    let consul = Consul::start(Fault::None);
    let syncer = start(&consul);
    assert_eq!(syncer.table("test").1.unwrap(), [FAKE]);
    consul.put(&key(8001), "");
    syncer.wait_for("test", ONE);
    consul.delete(&key(8001));
    syncer.wait_for_log("has no server");
    assert_eq!(syncer.table("test").1.unwrap(), ONE);
    consul.put("upstreams/test/", "");
    consul.put("upstreams/test/sub/1.2.3.4:5", "");
    consul.put("upstreams/test2/1.2.3.4:5", "");
    consul.put(&key(8002), "");
    syncer.wait_for("test", &TWO[..1]);
}

#[test]
fn an_index_that_goes_back_is_reset() {
    let consul = Consul::start(Fault::None);
    consul.put(&key(8001), "");
    let syncer = start(&consul);
    syncer.wait_for("test", ONE);
    poll("a parked query", || {
        consul.asked().last().filter(|a| a.index == 101).cloned()
    });
    consul.set_index(50);
    syncer.wait_for_log("index went back from 101 to 50");
    poll("index 0", || {
        consul
            .asked()
            .iter()
            .skip(1)
            .any(|a| a.index == 0)
            .then_some(())
    });
    consul.put(&key(8002), "");
    syncer.wait_for("test", TWO);
    check_no_hot_loop(&consul.asked()).unwrap();
}

#[test]
fn a_consul_that_does_not_wait_is_not_asked_in_a_hot_loop() {
    for fault in [
        Fault::NoWait,
        Fault::Index(0),
        Fault::Index(7),
        Fault::ResetBefore,
        Fault::Status(500),
    ] {
        let consul = Consul::start(fault.clone());
        consul.put(&key(8001), "");
        let _syncer = start(&consul);
        poll("some requests", || (consul.asked().len() > 8).then_some(()));
        let began = consul.asked()[0].at;
        poll("a second", || {
            (began.elapsed() > Duration::from_secs(1)).then_some(())
        });
        check_no_hot_loop(&consul.asked()).unwrap_or_else(|index| panic!("{fault:?}: {index}"));
    }
}

#[test]
fn equal_content_is_not_published_again_and_a_bad_entry_is_logged_once() {
    let consul = Consul::start(Fault::None);
    consul.put(&key(8001), "");
    consul.put("upstreams/test/bad\nkey", "");
    let syncer = start(&consul);
    let version = syncer.wait_for("test", ONE);
    for _ in 0..5 {
        let asked = consul.asked().len();
        consul.put(&key(8001), "{}");
        poll("the next query", || {
            (consul.asked().len() > asked).then_some(())
        });
    }
    assert_eq!(syncer.wait_for("test", ONE), version);
    let log = syncer.log();
    assert_eq!(
        log.matches(r#"key "upstreams/test/bad\nkey" is skipped"#)
            .count(),
        1,
        "{log}"
    );
    consul.put("upstreams/test/bad\nkey", "again");
    poll("the second line", || {
        (syncer.log().matches("is skipped").count() == 2).then_some(())
    });
    assert!(consul.connections() == 1, "the connection is kept");
}

#[test]
fn every_worker_is_woken_by_a_publish() {
    let consul = Consul::start(Fault::None);
    consul.put(&key(8001), "");
    let syncer = start(&consul);
    syncer.wait_for("test", ONE);
    for waker in &syncer.wakers {
        assert!(poll("a wake", || waker.read().ok()) >= 1);
    }
    consul.put(&key(8001), r#"{"weight":5}"#);
    for waker in &syncer.wakers {
        poll("a wake", || waker.read().ok());
    }
}
