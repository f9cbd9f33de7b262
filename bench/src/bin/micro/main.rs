//! Micro-benchmarks: `micro [FILTER]` runs those whose name contains FILTER.
//!
//! Each is run in rounds of a fixed time; the fastest round is the one that the rest of the
//! machine disturbed least, the median says how much it was disturbed.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the results are its output")]

mod codec;
mod plan;
mod region;

use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(40);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let mut bench = Bench {
        filter: filter.unwrap_or_default(),
    };
    println!("{:<44} {:>12} {:>12}", "", "fastest", "median");
    codec::run(&mut bench)?;
    region::run(&mut bench)?;
    plan::run(&mut bench)?;
    Ok(())
}

/// Runs and reports measurements.
pub struct Bench {
    filter: String,
}

impl Bench {
    /// Measures one call of `operation`.
    pub fn measure<T>(&mut self, name: &str, mut operation: impl FnMut() -> T) {
        if !name.contains(&self.filter) {
            return;
        }
        let calls = calls_per_round(&mut operation);
        let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(calls, &mut operation)).collect();
        rounds.sort_by(f64::total_cmp);
        println!(
            "{name:<44} {:>12} {:>12}",
            time(rounds[0]),
            time(rounds[ROUNDS / 2])
        );
    }
}

impl Bench {
    /// Reports what was measured elsewhere.
    pub fn report(&self, name: &str, fastest: Duration, median: Duration) {
        if name.contains(&self.filter) {
            let shown = [fastest, median].map(|duration| time(duration.as_nanos() as f64));
            println!("{name:<44} {:>12} {:>12}", shown[0], shown[1]);
        }
    }
}

/// How many calls fill a round.
fn calls_per_round<T>(operation: &mut impl FnMut() -> T) -> u64 {
    let mut calls = 1;
    loop {
        let nanoseconds = round(calls, operation) * calls as f64;
        if nanoseconds >= ROUND.as_nanos() as f64 / 4.0 {
            let per_call = nanoseconds / calls as f64;
            return (ROUND.as_nanos() as f64 / per_call).max(1.0) as u64;
        }
        calls *= 2;
    }
}

/// Nanoseconds a call.
fn round<T>(calls: u64, operation: &mut impl FnMut() -> T) -> f64 {
    let started = Instant::now();
    for _ in 0..calls {
        black_box(operation());
    }
    started.elapsed().as_nanos() as f64 / calls as f64
}

fn time(nanoseconds: f64) -> String {
    if nanoseconds < 10_000.0 {
        format!("{nanoseconds:.1} ns")
    } else {
        format!("{:.1} us", nanoseconds / 1000.0)
    }
}
