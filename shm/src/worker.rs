//! The region as a worker sees it: tables to read, rows of its own to write.

use std::sync::Arc;

use crate::clock;
use crate::counters::Counters;
use crate::decode::{Head, UpstreamRecord, View};
use crate::error::{Damage, SnapshotError};
use crate::failures::Failures;
use crate::latch::{Load, Ring, Slot};
use crate::latency;
use crate::layout::{Layout, row, slot};
use crate::region::ring;
use crate::scoreboard::{Metric, Row, Status};
use crate::table::Server;
use crate::word::{Words, WordsMut};

/// Attempts to read a table before a worker goes on with the one that it has: it takes a publish
/// every few hundred microseconds to spoil even one.
const ATTEMPTS: usize = 8;

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
    /// Words of a slot in the making, and its text: kept so that reading allocates little.
    words: Vec<u64>,
    text: Vec<u8>,
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
            words: Vec::new(),
            text: Vec::new(),
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
    /// On an error `into` is as it was; one that was lapped is counted on the scoreboard.
    pub fn read(&mut self, since: u64, into: &mut Snapshot) -> Result<(), SnapshotError> {
        let present = self.table_version();
        if present == into.version && present == since {
            for upstream in &mut into.upstreams {
                upstream.servers = None;
            }
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let WorkerRegion {
                ring,
                tables,
                layout,
                words,
                ..
            } = self;
            let copied = ring.read(tables, |version, slot| {
                copy(version, slot, since, layout, words)
            });
            let Some((version, head)) = copied else {
                continue;
            };
            let Some(head) = head.map_err(SnapshotError::Damaged)? else {
                *into = Snapshot::default();
                return Ok(());
            };
            if head.version != version {
                return Err(SnapshotError::Damaged(Damage(format!(
                    "slot of version {version} has version {}",
                    head.version
                ))));
            }
            let view = View::new(head, &self.words, &mut self.text, self.layout.capacity);
            return update(&view, since, into).map_err(SnapshotError::Damaged);
        }
        self.row.add(Metric::Lapped, 1);
        Err(SnapshotError::Lapped)
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

/// Copies what is needed of a slot to the same places in `words`; `None` before the first publish.
/// The words may be torn, so that nothing in them is trusted further than its bounds.
fn copy(
    version: u64,
    from: Slot<'_, Words>,
    since: u64,
    layout: &Layout,
    words: &mut Vec<u64>,
) -> Result<Option<Head>, Damage> {
    if version == 0 {
        return Ok(None);
    }
    let mut head = [0; slot::HEAD];
    from.copy(0, &mut head);
    let head = Head::parse(&head, layout)?;
    if words.len() < head.words {
        words.resize(head.words, 0);
    }
    for range in [head.upstream_records(), head.text()] {
        from.copy(range.start, &mut words[range]);
    }
    for number in 0..head.upstreams {
        let at = slot::HEAD + number * slot::UPSTREAM;
        let record = UpstreamRecord::parse(&words[at..at + slot::UPSTREAM]);
        if record.changed > since {
            let range = head.server_records(record.range());
            from.copy(range.start, &mut words[range]);
        }
    }
    Ok(Some(head))
}

/// Brings a snapshot up to date with a table; it is left alone when the table is damaged.
fn update(view: &View<'_>, since: u64, into: &mut Snapshot) -> Result<(), Damage> {
    let mut upstreams = Vec::with_capacity(view.head.upstreams);
    for number in 0..view.head.upstreams {
        let (record, name) = view.upstream(number)?;
        let servers = if record.changed > since {
            Some(
                record
                    .range()
                    .map(|at| view.server(at))
                    .collect::<Result<_, _>>()?,
            )
        } else {
            None
        };
        upstreams.push((name, record.changed, view.template(&record)?, servers));
    }
    into.version = view.head.version;
    into.published = view.head.published;
    into.upstreams
        .resize_with(upstreams.len(), SnapshotUpstream::default);
    for (to, (name, changed, template, servers)) in into.upstreams.iter_mut().zip(upstreams) {
        if to.name != name {
            name.clone_into(&mut to.name);
        }
        to.changed = changed;
        if to.template.as_deref() != template {
            to.template = template.map(Arc::from);
        }
        to.servers = servers;
    }
    Ok(())
}
