//! Consul that is gone, comes back with or without its data, or cannot elect a leader.

use std::time::{Duration, Instant};

use super::checks::{few, kept, lines_of, named, short};
use super::stage::{Stage, Upstream, backends};
use super::{LASTS, PARKED, RECOVERED, lines};
use crate::support::consul::ENTRY;
use crate::support::fault::{Fault, FaultProxy};
use crate::support::process::read_lossy;
use crate::support::server::Server;
use crate::support::{holds_for, wait_until};

const FOLDER: &str = "upstreams/test";

fn key(server: &str) -> String {
    format!("{FOLDER}/{server}")
}

/// A stage with one upstream that asks `server` at this address.
fn stage(server: &Server, address: &str) -> Stage {
    let backends = backends();
    server.consul.put(&key(backends[0].address()), ENTRY);
    let upstream = Upstream::kv("test", address, FOLDER);
    Stage::start(&[upstream], backends)
}

/// Holds out without Consul.
fn hold(stage: &Stage) {
    let last = [stage.server(0).to_owned()];
    holds_for(LASTS, "the server stays", || {
        stage.sight.servers("test") == last
    });
}

/// A name, how soon a change is to be seen, and what the log is to say one of.
type Expected = (&'static str, Duration, [&'static str; 2]);

const REFUSED: [&str; 2] = [
    "(111: Connection refused)",
    "(104: Connection reset by peer)",
];
/// What is asked of a server without a leader waits for one before it fails.
const LEADERLESS: [&str; 2] = ["status 500", "timed out"];
/// A long poll that outlasts the leader, and one more that waits for another.
const LEADERLESS_FAILS: Duration = Duration::from_secs(60);

/// The end of each of these tests: the first change, every later one, and what was said.
fn recovered(stage: Stage, server: &Server, began: Instant, (name, bound, says): Expected) {
    let run = || {
        let put = Instant::now();
        // Also what was there before, in one transaction, for a Consul that has lost it.
        let entries = [0, 1].map(|number| (stage.server(number).to_owned(), ENTRY.to_owned()));
        server.consul.put_many(FOLDER, &entries);
        let learnt = stage.wait("test", 1, put, bound)?;
        let later = stage.later_puts("test", |address| server.consul.put(&key(address), ENTRY))?;
        kept(&stage.sight.history("test"), began, stage.server(0))?;
        let log = read_lossy(&stage.weir.path("logs/error.log"));
        let said = lines_of(&log, "test");
        named(&said, &says.map(str::to_owned))?;
        short(&said)?;
        few("lines", said.len(), lines(began.elapsed()))?;
        eprintln!(
            "{name:<24} seen after {learnt:>9.1?}, later PUTs within {later:>8.1?}; {} lines in {:.1?}",
            said.len(),
            began.elapsed()
        );
        Ok::<_, String>(())
    };
    run().unwrap();
    stage.finish().unwrap();
}

#[test]
fn killed_and_started_again() {
    let mut server = Server::start();
    let stage = stage(&server, &server.consul.address());
    let began = Instant::now();
    server.kill();
    hold(&stage);
    assert!(!server.try_put("anything", ""), "Consul is gone");
    server.run();
    server.wait_ready();
    recovered(stage, &server, began, ("killed", RECOVERED, REFUSED));
}

#[test]
fn emptied_and_started_again() {
    let mut server = Server::start();
    // What comes after counts from an index far below this one's.
    for number in 0..200 {
        server.consul.put("counts", &number.to_string());
    }
    let stage = stage(&server, &server.consul.address());
    let before = server.consul.index(FOLDER);
    let began = Instant::now();
    server.kill();
    hold(&stage);
    server.wipe();
    server.run();
    server.wait_ready();
    let empty = server.try_request("GET", &format!("/v1/kv/{FOLDER}/?recurse"), "");
    assert_eq!(empty.expect("Consul answers").status, 404);
    recovered(stage, &server, began, ("emptied", PARKED, REFUSED));
    assert!(server.consul.index(FOLDER) < before);
}

#[test]
fn left_without_a_leader() {
    let mut servers = Server::start_many(3);
    let [asked, others @ ..] = &mut servers[..] else {
        panic!("three were started");
    };
    let proxy = FaultProxy::start(&asked.consul.address(), Fault::None);
    let stage = stage(asked, proxy.address());
    let began = Instant::now();
    others.iter_mut().for_each(Server::kill);
    // A long poll may outlast the leader.
    proxy.reset_open();
    hold(&stage);
    assert!(!asked.try_put("anything", ""), "there is no leader");
    wait_until(LEADERLESS_FAILS, "a request fails", || {
        let log = stage.weir.error_log();
        LEADERLESS.iter().any(|text| log.contains(text))
    });
    others.iter_mut().for_each(Server::run);
    asked.wait_ready();
    recovered(stage, asked, began, ("no_leader", RECOVERED, LEADERLESS));
}
