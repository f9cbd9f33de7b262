//! `try FILE|KEY=VALUE`: what entries would do, by the syncer's own decoder.

mod given;

use std::fmt::Write;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use weir_master::syncer::decode::{Decoded, Entry, below, decode};
use weir_master::syncer::order::merge;
use weir_master::syncer::recorder::history::Changes;
use weir_master::syncer::recorder::report::{Report, SourceStatus};
use weir_shm::{Server, Table, Upstream};

use super::Outcome;
use super::history::describe;
use super::place::Place;
use super::show::document;
use super::text::shown;
use given::{Given, Instances};

/// The exit code when an entry is refused.
const REFUSED: u8 = 1;

/// What becomes of one upstream.
struct Tried {
    before: Upstream,
    after: Upstream,
    decoded: Decoded,
}

/// Tries what was given.
pub fn run(place: &Place, what: &str) -> Result<Outcome, String> {
    let given = Given::read(what)?;
    let table = place.read(|reader| reader.table())?;
    let report = place.report()?;
    let (tried, unused) = match &given {
        Given::Entries { entries, whole } => entered(&table, &report, entries, *whole),
        Given::Instances(instances) => (listed(&table, &report, instances)?, 0),
    };
    if tried.is_empty() {
        return Err(given.unused());
    }
    let refused = tried.iter().any(|tried| !tried.decoded.refused.is_empty());
    let text = match place.json {
        true => document(&to_json(&tried, unused)),
        false => text(&tried, unused),
    };
    Ok(Outcome::with(text, if refused { REFUSED } else { 0 }))
}

