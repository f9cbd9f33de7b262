//! The scoreboard: a row for each worker, and one for all dead ones.

use std::fmt;

use crate::latch::{Load, Store};
use crate::layout::{Layout, row};
use crate::word::WordsMut;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// It has taken its slot and serves nothing yet.
    Starting,
    /// It works.
    Running,
    /// It waits for events: an idle worker is not a stuck one.
    Parked,
    /// It finishes the requests in flight.
    Quitting,
    /// It waits for events, and has no room for another connection (`worker_connections`).
    Full,
}

impl WorkerState {
    const fn word(self) -> u64 {
        match self {
            WorkerState::Starting => 1,
            WorkerState::Running => 2,
            WorkerState::Parked => 3,
            WorkerState::Quitting => 4,
            WorkerState::Full => 5,
        }
    }

    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        Some(match word {
            1 => WorkerState::Starting,
            2 => WorkerState::Running,
            3 => WorkerState::Parked,
            4 => WorkerState::Quitting,
            5 => WorkerState::Full,
            _ => return None,
        })
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            WorkerState::Starting => "starting",
            WorkerState::Running => "running",
            WorkerState::Parked => "parked",
            WorkerState::Quitting => "quitting",
            WorkerState::Full => "full",
        })
    }
}

/// The numbers of a worker, `stub_status`'s first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Client connections, waiting ones included.
    Active,
    /// Connections whose request head is being read.
    Reading,
    /// Connections with a request being processed.
    Writing,
    /// Idle keep-alive connections.
    Waiting,
    /// Connections accepted so far.
    Accepted,
    /// Connections handled so far: fewer when a limit was met.
    Handled,
    /// Requests so far.
    Requests,
    /// How often the tables moved on faster than this worker could read them.
    Lapped,
    /// Lines of logs that could not be written.
    LostLines,
}

impl Metric {
    const ALL: [Metric; 9] = [
        Metric::Active,
        Metric::Reading,
        Metric::Writing,
        Metric::Waiting,
        Metric::Accepted,
        Metric::Handled,
        Metric::Requests,
        Metric::Lapped,
        Metric::LostLines,
    ];

    /// Whether it only rises: then it outlives its worker.
    const fn is_counter(self) -> bool {
        matches!(
            self,
            Metric::Accepted
                | Metric::Handled
                | Metric::Requests
                | Metric::Lapped
                | Metric::LostLines
        )
    }

    const fn word(self) -> usize {
        row::METRICS + self as usize
    }
}

const _: () = assert!(row::METRICS + Metric::ALL.len() <= row::WORDS);
const _: () = {
    let mut at = 0;
    while at < Metric::ALL.len() {
        assert!(Metric::ALL[at] as usize == at);
        at += 1;
    }
};

/// A worker's own row, written by it alone.
#[derive(Debug)]
pub struct Row {
    words: WordsMut,
    first: usize,
}

impl Row {
    /// `first` is the row's first word.
    pub(crate) fn new(words: WordsMut, first: usize) -> Self {
        Row { words, first }
    }

    /// The worker's process id.
    pub fn set_pid(&self, pid: u32) {
        self.words.store(self.first + row::PID, u64::from(pid));
    }

    /// What it does now.
    #[inline]
    pub fn set_state(&self, state: WorkerState) {
        self.words.store(self.first + row::STATE, state.word());
    }

    /// The number of the configuration that it serves by.
    pub fn set_generation(&self, generation: u64) {
        self.words.store(self.first + row::GENERATION, generation);
    }

    /// The table version that it routes by: the counter rows of servers which this version no
    /// longer has may be given away.
    pub fn set_table_version(&self, version: u64) {
        self.words.store_release(self.first + row::TABLE, version);
    }

    /// When its loop last turned, in milliseconds of CLOCK_MONOTONIC.
    #[inline]
    pub fn set_heartbeat_ms(&self, now_ms: u64) {
        self.words.store(self.first + row::HEARTBEAT, now_ms);
    }

    /// Adds to a number.
    #[inline]
    pub fn add(&self, metric: Metric, value: u64) {
        self.words.add_own(self.first + metric.word(), value);
    }

    /// Takes away from a number.
    #[inline]
    pub fn sub(&self, metric: Metric, value: u64) {
        self.words
            .add_own(self.first + metric.word(), value.wrapping_neg());
    }

