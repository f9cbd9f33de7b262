//! Everything at once, by a seed: changes in Consul, reloads, signals and killed processes under
//! load of every kind. `make chaos` runs it for longer: CHAOS_SECONDS and CHAOS_SEED.

mod clients;
mod controls;
pub mod counts;
mod random;
mod site;

use std::time::{Duration, Instant};

use clients::{Clients, Failed};
use random::Random;
use site::{AFTERMATH, Action, Killed, Site};

use crate::support::process::descendants;
use crate::support::{PATIENCE, wait_until};
use counts::{descriptors, left, memory_kb};

/// Without CHAOS_SECONDS, and without CHAOS_SEED.
const SECONDS: u64 = 8;
const SEED: u64 = 0x5EED;
/// Between two things that happen, at most.
const PAUSE_MS: u64 = 300;
/// More than all clients have at a time.
const DOWNLOADS_A_WORKER: usize = 40;
/// What memory may grow by after the warm-up, in percent.
const GROWTH_PERCENT: u64 = 5;

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).unwrap_or_default();
    match given.is_empty() {
        true => default,
        false => given
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {given}")),
    }
}

/// Failures that no killed worker explains: it was another's connection, or nobody was killed at
/// the time, or there are more than the killed ones had connections.
fn unexplained(failed: &[Failed], killed: &[Killed]) -> Vec<String> {
    let explains = |failed: &Failed, killed: &Killed| {
        failed.worker.is_none_or(|worker| worker == killed.pid)
            && failed.at >= killed.at
            && failed.at < killed.at + AFTERMATH
    };
    let mut bad: Vec<String> = failed
        .iter()
        .filter(|failed| !killed.iter().any(|killed| explains(failed, killed)))
        .map(Failed::to_string)
        .collect();
    for one in killed {
        let its = failed
            .iter()
            .filter(|failed| failed.worker == Some(one.pid));
        let count = its.count();
        if count > one.connections {
            bad.push(format!("{count} failures of {one:?}"));
        }
    }
    let connections: usize = killed.iter().map(|killed| killed.connections).sum();
    if failed.len() > connections {
        bad.push(format!(
            "{} failures, and {connections} connections of killed workers",
            failed.len()
        ));
    }
    bad
}

fn has_grown(before_kb: u64, after_kb: u64) -> bool {
    after_kb * 100 > before_kb * (100 + GROWTH_PERCENT)
}

#[test]
fn nothing_fails_while_everything_changes() {
    let (seconds, seed) = (number("CHAOS_SECONDS", SECONDS), number("CHAOS_SEED", SEED));
    eprintln!("chaos: CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
    let mut random = Random::new(seed);
    let mut site = Site::start(clients::backend);
    warm_up(&mut site);
    let master = site.weir.pid();
    let before = (descriptors(master), memory_kb(master));

    let clients = Clients::start(&site.weir.address());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut happened = Vec::new();
    while Instant::now() < end {
        let action = Action::choose(&mut random);
        happened.push(action);
        site.run(action, &mut random);
        std::thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
    }
    site.settle();
    let done = clients.done();
    let failed = clients.stop();
    eprintln!(
        "chaos: {} things happened, {done:?} done, {} failed, {} workers killed with {} connections",
        happened.len(),
        failed.len(),
        site.killed.len(),
        site.killed.iter().map(|one| one.connections).sum::<usize>(),
    );
    let bad = unexplained(&failed, &site.killed);
    assert!(
        bad.is_empty(),
        "{bad:#?}\n{happened:?}\n{}\n{}",
        site.tail(),
        site.output()
    );

    site.rest();
    wait_until(PATIENCE, "no descriptor is leaked", || {
        descriptors(master) <= before.0
    });
    let memory = memory_kb(master);
    eprintln!("chaos: {} kB before, {memory} kB after", before.1);
    assert!(
        !has_grown(before.1, memory),
        "{} kB before, {memory} kB after",
        before.1
    );
    assert_eq!(site.weir.weirctl(&["verify"]).code, Some(0));
    let mut all = descendants(master);
    all.push(master);
    site.weir.stop();
    assert_eq!(left(&all), Vec::<u32>::new(), "no process is left");
}

/// Once through everything that takes memory and sockets and keeps them.
fn warm_up(site: &mut Site) {
    let clients = Clients::start(&site.weir.address());
    let mut random = Random::new(SEED);
    for action in [
        Action::Add,
        Action::Add,
        Action::Put,
        Action::Reopen,
        Action::KillSyncer,
        Action::Reload,
        Action::Reload,
    ] {
        site.run(action, &mut random);
        wait_until(PATIENCE, "it serves", || {
            site.weir.get("/short").status == 200
        });
    }
    site.settle();
    let failed = clients.stop();
    let failed: Vec<String> = failed.iter().map(Failed::to_string).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{}", site.tail());
    // The most that a worker ever has at a time, and more: what it has taken it keeps.
    clients::many_downloads(&site.weir, DOWNLOADS_A_WORKER * site::WORKERS);
    site.rest();
}
