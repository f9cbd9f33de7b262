//! `try FILE|KEY=VALUE`: what entries would do, by the syncer's own decoder.

use std::borrow::Cow;
use std::fmt::Write;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_master::syncer::decode::{Decoded, Entry, below, decode};
use weir_master::syncer::recorder::history::Changes;
use weir_shm::{Server, Upstream};

use super::Outcome;
use super::history::describe;
use super::place::Place;
use super::show::document;
use super::text::shown;

/// A file is no longer, in bytes.
const FILE_MAX: u64 = 64 << 20;
/// The exit code when an entry is refused.
const REFUSED: u8 = 1;

/// An entry as Consul's API or `consul kv export` has it; the value is base64.
#[derive(Deserialize)]
struct Given {
    #[serde(alias = "Key")]
    key: String,
    #[serde(alias = "Value", default)]
    value: Option<String>,
}

/// What becomes of one upstream.
struct Tried {
    before: Upstream,
    after: Upstream,
    decoded: Decoded,
}

/// Tries entries.
pub fn run(place: &Place, what: &str) -> Result<Outcome, String> {
    let (entries, whole) = given(what)?;
    let table = place.read(|reader| reader.table())?;
    let report = place.report()?;
    let mut tried = Vec::new();
    let mut used = 0;
    for status in &report.upstreams {
        let Some(prefix) = &status.folder else {
            continue;
        };
        let folder = percent_decode_str(prefix).decode_utf8_lossy().into_owned();
        let mine = below(&folder, &entries, |entry| &entry.key);
        let found = table.upstreams.iter().find(|u| u.name == status.name);
        let (Some(before), false) = (found, mine.is_empty()) else {
            continue;
        };
        used += mine.len();
        let decoded = decode(&folder, mine);
        let after = Upstream {
            servers: after(before, &decoded.servers, whole),
            ..before.clone()
        };
        tried.push(Tried {
            before: before.clone(),
            after,
            decoded,
        });
    }
    if tried.is_empty() {
        return Err("no upstream has a folder with these keys".to_owned());
    }
    let refused = tried.iter().any(|tried| !tried.decoded.refused.is_empty());
    let unused = entries.len().saturating_sub(used);
    let text = match place.json {
        true => document(&to_json(&tried, unused)),
        false => text(&tried, unused),
    };
    Ok(Outcome::with(text, if refused { REFUSED } else { 0 }))
}

/// The entries in key order, and whether they are all that their folders have.
fn given(what: &str) -> Result<(Vec<Entry<'static>>, bool), String> {
    // A key has no such name, unless there is a file of it.
    if let Some((key, value)) = what.split_once('=')
        && fs::metadata(what).is_err()
    {
        return Ok((
            vec![entry(key.to_owned(), Some(STANDARD.encode(value)))],
            false,
        ));
    }
    let name = shown(what);
    let fail = |error: &dyn std::fmt::Display| format!("\"{name}\": {error}");
    let size = fs::metadata(what).map_err(|error| fail(&error))?.len();
    if size > FILE_MAX {
        return Err(fail(&format!("it has {size} bytes, more than {FILE_MAX}")));
    }
    let text = fs::read(what).map_err(|error| fail(&error))?;
    let given: Vec<Given> = serde_json::from_slice(&text).map_err(|error| fail(&error))?;
    let mut entries: Vec<Entry> = given.into_iter().map(|g| entry(g.key, g.value)).collect();
    entries.sort_by(|one, other| one.key.cmp(&other.key));
    Ok((entries, true))
}

fn entry(key: String, value: Option<String>) -> Entry<'static> {
    Entry {
        key: Cow::Owned(key),
        value: value.map(Cow::Owned),
        modify_index: 0,
    }
}

/// The servers afterwards: those alone, or put among those that there are.
fn after(before: &Upstream, servers: &[Server], whole: bool) -> Vec<Server> {
    if whole {
        return servers.to_vec();
    }
    // What is only configured is replaced by what is learned.
    let mut list = match before.learned {
        true => before.servers.clone(),
        false => Vec::new(),
    };
    for server in servers {
        match list.iter_mut().find(|s| s.address == server.address) {
            Some(known) => *known = server.clone(),
            None => list.insert(0, server.clone()),
        }
    }
    list
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
    shares.values().filter(|share| **share > 0.0).sum()
}

impl Tried {
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
            out.push_str("        no server is left: upsync_guard would hold this\n");
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
    use weir_shm::{Address, CounterId};

    fn server(port: u16, weight: u32) -> Server {
        Server {
            address: Address::Ip(([127, 0, 0, 1], port).into()),
            weight,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        }
    }

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
        }
    }
}
