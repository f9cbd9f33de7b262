//! What an earlier run left: its region, or what it saved on disk.

use std::path::Path;

use nix::unistd::Pid;
use weir_shm::{Reader, Record as Recorded, Server, Table, Upstream};

use crate::handover;
use crate::log::Log;
use crate::syncer::recorder::history::Peer;
use crate::syncer::recorder::report::{From, Pin, Report};
use crate::syncer::recorder::state::{self, Saved};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LastRun {
    /// The last table of its region.
    pub(crate) table: Option<Table>,
    /// The last report of its region.
    pub(crate) report: Report,
    /// The history of its region, the oldest record first.
    pub(crate) history: Vec<Recorded>,
    /// What it saved.
    pub(crate) saved: Saved,
}

/// What is known of an upstream.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) servers: Vec<Server>,
    pub(crate) learned: bool,
    pub(crate) from: From,
    pub(crate) confirmed_ms: Option<u64>,
    pub(crate) pinned: Option<Pin>,
}

impl LastRun {
    /// Reads what there is; what cannot be read is told and passed over. `old`: the master that has
    /// started this one, and may have left a handover.
    pub(crate) fn read(
        region: &Path,
        old: Option<Pid>,
        state: Option<&Path>,
        log: &Log,
    ) -> LastRun {
        let mut last = LastRun::default();
        if region.exists()
            && let Err(error) = last.read_region(region)
        {
            let path = region.display();
            match old.map(|old| last.read_handover(region, old)) {
                Some(Ok(true)) => log.notice(format_args!(
                    "the table of the old master in \"{path}\" is taken from its handover: {error}"
                )),
                told => {
                    if let Some(Err(message)) = told {
                        log.warn(message);
                    }
                    log.warn(format_args!(
                        "the table of the last run in \"{path}\" is not used: {error}"
                    ));
                }
            }
        }
        match state.map(state::read) {
            Some(Ok(Some(saved))) => last.saved = saved,
            Some(Err(message)) => log.warn(message),
            _ => {}
        }
        last
    }

    fn read_region(&mut self, path: &Path) -> Result<(), weir_shm::ReadError> {
        let reader = Reader::open(path)?;
        self.table = Some(reader.table()?);
        // Only people miss these.
        let report = reader.report().unwrap_or_default();
        self.report = Report::parse(&report).unwrap_or_default();
        self.history = reader.history().unwrap_or_default();
        Ok(())
    }

    /// Whether there was one.
    fn read_handover(&mut self, region: &Path, old: Pid) -> Result<bool, String> {
        let Some(handover) = handover::read(region, old)? else {
            return Ok(false);
        };
        let table = handover.table();
        self.table = Some(table.ok_or("the handover has a server whose address is none")?);
        self.report = handover.report();
        self.history = handover.history();
        Ok(true)
    }

    /// The version that the next table follows.
    pub(crate) fn version(&self) -> u64 {
        let table = self.table.as_ref().map_or(0, |table| table.version);
        table.max(self.saved.version)
    }

    /// What was learned for an upstream, or what it is pinned to: servers that were configured then
    /// say nothing about now.
    pub(crate) fn known(&self, name: &str) -> Option<Known> {
        self.in_region(name).or_else(|| self.in_state(name))
    }

    fn in_region(&self, name: &str) -> Option<Known> {
        let mut upstreams = self.table.as_ref()?.upstreams.iter();
        let found = upstreams.find(|upstream| upstream.name == name)?;
        let status = self.report.upstream(name);
        let pinned = status.and_then(|status| status.pinned.clone());
        (found.learned || pinned.is_some()).then(|| Known {
            servers: found.servers.clone(),
            learned: found.learned,
            from: From::Region,
            confirmed_ms: status.and_then(|status| status.confirmed_ms),
            pinned,
        })
    }

    fn in_state(&self, name: &str) -> Option<Known> {
        let mut upstreams = self.saved.upstreams.iter();
        let found = upstreams.find(|upstream| upstream.name == name)?;
        if !found.learned && found.pinned.is_none() {
            return None;
        }
        let servers = found.servers.iter().map(Peer::server);
        Some(Known {
            servers: servers.collect::<Option<_>>()?,
            learned: found.learned,
            from: From::State,
            confirmed_ms: found.confirmed_ms,
            pinned: found.pinned.clone(),
        })
    }

    /// The records to go on from: the region's, or those that were saved if it has none.
    pub(crate) fn records(&self) -> Vec<(u64, Vec<u8>)> {
        let kept = self.history.iter();
        let kept: Vec<_> = kept
            .filter_map(|record| Some((record.version, record.text.clone()?)))
            .collect();
        if self.table.is_some() {
            return kept;
        }
        let saved = self.saved.history.iter();
        let version = |text: &str| {
            let value: serde_json::Value = serde_json::from_str(text).ok()?;
            value["version"].as_u64()
        };
        let saved = saved.filter_map(|text| Some((version(text.get())?, text.get().into())));
        saved.collect()
    }

    /// The upstreams of the last table.
    pub(crate) fn upstreams(&self) -> Option<Vec<Upstream>> {
        if let Some(table) = &self.table {
            return Some(table.upstreams.clone());
        }
        let saved = self.saved.upstreams.iter().map(|saved| {
            let servers = saved.servers.iter().map(Peer::server);
            Some(Upstream {
                name: saved.name.clone(),
                changed: saved.changed,
                learned: saved.learned,
                template: saved.template.as_deref().map(Into::into),
                servers: servers.collect::<Option<_>>()?,
            })
        });
        let saved: Vec<Upstream> = saved.collect::<Option<_>>()?;
        (!saved.is_empty()).then_some(saved)
    }
}
