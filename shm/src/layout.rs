//! Where everything lies in the region: sizes and offsets, all in u64 words.
//!
//! `docs/region.md` says the same in prose; a change here is a change there and a new
//! [`LAYOUT_VERSION`].

/// The first word of a region: the bytes `weir-shm`, so that a file of the other byte order does
/// not pass for one.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"weir-shm");
/// Rises with every change of the layout.
pub const LAYOUT_VERSION: u64 = 3;

/// Bytes of a word.
pub const WORD: usize = 8;
/// Words of a page: sections that are mapped apart begin on one.
pub const PAGE: usize = 4096 / WORD;
/// Words that two writers keep between them: two cache lines, since processors fetch pairs.
pub const APART: usize = 128 / WORD;

/// The words of the header, which is the region's first page.
pub mod header {
    #![allow(missing_docs, reason = "each is described in docs/region.md")]
    pub const MAGIC: usize = 0;
    pub const LAYOUT: usize = 1;
    pub const SIZE: usize = 2;
    pub const SERVERS: usize = 3;
    pub const UPSTREAMS: usize = 4;
    pub const WORKERS: usize = 5;
    pub const SLOTS: usize = 6;
    pub const HISTORY: usize = 7;
    pub const BOOT: usize = 8;
    pub const TABLES: usize = 9;
    pub const SLOT_SIZE: usize = 10;
    pub const TENANCY: usize = 11;
    pub const HISTORY_AT: usize = 12;
    pub const REPORT: usize = 13;
    pub const REPORT_SIZE: usize = 14;
    pub const SCOREBOARD: usize = 15;
    pub const LATENCIES: usize = 16;
    pub const FAILURES: usize = 17;
    pub const COUNTERS: usize = 18;
    pub const COUNTERS_SIZE: usize = 19;
    /// CRC-32 of the words before it, which never change.
    pub const CHECKSUM: usize = 20;
    pub const MASTER: usize = 24;
    pub const WRITER: usize = 25;
    pub const WRITER_TURNED: usize = 26;
    /// The table version, alone on its cache lines.
    pub const VERSION: usize = 64;
    /// The version of the report; beside it what else the recorder alone moves.
    pub const REPORT_VERSION: usize = 80;
    /// Where the oldest record of the history begins.
    pub const HISTORY_TAIL: usize = 81;
    /// Where the next record of the history will begin.
    pub const HISTORY_HEAD: usize = 82;
    /// Words of the header that mean something.
    pub const WORDS: usize = 83;
}

/// The words of a slot's head.
pub mod slot {
    #![allow(missing_docs, reason = "each is described in docs/region.md")]
    pub const VERSION: usize = 0;
    pub const WORDS: usize = 1;
    pub const UPSTREAMS: usize = 2;
    pub const SERVERS: usize = 3;
    pub const LEAVING: usize = 4;
    pub const TEXT: usize = 5;
    pub const SEEN: usize = 6;
    pub const PUBLISHED: usize = 7;
    pub const CHECKSUM: usize = 8;
    /// Words of the head.
    pub const HEAD: usize = 9;
    /// Words of an upstream's record.
    pub const UPSTREAM: usize = 4;
    /// Words of a server's record.
    pub const SERVER: usize = 7;
    /// Words of the record of a server that is leaving: a server's and two more.
    pub const LEAVER: usize = SERVER + 2;
}

/// The words of a slot of the report.
pub mod report {
    #![allow(missing_docs, reason = "each is described in docs/region.md")]
    pub const VERSION: usize = 0;
    pub const BYTES: usize = 1;
    pub const CHECKSUM: usize = 2;
    /// Words of the head.
    pub const HEAD: usize = 3;
    /// Slots of its ring: a reader needs one publish of peace.
    pub const SLOTS: u64 = 2;
}

/// The words of a record of the history.
pub mod record {
    #![allow(missing_docs, reason = "each is described in docs/region.md")]
    pub const POSITION: usize = 0;
    pub const BYTES: usize = 1;
    pub const VERSION: usize = 2;
    pub const CHECKSUM: usize = 3;
    /// Words of the head.
    pub const HEAD: usize = 4;
}

