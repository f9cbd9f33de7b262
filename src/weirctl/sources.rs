//! `sources`: the watches, and the state of each upstream.

use serde_json::json;
use weir_master::syncer::recorder::report::{Report, SourceState, SourceStatus};

use super::place::Place;
use super::show::document;
use super::table::state_text;
use super::text::{age, columns, now_ms, shown};

/// Shows them.
pub fn run(place: &Place) -> Result<String, String> {
    let report = place.report()?;
    if place.json {
        return Ok(document(&json!({
            "time_ms": report.time_ms,
            "syncer_pid": report.syncer_pid,
            "started_ms": report.started_ms,
            "sources": report.sources,
            "upstreams": report.upstreams,
            "is_cut": report.is_cut,
        })));
    }
    Ok(text(&report, now_ms()))
}

fn text(report: &Report, now_ms: u64) -> String {
    let ago = |since: u64| age(now_ms.saturating_sub(since));
    let lines: Vec<Vec<String>> = report
        .sources
        .iter()
        .map(|source| {
            vec![
                shown(&source.name()),
                source.state.name().to_owned(),
                source.index.to_string(),
                source.version.to_string(),
                source.success_ms.map_or("never".to_owned(), ago),
                format!("{}ms", source.delay_ms),
                source.requests.to_string(),
                source.failures.to_string(),
                shown(&named(source)),
            ]
        })
        .collect();
    let heading = [
        "SOURCE",
        "STATE",
        ">INDEX",
        ">TABLE",
        ">ANSWER",
        ">DELAY",
        ">REQUESTS",
        ">FAILED",
        "UPSTREAMS",
    ];
    let mut out = format!(
        "syncer {}: sources {}\n",
        report.syncer_pid,
        report.sources.len()
    );
    if !lines.is_empty() {
        out.push('\n');
        out.push_str(&columns(&heading, &lines));
    }
    for source in &report.sources {
        if let Some(error) = &source.error {
            let over = match source.state {
                SourceState::Failing => "",
                _ => ", answers came since",
            };
            out.push_str(&format!(
                "\n{}: error {} ago{over}: {}\n",
                shown(&source.name()),
                ago(error.time_ms),
                shown(&error.text)
            ));
        }
    }
    if !report.upstreams.is_empty() {
        let lines: Vec<Vec<String>> = report
            .upstreams
            .iter()
            .map(|status| vec![shown(&status.name), state_text(status, now_ms)])
            .collect();
        out.push('\n');
        out.push_str(&columns(&["UPSTREAM", "SERVERS"], &lines));
    }
    if report.is_cut {
        out.push_str("\nthere is no room in the region for what is fresh or configured\n");
    }
    out
}

/// The upstreams of a source, shortly.
fn named(source: &SourceStatus) -> String {
    match &source.upstreams[..] {
        [] => "-".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_master::syncer::recorder::report::SourceError;

    #[test]
    fn sources_and_their_errors_are_told() {
        let source = SourceStatus {
            kind: "consul".into(),
            address: "127.0.0.1:8500".into(),
            path: "/v1/kv/u".into(),
            upstreams: ["a".into(), "b".into()].into(),
            index: 81,
            version: 4,
            state: SourceState::Failing,
            success_ms: Some(1000),
            error: Some(SourceError {
                time_ms: 9000,
                text: "refused\n".into(),
            }),
            delay_ms: 250,
            ..SourceStatus::default()
        };
        let report = Report {
            syncer_pid: 7,
            sources: vec![source],
            ..Report::default()
        };
        let text = text(&report, 11_000);
        let row = text
            .lines()
            .find(|line| line.starts_with("consul"))
            .unwrap();
        let row: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            row[2..],
            [
                "failing", "81", "4", "10s", "250ms", "0", "0", "a", "and", "1", "more"
            ]
        );
        assert!(
            text.ends_with("/v1/kv/u: error 2s ago: refused\\u{a}\n"),
            "{text}"
        );
    }
}
