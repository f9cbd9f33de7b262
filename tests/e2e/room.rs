//! A region that has room for the workers that are configured and no more.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::replace::files_limit;
use crate::signals::{gated, in_flight};
use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::load::Load;
use crate::support::process::{alive, send};
use crate::support::weir::{Setup, Weir, in_http, in_server, who};
use crate::support::{PATIENCE, wait_until};

const CONNECTIONS: usize = 40;
/// What the slowest of them may take.
const SOON: Duration = Duration::from_secs(2);

/// A weir with two workers, and no room for a third.
fn full(limit: u32, backend: &Backend) -> Setup {
    Setup::whole(&text(limit, backend))
}

fn text(limit: u32, backend: &Backend) -> String {
    let passed = format!(
        "location /slow {{ proxy_pass http://{}; }}",
        backend.address()
    );
    let text = in_http(&in_server(&passed));
    let text = text.replacen("upstreams=512;", "upstreams=512 workers=2;", 1);
    format!("worker_rlimit_nofile {limit};\n{text}")
}

/// The worker that has this client's request in flight.
fn answered_by(weir: &Weir, of: &Backend) -> (u32, Client) {
    let mut client = weir.connect();
    let pid = who(&mut client);
    let before = of.count();
    client
        .send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "the request is in flight", || of.count() > before);
    (pid, client)
}

#[test]
fn all_workers_are_replaced_one_after_the_other() {
    let (backend, _gate) = gated();
    let mut weir = full(4096, &backend).start();
    let load = Load::start(&weir.address(), "/who", 4);
    for limit in [4097, 4098] {
        weir.rewrite(&text(limit, &backend));
        let before = weir.workers();
        weir.signal(Signal::SIGHUP);
        wait_until(PATIENCE, "two with the new limit serve", || {
            let now = weir.workers();
            let is_new = |pid: &u32| !before.contains(pid) && files_limit(*pid) == Some(limit);
            now.len() == 2 && now.iter().all(is_new)
        });
        load.progress();
    }
    let outcome = load.stop();
    assert!(
        outcome.unexplained().is_empty(),
        "{:?}",
        outcome.unexplained()
    );
    weir.wait_log("the region has no room for more workers");
    assert_eq!(weir.each_worker(2).len(), 2);
}

#[test]
fn workers_that_find_no_place_start_when_others_have_ended() {
    let (backend, gate) = gated();
    let weir = full(4096, &backend)
        .allow("2 workers are started when others have ended")
        .start();
    let mut busy = Vec::new();
    while busy
        .iter()
        .map(|(pid, _)| pid)
        .collect::<std::collections::BTreeSet<_>>()
        .len()
        < 2
    {
        busy.push(answered_by(&weir, &backend));
    }
    let before = weir.workers();
    weir.signal(Signal::SIGWINCH);
    weir.wait_log("stop accepting connections");
    weir.signal(Signal::SIGHUP);
    weir.wait_log("2 workers are started when others have ended: the region has room for 2");
    let mut waiting = weir.connect();
    waiting
        .send(b"GET /who HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    gate.store(true, Ordering::Release);
    for (_, mut client) in busy {
        assert_eq!(client.response("GET").unwrap().text(), "finished");
    }
    assert_eq!(waiting.response("GET").unwrap().status, 200);
    wait_until(PATIENCE, "two others serve", || {
        let now = weir.workers();
        now.len() == 2 && !now.iter().any(|pid| before.contains(pid))
    });
    assert_eq!(weir.each_worker(2).len(), 2);
}

/// A worker that a signal sends home while it has a request in flight: nobody waits for it.
fn nobody_waits_for_one_that_quits(setup: Setup, backend: &Backend, release: impl FnOnce()) {
    let weir = setup.start();
    let (quitting, mut client) = answered_by(&weir, backend);
    send(quitting, Signal::SIGQUIT);
    wait_until(PATIENCE, "it is on its way out", || {
        let rows = weir.weirctl_json(&["workers"])["workers"]
            .as_array()
            .cloned();
        let mut rows = rows.unwrap_or_default().into_iter();
        rows.any(|row| row["pid"] == quitting && row["state"] == "quitting")
    });
    for _ in 0..CONNECTIONS {
        let begun = Instant::now();
        assert_eq!(get(weir.address(), "/who").status, 200);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    assert!(alive(quitting), "it has a request to finish");
    release();
    assert_eq!(client.response("GET").unwrap().text(), "finished");
    drop(client);
    wait_until(PATIENCE, "it has ended", || !alive(quitting));
    assert_eq!(weir.each_worker(2).len(), 2);
}

#[test]
fn a_worker_that_is_told_to_quit_has_its_successor_at_once() {
    let (backend, gate) = gated();
    let setup = crate::signals::proxied(&backend);
    nobody_waits_for_one_that_quits(setup, &backend, || gate.store(true, Ordering::Release));
}

#[test]
fn a_worker_that_is_told_to_quit_leaves_its_sockets_to_another_where_there_is_no_room() {
    let (backend, gate) = gated();
    let setup = full(4096, &backend);
    nobody_waits_for_one_that_quits(setup, &backend, || gate.store(true, Ordering::Release));
}

#[test]
fn the_only_worker_that_is_told_to_quit_is_replaced_when_it_has_ended() {
    let (backend, gate) = gated();
    let text = text(4096, &backend).replacen("workers=2;", "workers=1;", 1);
    let weir = Setup::whole(&text).workers(1).start();
    let mut client = in_flight(&weir, &backend);
    let quitting = weir.workers()[0];
    send(quitting, Signal::SIGQUIT);
    wait_until(PATIENCE, "it takes nobody any more", || {
        weir.error_log().contains("gracefully shutting down")
    });
    let mut waiting = weir.connect();
    waiting
        .send(b"GET /who HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    gate.store(true, Ordering::Release);
    assert_eq!(client.response("GET").unwrap().text(), "finished");
    assert_eq!(waiting.response("GET").unwrap().status, 200);
    assert_ne!(weir.workers(), [quitting]);
}