/// The words of a histogram of latencies.
pub mod latency {
    #![allow(missing_docs, reason = "each is described in docs/region.md")]
    /// Buckets, from the row's first word on.
    pub const BUCKETS: usize = 32;
    pub const SUM: usize = BUCKETS;
    pub const LONGEST: usize = BUCKETS + 1;
    /// Words of a row.
    pub const WORDS: usize = 48;
}

/// The words of a worker's row of the scoreboard.
pub mod row {
    #![allow(missing_docs, reason = "each is described in docs/region.md")]
    pub const PID: usize = 0;
    pub const STATE: usize = 1;
    pub const GENERATION: usize = 2;
    pub const TABLE: usize = 3;
    pub const HEARTBEAT: usize = 4;
    /// The first of the metrics, in the order of `Metric`.
    pub const METRICS: usize = 5;
    /// Words of a row.
    pub const WORDS: usize = super::APART;
}

/// The words of a counter row: one server's, of one worker.
pub mod counter {
    #![allow(missing_docs, reason = "each is described in docs/region.md")]
    /// In flight in the low half, the incarnation in the high one.
    pub const IN_FLIGHT: usize = 0;
    pub const REQUESTS: usize = 1;
    pub const FAILURES: usize = 2;
    pub const RECEIVED: usize = 3;
    pub const SENT: usize = 4;
    pub const LATEST_FAILURE: usize = 5;
    /// Words of a row: a cache line, so that a request touches one.
    pub const WORDS: usize = 8;
}

/// The ring of a worker's latest failures.
pub mod failures {
    #![allow(missing_docs, reason = "each is described in docs/region.md")]
    /// How many failures the worker has noted; alone on its cache lines.
    pub const NOTED: usize = 0;
    pub const ENTRIES: usize = super::APART;
    /// Failures that a ring holds.
    pub const LENGTH: usize = 256;
    /// Words of a ring with its head.
    pub const WORDS: usize = ENTRIES + LENGTH;
}

/// How many entries a region has room for; fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Servers of all upstreams together, those that are leaving included; 1 to 1,048,576.
    pub servers: u32,
    /// Upstreams, 1 to 65,536.
    pub upstreams: u32,
    /// Workers at one time, retiring ones included; 1 to 1024.
    pub workers: u32,
    /// Slots of the ring of tables, 4 to 64.
    pub slots: u32,
    /// Bytes of the history, 4 KiB to 1 GiB.
    pub history: u32,
}

impl Capacity {
    /// Most servers.
    pub const MAX_SERVERS: u32 = 1 << 20;
    /// Most upstreams.
    pub const MAX_UPSTREAMS: u32 = 1 << 16;
    /// Most workers.
    pub const MAX_WORKERS: u32 = 1024;
    /// Fewest slots: with fewer the writer may lap a reader in two publishes.
    pub const MIN_SLOTS: u32 = 4;
    /// Most slots.
    pub const MAX_SLOTS: u32 = 64;
    /// Least bytes of history.
    pub const MIN_HISTORY: u32 = 4 << 10;
    /// Most bytes of history.
    pub const MAX_HISTORY: u32 = 1 << 30;

    /// Whether every number is in its range; the error names the first that is not.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("servers", self.servers, 1, Self::MAX_SERVERS),
            ("upstreams", self.upstreams, 1, Self::MAX_UPSTREAMS),
            ("workers", self.workers, 1, Self::MAX_WORKERS),
            ("slots", self.slots, Self::MIN_SLOTS, Self::MAX_SLOTS),
            (
                "history",
                self.history,
                Self::MIN_HISTORY,
                Self::MAX_HISTORY,
            ),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} is {value}, not {least} to {most}"));
            }
        }
        Ok(())
    }

    /// Bytes of a region of this capacity.
    pub fn bytes(&self) -> u64 {
        Layout::new(*self).bytes()
    }
}

impl Default for Capacity {
    /// 32768 servers, 4096 upstreams, 8 workers, 4 slots, 4 MiB of history: about 41 MB.
    fn default() -> Self {
        DEFAULT
    }
}

const DEFAULT: Capacity = Capacity {
    servers: 32768,
    upstreams: 4096,
    workers: 8,
    slots: 4,
    history: 4 << 20,
};

