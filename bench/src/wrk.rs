//! One run of wrk and what it reports.

use std::path::Path;
use std::process::Command;

/// What one run of wrk measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Requests answered.
    pub requests: f64,
    /// Requests a second.
    pub rate: f64,
    /// 99th percentile of the latency, milliseconds.
    pub p99_ms: f64,
    /// Socket errors and answers that were not 2xx or 3xx.
    pub errors: u64,
}

/// A load to put on a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Open connections.
    pub connections: u32,
    /// Seconds.
    pub seconds: u32,
    /// Ask for the connection to be closed after each answer.
    pub close: bool,
    /// The CPU that wrk runs on.
    pub cpu: u32,
    /// What to ask for.
    pub url: &'a str,
}

/// Runs `program` (wrk) with one thread, pinned.
pub fn run(program: &Path, load: Load<'_>) -> Result<Run, String> {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(load.cpu.to_string()).arg(program);
    command.args(["-t1", "--latency"]);
    command.arg(format!("-c{}", load.connections));
    command.arg(format!("-d{}s", load.seconds));
    if load.close {
        command.args(["-H", "Connection: close"]);
    }
    let output = command
        .arg(load.url)
        .output()
        .map_err(|error| format!("wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse(&text).ok_or_else(|| {
        format!(
            "wrk said: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// Reads wrk's report.
pub fn parse(text: &str) -> Option<Run> {
    let mut run = Run {
        requests: 0.0,
        rate: 0.0,
        p99_ms: 0.0,
        errors: 0,
    };
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [count, "requests", "in", ..] => run.requests = count.parse().ok()?,
            ["Requests/sec:", rate] => run.rate = rate.parse().ok()?,
            ["99%", latency] => run.p99_ms = milliseconds(latency)?,
            ["Non-2xx", .., count] => run.errors += count.parse::<u64>().ok()?,
            ["Socket", "errors:", rest @ ..] => {
                run.errors += rest
                    .iter()
                    .filter_map(|word| word.trim_end_matches(',').parse::<u64>().ok())
                    .sum::<u64>();
            }
            _ => {}
        }
    }
    (run.requests > 0.0).then_some(run)
}

/// `12.34us`, `1.20ms` or `3.00s` in milliseconds.
fn milliseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)] {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<f64>()
        {
            return Some(number * factor);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_report() {
        let text = "  Latency Distribution\n     50%    1.10ms\n     99%    1.50ms\n  \
                    1234 requests in 2.00s, 1.00MB read\n  Socket errors: connect 0, read 1, write 2, timeout 0\n  \
                    Non-2xx or 3xx responses: 7\nRequests/sec:    617.00\nTransfer/sec: 1MB\n";
        let run = parse(text).unwrap();
        assert_eq!(
            run,
            Run {
                requests: 1234.0,
                rate: 617.0,
                p99_ms: 1.5,
                errors: 10
            }
        );
        assert_eq!(milliseconds("500us"), Some(0.5));
        assert_eq!(milliseconds("2.5s"), Some(2500.0));
        assert_eq!(milliseconds("fast"), None);
        assert_eq!(parse("unable to connect"), None);
    }
}
