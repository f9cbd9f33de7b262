//! `wait`: until every worker routes by something.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_master::syncer::recorder::history::address;
use weir_master::syncer::recorder::report::{Report, SourceStatus};
use weir_shm::{Address, ReadError, Reader, Table, Upstream, WorkerRow};

use super::arguments::Wait;
use super::find::is_alive;
use super::show::document;
use super::text::{count, shown};
use super::{Failure, Outcome};

/// The exit code of a time that is over.
const TIMED_OUT: u8 = 3;
/// Between two looks. A write to a mapping wakes nobody: it has to be asked.
const POLL: Duration = Duration::from_millis(5);
/// Between two looks at whether the file was replaced.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// What is waited for.
enum Goal {
    Version(u64),
    Has(String, Address),
    Gone(String, Address),
    Index(u64, Option<String>),
}

impl Goal {
    fn new(wait: &Wait) -> Result<Goal, String> {
        match wait {
            Wait {
                version: Some(version),
                ..
            } => Ok(Goal::Version(*version)),
            Wait {
                has: Some((upstream, address)),
                ..
            } => Ok(Goal::Has(upstream.clone(), address.clone())),
            Wait {
                gone: Some((upstream, address)),
                ..
            } => Ok(Goal::Gone(upstream.clone(), address.clone())),
            Wait {
                index: Some(index), ..
            } => Ok(Goal::Index(*index, wait.upstream.clone())),
            _ => Err("nothing to wait for".to_owned()),
        }
    }

    /// The version that every worker has to route by; `None` while there is none.
    fn version(&self, table: &Table, report: &Report) -> Option<u64> {
        match self {
            Goal::Version(version) => (table.version >= *version).then_some(*version),
            Goal::Has(name, address) => {
                let upstream = find(table, name)?;
                has(upstream, address).then_some(upstream.changed)
            }
            Goal::Gone(name, address) => {
                let Some(upstream) = find(table, name) else {
                    return Some(table.version);
                };
                if has(upstream, address) {
                    return None;
                }
                let leaving = table.leaving.iter().find(|leaving| {
                    *leaving.upstream == **name && leaving.server.address == *address
                });
                Some(leaving.map_or(upstream.changed, |leaving| leaving.dropped))
            }
            Goal::Index(index, name) => {
                let all = answered(report, *index, name.as_deref());
                // One whose upstreams are all in force as it said.
                let free = all.filter(|(_, upstreams)| {
                    let mut upstreams = upstreams.iter();
                    !upstreams.any(|upstream| kept(report, upstream).is_some())
                });
                let version = |(source, upstreams): (&SourceStatus, Vec<&str>)| {
                    let tables = upstreams.iter().filter_map(|name| find(table, name));
                    // What was held or pinned came into force later.
                    let changed = tables.map(|upstream| upstream.changed);
                    changed.fold(source.version, u64::max)
                };
                free.map(version).min()
            }
        }
    }

    /// Why there is no version yet.
    fn missing(&self, report: &Report) -> String {
        match self {
            Goal::Version(_) => "it is not published".to_owned(),
            Goal::Has(..) => "the upstream does not have it".to_owned(),
            Goal::Gone(..) => "the upstream still has it".to_owned(),
            Goal::Index(index, name) => {
                let all = answered(report, *index, name.as_deref());
                let mut upstreams = all.flat_map(|(_, upstreams)| upstreams);
                let kept = upstreams.find_map(|upstream| kept(report, upstream));
                kept.unwrap_or("no source has answered with it".to_owned())
            }
        }
    }
}

/// The sources that have answered with this index or a later one, each with the upstreams that it is
/// asked about: `name`, or all that it feeds.
fn answered<'r>(
    report: &'r Report,
    index: u64,
    name: Option<&'r str>,
) -> impl Iterator<Item = (&'r SourceStatus, Vec<&'r str>)> {
    let sources = report.sources.iter();
    sources.filter_map(move |source| {
        let fed = source.upstreams.iter().map(String::as_str);
        let fed: Vec<&str> = fed
            .filter(|fed| name.is_none_or(|name| name == *fed))
            .collect();
        (source.index >= index && !fed.is_empty()).then_some((source, fed))
    })
}

/// Why an upstream does not have what its source has said, if that is so.
fn kept(report: &Report, name: &str) -> Option<String> {
    let status = report.upstream(name)?;
    let why = match (&status.pinned, &status.held) {
        (Some(_), _) => "it is pinned".to_owned(),
        (None, Some(hold)) => format!("an answer is held: {}", shown(&hold.reason)),
        (None, None) => return None,
    };
    Some(format!("upstream \"{}\": {why}", shown(name)))
}