/// Offsets and sizes of a region of some capacity, in words from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What it is laid out for.
    pub capacity: Capacity,
    /// The ring of tables.
    pub tables: usize,
    /// Words of a slot of the ring.
    pub slot_words: usize,
    /// Bytes of text that a slot has room for.
    pub text_bytes: usize,
    /// A word for each counter index: its incarnation.
    pub tenancy: usize,
    /// The log of changes.
    pub history: usize,
    /// Words of it.
    pub history_words: usize,
    /// The ring of reports.
    pub report: usize,
    /// Words of a slot of it.
    pub report_words: usize,
    /// Bytes that a report may have.
    pub report_bytes: usize,
    /// Where the part begins that workers write: the count of all failures.
    pub live: usize,
    /// A row for each worker and one for all dead ones.
    pub scoreboard: usize,
    /// A histogram for each worker, one for all dead ones, and the syncer's.
    pub latencies: usize,
    /// A ring of failures for each worker.
    pub failures: usize,
    /// A block of rows for each worker and one for all dead ones.
    pub counters: usize,
    /// Words of a block of counter rows.
    pub counters_words: usize,
    /// The whole region.
    pub words: usize,
}

impl Layout {
    /// The layout for a capacity whose numbers are in range.
    pub const fn new(capacity: Capacity) -> Self {
        let servers = capacity.servers as usize;
        let upstreams = capacity.upstreams as usize;
        let workers = capacity.workers as usize;
        let tables = PAGE;
        // Names are up to some 60 bytes and few servers have a path; the page is for tiny regions.
        let text_bytes = 4096 + 64 * upstreams + 16 * servers;
        let slot_words = align(
            slot::HEAD
                + upstreams * slot::UPSTREAM
                + servers * slot::LEAVER
                + text_bytes.div_ceil(WORD),
            APART,
        );
        let tenancy = tables + capacity.slots as usize * slot_words;
        let history = align(tenancy + servers, APART);
        let history_words = (capacity.history as usize).div_ceil(WORD);
        let report = align(history + history_words, APART);
        // What a source says of itself is a few hundred bytes; the rest is for refused entries.
        let report_bytes = (64 << 10) + 512 * upstreams;
        let report_words = align(report::HEAD + report_bytes / WORD, APART);
        let live = align(report + report::SLOTS as usize * report_words, PAGE);
        let scoreboard = live + APART;
        let latencies = scoreboard + (workers + 1) * row::WORDS;
        let failures = latencies + (workers + 2) * latency::WORDS;
        let counters = align(failures + workers * failures::WORDS, PAGE);
        let counters_words = align(servers * counter::WORDS, PAGE);
        let words = counters + (workers + 1) * counters_words;
        Layout {
            capacity,
            tables,
            slot_words,
            text_bytes,
            tenancy,
            history,
            history_words,
            report,
            report_words,
            report_bytes,
            live,
            scoreboard,
            latencies,
            failures,
            counters,
            counters_words,
            words,
        }
    }

    /// Bytes of the whole region.
    pub const fn bytes(&self) -> u64 {
        (self.words * WORD) as u64
    }

    /// The row of the scoreboard into which dead workers are folded, also the block of counters.
    pub const fn folded(&self) -> u32 {
        self.capacity.workers
    }

    /// The first word of a worker's row of the scoreboard.
    pub const fn row(&self, worker: u32) -> usize {
        self.scoreboard + worker as usize * row::WORDS
    }

    /// The first word of a worker's histogram of latencies.
    pub const fn latency(&self, worker: u32) -> usize {
        self.latencies + worker as usize * latency::WORDS
    }

    /// The first word of the syncer's histogram of latencies.
    pub const fn publishing(&self) -> usize {
        self.latency(self.capacity.workers + 1)
    }

    /// The first word of a worker's ring of failures.
    pub const fn ring(&self, worker: u32) -> usize {
        self.failures + worker as usize * failures::WORDS
    }

    /// The first word of a worker's block of counter rows.
    pub const fn block(&self, worker: u32) -> usize {
        self.counters + worker as usize * self.counters_words
    }

