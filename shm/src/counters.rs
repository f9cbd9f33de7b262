//! Counters: a row for each server and worker, written by that worker alone.
//!
//! A row's first word holds the incarnation of its counter index and how many requests are in
//! flight, so that one load tells whether the row is this server's. What an older tenant of the
//! index left behind is cleared by the first use; what an older tenant still does is not counted.

use crate::latch::{Load, Store};
use crate::layout::{Layout, WORD, counter};
use crate::table::{CounterId, halves, high, low};
use crate::word::WordsMut;

/// What was counted for one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests in flight.
    pub in_flight: u64,
    /// Requests passed to the server, those in flight included.
    pub requests: u64,
    /// Failed attempts, as `max_fails` counts them.
    pub failures: u64,
    /// Bytes received from the server.
    pub received: u64,
    /// Bytes sent to the server.
    pub sent: u64,
    /// When it failed last, in milliseconds of CLOCK_MONOTONIC; 0 is never.
    pub latest_failure_ms: u64,
}

impl Counts {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Counts) {
        self.in_flight = self.in_flight.wrapping_add(other.in_flight);
        self.requests = self.requests.wrapping_add(other.requests);
        self.failures = self.failures.wrapping_add(other.failures);
        self.received = self.received.wrapping_add(other.received);
        self.sent = self.sent.wrapping_add(other.sent);
        self.latest_failure_ms = self.latest_failure_ms.max(other.latest_failure_ms);
    }

    /// The words of a row as its incarnation and counts.
    pub(crate) fn parse(load: impl Fn(usize) -> u64) -> (u32, Counts) {
        let first = load(counter::IN_FLIGHT);
        let counts = Counts {
            in_flight: u64::from(low(first)),
            requests: load(counter::REQUESTS),
            failures: load(counter::FAILURES),
            received: load(counter::RECEIVED),
            sent: load(counter::SENT),
            latest_failure_ms: load(counter::LATEST_FAILURE),
        };
        (high(first), counts)
    }
}

/// A worker's own counter rows. Each call costs a few nanoseconds: plain loads and stores of one
/// cache line, no locked instruction.
#[derive(Debug)]
pub struct Counters {
    words: WordsMut,
    first: usize,
    servers: u32,
}

impl Counters {
    /// `first` is the word where the worker's rows begin.
    pub(crate) fn new(words: WordsMut, first: usize, servers: u32) -> Self {
        Counters {
            words,
            first,
            servers,
        }
    }

    #[inline]
    fn row(&self, id: CounterId) -> Option<usize> {
        (id.index < self.servers).then(|| self.first + id.index as usize * counter::WORDS)
    }

    /// The row, when it counts for this server now.
    #[inline]
    fn own(&self, id: CounterId) -> Option<usize> {
        self.row(id)
            .filter(|row| high(self.words.load(row + counter::IN_FLIGHT)) == id.incarnation)
    }

    /// The row, taken over from an older incarnation if it has to be.
    #[inline]
    fn take(&self, id: CounterId) -> Option<usize> {
        self.own(id).or_else(|| {
            self.reset(id);
            self.own(id)
        })
    }

    /// Clears the row when it belongs to an older incarnation.
    #[cold]
    pub fn reset(&self, id: CounterId) {
        let Some(row) = self.row(id) else { return };
        if high(self.words.load(row + counter::IN_FLIGHT)) < id.incarnation {
            for word in counter::REQUESTS..counter::WORDS {
                self.words.store(row + word, 0);
            }
            self.words
                .store_release(row + counter::IN_FLIGHT, halves(0, id.incarnation));
        }
    }

    /// A request is passed to the server.
    #[inline]
    pub fn begin(&self, id: CounterId) {
        if let Some(row) = self.take(id) {
            self.words.add_own(row + counter::IN_FLIGHT, 1);
            self.words.add_own(row + counter::REQUESTS, 1);
        }
    }

    /// The request is over, well or badly: `received` and `sent` are its bytes from and to the
    /// server.
    #[inline]
    pub fn end(&self, id: CounterId, received: u64, sent: u64) {
        if let Some(row) = self.own(id) {
            if low(self.words.load(row + counter::IN_FLIGHT)) > 0 {
                self.words.add_own(row + counter::IN_FLIGHT, u64::MAX);
            }
            self.words.add_own(row + counter::RECEIVED, received);
            self.words.add_own(row + counter::SENT, sent);
        }
    }

