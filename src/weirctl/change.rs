//! `pin`, `unpin`, `rollback` and `guard`: what the master is asked to change.

use serde_json::json;
use weir_worker::channel::{Command, Outcome};

use super::arguments::Guard;
use super::ask::ask;
use super::place::Place;
use super::show::document;
use super::text::{age, columns, count, now_ms, shown};

/// `pin [UPSTREAM]`
pub fn pin(place: &Place, upstream: Option<&str>) -> Result<String, String> {
    let upstream = upstream.map(str::to_owned);
    let outcome = ask(place, &Command::Pin { upstream })?;
    Ok(told(place, &outcome, "pinned"))
}

/// `unpin [UPSTREAM]`
pub fn unpin(place: &Place, upstream: Option<&str>) -> Result<String, String> {
    let upstream = upstream.map(str::to_owned);
    let outcome = ask(place, &Command::Unpin { upstream })?;
    Ok(told(place, &outcome, "no longer pinned"))
}

/// `rollback VERSION`
pub fn rollback(place: &Place, version: u64) -> Result<String, String> {
    let outcome = ask(place, &Command::Rollback { version })?;
    let what = format!("pinned to what version {version} had");
    Ok(told(place, &outcome, &what))
}

/// `guard list` and `guard accept UPSTREAM`
pub fn guard(place: &Place, guard: &Guard) -> Result<String, String> {
    match guard {
        Guard::List => held(place),
        Guard::Accept { upstream } => {
            let upstream = upstream.clone();
            let outcome = ask(place, &Command::Accept { upstream })?;
            Ok(told(place, &outcome, "accepted"))
        }
    }
}

fn told(place: &Place, outcome: &Outcome, what: &str) -> String {
    if place.json {
        return document(&json!(outcome));
    }
    let mut out = format!(
        "table version {}: {} {what}\n",
        outcome.version,
        count(outcome.count, "upstream")
    );
    for name in &outcome.upstreams {
        out.push_str(&format!("        {}\n", shown(name)));
    }
    let more = outcome.count.saturating_sub(outcome.upstreams.len());
    if more > 0 {
        out.push_str(&format!("        and {more} more\n"));
    }
    for note in &outcome.notes {
        out.push_str(&format!("{}\n", shown(note)));
    }
    out
}

fn held(place: &Place) -> Result<String, String> {
    let report = place.report()?;
    let held = report.upstreams.iter();
    let held: Vec<_> = held
        .filter_map(|status| Some((&status.name, status.held.as_ref()?)))
        .collect();
    if place.json {
        let held: Vec<_> = held
            .iter()
            .map(|(name, hold)| json!({ "upstream": name, "held": hold }))
            .collect();
        return Ok(document(&json!({ "held": held })));
    }
    let now = now_ms();
    let lines: Vec<Vec<String>> = held
        .iter()
        .map(|(name, hold)| {
            vec![
                shown(name),
                age(now.saturating_sub(hold.since_ms)),
                hold.servers.to_string(),
                hold.removes.to_string(),
                shown(&hold.reason),
            ]
        })
        .collect();
    let mut out = format!("held answers {}\n", held.len());
    if !lines.is_empty() {
        let heading = ["UPSTREAM", ">SINCE", ">SERVERS", ">REMOVES", "REASON"];
        out.push('\n');
        out.push_str(&columns(&heading, &lines));
    }
    Ok(out)
}
