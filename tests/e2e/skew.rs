//! The kernel deals connections out without looking who has time: what waits at a worker that is
//! late or full is served by its neighbour.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{Client, get};
use crate::support::process::send;
use crate::support::weir::{Setup, Weir, who};
use crate::support::{Ending, PATIENCE, wait_until};

/// New connections in each test: the kernel gives about half of them to the worker that has no time.
const CONNECTIONS: usize = 60;
/// Those where nothing else happens, each of which may wait.
const FEW: usize = 12;
/// What the slowest of them may take.
const SOON: Duration = Duration::from_secs(2);

/// The slowest of so many connections, one after another.
fn slowest(weir: &Weir, connections: usize) -> Duration {
    let one = |_| {
        let begun = Instant::now();
        assert_eq!(get(weir.address(), "/x").status, 200);
        begun.elapsed()
    };
    (0..connections).map(one).max().unwrap_or_default()
}

/// Does something while the worker behind a connection is asked all the time.
fn with_one_awake(mut client: Client, act: impl FnOnce()) {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ending = Ending(&ends);
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                assert_eq!(client.get("/x").unwrap().status, 200);
            }
        });
        act();
    });
}

#[test]
fn a_full_workers_queue_is_served_by_its_neighbour() {
    const ROOM: usize = 64;
    let weir = Setup::server(
        "location = /x { return 200 x; } keepalive_timeout 100s; keepalive_requests 1000000000;",
    )
    .workers(2)
    .start();
    let text = weir.text().replace(
        "worker_connections 2048",
        &format!("worker_connections {ROOM}"),
    );
    let mut weir = weir;
    weir.rewrite(&text);
    weir.reload();
    let full = weir.workers()[0];
    let is_full = || {
        let rows = weir.weirctl_json(&["workers"]);
        let rows = rows["workers"].as_array().or(rows.as_array()).cloned();
        let mut rows = rows.unwrap_or_default().into_iter();
        rows.any(|row| row["pid"] == full && row["state"] == "full")
    };
    let mut held: Vec<Client> = Vec::new();
    let begun = Instant::now();
    while !is_full() {
        assert!(begun.elapsed() < PATIENCE, "it never gets full");
        let mut client = weir.connect();
        // At the edge it may be closed for another.
        let Ok(response) = client.get("/who") else {
            continue;
        };
        if response.field("x-pid") == Some(full.to_string().as_str()) {
            // Under way, so that it does not idle.
            client.send(b"GET /x HTTP/1.1\r\n").unwrap();
            held.push(client);
        }
    }
    let slowest = slowest(&weir, CONNECTIONS);
    eprintln!("the slowest connection beside a full worker: {slowest:?}");
    assert!(slowest < SOON, "{slowest:?}");
    // Those that it has are served by it as soon as it is asked.
    for client in &mut held {
        client.send(b"Host: a\r\n\r\n").unwrap();
        assert_eq!(client.response("GET").unwrap().text(), "x");
    }
}

#[test]
fn a_stopped_workers_queue_is_served_by_its_neighbour() {
    let weir = Setup::server("location = /x { return 200 x; } keepalive_requests 1000000000;")
        .workers(2)
        .start();
    let mut each = weir.each_worker(2);
    let stopped = weir.workers()[1];
    let mut its = each.remove(&stopped).unwrap();
    send(stopped, Signal::SIGSTOP);
    with_one_awake(each.into_values().next().unwrap(), || {
        let slowest = slowest(&weir, CONNECTIONS);
        eprintln!("the slowest connection beside a stopped worker: {slowest:?}");
        assert!(slowest < SOON, "{slowest:?}");
    });
    send(stopped, Signal::SIGCONT);
    assert_eq!(its.get("/x").unwrap().status, 200);
    wait_until(PATIENCE, "it serves again", || {
        who(&mut weir.connect()) == stopped
    });
}

/// Nothing wakes the neighbour but its own clock.
#[test]
fn a_stopped_worker_of_an_idle_weir_keeps_nobody_waiting_for_long() {
    for workers in [2, 4] {
        let weir = Setup::server("location = /x { return 200 x; }")
            .workers(workers)
            .start();
        weir.each_worker(workers);
        let stopped = weir.workers()[1];
        wait_until(PATIENCE, "it waits for events", || {
            let rows = weir.weirctl_json(&["workers"]);
            let rows = rows["workers"].as_array().cloned().unwrap_or_default();
            let mut rows = rows.into_iter();
            rows.any(|row| row["pid"] == stopped && row["state"] == "parked")
        });
        send(stopped, Signal::SIGSTOP);
        let slowest = slowest(&weir, FEW * workers / 2);
        send(stopped, Signal::SIGCONT);
        eprintln!("the slowest of an idle weir with one of {workers} workers stopped: {slowest:?}");
        assert!(slowest < SOON, "{slowest:?}");
    }
}
