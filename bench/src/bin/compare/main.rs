//! weir beside nginx, HAProxy and a forwarder that does nothing else: `make bench`.
//!
//! Each proxy has one worker on CPU 0; wrk and the responders have CPU 1. Rounds are interleaved, so
//! that what else the machine does hits all alike, and ratios are taken within a round. The CPU
//! time is that of the proxy's whole process tree.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a report on standard output is what this program is for"
)]

mod calls;
mod idle;
mod measure;
mod proxies;
mod report;
mod workload;

use std::path::Path;
use std::process::ExitCode;

use measure::Rounds;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use report::Line;
use workload::{CALLS, COUNTED, FLEETS, IDLE_BYTES, Kind};

fn main() -> ExitCode {
    let number = |name: &str, default: u32| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
            .max(1)
    };
    let rounds = Rounds {
        rounds: number("ROUNDS", 5),
        seconds: number("SECONDS", 2),
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    match compare(rounds, &only) {
        Ok(lines) => {
            report::summary(&lines);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything whose name contains `only`.
fn compare(rounds: Rounds, only: &str) -> Result<Vec<Line>, String> {
    raise_limit();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    for fleet in &FLEETS {
        let mut workloads = fleet.workloads.iter();
        if !workloads.any(|workload| workload.name.contains(only)) {
            continue;
        }
        let measured = measure::fleet(fleet, rounds, only, folder.path())?;
        let workloads = fleet.workloads.iter();
        let workloads = workloads.filter(|workload| workload.name.contains(only));
        lines.extend(
            workloads
                .zip(&measured)
                .map(|(workload, measured)| report::line(workload, measured)),
        );
    }
    if "idle connection".contains(only) {
        lines.push(idle_memory(folder.path())?);
    }
    if "system calls".contains(only) {
        lines.extend(system_calls(folder.path())?);
    }
    Ok(lines)
}

/// Thousands of connections need as many descriptors in this process and in those that it starts.
fn raise_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it does not work, connecting will say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn idle_memory(folder: &Path) -> Result<Line, String> {
    let mut values = Vec::new();
    for kind in COUNTED {
        let proxy = proxies::start(kind, 1, folder)?;
        values.push((kind, idle::bytes(&proxy, &CALLS[0].0)?));
    }
    let name = format!(
        "idle keep-alive connection, bytes of PSS ({} of them)",
        idle::CONNECTIONS
    );
    Ok(limited(name, values, IDLE_BYTES))
}

fn system_calls(folder: &Path) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (workload, limit) in &CALLS {
        let mut values = Vec::new();
        for kind in COUNTED {
            let proxy = proxies::start(kind, 1, folder)?;
            measure::load(&measure::wrk()?, &proxy, workload, 1)?;
            values.push((kind, calls::per_request(&proxy, workload, folder)?));
        }
        let name = format!("system calls a request, {}", workload.name);
        lines.push(limited(name, values, *limit));
    }
    Ok(lines)
}

/// A line whose first value, weir's, has a limit of its own.
fn limited(name: String, values: Vec<(Kind, f64)>, limit: f64) -> Line {
    let reached = values.first().is_some_and(|(_, value)| *value <= limit);
    Line {
        name,
        verdicts: vec![(format!("weir: at most {limit}"), reached)],
        values,
    }
}