fn find<'t>(table: &'t Table, name: &str) -> Option<&'t Upstream> {
    table
        .upstreams
        .iter()
        .find(|upstream| upstream.name == name)
}

fn has(upstream: &Upstream, address: &Address) -> bool {
    upstream.servers.iter().any(|s| s.address == *address)
}

/// `UPSTREAM/ADDRESS`; names may have a `/`, addresses begin after the last one, or at `unix:`.
pub fn server(text: &str) -> Result<(String, Address), String> {
    let at = text.find("/unix:").or_else(|| text.rfind('/'));
    let parts = at.map(|at| (&text[..at], &text[at + 1..]));
    let parsed = parts.and_then(|(name, rest)| Some((name.to_owned(), address(rest)?)));
    parsed.ok_or_else(|| "it is not UPSTREAM/IP:PORT".to_owned())
}

/// What one look found.
struct Look {
    table: Table,
    /// The version to be routed by, if there is one.
    goal: Option<u64>,
    /// Why there is none.
    missing: String,
    /// Workers that do not route by it yet.
    behind: Vec<WorkerRow>,
    workers: usize,
    /// What the server that is gone still has in flight.
    in_flight: Option<u64>,
}

impl Look {
    fn new(reader: &Reader, goal: &Goal) -> Result<Look, ReadError> {
        let report = match goal {
            Goal::Index(..) => Report::parse(&reader.report()?).unwrap_or_default(),
            _ => Report::default(),
        };
        // After the report: a table is there before what says so.
        let table = reader.table()?;
        let mut rows = reader.workers()?;
        rows.retain(|row| is_alive(row.pid));
        let workers = rows.len();
        let version = goal.version(&table, &report);
        rows.retain(|row| version.is_some_and(|version| row.table_version < version));
        let in_flight = match goal {
            Goal::Gone(name, address) => leaving(reader, &table, name, address)?,
            _ => None,
        };
        Ok(Look {
            table,
            missing: match version {
                Some(_) => String::new(),
                None => goal.missing(&report),
            },
            goal: version,
            behind: rows,
            workers,
            in_flight,
        })
    }

    fn is_reached(&self) -> bool {
        self.goal.is_some() && self.behind.is_empty() && self.workers > 0
    }
}

fn leaving(
    reader: &Reader,
    table: &Table,
    name: &str,
    address: &Address,
) -> Result<Option<u64>, ReadError> {
    let rows = reader.counters(table)?.into_iter();
    let rows = rows.filter(|row| row.leaving && row.upstream == name && row.address == *address);
    let counts: Vec<u64> = rows.map(|row| row.total.in_flight).collect();
    Ok((!counts.is_empty()).then(|| counts.iter().sum()))
}

