//! The region as a worker sees it: tables to read, rows of its own to write.

use std::sync::Arc;

use crate::clock;
use crate::counters::Counters;
use crate::error::SnapshotError;
use crate::failures::Failures;
use crate::latch::{Load, Ring};
use crate::latency;
use crate::layout::{Layout, row, slot};
use crate::reading::{Buffers, Reading, Source};
use crate::region::ring;
use crate::scoreboard::{Metric, Row, Status, WorkerState};
use crate::table::Server;
use crate::word::{Words, WordsMut};

/// What a worker copied out of the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The table version that it is of.
    pub version: u64,
    /// When that was published, in nanoseconds of CLOCK_MONOTONIC.
    pub published: u64,
    /// All upstreams in configuration order.
    pub upstreams: Vec<SnapshotUpstream>,
}

/// An upstream in a [`Snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotUpstream {
    /// Its name.
    pub name: String,
    /// The table version that last changed it.
    pub changed: u64,
    /// The name of the upstream that it is like, if it was discovered.
    pub template: Option<Arc<str>>,
    /// Its servers, when it has changed since the version that was asked from.
    pub servers: Option<Vec<Server>>,
}

/// The region mapped for a worker.
#[derive(Debug)]
pub struct WorkerRegion {
    layout: Layout,
    slot: u32,
    ring: Ring,
    tables: Words,
    live: WordsMut,
    counters: Counters,
    failures: Failures,
    row: Row,
    /// A table that is only half read.
    reading: Option<Reading>,
    buffers: Buffers,
}

impl WorkerRegion {
    /// `tables` are the words before `layout.live`, `live` those from there on.
    pub(crate) fn new(layout: Layout, slot: u32, tables: Words, live: WordsMut) -> Self {
        let base = layout.live;
        let row = Row::new(live.clone(), layout.row(slot) - base);
        latency::clear(&live, layout.latency(slot) - base);
        row.claim(std::process::id());
        WorkerRegion {
            layout,
            slot,
            ring: ring(&layout),
            tables,
            counters: Counters::new(
                live.clone(),
                layout.block(slot) - base,
                layout.capacity.servers,
            ),
            failures: Failures::new(live.clone(), &layout, base, slot),
            row,
            live,
            reading: None,
            buffers: Buffers::default(),
        }
    }

    /// The worker slot that this process has.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The version of the table published last: one load.
    #[inline]
    pub fn table_version(&self) -> u64 {
        self.ring.version(&self.tables)
    }

    /// Copies the present table into `into`, of upstreams that have not changed after `since`
    /// only the name. When the version still is `since`, and `into` of it, nothing is done.
    ///
    /// # Errors
    /// The table is damaged, or the writer was too fast, which is counted on the scoreboard. `into` is then
    /// empty.
    pub fn read(&mut self, since: u64, into: &mut Snapshot) -> Result<(), SnapshotError> {
        while !self.read_some(&mut usize::MAX.clone(), since, into)? {}
        Ok(())
    }

    /// As [`WorkerRegion::read`], but a server or an upstream takes one off `budget`, or a small part of
    /// that while it is only copied; true when `into` has it all. `since` and `into` are the same each
    /// time.
    ///
    /// # Errors
    /// Those of [`WorkerRegion::read`]; the next call begins anew.
    pub fn read_some(
        &mut self,
        budget: &mut usize,
        since: u64,
        into: &mut Snapshot,
    ) -> Result<bool, SnapshotError> {
        let read = self.go_on(budget, since, into);
        if let Err(error) = &read {
            *into = Snapshot::default();
            if matches!(error, SnapshotError::Lapped) {
                self.row.add(Metric::Lapped, 1);
            }
        }
        read
    }

    fn go_on(
        &mut self,
        budget: &mut usize,
        since: u64,
        into: &mut Snapshot,
    ) -> Result<bool, SnapshotError> {
        let present = self.table_version();
        let source = Source {
            ring: self.ring,
            tables: &self.tables,
            layout: &self.layout,
        };
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None if present == into.version && present == since => {
                for upstream in &mut into.upstreams {
                    upstream.servers = None;
                }
                return Ok(true);
            }
            None => match Reading::begin(&source, since, &mut self.buffers)? {
                Some(reading) => reading,
                None => {
                    *into = Snapshot::default();
                    return Ok(true);
                }
            },
        };
        let done = reading.step(&source, budget, &mut self.buffers, into)?;
        if !done {
            self.reading = Some(reading);
        }
        Ok(done)
    }

    /// Requests are routed by what was read into `snapshot` from now on; before, they were by version
    /// `since`. Counts how long ago it was published, and those in between that are not forgotten
    /// yet. A worker that had no table before has kept nobody waiting.
    pub fn used(&self, since: u64, snapshot: &Snapshot) {
        if since == 0 {
            return;
        }
        let now = clock::now_ns();
        let oldest = snapshot.version.saturating_sub(self.ring.tolerance() - 1);
        let between = (oldest.max(since + 1)..snapshot.version).filter_map(|version| {
            self.ring.read_of(&self.tables, version, |slot| {
                let mut published = [0];
                slot.copy(slot::PUBLISHED, &mut published);
                published[0]
            })
        });
        let first = self.layout.latency(self.slot) - self.layout.live;
        for published in between.chain([snapshot.published]) {
            latency::note(&self.live, first, now.saturating_sub(published));
        }
    }

    /// This worker's counter rows.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Failures of servers, this worker's and the others'.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// This worker's row of the scoreboard.
    pub fn scoreboard(&self) -> &Row {
        &self.row
    }

    /// What the worker of another slot does, and when its loop last turned, in milliseconds of
    /// CLOCK_MONOTONIC; `None` when nobody has the slot.
    pub fn neighbour(&self, slot: u32) -> Option<(WorkerState, u64)> {
        if slot >= self.layout.capacity.workers {
            return None;
        }
        let first = self.layout.row(slot) - self.layout.live;
        let state = WorkerState::from_word(self.live.load(first + row::STATE))?;
        Some((state, self.live.load(first + row::HEARTBEAT)))
    }

    /// What `stub_status` shows: the sum over all workers, dead ones included.
    pub fn status(&self) -> Status {
        let mut sum = Status::default();
        for slot in 0..=self.layout.folded() {
            let first = self.layout.row(slot) - self.layout.live;
            debug_assert!(first + row::WORDS <= self.layout.words);
            sum.add(&Status::parse(|word| self.live.load(first + word)));
        }
        sum
    }

    /// The latch and its memory, for tests that race against it.
    #[doc(hidden)]
    pub fn latch(&self) -> (Ring, &impl Load) {
        (self.ring, &self.tables)
    }
}