/// What entries do to the upstreams whose folders they lie in, and how many lie in none.
fn entered(
    table: &Table,
    report: &Report,
    entries: &[Entry<'_>],
    whole: bool,
) -> (Vec<Tried>, usize) {
    let mut tried = Vec::new();
    let mut used = 0;
    for status in &report.upstreams {
        let Some(prefix) = &status.folder else {
            continue;
        };
        let folder = percent_decode_str(prefix).decode_utf8_lossy().into_owned();
        let mine = below(&folder, entries, |entry| &entry.key);
        let found = table.upstreams.iter().find(|u| u.name == status.name);
        let (Some(before), false) = (found, mine.is_empty()) else {
            continue;
        };
        used += mine.len();
        tried.push(Tried::new(before, decode(&folder, mine), whole));
    }
    (tried, entries.len().saturating_sub(used))
}

/// What a service's instances do to the upstreams that it feeds.
fn listed(table: &Table, report: &Report, instances: &Instances) -> Result<Vec<Tried>, String> {
    let feeds = |source: &&SourceStatus| {
        let path = percent_decode_str(&source.path).decode_utf8_lossy();
        source.kind == instances.kind.name()
            && path.strip_prefix(instances.kind.path()) == Some(&instances.service)
    };
    let sources = report.sources.iter().filter(feeds);
    let mut tried = Vec::new();
    for name in sources.flat_map(|source| source.upstreams.iter()) {
        if let Some(before) = table.upstreams.iter().find(|u| u.name == *name) {
            tried.push(Tried::new(before, instances.decode()?, true));
        }
    }
    Ok(tried)
}

/// The servers afterwards, in the syncer's order: those alone, or put among those that there are.
fn after(before: &Upstream, servers: &[Server], whole: bool) -> Vec<Server> {
    let mut list = servers.to_vec();
    // What is only configured is replaced by what is learned.
    if !whole && before.learned {
        let is_new = |known: &&Server| servers.iter().all(|s| s.address != known.address);
        list.extend(before.servers.iter().filter(is_new).cloned());
    }
    merge(&before.servers, &list)
}

/// The share of requests, 0 to 1, that go to another server than before, by weight.
fn moved(before: &[Server], after: &[Server]) -> f64 {
    let takes = |servers: &[Server]| -> Vec<(String, f64)> {
        let up = || servers.iter().filter(|server| !server.down);
        // Backup servers take requests only without others.
        let backup = up().all(|server| server.backup);
        let taking = up().filter(move |server| server.backup == backup);
        let sum: f64 = taking.clone().map(|server| f64::from(server.weight)).sum();
        let share = |server: &Server| (server.address.to_string(), f64::from(server.weight) / sum);
        taking.map(share).collect()
    };
    let (old, new) = (takes(before), takes(after));
    if old.is_empty() || new.is_empty() {
        return if old.is_empty() && new.is_empty() {
            0.0
        } else {
            1.0
        };
    }
    let mut shares = std::collections::HashMap::new();
    for (address, share) in old {
        *shares.entry(address).or_insert(0.0) -= share;
    }
    for (address, share) in new {
        *shares.entry(address).or_insert(0.0) += share;
    }
    // Not sum(): of nothing that is -0.
    let more = shares.values().filter(|share| **share > 0.0);
    more.fold(0.0, |sum, share| sum + share)
}

impl Tried {
    fn new(before: &Upstream, decoded: Decoded, whole: bool) -> Tried {
        let after = Upstream {
            servers: after(before, &decoded.servers, whole),
            ..before.clone()
        };
        Tried {
            before: before.clone(),
            after,
            decoded,
        }
    }

    fn changes(&self) -> Changes {
        let one = std::slice::from_ref;
        Changes::between(one(&self.before), one(&self.after))
    }

    fn moved(&self) -> f64 {
        moved(&self.before.servers, &self.after.servers)
    }
}

fn text(tried: &[Tried], unused: usize) -> String {
    let mut out = String::new();
    for each in tried {
        let changes = describe(&each.changes(), usize::MAX);
        let what = match changes.first() {
            Some(change) => change.clone(),
            None => format!("{} the same servers", shown(&each.before.name)),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "upstream {what}\n        servers {} to {}, {:.1}% of the requests move",
            each.before.servers.len(),
            each.after.servers.len(),
            each.moved() * 100.0
        );
        for refused in &each.decoded.refused {
            let _ = writeln!(
                out,
                "        refused {}: {}",
                shown(&refused.key),
                shown(&refused.reason)
            );
        }
        if each.after.servers.is_empty() {
            out.push_str("        no server is left: upsync_guard holds that, unless it is off\n");
        }
    }
    if unused > 0 {
        let _ = writeln!(out, "keys in no upstream's folder: {unused}");
    }
    out
}

fn to_json(tried: &[Tried], unused: usize) -> Value {
    let upstreams: Vec<Value> = tried
        .iter()
        .map(|each| {
            let refused = each.decoded.refused.iter();
            let refused: Vec<Value> = refused
                .map(|r| json!({ "key": r.key, "reason": r.reason }))
                .collect();
            json!({
                "upstream": each.before.name,
                "servers_before": each.before.servers.len(),
                "servers_after": each.after.servers.len(),
                "changes": each.changes(),
                "moved": each.moved(),
                "refused": refused,
            })
        })
        .collect();
    json!({ "upstreams": upstreams, "unused": unused })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weirctl::testing::server;

    #[test]
    fn the_share_that_moves_is_by_weight() {
        let (one, two) = (server(1, 1), server(2, 3));
        let mut down = two.clone();
        down.down = true;
        let mut backup = server(3, 9);
        backup.backup = true;
        for (before, after, share) in [
            (vec![one.clone()], vec![one.clone(), two.clone()], 0.75),
            (vec![one.clone(), two.clone()], vec![one.clone()], 0.75),
            (
                vec![one.clone(), two.clone()],
                vec![one.clone(), down],
                0.75,
            ),
            (vec![one.clone()], vec![one.clone(), backup.clone()], 0.0),
            (vec![one.clone()], vec![backup], 1.0),
            (vec![], vec![one.clone()], 1.0),
            (vec![one], vec![], 1.0),
            (vec![], vec![], 0.0),
        ] {
            let moved = moved(&before, &after);
            assert!((moved - share).abs() < 1e-9, "{moved} is not {share}");
            assert!(moved.is_sign_positive());
        }
    }
}
