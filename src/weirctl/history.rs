//! `history`: the latest changes.

use std::fmt::Write;

use serde_json::json;
use weir_master::syncer::recorder::history::{Cause, Change, Changes, Record, Whole};
use weir_master::syncer::recorder::past::records;

use super::place::Place;
use super::show::document;
use super::text::{moment, shown};

/// A line of text names at most so many servers of a change; `diff` has them all.
const SERVERS_MAX: usize = 8;

/// Shows the latest `number` records, the oldest first.
pub fn run(place: &Place, number: usize) -> Result<String, String> {
    let records = place.read(records)?;
    let from = records.len().saturating_sub(number);
    let latest = &records[from..];
    if place.json {
        return Ok(document(&json!({ "history": latest })));
    }
    if latest.is_empty() {
        return Ok("no changes are recorded\n".to_owned());
    }
    Ok(latest.iter().map(|record| line(record) + "\n").collect())
}

fn line(record: &Record) -> String {
    let mut out = format!(
        "{} version {} {}",
        moment(record.time_ms),
        record.version,
        cause(&record.cause)
    );
    if record.before == 0 {
        out.push_str(": the history begins");
        return out;
    }
    let changes = describe(&record.changes, SERVERS_MAX);
    let _ = write!(out, ": {}", changes.join("; "));
    if changes.is_empty() {
        out.push_str("the same servers");
    }
    out
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Source {
            source,
            index,
            also,
        } => {
            let mut out = format!("{} index {index}", shown(source));
            for also in also {
                let _ = write!(out, ", {} index {}", shown(&also.source), also.index);
            }
            out
        }
        other => other.to_string(),
    }
}

/// What each upstream's difference is: `test +127.0.0.1:8002 -127.0.0.1:8001`.
pub fn describe(changes: &Changes, most: usize) -> Vec<String> {
    let whole = |whole: &Whole, mark: &str, sign: char| {
        let servers = whole.servers.iter().map(|s| (sign, s.address.as_str()));
        format!("{} ({mark}){}", shown(&whole.name), signed(servers, most))
    };
    let each = |change: &Change| {
        let added = change
            .added
            .iter()
            .map(|s| ('+', s.server.address.as_str()));
        let removed = change
            .removed
            .iter()
            .map(|s| ('-', s.server.address.as_str()));
        let updated = change
            .updated
            .iter()
            .map(|u| ('~', u.after.address.as_str()));
        let mut out = format!(
            "{}{}",
            shown(&change.name),
            signed(added.chain(removed).chain(updated), most)
        );
        if !change.moved.is_empty() {
            let _ = write!(out, " ({} in another order)", change.moved.len());
        }
        if change.learned[0] != change.learned[1] {
            out.push_str(if change.learned[1] {
                " (learned)"
            } else {
                " (configured)"
            });
        }
        out
    };
    let kept = changes.differing().map(each);
    let new = changes.new.iter().map(|new| whole(new, "new", '+'));
    let gone = changes.gone.iter().map(|gone| whole(gone, "gone", '-'));
    kept.chain(new).chain(gone).collect()
}

fn signed<'a>(servers: impl Iterator<Item = (char, &'a str)>, most: usize) -> String {
    let mut out = String::new();
    let mut more = 0;
    for (number, (sign, address)) in servers.enumerate() {
        if number < most {
            let _ = write!(out, " {sign}{}", shown(address));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        let _ = write!(out, " and {more} more");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shm::{Address, CounterId, Server, Upstream};

    fn upstream(name: &str, ports: &[u16]) -> Upstream {
        let servers = ports.iter().map(|port| Server {
            address: Address::Ip(([127, 0, 0, 1], *port).into()),
            weight: u32::from(*port),
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        });
        Upstream {
            name: name.to_owned(),
            changed: 0,
            learned: true,
            template: None,
            servers: servers.collect(),
        }
    }

    #[test]
    fn a_change_is_told_in_a_line() {
        let before = [upstream("a\x1b", &[1, 2, 3]), upstream("c", &[4])];
        let mut after = [upstream("a\x1b", &[3, 1, 9]), upstream("b", &[5])];
        after[0].servers[1].weight = 7;
        let mut record = Record {
            version: 3,
            before: 2,
            time_ms: 0,
            cause: Cause::answers([("consul x".to_owned(), 81), ("etcd y".to_owned(), 9)]),
            held: 0,
            refused: 0,
            changes: Changes::between(&before, &after),
        };
        let text = line(&record);
        let (_, text) = text.split_once(" version ").unwrap();
        assert_eq!(
            text,
            "3 consul x index 81, etcd y index 9: a\\u{1b} +127.0.0.1:9 -127.0.0.1:2 ~127.0.0.1:1 \
             (1 in another order); b (new) +127.0.0.1:5; c (gone) -127.0.0.1:4"
        );
        let short = describe(&record.changes, 1);
        assert!(short[0].contains(" +127.0.0.1:9 and 2 more"), "{short:?}");
        // As after a start.
        let mut again = before.clone();
        again.iter_mut().for_each(|upstream| upstream.changed = 3);
        record.changes = Changes::between(&before, &again);
        assert!(!record.changes.is_empty());
        assert!(line(&record).ends_with(": the same servers"));
        record.changes = Changes::default();
        assert!(line(&record).ends_with(": the same servers"));
        record.before = 0;
        assert!(line(&record).ends_with(": the history begins"));
    }
}
