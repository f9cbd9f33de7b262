//! Each counter of the campaign counts.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::clients::{CLIENTS, Clients, Course, Failed, Kind, backend};
use super::counts::{descriptors, holders, memory_kb};
use super::has_grown;
use super::killed::{Killed, connections, unexplained};
use super::link::Asked;
use crate::support::client::Client;
use crate::support::process::{Process, guarded, send};
use crate::support::weir::Setup;
use crate::support::{PATIENCE, wait_until};

/// Clients of every kind notice that their worker is killed.
#[test]
fn clients_of_every_kind_notice_a_killed_worker() {
    let backend = backend();
    let body = format!(
        "location / {{ add_header X-Pid $pid; proxy_pass http://{}; proxy_http_version 1.1;
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; }}",
        backend.address()
    );
    let weir = Setup::server(&body)
        .workers(1)
        .allow("exited on signal 9")
        .allow("keeps dying")
        .start();
    let clients = Clients::start(&Course {
        addresses: vec![weir.address()],
        guests: Some(weir.address()),
        longest: 1,
    });
    let all: BTreeSet<Kind> = CLIENTS.into_iter().map(|(kind, _)| kind).collect();
    let noticed =
        || -> BTreeSet<Kind> { clients.failed().iter().map(|failed| failed.kind).collect() };
    wait_until(PATIENCE, "every kind notices", || {
        for pid in weir.workers() {
            send(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(200));
        noticed() == all
    });
    assert!(!unexplained(&clients.stop(), &[]).is_empty());
}

/// A connection opened a second before `now`, with a request `asked` so long after that.
fn failure(port: Option<u16>, now: Instant, asked: Option<Duration>) -> Failed {
    let opened = now - Duration::from_secs(1);
    Failed {
        kind: Kind::Kept,
        port,
        worker: None,
        opened,
        asked: asked.map(|after| Asked {
            begun: opened + after,
            sent: opened + after,
        }),
        at: now + Duration::from_secs(1),
        why: String::new(),
    }
}

#[test]
fn failures_need_a_killed_worker_of_their_own_and_of_their_time() {
    let now = Instant::now();
    let millis = Duration::from_millis;
    let killed = Killed {
        pid: 7,
        looked: now,
        dead: now + millis(10),
        connections: BTreeSet::from([1, 2, 3, 4]),
        unread: BTreeSet::from([3]),
        in_flight: Some(1),
    };
    let killed = [killed];
    let failed = |port, asked| failure(Some(port), now, Some(millis(asked)));
    // Read, unread, sent while it died, and none under way.
    let fine = [
        failed(1, 500),
        failed(3, 500),
        failed(2, 1005),
        failure(Some(4), now, None),
    ];
    assert_eq!(unexplained(&fine, &killed), Vec::<String>::new());
    let early = Failed {
        at: now,
        ..failed(1, 500)
    };
    let young = Failed {
        opened: now,
        ..failed(1, 500)
    };
    for bad in [
        vec![failed(8, 500)],
        vec![failure(None, now, None)],
        vec![failed(2, 1011)],
        vec![early],
        vec![young],
        vec![failed(1, 500), failed(2, 500)],
    ] {
        assert!(!unexplained(&bad, &killed).is_empty(), "{bad:?}");
    }
    assert!(!unexplained(&fine, &[]).is_empty());
}

#[test]
fn the_connections_of_a_worker_and_what_it_has_not_read_are_seen() {
    let weir = Setup::server("").workers(1).start();
    let (mut idle, mut asks) = (weir.connect(), weir.connect());
    for client in [&mut idle, &mut asks] {
        assert_eq!(client.get("/who").unwrap().status, 200);
    }
    let [worker] = weir.workers()[..] else {
        panic!("one worker");
    };
    send(worker, Signal::SIGSTOP);
    asks.send(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let both = BTreeSet::from([idle.port(), asks.port()]);
    let unread = BTreeSet::from([asks.port()]);
    wait_until(PATIENCE, "both are seen, one with a request", || {
        connections(worker, &[weir.port("PORT")]) == (both.clone(), unread.clone())
    });
    assert!(connections(worker, &[1]).0.is_empty());
    assert!(!idle.is_closed());
    send(worker, Signal::SIGCONT);
    assert_eq!(asks.response("GET").unwrap().status, 200);
}

#[test]
fn descriptors_and_memory_that_are_held_are_counted() {
    let weir = Setup::server("").workers(1).start();
    let master = weir.pid();
    assert_eq!(weir.get("/who").status, 200);
    let before = (descriptors(master), memory_kb(master));
    let held: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = weir.connect();
            let half = format!("GET /{} HTTP/1.1\r\n", "x".repeat(5 * 1024));
            client.send(half.as_bytes()).unwrap();
            client
        })
        .collect();
    wait_until(PATIENCE, "200 descriptors more", || {
        // The connection before them may have been counted.
        descriptors(master) + 1 >= before.0 + 200
    });
    wait_until(PATIENCE, "memory more than 5 percent above", || {
        has_grown(before.1, memory_kb(master), super::ONCE_KB)
    });
    drop(held);
}

#[test]
fn a_process_that_is_left_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut command: Command = guarded("sleep");
    let process = Process::start(command.arg("60"), &folder.path().join("output"));
    // It has the streams too.
    drop(command);
    wait_until(PATIENCE, "it holds its output", || {
        holders(folder.path()) == [process.pid()]
    });
    assert!(holders(&folder.path().join("other")).is_empty());
    drop(process);
    assert!(holders(folder.path()).is_empty());
}
