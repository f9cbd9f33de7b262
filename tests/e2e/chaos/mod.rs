//! Everything at once, by a seed: changes in Consul, reloads, signals and killed processes under
//! load of every kind. `make chaos` runs it for longer: CHAOS_SECONDS and CHAOS_SEED.

mod clients;
mod controls;
pub mod counts;
mod killed;
mod link;
mod masters;
mod random;
mod site;

use std::time::{Duration, Instant};

use clients::{Clients, Course, Failed};
use killed::unexplained;
use random::Random;
use site::{Action, Site};

use crate::support::{PATIENCE, wait_until};
use counts::{descriptors, holders, memory_kb, tree};

/// Without CHAOS_SECONDS, and without CHAOS_SEED.
const SECONDS: u64 = 8;
const SEED: u64 = 0x5EED;
/// From so many seconds on, downloads, uploads and tunnels last up to so many times longer.
const LONG_RUN: u64 = 60;
const LONGEST: usize = 4;
/// A part of the time, nothing happens that replaces processes.
const IN_PLACE_PART: u32 = 4;
/// After so many failures that nothing explains, the rest of a run says nothing new.
const FAILURES_MOST: usize = 20;
/// Between two things that happen, at most.
const PAUSE_MS: u64 = 300;
/// More than all clients have at a time.
const DOWNLOADS_A_WORKER: usize = 40;
/// What memory may grow by after the warm-up, in percent.
const GROWTH_PERCENT: u64 = 5;
/// A run that is too short to meet all there is may take so much more: what is taken once and stays, some
/// hundred kB by each process that was started in it.
const ONCE_KB: u64 = 3 << 10;

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).unwrap_or_default();
    match given.is_empty() {
        true => default,
        false => given
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {given}")),
    }
}

fn has_grown(before_kb: u64, after_kb: u64, once_kb: u64) -> bool {
    after_kb > before_kb + (before_kb * GROWTH_PERCENT / 100).max(once_kb)
}

#[test]
fn nothing_fails_while_everything_changes() {
    let (seconds, seed) = (number("CHAOS_SECONDS", SECONDS), number("CHAOS_SEED", SEED));
    eprintln!("chaos: CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
    let mut random = Random::new(seed);
    let mut site = Site::start(clients::backend);
    let (longest, once_kb) = match seconds >= LONG_RUN {
        true => (LONGEST, 0),
        false => (1, ONCE_KB),
    };
    let course = site.course(longest);
    warm_up(&mut site, &course, &mut random);
    let in_place = Duration::from_secs(seconds) / IN_PLACE_PART;
    let all = Duration::from_secs(seconds) - in_place;
    campaign(&mut site, &course, &mut random, all, once_kb);
    // What a process leaks shows only if it stays.
    site.in_place = true;
    campaign(&mut site, &course, &mut random, in_place, once_kb);
    let (master, prefix) = (site.masters.current(), site.weir.path(""));
    assert_eq!(site.weir.weirctl(&["verify"]).code, Some(0));
    let rotated = site.weir.path("logs/access.log.1");
    wait_until(PATIENCE, "nobody writes to a rotated log", || {
        holders(&rotated).is_empty()
    });
    wait_until(PATIENCE, "every process has its master", || {
        let its = tree(master);
        holders(&prefix).iter().all(|pid| its.contains(pid))
    });
    site.stop();
    assert_eq!(holders(&prefix), Vec::<u32>::new(), "no process is left");
}

/// Lets things happen for so long, and counts.
fn campaign(site: &mut Site, course: &Course, random: &mut Random, span: Duration, once_kb: u64) {
    let before = taken(site);
    let clients = Clients::start(course);
    let end = Instant::now() + span;
    let goes_on = |site: &Site| unexplained(&clients.failed(), &site.killed).len() <= FAILURES_MOST;
    while Instant::now() < end && goes_on(site) {
        site.run(Action::choose(random), random);
        std::thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
    }
    site.settle(random);
    let failed = finish(clients, site);
    let bad = unexplained(&failed, &site.killed);
    if !bad.is_empty() {
        panic!("{bad:#?}\n{}\n{}", site.logs(), site.output());
    }
    site.killed.clear();
    site.happened.clear();
    site.rest();
    let master = site.masters.current();
    wait_until(PATIENCE, "no descriptor is leaked", || {
        descriptors(master) <= before.0
    });
    let memory = taken(site).1;
    let said = format!("{} kB before, {memory} kB after", before.1);
    eprintln!("chaos: {said}");
    assert!(
        !has_grown(before.1, memory, once_kb),
        "{said}\n{}",
        site.logs()
    );
}

/// Descriptors and memory of processes that have had the most that they ever have at a time, and more:
/// what they have taken they keep.
fn taken(site: &Site) -> (usize, u64) {
    clients::many_downloads(&site.weir, DOWNLOADS_A_WORKER * site::WORKERS);
    site.rest();
    let master = site.masters.current();
    (descriptors(master), memory_kb(master))
}

/// Stops the clients and says what they have done, and what has failed.
fn finish(clients: Clients, site: &Site) -> Vec<Failed> {
    let done = clients.done();
    let failed = clients.stop();
    eprintln!("chaos: happened {:?}", site.happened);
    let (there, back) = (site.masters.there, site.masters.back);
    eprintln!("chaos: the binary was changed for good {there} times, there and back {back} times");
    eprintln!("chaos: done {done:?}, {} failed", failed.len());
    for killed in &site.killed {
        eprintln!("chaos: {}", killed.told(&failed));
    }
    failed
}

/// Once through everything that takes memory and sockets and keeps them.
fn warm_up(site: &mut Site, course: &Course, random: &mut Random) {
    let clients = Clients::start(course);
    for action in [
        Action::Add,
        Action::Add,
        Action::Put,
        Action::Reopen,
        Action::KillSyncer,
        Action::Reload,
        Action::Reload,
    ] {
        site.run(action, random);
        wait_until(PATIENCE, "it serves", || {
            site.weir.get("/short").status == 200
        });
    }
    site.settle(random);
    let failed = clients.stop();
    let failed: Vec<String> = failed.iter().map(Failed::to_string).collect();
    if !failed.is_empty() {
        panic!("{failed:#?}\n{}", site.logs());
    }
    site.happened.clear();
}
