//! No descriptor left.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::{EMFILE, ENFILE};

use super::{
    Plan, all_are_served, alterable, at_once, forwarding, leave_descriptors, limit_descriptors,
    unfinished, used,
};
use crate::support::backend::{Backend, Then, ok};
use crate::support::client::{Client, Failure, Response};
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, holds_for, wait_for};

/// A pause, and a little for a machine that is busy.
const PAUSE: Duration = Duration::from_millis(450);

fn plain() -> Setup {
    Setup::server("location / { return 200 x; }").workers(1)
}

#[test]
fn accepting_pauses_and_who_waits_is_served_afterwards() {
    for (error, text) in [
        (EMFILE, "accept4() failed (24: Too many open files)"),
        (
            ENFILE,
            "accept4() failed (23: Too many open files in system)",
        ),
    ] {
        let (setup, plan) = Plan::new(plain(), "accept", error);
        let weir = setup.start();
        let worker = weir.workers()[0];
        plan.then("1111");
        let (begun, before) = (Instant::now(), used(worker));
        all_are_served(&at_once(&weir, "/", 8));
        let taken = begun.elapsed();
        assert_eq!(plan.failed(), 4);
        // Four failures are four pauses, and no loop that tries again and again. One may end early, with
        // the connection by which the start was seen.
        assert!(taken >= 3 * PAUSE, "{taken:?}");
        let spent = used(worker) - before;
        assert!(spent < taken / 4, "{spent:?} in {taken:?}");
        let log = weir.error_log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
        assert!(lines.len() <= 1 + taken.as_secs() as usize, "{lines:#?}");
        assert!(
            lines[0].contains("[crit]") && lines[0].ends_with(')'),
            "{lines:?}"
        );
        let told = lines[1..]
            .iter()
            .any(|line| line.ends_with("such lines were left out"));
        assert!(told, "{lines:#?}");
    }
}

#[test]
fn the_others_go_on_while_one_worker_pauses() {
    let (setup, plan) = Plan::new(plain().workers(2), "accept", EMFILE);
    let weir = setup.start();
    let mut kept = weir.each_worker(2);
    let (paused, _) = wait_for(PATIENCE, "one worker pauses", || {
        let log = weir.error_log();
        let Some(line) = log.lines().find(|line| line.contains("accept4() failed")) else {
            // Its idle connection goes first, and that does not help. A neighbour that looks whether
            // it can help may take one of the two, and says nothing.
            plan.then("11");
            // Whoever gets this connection.
            drop(Client::try_connect(weir.address()));
            return None;
        };
        let pid = line.split("[crit] ").nth(1)?.split('#').next()?;
        kept.remove_entry(&pid.parse().ok()?)
    });
    holds_for(PAUSE, "the other serves", || {
        assert!(!kept.contains_key(&paused));
        kept.values_mut()
            .all(|client| client.get("/").is_ok_and(|answer| answer.status == 200))
    });
    all_are_served(&at_once(&weir, "/", 8));
}

#[test]
fn a_descriptor_that_is_free_again_is_used_at_once() {
    let weir = alterable(&in_server("location / { return 200 x; }")).start();
    assert_eq!(weir.get("/").status, 200);
    let _filling = leave_descriptors(&weir, 3);
    let mut held: Vec<_> = (0..3).map(|_| unfinished(&weir)).collect();
    let mut waiting: Vec<_> = (0..5).map(|_| weir.connect()).collect();
    for client in &mut waiting {
        let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        client.send(request).unwrap();
    }
    weir.wait_log("accept4() failed (24: Too many open files)");
    // As soon as there is one descriptor, one after another goes through it.
    drop(held.pop());
    for client in &mut waiting {
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
}

#[test]
fn a_request_in_flight_has_the_reserve() {
    let backend = Backend::answering(|_, out| {
        thread::sleep(Duration::from_millis(5));
        let _ = out.write_all(&ok("x"));
        Then::Close
    });
    let weir = forwarding(&backend, "").start();
    assert_eq!(weir.get("/").status, 200);
    // Enough for a client, but not for the server that it asks for.
    let _filling = leave_descriptors(&weir, 1);
    for _ in 0..4 {
        all_are_served(&at_once(&weir, "/", 3));
    }
    assert!(!weir.error_log().contains("socket() failed"));
}

#[test]
fn a_request_without_a_descriptor_is_500_and_no_other_is_harmed() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&ok("x"));
        Then::Close
    });
    let (setup, plan) = Plan::new(forwarding(&backend, ""), "socket", EMFILE);
    let weir = setup.allow("socket() failed").start();
    let mut other = unfinished(&weir);
    // Once more after the reserve was given up, and then no more.
    plan.then("11");
    assert_eq!(weir.get("/").status, 500);
    weir.wait_log("[alert]");
    weir.wait_log("socket() failed (24: Too many open files) while connecting to upstream");
    other.send(b"\r\n").unwrap();
    assert_eq!(other.response("GET").unwrap().status, 200);
    // The reserve is there again for one that fails once.
    plan.then("1");
    for _ in 0..4 {
        assert_eq!(weir.get("/").status, 200);
    }
    assert_eq!(plan.failed(), 3);
}