/// Waits.
pub fn run(path: &Path, wait: &Wait, as_json: bool) -> Result<Outcome, Failure> {
    let goal = Goal::new(wait)?;
    let began = Instant::now();
    let about = |error: ReadError| format!("\"{}\": {error}", shown(&path.to_string_lossy()));
    let mut reader = Reader::open(path).map_err(about)?;
    let mut file = identity(path);
    let mut looked = Instant::now();
    loop {
        let look = match Look::new(&reader, &goal) {
            Err(ReadError::Busy | ReadError::ForeignTable) => {
                thread::sleep(POLL);
                continue;
            }
            look => look.map_err(about)?,
        };
        let reached = look.is_reached();
        if reached || began.elapsed() >= wait.timeout {
            let text = match as_json {
                true => document(&to_json(&look, began.elapsed())),
                false => text(&look, &goal, began.elapsed()),
            };
            let code = if reached { 0 } else { TIMED_OUT };
            return Ok(Outcome::with(text, code));
        }
        if looked.elapsed() >= LOOK_AROUND {
            looked = Instant::now();
            let now = identity(path);
            // A new start makes a new file.
            if now != file
                && let Ok(next) = Reader::open(path)
            {
                (reader, file) = (next, now);
            }
        }
        thread::sleep(POLL);
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn text(look: &Look, goal: &Goal, took: Duration) -> String {
    let ms = took.as_millis();
    let version = look.table.version;
    let mut out = match look.goal {
        Some(version) if look.is_reached() => format!(
            "{} by table version {version} after {ms} ms",
            match look.workers {
                1 => "1 worker routes".to_owned(),
                workers => format!("{workers} workers route"),
            }
        ),
        _ if look.workers == 0 => format!("no worker runs, after {ms} ms"),
        Some(wanted) => {
            let behind = look.behind.iter();
            let behind = behind.map(|row| format!("{} by {}", row.slot, row.table_version));
            let behind: Vec<String> = behind.collect();
            format!(
                "timed out after {ms} ms: {} not by table version {wanted}: {}",
                count(behind.len(), "worker"),
                behind.join(", ")
            )
        }
        None => {
            let what = &look.missing;
            format!("timed out after {ms} ms: {what}, the table version is {version}")
        }
    };
    match (goal, look.in_flight) {
        (Goal::Gone(..), Some(in_flight)) => {
            out.push_str(&format!("; it is leaving with {in_flight} in flight"));
        }
        (Goal::Gone(name, _), None) if look.is_reached() => {
            out.push_str("; nothing is in flight to it");
            // It may be gone with its servers, or misspelt.
            if find(&look.table, name).is_none() {
                out.push_str(&format!(", there is no upstream \"{}\"", shown(name)));
            }
        }
        _ => {}
    }
    out.push('\n');
    out
}

fn to_json(look: &Look, took: Duration) -> Value {
    let behind = look.behind.iter();
    let behind: Vec<Value> = behind
        .map(|row| json!({ "slot": row.slot, "pid": row.pid, "table_version": row.table_version }))
        .collect();
    json!({
        "reached": look.is_reached(),
        "version": look.goal,
        "missing": look.missing,
        "table_version": look.table.version,
        "workers": look.workers,
        "behind": behind,
        "leaving": look.in_flight.is_some(),
        "in_flight": look.in_flight.unwrap_or(0),
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_master::syncer::recorder::report::{Hold, Pin, UpstreamStatus};

    fn upstream(name: &str, changed: u64) -> Upstream {
        Upstream {
            template: None,
            name: name.into(),
            changed,
            learned: true,
            servers: Vec::new(),
        }
    }

    #[test]
    fn what_is_held_or_pinned_is_not_what_an_answer_said() {
        let table = Table {
            version: 9,
            upstreams: vec![upstream("a", 3), upstream("b", 8)],
            ..Table::default()
        };
        let status = |name: &str| UpstreamStatus {
            name: name.into(),
            ..UpstreamStatus::default()
        };
        let mut report = Report {
            sources: vec![SourceStatus {
                upstreams: ["a".into(), "b".into()].into(),
                index: 81,
                version: 5,
                ..SourceStatus::default()
            }],
            upstreams: vec![status("a"), status("b")],
            ..Report::default()
        };
        let of = |report: &Report, index: u64, name: Option<&str>| {
            let goal = Goal::Index(index, name.map(str::to_owned));
            goal.version(&table, report).ok_or(goal.missing(report))
        };
        let unanswered = Err("no source has answered with it".to_owned());
        assert_eq!(of(&report, 81, Some("a")), Ok(5));
        // What was accepted after the answer is in force since.
        assert_eq!(of(&report, 80, None), Ok(8));
        assert_eq!(of(&report, 82, None), unanswered);
        assert_eq!(of(&report, 81, Some("c")), unanswered);
        report.upstreams[1].held = Some(Hold {
            reason: "it has no server".into(),
            ..Hold::default()
        });
        let held = Err("upstream \"b\": an answer is held: it has no server".to_owned());
        assert_eq!(of(&report, 81, None), held);
        assert_eq!(of(&report, 81, Some("b")), held);
        assert_eq!(of(&report, 81, Some("a")), Ok(5));
        report.upstreams[0].pinned = Some(Pin::default());
        let pinned = Err("upstream \"a\": it is pinned".to_owned());
        assert_eq!(of(&report, 81, Some("a")), pinned);
    }

    #[test]
    fn a_server_is_named_with_its_upstream() {
        let named = |text: &str| server(text).map(|(name, address)| (name, address.to_string()));
        let parts = |name: &str, address: &str| Ok((name.to_owned(), address.to_owned()));
        assert_eq!(named("a/127.0.0.1:80"), parts("a", "127.0.0.1:80"));
        assert_eq!(named("a/b/[::1]:80"), parts("a/b", "[::1]:80"));
        assert_eq!(named("a/unix:/run/x"), parts("a", "unix:/run/x"));
        for bad in ["a", "a/", "127.0.0.1:80", "a/localhost:80", "a/127.0.0.1"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
