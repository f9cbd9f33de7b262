//! `errors`: entries of sources that are not applied.

use serde_json::json;

use super::place::Place;
use super::show::document;
use super::text::{age, columns, now_ms, shown};

/// Shows them.
pub fn run(place: &Place) -> Result<String, String> {
    let report = place.report()?;
    if place.json {
        return Ok(document(
            &json!({ "refused": report.refused, "refused_total": report.refused_total }),
        ));
    }
    let now = now_ms();
    let lines: Vec<Vec<String>> = report
        .refused
        .iter()
        .map(|entry| {
            vec![
                shown(&entry.upstream),
                age(now.saturating_sub(entry.since_ms)),
                shown(&entry.key),
                shown(&entry.reason),
            ]
        })
        .collect();
    let mut out = format!("refused entries {}\n", report.refused_total);
    if !lines.is_empty() {
        out.push('\n');
        out.push_str(&columns(&["UPSTREAM", ">SINCE", "KEY", "REASON"], &lines));
    }
    let more = report.refused_total.saturating_sub(report.refused.len());
    if more > 0 {
        out.push_str(&format!("and {more} more\n"));
    }
    Ok(out)
}
