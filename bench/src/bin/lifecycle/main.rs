//! What reloads and dead workers cost, for nginx and weir side by side:
//!
//! 1. 20 reloads with 20 new long downloads each: processes and memory at the end.
//! 2. 100 reloads while clients ask all the time on connections that they keep: how many of those are
//!    closed or reset, and how many new ones refused.
//! 3. From HUP to a new configuration of 1,000 locations in force in every worker (weir).
//! 4. From a worker's SIGKILL to its successor serving the full table (weir).
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a report on standard output is what this program is for"
)]

mod downloads;
mod proxy;
mod questions;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir_bench::peer;
use weir_bench::statistics::{median, percentile};
use weir_shm::{Reader, WorkerState};

use downloads::{Downloads, SlowServer};
use proxy::{Kind, Proxy};
use questions::ask_while;

const RELOADS: usize = 20;
const DOWNLOADS_A_RELOAD: usize = 20;
const RELOADS_UNDER_LOAD: usize = 100;
/// From one of those to the next, if it takes no longer itself.
const PACE: Duration = Duration::from_millis(100);
const LOCATIONS: usize = 1000;
const SERVERS: usize = 1000;
const ROUNDS: usize = 20;
/// What one round may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A worker that is older has not died young, which would delay its successor.
const OLD_ENOUGH: Duration = Duration::from_millis(1100);
/// Between two looks at the scoreboard.
const LOOK: Duration = Duration::from_micros(100);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lifecycle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    for kind in [Kind::Nginx, Kind::Weir] {
        reloads_with_downloads(kind)?;
    }
    for kind in [Kind::Nginx, Kind::Weir] {
        reloads_under_load(kind)?;
    }
    reload_of_many_locations()?;
    killed_worker()
}

fn reloads_with_downloads(kind: Kind) -> Result<(), String> {
    let server = SlowServer::start().map_err(|error| error.to_string())?;
    // What as many downloads take without a reload.
    let plain = {
        let proxy = Proxy::start(kind, &server.location(), "")?;
        let mut all = Downloads::default();
        all.add(proxy.port, RELOADS * DOWNLOADS_A_RELOAD)?;
        peer::pss(proxy.pid())
    };
    let mut proxy = Proxy::start(kind, &server.location(), "")?;
    let before = peer::tree(proxy.pid());
    let mut all = Downloads::default();
    for _ in 0..RELOADS {
        all.add(proxy.port, DOWNLOADS_A_RELOAD)?;
        proxy.reload("")?;
    }
    let after = peer::tree(proxy.pid());
    let pss = peer::pss(proxy.pid());
    let same = before.iter().filter(|pid| after.contains(pid)).count();
    println!(
        "{RELOADS} reloads with {DOWNLOADS_A_RELOAD} new long downloads each, {}: {} processes before, \
         {} after ({same} the same), {:.1} MB, {:+.1} MB to as many downloads without a reload; \
         {} of {} downloads go on",
        kind.name(),
        before.len(),
        after.len(),
        megabytes(pss),
        megabytes(pss) - megabytes(plain),
        all.going_on(),
        RELOADS * DOWNLOADS_A_RELOAD,
    );
    Ok(())
}

fn reloads_under_load(kind: Kind) -> Result<(), String> {
    let mut proxy = Proxy::start(kind, "location = /x { return 200 x; }", "")?;
    let port = proxy.port;
    let (outcome, result) = ask_while(port, || {
        (0..RELOADS_UNDER_LOAD).try_for_each(|_| {
            let begun = Instant::now();
            proxy.reload("")?;
            thread::sleep(PACE.saturating_sub(begun.elapsed()));
            Ok::<_, String>(())
        })
    });
    result?;
    println!(
        "{RELOADS_UNDER_LOAD} reloads under load, {}: {} keep-alive connections closed, {} resets, \
         {} refusals; {} requests",
        kind.name(),
        outcome.closed,
        outcome.reset,
        outcome.refused,
        outcome.answered,
    );
    Ok(())
}

fn reload_of_many_locations() -> Result<(), String> {
    let locations = |round: usize| -> String {
        let one = |number| format!("location /p{number} {{ return 200 {round}; }}\n");
        (0..LOCATIONS).map(one).collect()
    };
    let mut proxy = Proxy::start(Kind::Weir, &locations(0), "")?;
    let reader = Reader::open(&proxy.region()).map_err(|error| error.to_string())?;
    let mut samples = Vec::new();
    for round in 1..=ROUNDS {
        let generation = proxy.write(&locations(round))?;
        let begun = Instant::now();
        proxy.signal(Signal::SIGHUP);
        wait(|| {
            let rows = reader.workers().map_err(|error| error.to_string())?;
            let live = rows.iter().filter(|row| row.generation >= generation);
            Ok(live.count() == proxy::WORKERS)
        })?;
        samples.push(millis(begun.elapsed()));
    }
    tell(
        &format!(
            "HUP to {LOCATIONS} locations live in {} workers, weir",
            proxy::WORKERS
        ),
        &samples,
    );
    Ok(())
}

fn killed_worker() -> Result<(), String> {
    let servers: String = (0..SERVERS)
        .map(|number| {
            format!(
                "server 198.18.{}.{}:80 down;\n",
                number / 250,
                number % 250 + 1
            )
        })
        .collect();
    let http = format!("upstream back {{ server 127.0.0.1:9;\n{servers} }}\n");
    let proxy = Proxy::start(Kind::Weir, "location / { proxy_pass http://back; }", &http)?;
    let reader = Reader::open(&proxy.region()).map_err(|error| error.to_string())?;
    let mut samples = Vec::new();
    for round in 0..ROUNDS {
        thread::sleep(OLD_ENOUGH);
        let rows = reader.workers().map_err(|error| error.to_string())?;
        let victim = &rows[round % rows.len()];
        let begun = Instant::now();
        proxy::send(victim.pid, Signal::SIGKILL);
        wait(|| {
            let rows = reader.workers().map_err(|error| error.to_string())?;
            let version = reader.version().map_err(|error| error.to_string())?;
            Ok(rows.iter().any(|row| {
                row.slot == victim.slot
                    && row.pid != victim.pid
                    && row.table_version == version
                    && row.state != WorkerState::Starting
            }))
        })?;
        samples.push(millis(begun.elapsed()));
    }
    tell(
        &format!(
            "SIGKILL of a worker to its successor with the full table of {SERVERS} servers, weir"
        ),
        &samples,
    );
    Ok(())
}

fn wait(condition: impl Fn() -> Result<bool, String>) -> Result<(), String> {
    let begun = Instant::now();
    while !condition()? {
        if begun.elapsed() > PATIENCE {
            return Err(format!("nothing after {PATIENCE:?}"));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn tell(what: &str, samples: &[f64]) {
    println!(
        "{what}: p50 {:.1} ms, max {:.1} ms, {} rounds",
        median(samples),
        percentile(samples, 100.0),
        samples.len()
    );
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
