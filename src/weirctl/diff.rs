//! `diff FROM [TO]`: what is different between two table versions.

use std::fmt::Write;

use serde_json::json;
use weir_master::syncer::recorder::history::{Changes, Peer};
use weir_master::syncer::recorder::past::{table_at, undo};

use super::place::Place;
use super::show::document;
use super::table::server_text;
use super::text::shown;

/// Shows the difference.
pub fn run(place: &Place, from: u64, to: Option<u64>) -> Result<String, String> {
    let now = place.read(|reader| reader.version())?;
    let to = to.unwrap_or(now);
    let about = |error: String| place.about(&error);
    let (later, records) = table_at(&place.reader, from.max(to)).map_err(about)?;
    let earlier = undo(later.clone(), &records, from.min(to)).map_err(about)?;
    let mut changes = Changes::between(&earlier.upstreams, &later.upstreams);
    if from > to {
        changes = changes.inverse();
    }
    if place.json {
        return Ok(document(
            &json!({ "from": from, "to": to, "changes": changes }),
        ));
    }
    Ok(text(&changes, from, to))
}

fn text(changes: &Changes, from: u64, to: u64) -> String {
    let mut out = format!("from table version {from} to {to}\n");
    let line = |sign: char, peer: &Peer| {
        let text = peer.server().map(|server| server_text(&server));
        format!("      {sign} {}\n", text.unwrap_or(shown(&peer.address)))
    };
    for change in changes.differing() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\nupstream {}", shown(&change.name));
        change
            .removed
            .iter()
            .for_each(|placed| out.push_str(&line('-', &placed.server)));
        for updated in &change.updated {
            out.push_str(&line('-', &updated.before));
            out.push_str(&line('+', &updated.after));
        }
        change
            .added
            .iter()
            .for_each(|placed| out.push_str(&line('+', &placed.server)));
        if !change.moved.is_empty() {
            let _ = writeln!(out, "        {} in another order", change.moved.len());
        }
        if change.learned[0] != change.learned[1] {
            let what = if change.learned[1] {
                "learned"
            } else {
                "configured"
            };
            let _ = writeln!(out, "        now {what}");
        }
    }
    for (mark, sign, wholes) in [("new", '+', &changes.new), ("gone", '-', &changes.gone)] {
        for whole in wholes {
            let _ = writeln!(out, "\nupstream {} ({mark})", shown(&whole.name));
            let servers = whole.servers.iter();
            servers.for_each(|peer| out.push_str(&line(sign, peer)));
        }
    }
    let wholes = changes.new.len() + changes.gone.len();
    if changes.differing().next().is_none() && wholes == 0 {
        out.push_str("nothing is different\n");
    }
    out
}