    /// An attempt at the server failed.
    #[inline]
    pub fn fail(&self, id: CounterId, now_ms: u64) {
        if let Some(row) = self.take(id) {
            self.words.add_own(row + counter::FAILURES, 1);
            self.words.store(row + counter::LATEST_FAILURE, now_ms);
        }
    }

    /// This worker's requests in flight to the server.
    #[inline]
    pub fn in_flight(&self, id: CounterId) -> u32 {
        self.own(id)
            .map_or(0, |row| low(self.words.load(row + counter::IN_FLIGHT)))
    }

    /// What this worker counted for the server.
    pub fn counts(&self, id: CounterId) -> Counts {
        self.own(id).map_or_else(Counts::default, |row| {
            Counts::parse(|word| self.words.load(row + word)).1
        })
    }
}

/// Adds a dead worker's rows to those of all dead workers, and clears them.
pub(crate) fn fold(words: &WordsMut, layout: &Layout, slot: u32) {
    for index in 0..layout.capacity.servers as usize {
        let at = |slot| layout.block(slot) + index * counter::WORDS;
        carry((words, at(slot)), (words, at(layout.folded())), None);
    }
}

/// Adds what a row of a dead worker counted to another one, nothing of it in flight, and clears it;
/// `incarnation`: it counts there under this one.
pub(crate) fn carry(
    (source, from): (&WordsMut, usize),
    (words, to): (&WordsMut, usize),
    incarnation: Option<u32>,
) {
    let (own, mut counts) = Counts::parse(|word| source.load(from + word));
    if own == 0 {
        return;
    }
    let incarnation = incarnation.unwrap_or(own);
    counts.in_flight = 0;
    let (folded, earlier) = Counts::parse(|word| words.load(to + word));
    if incarnation == folded {
        counts.add(&earlier);
    }
    // Cleared first: a reader in between sees too little for a moment, never twice.
    for word in 0..counter::WORDS {
        source.store(from + word, 0);
    }
    if incarnation >= folded {
        set_folded(words, to, incarnation, &counts);
    }
}

/// Adds what another region counted for a server to the row of all dead workers.
pub(crate) fn credit(words: &WordsMut, layout: &Layout, id: CounterId, more: &Counts) {
    if id.index >= layout.capacity.servers {
        return;
    }
    let to = layout.block(layout.folded()) + id.index as usize * counter::WORDS;
    let (folded, earlier) = Counts::parse(|word| words.load(to + word));
    let mut counts = *more;
    if folded == id.incarnation {
        counts.add(&earlier);
    }
    if folded <= id.incarnation {
        set_folded(words, to, id.incarnation, &counts);
    }
}

fn set_folded(words: &WordsMut, to: usize, incarnation: u32, counts: &Counts) {
    words.store(to + counter::REQUESTS, counts.requests);
    words.store(to + counter::FAILURES, counts.failures);
    words.store(to + counter::RECEIVED, counts.received);
    words.store(to + counter::SENT, counts.sent);
    words.store(to + counter::LATEST_FAILURE, counts.latest_failure_ms);
    words.store_release(to + counter::IN_FLIGHT, halves(0, incarnation));
}

/// Whether a worker has a request in flight on the row under this incarnation.
pub(crate) fn in_flight(words: &WordsMut, layout: &Layout, slot: u32, id: CounterId) -> bool {
    let row = layout.block(slot) + id.index as usize * counter::WORDS;
    let first = words.load(row + counter::IN_FLIGHT);
    high(first) == id.incarnation && low(first) > 0
}

/// The row of `index` in a worker's block of counters as it lies in the file.
pub(crate) fn row_of_bytes(block: &[u8], index: u32) -> Option<(u32, Counts)> {
    let at = index as usize * counter::WORDS * WORD;
    let row = block.get(at..at + counter::WORDS * WORD)?;
    Some(Counts::parse(|word| {
        row[word * WORD..]
            .first_chunk()
            .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }))
}
