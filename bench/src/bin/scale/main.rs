//! What tables of many servers cost: `scale`.
//!
//! For each shape of a table, a real Consul that holds it and a weir that follows it: how long an
//! answer takes from its last byte to the publish, and a change until all workers route by it;
//! memory; the CPU time of a syncer to which nothing happens; then the latency of requests that have
//! nothing to do with the table while it changes ten times a second, and while it does not.
//! `ONLY=` picks a shape by a part of its name, `SECONDS=` sets how long idle syncers are looked at.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a report on standard output is what this program is for"
)]

mod others;
mod table;

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use weir_bench::consul::{Consul, Weir};
use weir_bench::peer;
use weir_bench::statistics::{median, percentile};
use weir_shm::{ReadError, Reader};

use table::{Shape, Sight};

const SHAPES: [Shape; 3] = [
    Shape {
        upstreams: 1,
        servers: 1,
    },
    Shape {
        upstreams: 1000,
        servers: 10,
    },
    Shape {
        upstreams: 1,
        servers: 20_000,
    },
];
const WORKERS: usize = 4;
/// Changes that are timed.
const CHANGES: u64 = 50;
/// Seconds that an idle syncer is looked at.
const IDLE_SECONDS: u64 = 60;
/// Its start is over after so many.
const SETTLE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let only = env::var("ONLY").unwrap_or_default();
    let seconds = env::var("SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = seconds.unwrap_or(IDLE_SECONDS);
    for shape in SHAPES {
        if !shape.to_string().contains(&only) {
            continue;
        }
        println!("{shape} servers");
        if let Err(error) = measure(shape, seconds) {
            eprintln!("scale: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(shape: Shape, seconds: u64) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut consul = Consul::start(folder.path())?;
    consul.put_all(&shape.entries())?;
    {
        let weir = table::follow(folder.path(), WORKERS, shape, &consul, "return 204;")?;
        let sight = Sight::new(&weir)?;
        sight.wait_for(shape)?;
        changes(shape, &mut consul, &sight)?;
        thread::sleep(SETTLE);
        memory(&weir, &sight)?;
        idle(&sight, seconds)?;
    }
    others::measure(folder.path(), shape, &mut consul).map_err(|error| {
        let log = std::fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
        format!(
            "{error}; weir's last line: {}",
            log.lines().last().unwrap_or_default()
        )
    })
}

/// One change after another.
fn changes(shape: Shape, consul: &mut Consul, sight: &Sight) -> Result<(), String> {
    let (mut published, mut used) = (Vec::new(), Vec::new());
    for number in 0..CHANGES {
        let change = sight.change(shape, consul, number)?;
        published.push(change.published_ms);
        used.push(change.used_ms);
        thread::sleep(table::PAUSE);
    }
    for (what, times) in [
        ("answer's last byte to the publish", published),
        ("PUT's answer until all workers route by it", used),
    ] {
        println!(
            "  {what}: median {:.2} ms, p90 {:.2} ms, max {:.2} ms",
            median(&times),
            percentile(&times, 90.0),
            percentile(&times, 100.0)
        );
    }
    Ok(())
}

fn memory(weir: &Weir, sight: &Sight) -> Result<(), String> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let workers = sight.workers()?;
    let each: Vec<f64> = workers.iter().map(|pid| mib(peer::pss(*pid))).collect();
    let syncer = mib(peer::pss(sight.syncer()));
    let file = std::fs::metadata(&weir.region).map_err(|error| error.to_string())?;
    println!(
        "  memory (PSS): a worker {:.1} MiB, the syncer {syncer:.1} MiB; the region {:.1} MiB, of \
         which {:.1} MiB are in use",
        median(&each),
        mib(file.len()),
        mib(file.blocks() * 512),
    );
    Ok(())
}

fn idle(sight: &Sight, seconds: u64) -> Result<(), String> {
    let syncer = sight.syncer();
    let before = peer::cpu_ns(syncer);
    thread::sleep(Duration::from_secs(seconds));
    let spent = peer::cpu_ns(syncer).saturating_sub(before);
    println!(
        "  the idle syncer: {:.2} ms of CPU in {seconds} s",
        spent as f64 / 1e6
    );
    Ok(())
}

/// An error of the region as text.
fn text(error: ReadError) -> String {
    error.to_string()
}

/// The region, once weir has made it.
fn open(weir: &Weir) -> Result<Reader, String> {
    Reader::open(&weir.region).map_err(text)
}