    /// Sets a number.
    #[inline]
    pub fn set(&self, metric: Metric, value: u64) {
        self.words.store(self.first + metric.word(), value);
    }

    /// Reads a number.
    #[inline]
    pub fn get(&self, metric: Metric) -> u64 {
        self.words.load(self.first + metric.word())
    }

    /// Empties the row and takes it for a starting worker.
    pub(crate) fn claim(&self, pid: u32) {
        for word in 0..row::WORDS {
            self.words.store(self.first + word, 0);
        }
        self.set_state(WorkerState::Starting);
        self.set_pid(pid);
    }
}

/// A copy of a worker's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    /// The worker's slot in the region.
    pub slot: u32,
    /// Its process id.
    pub pid: u32,
    /// What it does.
    pub state: WorkerState,
    /// The number of the configuration that it serves by.
    pub generation: u64,
    /// The table version that it routes by.
    pub table_version: u64,
    /// When its loop last turned, in milliseconds of CLOCK_MONOTONIC.
    pub heartbeat_ms: u64,
    /// Its numbers.
    pub status: Status,
    /// How often the tables moved on faster than it could read them.
    pub lapped: u64,
    /// Lines of logs that it could not write.
    pub lost_lines: u64,
}

impl WorkerRow {
    /// The words of a row; `None` when no worker has it.
    pub(crate) fn parse(slot: u32, load: impl Fn(usize) -> u64) -> Option<Self> {
        let pid = u32::try_from(load(row::PID)).ok().filter(|pid| *pid != 0)?;
        Some(WorkerRow {
            slot,
            pid,
            state: WorkerState::from_word(load(row::STATE))?,
            generation: load(row::GENERATION),
            table_version: load(row::TABLE),
            heartbeat_ms: load(row::HEARTBEAT),
            status: Status::parse(&load),
            lapped: load(Metric::Lapped.word()),
            lost_lines: load(Metric::LostLines.word()),
        })
    }
}

/// What `stub_status` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Client connections, waiting ones included.
    pub active: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections handled so far.
    pub handled: u64,
    /// Requests so far.
    pub requests: u64,
    /// Connections whose request head is being read.
    pub reading: u64,
    /// Connections with a request being processed.
    pub writing: u64,
    /// Idle keep-alive connections.
    pub waiting: u64,
}

impl Status {
    pub(crate) fn parse(load: impl Fn(usize) -> u64) -> Self {
        let metric = |metric: Metric| load(metric.word());
        Status {
            active: metric(Metric::Active),
            accepted: metric(Metric::Accepted),
            handled: metric(Metric::Handled),
            requests: metric(Metric::Requests),
            reading: metric(Metric::Reading),
            writing: metric(Metric::Writing),
            waiting: metric(Metric::Waiting),
        }
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Status) {
        let add = |sum: &mut u64, value: u64| *sum = sum.wrapping_add(value);
        add(&mut self.active, other.active);
        add(&mut self.accepted, other.accepted);
        add(&mut self.handled, other.handled);
        add(&mut self.requests, other.requests);
        add(&mut self.reading, other.reading);
        add(&mut self.writing, other.writing);
        add(&mut self.waiting, other.waiting);
    }
}

/// Adds a dead worker's counters to those of all dead workers, and clears its row.
pub(crate) fn fold(words: &WordsMut, layout: &Layout, slot: u32) {
    let (from, to) = (layout.row(slot), layout.row(layout.folded()));
    carry((words, from), (words, to));
}

/// Adds the counters of a row to those of another one, and clears it.
pub(crate) fn carry((source, from): (&WordsMut, usize), (words, to): (&WordsMut, usize)) {
    for metric in Metric::ALL.into_iter().filter(|metric| metric.is_counter()) {
        let value = source.load(from + metric.word());
        source.store(from + metric.word(), 0);
        words.add_own(to + metric.word(), value);
    }
    for word in 0..row::WORDS {
        source.store(from + word, 0);
    }
}

/// Adds what another region counted to the row of all dead workers.
pub(crate) fn credit(words: &WordsMut, layout: &Layout, more: &Status) {
    let to = layout.row(layout.folded());
    for (metric, value) in [
        (Metric::Accepted, more.accepted),
        (Metric::Handled, more.handled),
        (Metric::Requests, more.requests),
    ] {
        words.add_own(to + metric.word(), value);
    }
}