#[test]
fn a_body_without_a_file_is_500_and_no_other_is_harmed() {
    let backend = Backend::named("a");
    let weir = forwarding(
        &backend,
        "client_body_in_file_only clean; client_body_temp_path @DIR@/body;",
    )
    .start();
    let worker = weir.workers()[0];
    let mut kept = weir.connect();
    assert_eq!(kept.request("POST", "/", "", b"x").unwrap().status, 200);
    let mut others = leave_descriptors(&weir, 0);
    // What is idle makes room for the file, the reserve for the server.
    for _ in 0..3 {
        let answer = kept.request("POST", "/", "", b"x").unwrap();
        assert_eq!(answer.status, 200);
    }
    // No number is below.
    limit_descriptors(worker, 3);
    let answer = kept.request("POST", "/", "", b"x").unwrap();
    assert_eq!(answer.status, 500);
    weir.wait_log("[crit]");
    weir.wait_log("failed (24: Too many open files)");
    limit_descriptors(worker, 1024);
    for other in &mut others {
        other.send(b"\r\n").unwrap();
        assert_eq!(other.response("GET").unwrap().status, 200);
    }
    let answer = weir.connect().request("POST", "/", "", b"x").unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn the_syncer_opens_as_many_files_as_it_may() {
    let weir = Setup::http(&in_server("return 200;"))
        .workers(1)
        .under(&["prlimit", "--nofile=500:900"])
        .start();
    let limits = |process: u32| {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let line = line.unwrap().split_whitespace();
        line.filter_map(|word| word.parse().ok())
            .collect::<Vec<u32>>()
    };
    assert_eq!(limits(weir.syncer()), [900, 900]);
    assert_eq!(limits(weir.workers()[0]), [500, 900]);
}

#[test]
fn a_small_limit_is_told_and_kept_within() {
    let backend = Backend::answering(|_, out| {
        thread::sleep(Duration::from_millis(5));
        let _ = out.write_all(&ok("x"));
        Then::Keep
    });
    let body = format!(
        "upstream back {{ server {}; }}\n{}",
        backend.address(),
        in_server("location / { proxy_pass http://back; }")
    );
    let text = in_http(&body);
    let configured = text.replace("daemon off;", "daemon off; worker_rlimit_nofile 24;");
    for (text, limit) in [(configured, None), (text, Some(48))] {
        let mut setup = Setup::whole(&text).workers(1);
        if let Some(limit) = limit {
            setup = setup.under(&["prlimit", &format!("--nofile={limit}:{limit}")]);
        }
        let weir = setup.allow(TAKEN).start();
        let limit = limit.unwrap_or(24);
        let log = weir.error_log();
        let told = format!("2048 worker_connections exceed open file resource limit: {limit}");
        assert!(log.contains(&told), "{log}");
        all_are_served_or_told(&weir, &at_once(&weir, "/", 40));
        let log = weir.error_log();
        assert!(!log.contains("Too many open files"), "{log}");
        assert!(
            log.contains("open file resource limit leaves room for"),
            "{log}"
        );
        // Nor is a reload cut short.
        weir.reload();
        all_are_served_or_told(&weir, &at_once(&weir, "/", 40));
    }
}

/// What the log says of a request that was let in and finds no room for its server's connection.
const TAKEN: &str = "are not enough while connecting to upstream";

/// A client whose request comes later than its connection may find the place for its server taken by
/// others: it is answered 500, as in nginx, and told. Those are few.
#[track_caller]
fn all_are_served_or_told(weir: &Weir, outcomes: &[Result<Response, Failure>]) {
    let is_late = |outcome: &&Result<Response, Failure>| {
        outcome
            .as_ref()
            .is_ok_and(|response| response.status == 500)
    };
    let late = outcomes.iter().filter(is_late).count();
    assert!(late * 10 <= outcomes.len(), "{late} of {}", outcomes.len());
    assert!(late <= weir.error_log().matches(TAKEN).count());
    for outcome in outcomes.iter().filter(|outcome| !is_late(outcome)) {
        all_are_served(std::slice::from_ref(outcome));
    }
}