    /// The words of the header that never change, without the checksum.
    pub fn header(&self, boot: u64) -> [u64; header::CHECKSUM] {
        let at = |word: usize| (word * WORD) as u64;
        [
            MAGIC,
            LAYOUT_VERSION,
            self.bytes(),
            u64::from(self.capacity.servers),
            u64::from(self.capacity.upstreams),
            u64::from(self.capacity.workers),
            u64::from(self.capacity.slots),
            u64::from(self.capacity.history),
            boot,
            at(self.tables),
            at(self.slot_words),
            at(self.tenancy),
            at(self.history),
            at(self.report),
            at(self.report_words),
            at(self.scoreboard),
            at(self.latencies),
            at(self.failures),
            at(self.counters),
            at(self.counters_words),
        ]
    }
}

const fn align(words: usize, to: usize) -> usize {
    words.div_ceil(to) * to
}

// A reader in another language has these numbers from docs/region.md.
const _: () = {
    assert!(usize::BITS == 64 && WORD == 8 && PAGE == 512 && APART == 16);
    assert!(header::CHECKSUM == 20 && header::MASTER == 24 && header::WRITER == 25);
    assert!(header::VERSION == 64 && header::VERSION.is_multiple_of(APART));
    assert!(header::REPORT_VERSION == header::VERSION + APART);
    assert!(header::HISTORY_TAIL == 81 && header::HISTORY_HEAD == 82);
    assert!(header::WORDS <= PAGE);
    assert!(slot::CHECKSUM == slot::HEAD - 1 && slot::HEAD == 9);
    assert!(report::HEAD == 3 && report::SLOTS == 2 && record::HEAD == 4);
    assert!(latency::LONGEST == 33 && latency::WORDS == 48 && latency::WORDS.is_multiple_of(APART));
    assert!(slot::UPSTREAM == 4 && slot::SERVER == 7 && slot::LEAVER == 9);
    assert!(row::METRICS == 5 && row::WORDS == 16);
    assert!(counter::LATEST_FAILURE < counter::WORDS && counter::WORDS == 8);
    assert!(
        failures::NOTED == 0
            && failures::ENTRIES == 16
            && failures::LENGTH == 256
            && failures::WORDS == 272
    );
    let layout = Layout::new(DEFAULT);
    assert!(layout.tables == 512);
    assert!(layout.slot_words == 410_128 && layout.slot_words.is_multiple_of(APART));
    assert!(layout.tenancy == 1_641_024);
    assert!(layout.history == 1_673_792 && layout.history_words == 524_288);
    assert!(layout.report == 2_198_080 && layout.report_words == 270_352);
    assert!(layout.live == 2_739_200 && layout.live.is_multiple_of(PAGE));
    assert!(layout.scoreboard == 2_739_216 && layout.scoreboard.is_multiple_of(APART));
    assert!(layout.latencies == 2_739_360 && layout.latencies.is_multiple_of(APART));
    assert!(layout.failures == 2_739_840 && layout.failures.is_multiple_of(APART));
    assert!(layout.counters == 2_742_272 && layout.counters.is_multiple_of(PAGE));
    assert!(layout.counters_words == 262_144);
    assert!(layout.words == 5_101_568);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_capacity_has_its_range() {
        for (field, least, most) in [
            (0, 1, Capacity::MAX_SERVERS),
            (1, 1, Capacity::MAX_UPSTREAMS),
            (2, 1, Capacity::MAX_WORKERS),
            (3, Capacity::MIN_SLOTS, Capacity::MAX_SLOTS),
            (4, Capacity::MIN_HISTORY, Capacity::MAX_HISTORY),
        ] {
            let with = |value| {
                let mut capacity = Capacity::default();
                *[
                    &mut capacity.servers,
                    &mut capacity.upstreams,
                    &mut capacity.workers,
                    &mut capacity.slots,
                    &mut capacity.history,
                ][field] = value;
                capacity.check()
            };
            assert!(with(least).is_ok() && with(most).is_ok());
            assert!(with(least - 1).is_err() && with(most + 1).is_err());
        }
    }

    #[test]
    fn the_largest_region_can_be_addressed() {
        let largest = Layout::new(Capacity {
            servers: Capacity::MAX_SERVERS,
            upstreams: Capacity::MAX_UPSTREAMS,
            workers: Capacity::MAX_WORKERS,
            slots: Capacity::MAX_SLOTS,
            history: Capacity::MAX_HISTORY,
        });
        assert!(largest.bytes() < 1 << 40);
    }
}
