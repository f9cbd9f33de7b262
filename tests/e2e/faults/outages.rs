//! Consul that is gone, comes back with or without its data, or cannot elect a leader.

use std::time::{Duration, Instant};

use super::checks::{few, kept, lines_of, named, seen, short, soon};
use super::stage::{SERVERS, Stage, backends};
use super::{LASTS, PARKED, RECOVERED, at_most, bounded};
use crate::support::consul::ENTRY;
use crate::support::holds_for;
use crate::support::process::read_lossy;
use crate::support::server::Server;

const FOLDER: &str = "upstreams/test";

fn key(server: &str) -> String {
    format!("{FOLDER}/{server}")
}

/// A stage with one upstream that asks `server` itself.
fn stage(server: &Server) -> Stage {
    let backends = backends();
    server.consul.put(&key(backends[0].address()), ENTRY);
    let source = format!("{}/v1/kv/{FOLDER}", server.consul.address());
    Stage::start(&[("test".to_owned(), source)], false, backends)
}

/// Holds out without Consul.
fn hold(stage: &Stage) {
    let last = [stage.server(0).to_owned()];
    holds_for(LASTS, "the server stays", || {
        stage.sight.servers("test") == last
    });
}

/// How long after `since` a server is seen.
fn wait(stage: &Stage, server: &str, since: Instant, bound: Duration) -> Result<Duration, String> {
    let limit = at_most(bound);
    let looked = || seen(&stage.sight.history("test"), server);
    while looked().is_none() && since.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    let at = looked().ok_or(format!("{server} is not there after {limit:?}"))?;
    let took = at.saturating_duration_since(since);
    soon("the change", took, limit).map(|()| took)
}

/// A name, how soon a change is to be seen, and what the log is to say.
type Expected = (&'static str, Duration, &'static str);

/// The end of each of these tests: the first change, every later one, and what was said.
fn recovered(stage: Stage, server: &Server, began: Instant, (name, bound, says): Expected) {
    let run = || {
        let put = Instant::now();
        // Also what was there before, in one transaction, for a Consul that has lost it.
        let entries = [0, 1].map(|number| (stage.server(number).to_owned(), ENTRY.to_owned()));
        server.consul.put_many(FOLDER, &entries);
        let learnt = wait(&stage, stage.server(1), put, bound)?;
        let mut later = Duration::ZERO;
        for number in 2..SERVERS {
            let put = Instant::now();
            server.consul.put(&key(stage.server(number)), ENTRY);
            later = later.max(wait(&stage, stage.server(number), put, RECOVERED)?);
        }
        kept(&stage.sight.history("test"), began, stage.server(0))?;
        let log = read_lossy(&stage.weir.path("logs/error.log"));
        let lines = lines_of(&log, "test");
        named(&lines, &[says.to_owned()])?;
        short(&lines)?;
        few("lines", lines.len(), bounded(began.elapsed()))?;
        eprintln!(
            "{name:<24} seen after {learnt:>9.1?}, later PUTs within {later:>8.1?}; {} lines in {:.1?}",
            lines.len(),
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
    let stage = stage(&server);
    let began = Instant::now();
    server.kill();
    hold(&stage);
    assert!(!server.try_put("anything", ""), "Consul is gone");
    server.run();
    server.wait_ready();
    recovered(
        stage,
        &server,
        began,
        ("killed", RECOVERED, "(111: Connection refused)"),
    );
}

#[test]
fn emptied_and_started_again() {
    let mut server = Server::start();
    // What comes after counts from an index far below this one's.
    for number in 0..200 {
        server.consul.put("counts", &number.to_string());
    }
    let stage = stage(&server);
    let before = server.consul.index(FOLDER);
    let began = Instant::now();
    server.kill();
    hold(&stage);
    server.wipe();
    server.run();
    server.wait_ready();
    let empty = server.try_request("GET", &format!("/v1/kv/{FOLDER}/?recurse"), "");
    assert_eq!(empty.expect("Consul answers").status, 404);
    recovered(
        stage,
        &server,
        began,
        ("emptied", PARKED, "(111: Connection refused)"),
    );
    assert!(server.consul.index(FOLDER) < before);
}

#[test]
fn left_without_a_leader() {
    let mut servers = Server::start_many(3);
    let [asked, others @ ..] = &mut servers[..] else {
        panic!("three were started");
    };
    let stage = stage(asked);
    let began = Instant::now();
    others.iter_mut().for_each(Server::kill);
    hold(&stage);
    assert!(!asked.try_put("anything", ""), "there is no leader");
    others.iter_mut().for_each(Server::run);
    asked.wait_ready();
    recovered(
        stage,
        asked,
        began,
        ("no_leader", RECOVERED, "No cluster leader"),
    );
}
