//! Every call of a kind fails once, the first, the second and so on, until a whole life of weir has
//! none that has not failed.

use std::fs;
use std::io::Write;
use std::path::Path;

use nix::libc::{EAGAIN, ECONNREFUSED, EMFILE, ENOMEM};
use nix::sys::signal::Signal;

use super::Plan;
use crate::http_basic::forwarding;
use crate::support::backend::{Backend, Then, ok};
use crate::support::client::Client;
use crate::support::weir::{Setup, Weir};
use crate::support::{PATIENCE, wait_until};

/// No life has so many calls of a kind.
const MOST: usize = 60;
/// Requests that one failure may cost.
const LOST: usize = 1;

fn life(backend: &Backend) -> Setup {
    forwarding(backend, "")
        .workers(2)
        // Whatever is told, it is told by an error that was planned; a panic is never allowed.
        .allow("")
}

/// A few requests, each on its own connection; how many got no answer or a bad one.
fn failed(weir: &Weir) -> usize {
    let ask = |_: &usize| {
        let mut client = Client::try_connect(weir.address()).ok()?;
        let answer = client
            .request("GET", "/", "Connection: close\r\n", b"")
            .ok()?;
        (answer.status == 200).then_some(())
    };
    (0..4).filter(|at| ask(at).is_none()).count()
}

/// Processes that have a file open.
fn holders(path: &Path) -> Vec<String> {
    let is_held = |pid: &str| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.any(|link| link == path).then_some(())
    };
    let names = fs::read_dir("/proc").unwrap();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| name.parse::<u32>().is_ok() && is_held(name).is_some())
        .collect()
}

#[track_caller]
fn nothing_is_left(folder: &Path, what: &str) {
    let plan = folder.join("plan");
    wait_until(PATIENCE, &format!("{what}: no process is left"), || {
        holders(&plan).is_empty()
    });
    for name in ["logs/weir.pid", "weir.control", "weir.control~"] {
        assert!(!folder.join(name).exists(), "{what}: {name} is left");
    }
}

/// Serves, reloads, serves, and ends.
fn live(weir: &mut Weir, what: &str) {
    let lost = failed(weir);
    assert!(lost <= LOST, "{what}: {lost} requests failed");
    let count = |weir: &Weir| {
        let log = weir.error_log();
        let ends = ["reconfigured", "[emerg]", "[error]", "[alert]"];
        log.lines()
            .filter(|line| ends.iter().any(|end| line.contains(end)))
            .count()
    };
    let before = count(weir);
    weir.signal(Signal::SIGHUP);
    wait_until(
        PATIENCE,
        &format!("{what}: the reload comes to an end"),
        || count(weir) > before,
    );
    // Whatever came of it, it serves.
    wait_until(PATIENCE, &format!("{what}: it serves"), || {
        failed(weir) == 0
    });
    weir.signal(Signal::SIGTERM);
    let status = weir.process().wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{what}");
}

/// One life with the n-th call failing; whether it came so far.
fn one(backend: &Backend, call: &str, error: i32, n: usize) -> bool {
    let what = format!("{call} {n}");
    let (setup, plan) = Plan::new(life(backend), call, error);
    plan.then(&format!("{}1", "0".repeat(n)));
    match setup.try_start() {
        Ok(mut weir) => {
            live(&mut weir, &what);
            nothing_is_left(&weir.path(""), &what);
            plan.failed() > 0
        }
        Err(refused) => {
            let (setup, code, said) = *refused;
            assert_eq!(code, Some(1), "{what}: {said}");
            assert!(said.contains("[emerg]"), "{what}: {said}");
            assert_eq!(plan.failed(), 1, "{what}: {said}");
            nothing_is_left(setup.dir(), &what);
            // The next start finds nothing in its way.
            let mut weir = setup.without_environment().start();
            live(&mut weir, &what);
            true
        }
    }
}

fn each(call: &str, error: i32, least: usize) {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&ok("x"));
        Then::Close
    });
    let count = (0..MOST)
        .take_while(|&n| one(&backend, call, error, n))
        .count();
    assert!((least..MOST).contains(&count), "{count} calls of {call}");
}

#[test]
fn any_socket() {
    each("socket", EMFILE, 4);
}

#[test]
fn any_accept() {
    each("accept", EMFILE, 8);
}

#[test]
fn any_connect() {
    each("connect", ECONNREFUSED, 8);
}

#[test]
fn any_mmap() {
    each("mmap", ENOMEM, 5);
}

#[test]
fn any_fork() {
    each("fork", EAGAIN, 3);
}

#[test]
fn any_buffer() {
    each("malloc", ENOMEM, 2);
}
