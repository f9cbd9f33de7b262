//! What the old master of a binary upgrade has, as text: for a new one of a release that lays its
//! region out in another way and cannot read the old one's.
//!
//! The old master writes it before it starts the new one, and again every second for what its workers
//! count, as long as the file is there: a new master that can read the region takes it away.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_shm::{Counts, Reader, Status, Table, Tally, Upstream};

use crate::errno::describe;
use crate::sealed::Kind;
use crate::syncer::recorder::history::Peer;
use crate::syncer::recorder::report::Report;

const FILE: Kind = Kind {
    magic: "weir-handover 1",
    name: "handover file",
    lasts: false,
};

/// See the module. Fields may be added; none may change its meaning without another number in the
/// first line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// Whose it is.
    master: i32,
    /// The table version.
    version: u64,
    /// The table.
    upstreams: Vec<HandedUpstream>,
    /// The last report, with pins and answers that are held back; it has a number of its own.
    report: Option<Box<RawValue>>,
    /// The history, the oldest record first.
    history: Vec<HandedRecord>,
    /// What was counted for servers of the table; those that nothing was counted for are left out.
    servers: Vec<HandedCounts>,
    /// Connections accepted, of all workers.
    accepted: u64,
    /// Connections handled, of all workers.
    handled: u64,
    /// Requests, of all workers.
    requests: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct HandedUpstream {
    name: String,
    changed: u64,
    learned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    servers: Vec<Peer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HandedRecord {
    version: u64,
    record: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HandedCounts {
    upstream: String,
    address: String,
    /// Among those of the same address, from 1 on.
    number: usize,
    requests: u64,
    failures: u64,
    received: u64,
    sent: u64,
    /// In milliseconds of CLOCK_MONOTONIC.
    latest_failure_ms: u64,
}

/// Where it lies, beside the region.
pub(crate) fn path(region: &Path) -> PathBuf {
    let mut name = region.as_os_str().to_owned();
    name.push(".handover");
    name.into()
}

/// Takes it away, if it is there.
pub(crate) fn remove(region: &Path) -> io::Result<()> {
    match fs::remove_file(path(region)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Writes what there is now.
///
/// # Errors
/// What failed, with the file's name.
pub(crate) fn write(region: &Path, master: Pid, from: &Reader) -> Result<(), String> {
    let path = path(region);
    let failed =
        |why: String| format!("handover file \"{}\" is not written: {why}", path.display());
    let handover = Handover::of(master, from).map_err(|error| failed(error.to_string()))?;
    FILE.write(&path, &handover)
        .map_err(|error| failed(describe(&error)))
}

/// Reads what the master `parent` has left.
///
/// # Errors
/// Why it cannot be used, with its name.
pub(crate) fn read(region: &Path, parent: Pid) -> Result<Option<Handover>, String> {
    let found: Option<Handover> = FILE.read(&path(region))?;
    Ok(found.filter(|handover| handover.master == parent.as_raw()))
}

impl Handover {
    fn of(master: Pid, from: &Reader) -> Result<Handover, weir_shm::ReadError> {
        let table = from.table()?;
        let Tally { servers, status } = from.tally()?;
        let counted = servers.into_iter();
        let counted = counted.filter(|(_, counts)| *counts != Counts::default());
        // These two only people miss.
        let report = from.report().unwrap_or_default();
        let report = serde_json::from_slice(&report).ok();
        let history = from.history().unwrap_or_default().into_iter();
        Ok(Handover {
            master: master.as_raw(),
            version: table.version,
            upstreams: table.upstreams.iter().map(HandedUpstream::of).collect(),
            report,
            history: history
                .filter_map(|record| {
                    Some(HandedRecord {
                        version: record.version,
                        record: serde_json::from_slice(&record.text?).ok()?,
                    })
                })
                .collect(),
            servers: counted
                .map(|((upstream, address, number), counts)| HandedCounts {
                    upstream,
                    address,
                    number,
                    requests: counts.requests,
                    failures: counts.failures,
                    received: counts.received,
                    sent: counts.sent,
                    latest_failure_ms: counts.latest_failure_ms,
                })
                .collect(),
            accepted: status.accepted,
            handled: status.handled,
            requests: status.requests,
        })
    }

    /// The last report, empty if this release cannot read it.
    pub(crate) fn report(&self) -> Report {
        let text = self.report.as_ref().map(|text| text.get().as_bytes());
        text.and_then(Report::parse).unwrap_or_default()
    }

    /// The table; `None` if one of its servers has no address that this release knows.
    pub(crate) fn table(&self) -> Option<Table> {
        let upstreams = self.upstreams.iter().map(HandedUpstream::upstream);
        Some(Table {
            version: self.version,
            upstreams: upstreams.collect::<Option<_>>()?,
            ..Table::default()
        })
    }

    /// The history, the oldest record first.
    pub(crate) fn history(&self) -> Vec<weir_shm::Record> {
        let records = self.history.iter().map(|handed| weir_shm::Record {
            version: handed.version,
            text: Some(handed.record.get().into()),
        });
        records.collect()
    }

    /// What was counted.
    pub(crate) fn tally(self) -> Tally {
        let servers = self.servers.into_iter().map(|handed| {
            let counts = Counts {
                in_flight: 0,
                requests: handed.requests,
                failures: handed.failures,
                received: handed.received,
                sent: handed.sent,
                latest_failure_ms: handed.latest_failure_ms,
            };
            ((handed.upstream, handed.address, handed.number), counts)
        });
        Tally {
            servers: servers.collect::<HashMap<_, _>>(),
            status: Status {
                accepted: self.accepted,
                handled: self.handled,
                requests: self.requests,
                ..Status::default()
            },
        }
    }
}

impl HandedUpstream {
    fn of(upstream: &Upstream) -> HandedUpstream {
        HandedUpstream {
            name: upstream.name.clone(),
            changed: upstream.changed,
            learned: upstream.learned,
            template: upstream.template.as_deref().map(str::to_owned),
            servers: upstream.servers.iter().map(Peer::from).collect(),
        }
    }

    fn upstream(&self) -> Option<Upstream> {
        let servers = self.servers.iter().map(Peer::server);
        Some(Upstream {
            name: self.name.clone(),
            changed: self.changed,
            learned: self.learned,
            template: self.template.as_deref().map(Into::into),
            servers: servers.collect::<Option<_>>()?,
        })
    }
}
