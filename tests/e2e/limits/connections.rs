//! `worker_connections` reached.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::{all_are_served, at_once, unfinished, used};
use crate::support::backend::{Backend, Then, ok};
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, wait_until};

/// One worker that may have so many connections, and forwards to these servers under /0, /1 …
fn limited(connections: usize, backends: &[&Backend]) -> Weir {
    let upstream = |(at, backend): (usize, &&Backend)| {
        format!(
            "upstream u{at} {{ server {}; keepalive 8; }}\n",
            backend.address()
        )
    };
    let upstreams: String = backends.iter().enumerate().map(upstream).collect();
    let locations: String = (0..backends.len())
        .map(|at| format!("location /{at} {{ proxy_pass http://u{at}; }}\n"))
        .collect();
    let own = "location = /own { return 200 x; }";
    let text = in_http(&format!("{upstreams}{}", in_server(&(locations + own)))).replace(
        "worker_connections 2048",
        &format!("worker_connections {connections}"),
    );
    Setup::whole(&text).workers(1).start()
}

fn slow() -> Backend {
    Backend::answering(|_, out| {
        thread::sleep(Duration::from_millis(20));
        let _ = out.write_all(&ok("x"));
        Then::Keep
    })
}

/// What the listening socket is watched by, in the words of proc_pid_fdinfo(5): one line for each
/// descriptor that the process's epoll has.
fn watched(pid: u32) -> usize {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = std::fs::read_dir(folder).unwrap();
    let texts = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()));
    let counts = texts.map(|text| text.unwrap_or_default().matches("tfd:").count());
    // Copies of the epoll descriptor show the same.
    counts.max().unwrap()
}

#[test]
fn more_requests_than_connections_wait_and_none_fails() {
    let backend = slow();
    // Room for three requests at a time.
    let weir = limited(7, &[&backend]);
    all_are_served(&at_once(&weir, "/0", 24));
    weir.wait_log("7 worker_connections are not enough");
}

#[test]
fn a_full_worker_does_not_even_watch_its_socket_until_there_is_room() {
    let weir = limited(6, &[]);
    let worker = weir.workers()[0];
    let before = watched(worker);
    let mut held: Vec<_> = (0..4).map(|_| unfinished(&weir)).collect();
    wait_until(PATIENCE, "four are let in", || {
        watched(worker) == before + 4
    });
    // One more is one too many: its coming is noticed, and from then on no other's is.
    let mut waiting = weir.connect();
    waiting
        .send(b"GET /own HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "the socket is let go", || {
        watched(worker) == before - 1 + 4
    });
    let (begun, processor) = (Instant::now(), used(worker));
    let more: Vec<_> = (0..20).map(|_| weir.connect()).collect();
    while begun.elapsed() < Duration::from_millis(500) {
        thread::sleep(Duration::from_millis(20));
    }
    let spent = used(worker) - processor;
    assert!(spent < Duration::from_millis(100), "{spent:?} of 500 ms");
    drop(more);
    let mut last = held.pop().unwrap();
    last.send(b"\r\n").unwrap();
    assert_eq!(last.response("GET").unwrap().status, 404);
    drop(last);
    assert_eq!(waiting.response("GET").unwrap().status, 200);
    let told = weir.error_log().matches("are not enough").count();
    assert!((1..5).contains(&told), "{told} lines");
}

#[test]
fn the_client_that_is_idle_the_longest_goes_first() {
    let weir = limited(6, &[]);
    let mut clients: Vec<_> = (0..4).map(|_| weir.connect()).collect();
    for at in [0, 1, 2, 3, 0] {
        assert_eq!(clients[at].get("/own").unwrap().status, 200);
    }
    // The second has been silent for longest by now.
    let mut new = weir.connect();
    assert_eq!(new.get("/own").unwrap().status, 200);
    assert!(clients[1].closed().unwrap());
    for at in [2, 3, 0] {
        assert_eq!(clients[at].get("/own").unwrap().status, 200, "{at}");
    }
    weir.wait_log("6 worker_connections are not enough, reusing connections");
}

#[test]
fn idle_connections_to_servers_make_room_for_clients_and_for_other_servers() {
    let backends = [Backend::named("a"), Backend::named("b")];
    let weir = limited(6, &[&backends[0], &backends[1]]);
    // Two connections to the first server are kept.
    all_are_served(&at_once(&weir, "/0", 2));
    let mut held: Vec<_> = (0..3).map(|_| unfinished(&weir)).collect();
    wait_until(PATIENCE, "those have been closed for clients", || {
        backends[0].open() <= 1
    });
    // A client that has long been let in needs the other server.
    let mut client = held.pop().unwrap();
    client.send(b"\r\n").unwrap();
    client.response("GET").unwrap();
    for target in ["/1", "/0", "/1"] {
        assert_eq!(client.get(target).unwrap().status, 200, "{target}");
    }
}

#[test]
fn an_idle_client_makes_room_for_a_connection_to_a_server() {
    let backend = Backend::named("a");
    let weir = limited(5, &[&backend]);
    let mut busy = unfinished(&weir);
    let mut rest: Vec<_> = (0..2).map(|_| weir.connect()).collect();
    for client in &mut rest {
        assert_eq!(client.get("/own").unwrap().status, 200);
    }
    let _more = unfinished(&weir);
    wait_until(PATIENCE, "it is let in", || {
        rest.len() == 2 && weir.error_log().contains("are not enough")
    });
    busy.send(b"\r\n").unwrap();
    busy.response("GET").unwrap();
    assert_eq!(busy.get("/0").unwrap().status, 200);
    assert_eq!(busy.get("/0").unwrap().status, 200);
}
