//! Verification: everything in a region that can be checked, checked.

use std::collections::HashMap;

use crate::error::ReadError;
use crate::layout::{header, row, slot};
use crate::reader::{Header, Reader};
use crate::scoreboard::WorkerRow;
use crate::table::{CounterId, Table};

/// What [`Reader::verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The header.
    pub header: Header,
    /// Every slot of the ring that a reader may use now, the newest first.
    pub slots: Vec<SlotReport>,
    /// Everything that is wrong, a sentence each; empty is a good region.
    pub problems: Vec<String>,
}

/// A slot of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReport {
    /// The table version in it.
    pub version: u64,
    /// Its upstreams.
    pub upstreams: usize,
    /// Its servers.
    pub servers: usize,
    /// Removed servers whose counters were still in use.
    pub leaving: usize,
}

impl Reader {
    /// Reads every slot that may be read, the scoreboard and the tenancy of the counters, and
    /// holds them against each other. Only what keeps it from reading is an error; what it finds
    /// wrong is in the report.
    pub fn verify(&mut self) -> Result<Report, ReadError> {
        let header = self.refresh()?;
        let mut report = Report {
            header,
            slots: Vec::new(),
            problems: Vec::new(),
        };
        let present = self.version()?;
        let oldest = present.saturating_sub(self.ring().tolerance() - 1).max(1);
        for version in (oldest..=present).rev() {
            let first = self.ring().slot(version);
            if version < present && self.words(first, 1)?[0] == 0 {
                // The region began after this version.
                continue;
            }
            let read = self.slot(version)?;
            // A region that goes on from another one's version never had the tables before it.
            if version != present && self.is_blank(version)? {
                continue;
            }
            // One that has been overtaken meanwhile says nothing.
            if !self.ring().accepts(version, self.version()?) {
                continue;
            }
            match read {
                Ok(table) => {
                    report.slots.push(SlotReport {
                        version,
                        upstreams: table.upstreams.len(),
                        servers: table.upstreams.iter().map(|u| u.servers.len()).sum(),
                        leaving: table.leaving.len(),
                    });
                    self.check_table(&table, &mut report.problems)?;
                }
                Err(damage) => report
                    .problems
                    .push(format!("table version {version}: {damage}")),
            }
        }
        self.check_workers(&mut report.problems)?;
        for read in [self.report().map(drop), self.history().map(drop)] {
            match read {
                Err(ReadError::Report(damage)) => report.problems.push(format!("report: {damage}")),
                Err(ReadError::History(damage)) => {
                    report.problems.push(format!("history: {damage}"));
                }
                other => other?,
            }
        }
        Ok(report)
    }

    /// Whether nothing has been written into the slot of a version.
    fn is_blank(&self, version: u64) -> Result<bool, ReadError> {
        let head = self.words(self.ring().slot(version), slot::HEAD)?;
        Ok(head.iter().all(|word| *word == 0))
    }

    fn check_table(&self, table: &Table, problems: &mut Vec<String>) -> Result<(), ReadError> {
        let tenancy = self.words(
            self.layout().tenancy,
            self.layout().capacity.servers as usize,
        )?;
        let mut seen: HashMap<u32, CounterId> = HashMap::new();
        let listed = table
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.servers);
        for server in listed.chain(table.leaving.iter().map(|leaving| &leaving.server)) {
            let CounterId { index, incarnation } = server.counter;
            if seen.insert(index, server.counter).is_some() {
                problems.push(format!(
                    "table version {}: counter row {index} belongs to two servers",
                    table.version
                ));
            }
            let newest = tenancy.get(index as usize).copied().unwrap_or(0);
            if incarnation == 0 || u64::from(incarnation) > newest {
                problems.push(format!(
                    "table version {}: {} has incarnation {incarnation} of counter row {index}, \
                     the newest is {newest}",
                    table.version, server.address
                ));
            }
        }
        Ok(())
    }

    fn check_workers(&self, problems: &mut Vec<String>) -> Result<(), ReadError> {
        for slot in 0..self.layout().capacity.workers {
            let words = self.words(self.layout().row(slot), row::WORDS)?;
            // After the row: a version that was published since is no fault.
            let present = self.words(header::VERSION, 1)?[0];
            match WorkerRow::parse(slot, |word| words[word]) {
                None if words[row::PID] != 0 => {
                    problems.push(format!("worker slot {slot}: no worker has such a row"));
                }
                Some(worker) if worker.table_version > present => problems.push(format!(
                    "worker slot {slot}: routes by table version {}, the last is {present}",
                    worker.table_version
                )),
                _ => {}
            }
        }
        Ok(())
    }
}
