//! Each counter of the campaign counts.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::clients::{CLIENTS, Clients, Failed, Kind, backend};
use super::counts::{descriptors, left, memory_kb};
use super::site::Killed;
use super::{has_grown, unexplained};
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
    let clients = Clients::start(&weir.address());
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

#[test]
fn failures_need_a_killed_worker_of_their_own_and_of_their_time() {
    let now = Instant::now();
    let failed = |worker, at| Failed {
        kind: Kind::Kept,
        worker,
        why: String::new(),
        at,
    };
    let killed = [Killed {
        pid: 7,
        at: now,
        connections: 2,
    }];
    let second = Duration::from_secs(1);
    let fine = [failed(Some(7), now + second), failed(None, now + second)];
    assert!(unexplained(&fine, &killed).is_empty());
    for bad in [
        vec![failed(Some(8), now + second)],
        vec![failed(Some(7), now - second)],
        vec![failed(None, now + second * 60)],
        vec![failed(Some(7), now + second); 3],
        vec![failed(None, now + second); 3],
    ] {
        assert!(!unexplained(&bad, &killed).is_empty(), "{bad:?}");
    }
    assert!(!unexplained(&fine, &[]).is_empty());
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
        has_grown(before.1, memory_kb(master))
    });
    drop(held);
}

#[test]
fn a_process_that_is_left_is_seen() {
    let mut command: Command = guarded("sleep");
    let process = Process::spawn(command.arg("60"));
    assert_eq!(left(&[process.pid()]), [process.pid()]);
    let pid = process.pid();
    drop(process);
    assert!(left(&[pid]).is_empty());
}
