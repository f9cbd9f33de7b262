//! `upsync_log`: one line for each published change, and for what is held, pinned or refused.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_worker::log::{Clock, Files};
use weir_worker::settings::Level;

use super::super::log::Log;
use super::history::{Cause, Change, Changes, Record, Whole};
use super::ledger::{News, Told};
use crate::errno::describe;
use crate::settings::UpsyncLog;

/// Where lines go.
#[derive(Clone, Debug)]
pub struct To {
    /// The opened logs of the configuration; those that USR1 opens anew come into it.
    pub files: Arc<Files>,
    /// Which of them, and in which form.
    pub log: UpsyncLog,
}

/// The log, written by the recorder.
pub struct Audit {
    to: Option<To>,
    log: Log,
    /// The last write failed.
    is_failing: bool,
}

impl Audit {
    /// Writes nothing until it is told where to; `log` has the opened files.
    pub fn new(log: Log) -> Audit {
        Audit {
            to: None,
            log,
            is_failing: false,
        }
    }

    /// From now on writes there.
    pub fn exchange(&mut self, to: Option<To>) {
        self.to = to;
    }

    /// Writes what a note came to, `version` being the table's in force.
    pub fn write(&mut self, told: &Told, version: u64) {
        let Some(to) = self.to.clone() else { return };
        let json = to.log.json;
        let lines = told
            .record
            .iter()
            .filter(|record| !record.changes.is_empty() || record.before == 0)
            .map(|record| match json {
                true => record_json(record).to_string(),
                false => record_text(record),
            });
        let now = Clock::system_millis();
        let news = told.news.iter().map(|news| match json {
            true => news_json(news, now, version).to_string(),
            false => news_text(news, now, version),
        });
        let lines: Vec<String> = lines.chain(news).collect();
        lines.iter().for_each(|line| self.put(&to, line));
    }

    fn put(&mut self, to: &To, line: &str) {
        let line = format!("{line}\n");
        let written = to.files.write(to.log.resource, line.as_bytes());
        let failed = written.is_err();
        if let Err(error) = written
            && !self.is_failing
        {
            self.log.log(
                Level::Alert,
                format_args!("write() to upsync_log failed {}", describe(&error)),
            );
        }
        self.is_failing = failed;
    }
}

/// What a line says of a version.
struct Summary {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

impl Summary {
    fn of(changes: &Changes) -> Summary {
        let each = |change: &Change, servers: Vec<&String>| {
            let name = &change.name;
            let servers = servers.into_iter();
            servers
                .map(|address| format!("{name}/{address}"))
                .collect::<Vec<_>>()
        };
        let whole = |whole: &Whole| {
            let name = &whole.name;
            let servers = whole.servers.iter();
            servers
                .map(|server| format!("{name}/{}", server.address))
                .collect::<Vec<_>>()
        };
        let mut summary = Summary {
            added: changes.new.iter().flat_map(whole).collect(),
            removed: changes.gone.iter().flat_map(whole).collect(),
            changed: Vec::new(),
        };
        for change in &changes.upstreams {
            let added = change.added.iter().map(|s| &s.server.address).collect();
            let removed = change.removed.iter().map(|s| &s.server.address).collect();
            let changed = change.updated.iter().map(|u| &u.after.address).collect();
            summary.added.extend(each(change, added));
            summary.removed.extend(each(change, removed));
            summary.changed.extend(each(change, changed));
        }
        summary
    }
}

/// The index of each source's answer.
fn indexes(cause: &Cause) -> Vec<u64> {
    match cause {
        Cause::Source { index, also, .. } => {
            let also = also.iter().map(|also| also.index);
            std::iter::once(*index).chain(also).collect()
        }
        _ => Vec::new(),
    }
}

fn record_json(record: &Record) -> Value {
    let summary = Summary::of(&record.changes);
    let (source, also) = match &record.cause {
        Cause::Source { source, also, .. } => (source.clone(), also.as_slice()),
        other => (other.to_string(), &[][..]),
    };
    let mut value = json!({
        "time": iso8601(record.time_ms),
        "time_ms": record.time_ms,
        "event": "published",
        "version": record.version,
        "source": source,
        "index": indexes(&record.cause).first(),
        "added": summary.added,
        "removed": summary.removed,
        "changed": summary.changed,
        "held": record.held,
        "refused": record.refused,
    });
    if !also.is_empty() {
        value["also"] = json!(also);
    }
    value
}

fn record_text(record: &Record) -> String {
    let summary = Summary::of(&record.changes);
    let indexes: Vec<String> = indexes(&record.cause).iter().map(u64::to_string).collect();
    let index = match indexes.is_empty() {
        true => "-".to_owned(),
        false => indexes.join(","),
    };
    format!(
        "{} version={} source={} index={index} added={} removed={} changed={} held={} refused={}",
        iso8601(record.time_ms),
        record.version,
        word(&record.cause.to_string()),
        list(&summary.added),
        list(&summary.removed),
        list(&summary.changed),
        record.held,
        record.refused,
    )
}

fn news_json(news: &News, now_ms: u64, version: u64) -> Value {
    let (event, mut value) = match news {
        News::Held(upstream, Some(hold)) => (
            "held",
            json!({ "upstream": upstream, "reason": hold.reason, "removes": hold.removes }),
        ),
        News::Held(upstream, None) => ("released", json!({ "upstream": upstream })),
        News::Pinned(upstream, Some(pin)) => (
            "pinned",
            json!({ "upstream": upstream, "content_of": pin.version }),
        ),
        News::Pinned(upstream, None) => ("unpinned", json!({ "upstream": upstream })),
        News::Refused(entry) => (
            "refused",
            json!({ "upstream": entry.upstream, "key": entry.key, "reason": entry.reason }),
        ),
    };
    value["time"] = json!(iso8601(now_ms));
    value["time_ms"] = json!(now_ms);
    value["event"] = json!(event);
    value["version"] = json!(version);
    value
}

fn news_text(news: &News, now_ms: u64, version: u64) -> String {
    let what = match news {
        News::Held(upstream, Some(hold)) => format!(
            "held={} removes={} reason={}",
            word(upstream),
            hold.removes,
            word(&hold.reason)
        ),
        News::Held(upstream, None) => format!("released={}", word(upstream)),
        News::Pinned(upstream, Some(pin)) => {
            format!("pinned={} content_of={}", word(upstream), pin.version)
        }
        News::Pinned(upstream, None) => format!("unpinned={}", word(upstream)),
        News::Refused(entry) => format!(
            "refused={} key={} reason={}",
            word(&entry.upstream),
            word(&entry.key),
            word(&entry.reason)
        ),
    };
    format!("{} version={version} {what}", iso8601(now_ms))
}

fn iso8601(ms: u64) -> String {
    let clock = Clock::new(ms);
    String::from_utf8_lossy(clock.iso8601()).into_owned()
}

/// A value of one word: foreign text is quoted where it would break the line's form.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != ',' && c != '\\' && c != '=';
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}

