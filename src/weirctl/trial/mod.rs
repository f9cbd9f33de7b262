//! `try FILE|KEY=VALUE`: what entries would do, by the syncer's own decoder.

mod found;
mod given;

use std::collections::HashSet;
use std::fmt::Write;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use weir_master::syncer::decode::{Decoded, Entry, Refused, below, decode};
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

/// What becomes of all that was given.
#[derive(Default)]
struct Trial {
    tried: Vec<Tried>,
    /// Entries that are in no upstream's list.
    refused: Vec<Refused>,
    /// How many of the keys are in no upstream's folder.
    unused: usize,
    /// What is given is all that its folders have.
    whole: bool,
}

/// What becomes of one upstream.
struct Tried {
    /// Of one that is new, without a server.
    before: Upstream,
    after: Upstream,
    decoded: Decoded,
    is_new: bool,
}

/// Tries what was given.
pub fn run(place: &Place, what: &str) -> Result<Outcome, String> {
    let given = Given::read(what)?;
    let table = place.read(|reader| reader.table())?;
    let report = place.report()?;
    let trial = match &given {
        Given::Entries { entries, whole } => entered(&table, &report, entries, *whole),
        Given::Instances(instances) => listed(&table, &report, instances)?,
    };
    if trial.tried.is_empty() && trial.refused.is_empty() {
        return Err(given.unused());
    }
    let mut tried = trial.tried.iter();
    let refused = !trial.refused.is_empty() || tried.any(|tried| !tried.decoded.refused.is_empty());
    let text = match place.json {
        true => document(&to_json(&trial)),
        false => text(&trial),
    };
    Ok(Outcome::with(text, if refused { REFUSED } else { 0 }))
}

/// A folder as keys spell it.
fn decoded(folder: &str) -> String {
    percent_decode_str(folder).decode_utf8_lossy().into_owned()
}

/// What entries do to the upstreams whose folders they lie in.
fn entered(table: &Table, report: &Report, entries: &[Entry<'_>], whole: bool) -> Trial {
    let mut trial = Trial {
        whole,
        ..Trial::default()
    };
    let mut used: HashSet<&str> = HashSet::new();
    for status in &report.upstreams {
        let Some(folder) = status.folder.as_deref().map(decoded) else {
            continue;
        };
        let mine = below(&folder, entries, |entry| &entry.key);
        let found = table.upstreams.iter().find(|u| u.name == status.name);
        let (Some(before), false) = (found, mine.is_empty()) else {
            continue;
        };
        used.extend(mine.iter().map(|entry| &*entry.key));
        trial
            .tried
            .push(Tried::new(before, decode(&folder, mine), whole));
    }
    for discover in &report.discovers {
        found::find(&mut trial, table, discover, entries);
    }
    let is_found = |key: &str| {
        let mut discovers = report.discovers.iter();
        discovers.any(|discover| found::is_below(discover, key))
    };
    let unused = entries
        .iter()
        .filter(|entry| !used.contains(&*entry.key) && !is_found(&entry.key));
    trial.unused = unused.count();
    trial
}

/// What a service's instances do to the upstreams that it feeds.
fn listed(table: &Table, report: &Report, instances: &Instances) -> Result<Trial, String> {
    let feeds = |source: &&SourceStatus| {
        let path = percent_decode_str(&source.path).decode_utf8_lossy();
        source.kind == instances.kind.name()
            && path.strip_prefix(instances.kind.path()) == Some(&instances.service)
    };
    let sources = report.sources.iter().filter(feeds);
    let mut trial = Trial::default();
    for name in sources.flat_map(|source| source.upstreams.iter()) {
        if let Some(before) = table.upstreams.iter().find(|u| u.name == *name) {
            let tried = Tried::new(before, instances.decode()?, true);
            trial.tried.push(tried);
        }
    }
    Ok(trial)
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
            is_new: false,
        }
    }

    /// One that `upsync_discover` would find: it is there from its first server on.
    fn found(name: &str, template: &str, decoded: Decoded) -> Tried {
        let none = Upstream {
            name: name.to_owned(),
            changed: 0,
            learned: true,
            template: Some(template.into()),
            servers: Vec::new(),
        };
        Tried {
            is_new: true,
            ..Tried::new(&none, decoded, true)
        }
    }

    fn changes(&self) -> Changes {
        let one = std::slice::from_ref;
        match (self.is_new, self.after.servers.is_empty()) {
            (true, true) => Changes::default(),
            (true, false) => Changes::between(&[], one(&self.after)),
            (false, _) => Changes::between(one(&self.before), one(&self.after)),
        }
    }

    fn moved(&self) -> f64 {
        moved(&self.before.servers, &self.after.servers)
    }
}

fn text(trial: &Trial) -> String {
    let mut out: String = trial.tried.iter().map(Tried::text).collect();
    for refused in &trial.refused {
        out.push_str(&refusal(refused));
    }
    if trial.unused > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "keys in no upstream's folder: {}", trial.unused);
    }
    out
}

fn refusal(refused: &Refused) -> String {
    let (key, reason) = (shown(&refused.key), shown(&refused.reason));
    format!("refused {key}: {reason}\n")
}

impl Tried {
    fn text(&self) -> String {
        let changes = describe(&self.changes(), usize::MAX);
        let what = match changes.first() {
            Some(change) => change.clone(),
            None => format!("{} the same servers", shown(&self.before.name)),
        };
        let mut out = format!("upstream {what}\n");
        let (before, after) = (self.before.servers.len(), self.after.servers.len());
        out.push_str(&match (self.is_new, after) {
            (true, 0) => "        it would not be there: it has no server\n".to_owned(),
            (true, _) => format!("        servers {after}, of a new upstream\n"),
            (false, _) => format!(
                "        servers {before} to {after}, {:.1}% of the requests move\n",
                self.moved() * 100.0
            ),
        });
        for refused in &self.decoded.refused {
            out.push_str("        ");
            out.push_str(&refusal(refused));
        }
        if !self.is_new && after == 0 {
            out.push_str("        no server is left: upsync_guard holds that, unless it is off\n");
        }
        out
    }
}

fn to_json(trial: &Trial) -> Value {
    let refused = |list: &[Refused]| -> Vec<Value> {
        let list = list.iter();
        list.map(|r| json!({ "key": r.key, "reason": r.reason }))
            .collect()
    };
    let upstreams = trial.tried.iter().map(|each| {
        json!({
            "upstream": each.before.name,
            "new": each.is_new,
            "servers_before": each.before.servers.len(),
            "servers_after": each.after.servers.len(),
            "changes": each.changes(),
            "moved": each.moved(),
            "refused": refused(&each.decoded.refused),
        })
    });
    let upstreams: Vec<Value> = upstreams.collect();
    json!({
        "upstreams": upstreams,
        "refused": refused(&trial.refused),
        "unused": trial.unused,
    })
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
