//! `watch`: a line for each publish, across restarts of weir.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use chrono::Local;
use serde_json::{Value, json};
use weir_shm::{ReadError, Reader, Server, Table, Upstream};

use super::text::shown;
use super::{Failure, find, show, write};

/// Between two looks at the table version. A write to a mapping wakes nobody: it has to be asked.
const POLL: Duration = Duration::from_millis(10);
/// Between two looks at whether the file was replaced or the master has gone.
const LOOK_AROUND: Duration = Duration::from_millis(500);

/// Something that is worth a line.
#[derive(Debug)]
enum Event {
    /// The table at the beginning, or of a region that a new start made.
    Opened { table: Table, master: u32 },
    /// A publish; `missed` versions were replaced before they could be read.
    Published {
        table: Table,
        missed: u64,
        changes: Vec<Change>,
    },
    /// The master is gone.
    Ended { master: u32 },
}

/// How one upstream differs from what it was.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    upstream: String,
    added: Vec<String>,
    removed: Vec<String>,
    updated: Vec<String>,
    /// The upstream itself is new, or gone.
    is_new: bool,
    is_gone: bool,
}

/// Follows the region until the process is interrupted. A region that cannot be read at the
/// beginning is an error; later, one that is being replaced is waited for.
pub fn run(path: &Path, as_json: bool) -> Result<(), Failure> {
    let about = |error| format!("\"{}\": {error}", shown(&path.to_string_lossy()));
    let mut reader = Reader::open(path).map_err(about)?;
    let mut file = identity(path);
    loop {
        follow(path, file, &mut reader, as_json).map_err(|failure| match failure {
            Stop::Failure(failure) => failure,
            Stop::Read(error) => Failure::Message(about(error)),
        })?;
        (file, reader) = loop {
            let now = identity(path);
            if now != file
                && now.is_some()
                && let Ok(reader) = Reader::open(path)
            {
                break (now, reader);
            }
            thread::sleep(LOOK_AROUND);
        };
    }
}

enum Stop {
    Failure(Failure),
    Read(ReadError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Stop {
        Stop::Read(error)
    }
}

/// Follows one region until its file is replaced.
fn follow(
    path: &Path,
    file: Option<(u64, u64)>,
    reader: &mut Reader,
    as_json: bool,
) -> Result<(), Stop> {
    let mut master = reader.header().master_pid;
    let mut table = reader.table()?;
    tell(
        &Event::Opened {
            table: table.clone(),
            master,
        },
        as_json,
    )?;
    let mut alive = find::is_alive(master);
    let mut looked = Instant::now();
    loop {
        if reader.version()? != table.version {
            let next = match reader.table() {
                // Whoever publishes this fast is asked again.
                Err(ReadError::Busy) => continue,
                next => next?,
            };
            let missed = next.version.saturating_sub(table.version + 1);
            let changes = changes(&table, &next);
            table = next;
            tell(
                &Event::Published {
                    table: table.clone(),
                    missed,
                    changes,
                },
                as_json,
            )?;
        }
        if looked.elapsed() >= LOOK_AROUND {
            looked = Instant::now();
            // A master that goes to the background writes its id a little later.
            master = reader.refresh()?.master_pid;
            let was_alive = std::mem::replace(&mut alive, find::is_alive(master));
            if was_alive && !alive {
                tell(&Event::Ended { master }, as_json)?;
            }
            if identity(path) != file {
                return Ok(());
            }
        }
        thread::sleep(POLL);
    }
}

/// Device and inode: a new start renames a new file over the old one.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

fn tell(event: &Event, as_json: bool) -> Result<(), Failure> {
    let now = Local::now().format("%Y/%m/%d %H:%M:%S%.3f").to_string();
    write(&if as_json {
        show::document(&event.json(&now))
    } else {
        event.text(&now)
    })
}

fn changes(before: &Table, after: &Table) -> Vec<Change> {
    let old: HashMap<&str, &Upstream> = before
        .upstreams
        .iter()
        .map(|upstream| (upstream.name.as_str(), upstream))
        .collect();
    let new: HashMap<&str, &Upstream> = after
        .upstreams
        .iter()
        .map(|upstream| (upstream.name.as_str(), upstream))
        .collect();
    let changed = after.upstreams.iter().map(|upstream| {
        let old = old.get(upstream.name.as_str());
        let servers = old.map_or(&[][..], |old| &old.servers);
        Change {
            is_new: old.is_none(),
            ..change(&upstream.name, servers, &upstream.servers)
        }
    });
    let gone = before
        .upstreams
        .iter()
        .filter(|upstream| !new.contains_key(upstream.name.as_str()));
    let gone = gone.map(|upstream| Change {
        is_gone: true,
        ..change(&upstream.name, &upstream.servers, &[])
    });
    changed
        .chain(gone)
        .filter(|change| !change.is_empty())
        .collect()
}

fn change(name: &str, before: &[Server], after: &[Server]) -> Change {
    let old: HashMap<_, &Server> = before
        .iter()
        .map(|server| (&server.address, server))
        .collect();
    let new: HashMap<_, &Server> = after
        .iter()
        .map(|server| (&server.address, server))
        .collect();
    let names = |servers: &[Server], wanted: &dyn Fn(&Server) -> bool| {
        let wanted = servers.iter().filter(|server| wanted(server));
        wanted.map(|server| server.address.to_string()).collect()
    };
    Change {
        upstream: name.to_owned(),
        added: names(after, &|server| !old.contains_key(&server.address)),
        removed: names(before, &|server| !new.contains_key(&server.address)),
        updated: names(after, &|server| {
            old.get(&server.address)
                .is_some_and(|old| !is_same(old, server))
        }),
        ..Change::default()
    }
}

/// Whether two servers of one address route alike.
fn is_same(one: &Server, other: &Server) -> bool {
    let parameters = |s: &Server| (s.weight, s.max_fails, s.fail_timeout_ms, s.down, s.backup);
    parameters(one) == parameters(other)
}

impl Change {
    fn is_empty(&self) -> bool {
        let none = self.added.is_empty() && self.removed.is_empty() && self.updated.is_empty();
        none && !self.is_new && !self.is_gone
    }

