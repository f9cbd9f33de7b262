//! The tables on standard output.

use crate::measure::{Measured, Rounds};
use crate::workload::{Kind, Workload};

/// One line of the last table: what was measured, for whom, and what weir was to reach.
pub struct Line {
    pub name: String,
    pub values: Vec<(Kind, f64)>,
    /// `weir/nginx 0.77 (0.80)` and its like, and whether all were reached.
    pub verdicts: Vec<(String, bool)>,
}

/// The rounds of one workload.
pub fn workload(workload: &Workload, rounds: Rounds, measured: &[Measured]) {
    println!(
        "\n{} ({} rounds of {} s)",
        workload.name, rounds.rounds, rounds.seconds
    );
    println!(
        "  {:17} {:>15} {:>11} {:>9} {:>7}   weir's CPU to its, round by round",
        "median of rounds", "CPU us/request", "requests/s", "p99 ms", "errors"
    );
    let Some(weir) = measured.first() else {
        return;
    };
    for other in measured {
        let ratios: Vec<String> = weir
            .samples
            .iter()
            .zip(&other.samples)
            .map(|(ours, theirs)| format!("{:.2}", ours.cpu_us / theirs.cpu_us))
            .collect();
        println!(
            "  {:17} {:>15.2} {:>11.0} {:>9.2} {:>7}   {}",
            other.kind.name(),
            other.median(|sample| sample.cpu_us),
            other.median(|sample| sample.rate),
            other.median(|sample| sample.p99_ms),
            other
                .samples
                .iter()
                .map(|sample| sample.errors)
                .sum::<u64>(),
            if other.kind == weir.kind {
                String::new()
            } else {
                ratios.join(" ")
            },
        );
    }
}

/// A workload as a line of the last table.
pub fn line(workload: &Workload, measured: &[Measured]) -> Line {
    let mut verdicts = Vec::new();
    if let Some(weir) = measured.first() {
        for other in measured.iter().skip(1) {
            let ratio = weir.ratio(other);
            let goal = workload.goals.iter().find(|(kind, _)| *kind == other.kind);
            let name = other.kind.name();
            verdicts.push(match goal {
                Some((_, goal)) => (
                    format!("/{name} {ratio:.2} (at most {goal:.2})"),
                    ratio <= *goal,
                ),
                None => (format!("/{name} {ratio:.2}"), true),
            });
        }
    }
    Line {
        name: workload.name.to_owned(),
        values: measured
            .iter()
            .map(|measured| (measured.kind, measured.median(|sample| sample.cpu_us)))
            .collect(),
        verdicts,
    }
}

/// Everything in one table. CPU is in µs a request.
pub fn summary(lines: &[Line]) {
    println!(
        "\nIn short: CPU us/request unless said otherwise; medians; ratios of weir's to the others'"
    );
    for line in lines {
        let values: Vec<String> = line
            .values
            .iter()
            .map(|(kind, value)| format!("{} {value:.1}", kind.name()))
            .collect();
        println!("  {}: {}", line.name, values.join("  "));
        for (text, reached) in &line.verdicts {
            let mark = if *reached { "" } else { "   NOT REACHED" };
            println!("      {text}{mark}");
        }
    }
}
