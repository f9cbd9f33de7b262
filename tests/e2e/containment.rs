//! What a dead or stopped process takes along: no connection that waits, no part of a table, no
//! start after it.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir_shm::Reader;

use crate::support::backend::{Backend, Then};
use crate::support::client::Client;
use crate::support::consul::{self, Consul};
use crate::support::process::{alive, read_lossy, send};
use crate::support::weir::{Setup, Weir, in_server, who};
use crate::support::{Ending, PATIENCE, wait_until};

/// Connections that wait in a queue.
const WAITING: usize = 20;
const X: &str = "location = /x { add_header X-Pid $pid; return 200 x; }";

/// Whether a process is stopped.
fn is_stopped(pid: u32) -> bool {
    let stat = read_lossy(Path::new(&format!("/proc/{pid}/stat")));
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.starts_with(" T"))
}

#[track_caller]
fn stop(pid: u32) {
    send(pid, Signal::SIGSTOP);
    wait_until(PATIENCE, "it is stopped", || is_stopped(pid));
}

/// Connections with a request each, not accepted yet.
fn waiting(weir: &Weir) -> Vec<Client> {
    let one = |_| {
        let mut client = weir.connect();
        client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        client
    };
    (0..WAITING).map(one).collect()
}

#[track_caller]
fn all_answered(clients: Vec<Client>) {
    for mut client in clients {
        let response = client.response("GET");
        assert_eq!(
            response.unwrap_or_else(|error| panic!("{error}")).text(),
            "x"
        );
    }
}

#[test]
fn what_waits_for_a_worker_that_dies_is_served_by_its_successor() {
    for (number, signal) in [(9, Signal::SIGKILL), (11, Signal::SIGSEGV)] {
        let weir = Setup::server(X)
            .workers(1)
            .allow(&format!("exited on signal {number}"))
            .start();
        let worker = weir.workers()[0];
        stop(worker);
        let clients = waiting(&weir);
        // The first SIGSEGV that somebody sends only takes away the handler for stack overflows.
        wait_until(PATIENCE, "it dies", || {
            send(worker, signal);
            send(worker, Signal::SIGCONT);
            !alive(worker)
        });
        all_answered(clients);
        weir.wait_log(&format!(
            "worker process {worker} exited on signal {number}"
        ));
        assert_ne!(weir.workers(), [worker]);
    }
}

#[test]
fn what_waits_for_a_worker_that_retires_is_served_by_another() {
    let weir = Setup::server(X).workers(2).start();
    let [_, last] = weir.workers()[..] else {
        panic!("two workers")
    };
    stop(last);
    let clients = waiting(&weir);
    weir.signal(Signal::SIGTTOU);
    // The one that stays gets the sockets, though the other does not even hear of it.
    all_answered(clients);
    send(last, Signal::SIGCONT);
    wait_until(PATIENCE, "one is left", || weir.workers().len() == 1);
    assert_ne!(who(&mut weir.connect()), last);
}

#[test]
fn a_watched_worker_that_is_stuck_is_replaced_and_its_queue_is_served() {
    let mut setup = Setup::server(X).workers(1).allow("has not turned its loop");
    setup = setup.allow("exited on signal");
    let weir = setup.start();
    let text = weir.text();
    let mut weir = weir;
    weir.rewrite(&format!("worker_watchdog 500ms;\n{text}"));
    weir.reload();
    let worker = weir.workers()[0];
    let is_running = || {
        let rows = weir.weirctl_json(&["workers"]);
        let rows = rows["workers"].as_array().or(rows.as_array()).cloned();
        rows.unwrap_or_default()
            .iter()
            .any(|row| row["pid"] == worker && row["state"] == "running")
    };
    // Stopped while it works: it is kept busy until a stop meets it so.
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ending = Ending(&ends);
        for _ in 0..3 {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    let Ok(mut client) = Client::try_connect(weir.address()) else {
                        continue;
                    };
                    client.set_timeout(Duration::from_millis(20));
                    let many = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20);
                    let _ = client.send(&many).and_then(|()| client.fill().map(drop));
                }
            });
        }
        let begun = Instant::now();
        loop {
            stop(worker);
            if is_running() {
                break;
            }
            send(worker, Signal::SIGCONT);
            assert!(begun.elapsed() < PATIENCE, "it is never met at work");
        }
    });
    let clients = waiting(&weir);
    all_answered(clients);
    weir.wait_log(&format!(
        "worker process {worker} has not turned its loop for 500 ms (\"worker_watchdog\"), it is ended"
    ));
    assert_ne!(weir.workers(), [worker]);
}