    fn text(&self) -> String {
        let mark = match self {
            Change { is_new: true, .. } => " (new)",
            Change { is_gone: true, .. } => " (gone)",
            _ => "",
        };
        let mut out = format!("{}{mark}", shown(&self.upstream));
        for (sign, servers) in [
            ('+', &self.added),
            ('-', &self.removed),
            ('~', &self.updated),
        ] {
            for server in servers {
                out.push_str(&format!(" {sign}{}", shown(server)));
            }
        }
        out
    }

    fn json(&self) -> Value {
        json!({
            "upstream": self.upstream,
            "added": self.added,
            "removed": self.removed,
            "updated": self.updated,
            "new": self.is_new,
            "gone": self.is_gone,
        })
    }
}

impl Event {
    fn text(&self, now: &str) -> String {
        match self {
            Event::Opened { table, master } => format!(
                "{now} version {} of master {master}: upstreams {}, servers {}\n",
                table.version,
                table.upstreams.len(),
                servers(table)
            ),
            Event::Published {
                table,
                missed,
                changes,
            } => {
                let changes: Vec<String> = changes.iter().map(Change::text).collect();
                let changes = if changes.is_empty() {
                    "the same servers".to_owned()
                } else {
                    changes.join("; ")
                };
                let missed = match missed {
                    0 => String::new(),
                    missed => format!(" ({missed} before it not seen)"),
                };
                format!("{now} version {}{missed}: {changes}\n", table.version)
            }
            Event::Ended { master } => {
                format!("{now} master {master} is gone, waiting for another\n")
            }
        }
    }

    fn json(&self, now: &str) -> Value {
        match self {
            Event::Opened { table, master } => json!({
                "event": "opened", "time": now, "version": table.version, "master_pid": master,
                "upstreams": table.upstreams.len(), "servers": servers(table),
            }),
            Event::Published {
                table,
                missed,
                changes,
            } => {
                let changes: Vec<Value> = changes.iter().map(Change::json).collect();
                json!({
                    "event": "published", "time": now, "version": table.version,
                    "missed": missed, "changes": changes,
                })
            }
            Event::Ended { master } => {
                json!({ "event": "ended", "time": now, "master_pid": master })
            }
        }
    }
}

fn servers(table: &Table) -> usize {
    table
        .upstreams
        .iter()
        .map(|upstream| upstream.servers.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weirctl::testing::server;

    fn table(version: u64, upstreams: &[(&str, &[(u16, u32)])]) -> Table {
        let upstreams = upstreams
            .iter()
            .map(|(name, servers)| Upstream {
                name: (*name).to_owned(),
                changed: version,
                learned: false,
                template: None,
                servers: servers
                    .iter()
                    .map(|(port, weight)| server(*port, *weight))
                    .collect(),
            })
            .collect();
        Table {
            version,
            upstreams,
            ..Table::default()
        }
    }

    #[test]
    fn a_publish_says_what_changed() {
        let before = table(1, &[("a", &[(1, 1), (2, 1)]), ("b", &[(9, 1)]), ("c", &[])]);
        let after = table(4, &[("a", &[(3, 1), (2, 5)]), ("c", &[]), ("d", &[])]);
        let changes = changes(&before, &after);
        let event = Event::Published {
            table: after,
            missed: 2,
            changes,
        };
        assert_eq!(
            event.text("now"),
            "now version 4 (2 before it not seen): a +127.0.0.1:3 -127.0.0.1:1 ~127.0.0.1:2; \
             d (new); b (gone) -127.0.0.1:9\n"
        );
        assert_eq!(event.json("now")["changes"][1]["new"], true);
    }

    #[test]
    fn a_publish_without_a_difference_is_told_too() {
        let one = table(1, &[("a", &[(1, 1)])]);
        let changes = changes(&one, &table(2, &[("a", &[(1, 1)])]));
        let event = Event::Published {
            table: table(2, &[]),
            missed: 0,
            changes,
        };
        assert_eq!(event.text("now"), "now version 2: the same servers\n");
    }
}