fn list(values: &[String]) -> String {
    let mut out = String::new();
    for value in values {
        let comma = if out.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(out, "{comma}{}", word(value));
    }
    if out.is_empty() { "-".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Peer, Placed, Updated};
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.into(),
            weight: 1,
            max_fails: 2,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
        }
    }

    fn record() -> Record {
        let place = |at, address: &str| Placed {
            at,
            server: peer(address),
        };
        let change = Change {
            name: "a b".into(),
            changed: [1, 2],
            learned: [true, true],
            removed: Vec::new(),
            added: vec![place(0, "10.0.0.1:80"), place(1, "[::1]:80")],
            updated: vec![Updated {
                from: 0,
                to: 2,
                before: peer("10.0.0.2:80"),
                after: peer("10.0.0.2:80"),
            }],
            moved: Vec::new(),
        };
        let gone = Whole {
            at: 1,
            name: "old".into(),
            changed: 1,
            learned: true,
            template: None,
            servers: vec![peer("10.0.0.9:80")],
        };
        Record {
            version: 2,
            before: 1,
            time_ms: 0,
            cause: Cause::answers([("consul 127.0.0.1:8500/v1/kv/x".to_owned(), 81)]),
            held: 1,
            refused: 2,
            changes: Changes {
                upstreams: vec![change],
                gone: vec![gone],
                ..Changes::default()
            },
        }
    }

    #[test]
    fn a_change_is_one_line() {
        let line = record_text(&record());
        let (_, rest) = line.split_once(' ').unwrap();
        assert_eq!(
            rest,
            "version=2 source=\"consul 127.0.0.1:8500/v1/kv/x\" index=81 \
             added=\"a b/10.0.0.1:80\",\"a b/[::1]:80\" removed=old/10.0.0.9:80 \
             changed=\"a b/10.0.0.2:80\" held=1 refused=2"
        );
        let value = record_json(&record());
        assert_eq!(value["added"][1], "a b/[::1]:80");
        assert_eq!((&value["index"], &value["held"]), (&json!(81), &json!(1)));
        assert_eq!(value["also"], json!(null));
    }

    #[test]
    fn all_sources_of_a_version_are_named() {
        let mut record = record();
        let answers = [("a", 80), ("b", 7), ("a", 81)];
        record.cause = Cause::answers(answers.map(|(source, index)| (source.to_owned(), index)));
        let line = record_text(&record);
        assert!(
            line.contains(" source=\"a, b\" index=81,7 added="),
            "{line}"
        );
        let value = record_json(&record);
        assert_eq!(
            (&value["source"], &value["index"]),
            (&json!("a"), &json!(81))
        );
        assert_eq!(value["also"], json!([{ "source": "b", "index": 7 }]));
    }

    #[test]
    fn foreign_text_stays_in_its_line() {
        let news = News::Held(
            "a\nb".into(),
            Some(super::super::report::Hold {
                reason: "all \"down\"".into(),
                ..Default::default()
            }),
        );
        let line = news_text(&news, 0, 3);
        assert!(
            line.ends_with(r#"version=3 held="a\nb" removes=0 reason="all \"down\"""#),
            "{line}"
        );
    }
}
