//! Signals that mean nothing, forks that fail, and whose clock decides.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::libc::EAGAIN;
use nix::sys::signal::Signal;

use super::Plan;
use crate::http_basic::forwarding;
use crate::support::backend::Backend;
use crate::support::load::Load;
use crate::support::process::{read_lossy, send};
use crate::support::weir::{Setup, Weir};
use crate::support::{PATIENCE, repository, wait_until};

fn all(weir: &Weir) -> Vec<u32> {
    [vec![weir.pid(), weir.syncer()], weir.workers()].concat()
}

#[test]
fn no_process_dies_of_a_broken_pipe() {
    let weir = Setup::server("location / { return 200 x; }").start();
    for pid in all(&weir) {
        let status = read_lossy(format!("/proc/{pid}/status").as_ref());
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
        assert_ne!(ignored & 1 << (Signal::SIGPIPE as u32 - 1), 0, "{status}");
    }
}

#[test]
fn a_hail_of_signals_costs_no_request() {
    let backend = Backend::named("a");
    let weir = forwarding(&backend, "").workers(2).start();
    let pids = all(&weir);
    let load = Load::start(&weir.address(), "/", 4);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // What is stopped and goes on finds the call interrupted that it waited in.
            let hail = [
                Signal::SIGCHLD,
                Signal::SIGURG,
                Signal::SIGCONT,
                Signal::SIGSTOP,
                Signal::SIGCONT,
            ];
            while !stop.load(Ordering::Acquire) {
                for signal in hail {
                    pids.iter().for_each(|&pid| send(pid, signal));
                    thread::sleep(Duration::from_millis(1));
                }
            }
            pids.iter().for_each(|&pid| send(pid, Signal::SIGCONT));
        });
        for _ in 0..10 {
            load.progress();
        }
        weir.reload();
        load.progress();
        stop.store(true, Ordering::Release);
    });
    let outcome = load.stop();
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    assert_eq!(all(&weir), pids);
}

#[test]
fn a_fork_that_fails_is_tried_again_and_harms_nobody() {
    let setup = Setup::server("location / { return 200 x; }")
        .allow("fork() failed while spawning \"worker process\"")
        .allow("exited on signal 9");
    let (setup, plan) = Plan::new(setup, "fork", EAGAIN);
    let weir = setup.start();
    let mut kept = weir.each_worker(2);
    let (&victim, _) = kept.iter().next().unwrap();
    kept.remove(&victim);
    plan.then("111");
    send(victim, Signal::SIGKILL);
    let told = |pause: &str| {
        format!(
            "fork() failed while spawning \"worker process\" (11: Resource temporarily unavailable), next try in {pause} ms"
        )
    };
    for pause in ["100", "200", "400"] {
        weir.wait_log(&told(pause));
        for client in kept.values_mut() {
            assert_eq!(client.get("/").unwrap().status, 200);
        }
    }
    wait_until(PATIENCE, "there are two workers again", || {
        weir.workers().len() == 2
    });
    assert_eq!(plan.failed(), 3);
    weir.each_worker(2);
}

/// Sources that ask what time of day it is, and what for: to show it. Whatever has to happen at some
/// time goes by a clock that nobody sets.
const SHOWN: [&str; 14] = [
    "master/src/cycle/shared.rs",
    "master/src/private.rs",
    "master/src/syncer/hub/command.rs",
    "master/src/syncer/publish.rs",
    "master/src/syncer/publish/operate.rs",
    "master/src/syncer/publish/refused.rs",
    "master/src/syncer/publish/settle.rs",
    "master/src/syncer/recorder/audit.rs",
    "master/src/syncer/recorder/mod.rs",
    "master/src/syncer/recorder/store.rs",
    "master/src/syncer/watch/status.rs",
    "worker/src/cycle.rs",
    "worker/src/log/clock.rs",
    "worker/src/log/error.rs",
];

fn asks_the_time_of_day(text: &str) -> bool {
    let words = [
        "SystemTime",
        "system_millis",
        "CLOCK_REALTIME",
        "Local::now",
        "Utc::now",
    ];
    // What only tests do is no matter.
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    words.iter().any(|word| code.contains(word))
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs")
            && asks_the_time_of_day(&read_lossy(&path))
        {
            let below = path.strip_prefix(repository()).unwrap();
            found.push(below.display().to_string());
        }
    }
}

#[test]
fn no_deadline_goes_by_a_clock_that_can_be_set() {
    assert!(asks_the_time_of_day("let now = SystemTime::now();"));
    let mut found = Vec::new();
    for folder in ["shm/src", "worker/src", "master/src"] {
        sources(&repository().join(folder), &mut found);
    }
    found.retain(|path| !path.contains("/tests"));
    let unknown: Vec<_> = found
        .iter()
        .filter(|path| !SHOWN.contains(&path.as_str()))
        .collect();
    assert!(unknown.is_empty(), "what for? {unknown:?}");
}
