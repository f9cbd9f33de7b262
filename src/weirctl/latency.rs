//! `latency`: how long changes take on their way.

use serde_json::{Value, json};
use weir_shm::{Histogram, Latencies};

use super::place::Place;
use super::show::document;
use super::text::columns;

/// The widest bar, in characters.
const BAR: u64 = 40;

/// Shows the histograms.
pub fn run(place: &Place) -> Result<String, String> {
    let latencies = place.read(|reader| reader.latencies())?;
    Ok(match place.json {
        true => document(&to_json(&latencies)),
        false => text(&latencies),
    })
}

/// Each stage with its name.
fn stages(latencies: &Latencies) -> Vec<(String, &Histogram)> {
    let mut stages = vec![("seen to published".to_owned(), &latencies.published)];
    for (slot, used) in &latencies.used {
        stages.push((format!("published to worker {slot}"), used));
    }
    if latencies.gone.count() > 0 {
        stages.push(("published to dead workers".to_owned(), &latencies.gone));
    }
    stages
}

fn text(latencies: &Latencies) -> String {
    let quantile = |histogram: &Histogram, share: f64| {
        histogram.quantile_us(share).map_or("-".to_owned(), unit)
    };
    let stages = stages(latencies);
    let lines: Vec<Vec<String>> = stages
        .iter()
        .map(|(name, histogram)| {
            let longest = (histogram.count() > 0).then_some(histogram.longest_us);
            vec![
                name.clone(),
                histogram.count().to_string(),
                quantile(histogram, 0.5),
                quantile(histogram, 0.9),
                quantile(histogram, 0.99),
                longest.map_or("-".to_owned(), unit),
            ]
        })
        .collect();
    let heading = ["STAGE", ">CHANGES", ">HALF", ">90%", ">99%", ">LONGEST"];
    let mut out = columns(&heading, &lines);
    for (name, histogram) in stages.iter().filter(|(_, h)| h.count() > 0) {
        out.push_str(&format!("\n{name}\n{}", bars(histogram)));
    }
    out
}

/// A bar for each bucket between the first and the last that has something.
fn bars(histogram: &Histogram) -> String {
    let buckets = &histogram.buckets;
    let first = buckets.iter().position(|&count| count > 0).unwrap_or(0);
    let last = buckets.iter().rposition(|&count| count > 0).unwrap_or(0);
    let most = buckets.iter().copied().max().unwrap_or(0).max(1);
    let rows = (first..=last).map(|bucket| {
        let count = buckets[bucket];
        let end = Histogram::bounds_us(bucket).end;
        let name = match end {
            u64::MAX => "more".to_owned(),
            end => format!("< {}", unit(end)),
        };
        // At least one character for something.
        let length = count.saturating_mul(BAR).div_ceil(most);
        let bar = "#".repeat(usize::try_from(length).unwrap_or(0));
        format!("{name:>12} {count:>8} {bar}").trim_end().to_owned() + "\n"
    });
    rows.collect()
}

/// Microseconds in the unit that suits them.
fn unit(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

fn to_json(latencies: &Latencies) -> Value {
    let histogram = |histogram: &Histogram| {
        json!({
            "count": histogram.count(),
            "sum_us": histogram.sum_us,
            "longest_us": histogram.longest_us,
            "p50_us": histogram.quantile_us(0.5),
            "p90_us": histogram.quantile_us(0.9),
            "p99_us": histogram.quantile_us(0.99),
            "buckets": histogram.buckets,
        })
    };
    let used: Vec<Value> = latencies
        .used
        .iter()
        .map(|(slot, used)| {
            let mut value = histogram(used);
            value["slot"] = json!(slot);
            value
        })
        .collect();
    json!({
        "published": histogram(&latencies.published),
        "used": used,
        "gone": histogram(&latencies.gone),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        let mut published = Histogram {
            longest_us: 5_400,
            ..Histogram::default()
        };
        published.buckets[7] = 40;
        published.buckets[13] = 1;
        let text = text(&Latencies {
            published,
            used: vec![(0, Histogram::default())],
            gone: Histogram::default(),
        });
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].contains("41") && lines[1].ends_with("5.4ms"),
            "{text}"
        );
        assert!(lines[2].starts_with("published to worker 0"), "{text}");
        assert!(lines[2].ends_with("-"), "{text}");
        let bar = format!("     < 128us       40 {}", "#".repeat(40));
        assert!(lines.contains(&bar.as_str()), "{text}");
        assert_eq!(lines.last(), Some(&"     < 8.1ms        1 #"));
    }
}