#[test]
fn the_next_master_starts_beside_an_orphan_that_finishes() {
    static GO: AtomicBool = AtomicBool::new(false);
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-");
        let begun = Instant::now();
        while !GO.load(Ordering::Acquire) && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = out.write_all(b"whole");
        Then::Keep
    });
    let slow = format!(
        "{X} location /slow {{ add_header X-Pid $pid; proxy_pass http://{}; }}",
        backend.address()
    );
    let mut weir = Setup::server(&slow).workers(2).start();
    let mut client = weir.connect();
    client
        .send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let orphan = who(&mut weir.connect());
    let old = weir.workers();
    assert!(old.contains(&orphan));
    wait_until(PATIENCE, "the download is under way", || {
        backend.count() == 1
    });
    weir.signal(Signal::SIGKILL);
    weir.process().wait(PATIENCE);
    weir.start_again();
    for _ in 0..20 {
        let mut client = weir.connect();
        assert!(weir.workers().contains(&who(&mut client)));
    }
    let left: Vec<u32> = old.iter().copied().filter(|pid| alive(*pid)).collect();
    assert_eq!(left.len(), 1, "the one with the download");
    GO.store(true, Ordering::Release);
    assert_eq!(client.response("GET").unwrap().text(), "half-whole");
    drop(client);
    wait_until(PATIENCE, "it ends", || !alive(left[0]));
}

#[test]
fn a_second_master_of_the_same_pid_file_is_refused() {
    let weir = Setup::server(X).start();
    let pid_file = weir.path("logs/weir.pid");
    let text = weir
        .text()
        .replace("logs/weir.pid", &pid_file.display().to_string());
    let mut second = Setup::whole(&text);
    let done = second.run(&[]);
    assert_eq!(done.code, Some(1));
    let expected = format!(
        "[emerg] pid file \"{}\" is held by the running master process {}",
        pid_file.display(),
        weir.pid()
    );
    assert!(done.stderr.contains(&expected), "{}", done.stderr);
    assert_eq!(read_lossy(&pid_file), format!("{}\n", weir.pid()));
    assert_eq!(weir.get("/x").text(), "x");
}

/// Syncers killed while they publish, at moments that a seed says: whoever reads sees a whole table
/// at any time, and in the end nothing is missing.
#[test]
fn syncers_killed_in_the_middle_lose_nothing() {
    const KILLS: u64 = 6;
    /// The latest moment after the last syncer's start.
    const LATEST_US: u64 = 60_000;
    /// Between two changes.
    const PAUSE: Duration = Duration::from_millis(3);
    let consul = Consul::shared();
    let folder = consul::folder();
    let put = |number: usize| {
        let address = format!("198.18.{}.{}:80", number / 250, number % 250 + 1);
        consul.put(&format!("{folder}/{address}"), r#"{"down":1}"#);
    };
    put(0);
    let weir = Setup::http(&format!(
        "upstream test {{ server 127.0.0.1:1; upsync {}/v1/kv/{folder} upsync_type=consul; }}\n{}",
        consul.address(),
        in_server(
            "location = /upstream_show { upstream_show; } location / { proxy_pass http://test; }"
        )
    ))
    .set("SERVERS", 20_000)
    .allow("exited on signal 9")
    .allow("keeps dying")
    .start();
    let (ends, looks, puts) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(1),
    );
    let region = weir.path("weir.region");
    thread::scope(|scope| {
        let _ending = Ending(&ends);
        scope.spawn(|| {
            let reader = Reader::open(&region).unwrap();
            let mut last = 0;
            while !ends.load(Ordering::Relaxed) {
                let table = reader.table().unwrap_or_else(|error| panic!("{error}"));
                assert!(table.version >= last, "{} after {last}", table.version);
                assert_eq!(table.upstreams.len(), 1);
                last = table.version;
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                put(puts.fetch_add(1, Ordering::Relaxed));
                thread::sleep(PAUSE);
            }
        });
        let mut seed = 0x5EED_u64;
        for _ in 0..KILLS {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let syncer = weir.syncer();
            thread::sleep(Duration::from_micros(seed % LATEST_US));
            send(syncer, Signal::SIGKILL);
            wait_until(PATIENCE, "there is another syncer", || {
                weir.syncer() != syncer
            });
        }
    });
    assert!(looks.load(Ordering::Relaxed) > 0);
    let head = format!(
        "Upstream name: test; Backend server count: {}\n",
        puts.load(Ordering::Relaxed)
    );
    wait_until(PATIENCE, "nothing is missing", || {
        weir.shown("test").starts_with(&head)
    });
    assert_eq!(weir.weirctl(&["verify"]).code, Some(0));
}
