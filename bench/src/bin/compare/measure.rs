//! CPU time, rate and latency, in rounds that are interleaved over the proxies.

use std::path::{Path, PathBuf};

use weir_bench::peer;
use weir_bench::statistics::median;
use weir_bench::wrk::{self, Load, Run};

use crate::proxies::{self, LOAD_CPU, Proxy};
use crate::workload::{Fleet, Kind, Workload};

/// Every server is to have been asked so often before it counts.
const WARM_REQUESTS: f64 = 3.0;
/// Runs that a warm-up may take.
const WARM_UPS: u32 = 10;

/// CPU µs a request, requests/s and p99 in ms of one proxy in one round.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    pub cpu_us: f64,
    pub rate: f64,
    pub p99_ms: f64,
    pub errors: u64,
}

/// All rounds of one proxy under one workload.
pub struct Measured {
    pub kind: Kind,
    pub samples: Vec<Sample>,
}

impl Measured {
    /// The median of one part of the samples.
    pub fn median(&self, part: fn(&Sample) -> f64) -> f64 {
        median(&self.samples.iter().map(part).collect::<Vec<_>>())
    }

    /// The median of the rounds' ratios of CPU time to that of `other`.
    pub fn ratio(&self, other: &Measured) -> f64 {
        let rounds = self.samples.iter().zip(&other.samples);
        let ratios: Vec<f64> = rounds
            .map(|(ours, theirs)| ours.cpu_us / theirs.cpu_us)
            .collect();
        median(&ratios)
    }
}

/// How long each proxy is loaded, and how often.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub rounds: u32,
    pub seconds: u32,
}

/// The results of those workloads of a fleet whose names contain `only`, in their order.
pub fn fleet(
    fleet: &Fleet,
    rounds: Rounds,
    only: &str,
    folder: &Path,
) -> Result<Vec<Vec<Measured>>, String> {
    let wrk = wrk()?;
    let start = |kind: &Kind| proxies::start(*kind, fleet.servers, folder);
    let proxies: Vec<Proxy> = fleet.kinds.iter().map(start).collect::<Result<_, _>>()?;
    for proxy in &proxies {
        warm_up(&wrk, proxy, fleet)?;
    }
    let mut results = Vec::new();
    let workloads = fleet.workloads.iter();
    for workload in workloads.filter(|workload| workload.name.contains(only)) {
        let mut measured: Vec<Measured> = proxies
            .iter()
            .map(|proxy| Measured {
                kind: proxy.kind,
                samples: Vec::new(),
            })
            .collect();
        for round in 0..rounds.rounds as usize {
            // Who comes first changes, as coming first may be of advantage or not.
            for turn in 0..proxies.len() {
                let place = (round + turn) % proxies.len();
                let sample = sample(&wrk, &proxies[place], workload, rounds.seconds)?;
                measured[place].samples.push(sample);
            }
        }
        crate::report::workload(workload, rounds, &measured);
        results.push(measured);
    }
    Ok(results)
}

/// Until every server has a connection that waits.
fn warm_up(wrk: &Path, proxy: &Proxy, fleet: &Fleet) -> Result<(), String> {
    let mut requests = 0.0;
    for _ in 0..WARM_UPS {
        if requests >= WARM_REQUESTS * f64::from(fleet.servers) {
            break;
        }
        if let Some(workload) = fleet.workloads.first() {
            requests += load(wrk, proxy, workload, 1)?.requests;
        }
    }
    Ok(())
}

/// Puts the workload on a proxy.
pub fn load(wrk: &Path, proxy: &Proxy, workload: &Workload, seconds: u32) -> Result<Run, String> {
    let url = format!("http://127.0.0.1:{}{}", proxy.port, workload.path);
    let load = Load {
        connections: workload.connections,
        seconds,
        close: workload.close,
        cpu: LOAD_CPU,
        url: &url,
    };
    wrk::run(wrk, load).map_err(|error| format!("{}: {error}", proxy.kind.name()))
}

fn sample(wrk: &Path, proxy: &Proxy, workload: &Workload, seconds: u32) -> Result<Sample, String> {
    let before = proxy.process.cpu_ns();
    let run = load(wrk, proxy, workload, seconds)?;
    let cpu_ns = proxy.process.cpu_ns() - before;
    Ok(Sample {
        cpu_us: cpu_ns as f64 / 1000.0 / run.requests,
        rate: run.rate,
        p99_ms: run.p99_ms,
        errors: run.errors,
    })
}

/// wrk, where it is.
pub fn wrk() -> Result<PathBuf, String> {
    peer::program("wrk")
}
