//! Where everything lies in the region: sizes and offsets, all in u64 words.
//!
//! `docs/region.md` says the same in prose; a change here is a change there and a new
//! [`LAYOUT_VERSION`].

/// The first word of a region: the bytes `weir-shm`, so that a file of the other byte order does
/// not pass for one.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"weir-shm");
/// Rises with every change of the layout.
pub const LAYOUT_VERSION: u64 = 2;

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
    pub const BOOT: usize = 7;
    pub const TABLES: usize = 8;
    pub const SLOT_SIZE: usize = 9;
    pub const TENANCY: usize = 10;
    pub const SCOREBOARD: usize = 11;
    pub const FAILURES: usize = 12;
    pub const COUNTERS: usize = 13;
    pub const COUNTERS_SIZE: usize = 14;
    /// CRC-32 of the words before it, which never change.
    pub const CHECKSUM: usize = 15;
    pub const MASTER: usize = 16;
    pub const WRITER: usize = 17;
    /// The table version, alone on its cache lines.
    pub const VERSION: usize = 64;
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
    pub const RESERVED: usize = 6;
    pub const CHECKSUM: usize = 7;
    /// Words of the head.
    pub const HEAD: usize = 8;
    /// Words of an upstream's record.
    pub const UPSTREAM: usize = 3;
    /// Words of a server's record.
    pub const SERVER: usize = 7;
    /// Words of the record of a server that is leaving: a server's and two more.
    pub const LEAVER: usize = SERVER + 2;
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

    /// Whether every number is in its range; the error names the first that is not.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("servers", self.servers, 1, Self::MAX_SERVERS),
            ("upstreams", self.upstreams, 1, Self::MAX_UPSTREAMS),
            ("workers", self.workers, 1, Self::MAX_WORKERS),
            ("slots", self.slots, Self::MIN_SLOTS, Self::MAX_SLOTS),
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
    /// 32768 servers, 4096 upstreams, 8 workers, 4 slots: about 32 MB.
    fn default() -> Self {
        DEFAULT
    }
}

const DEFAULT: Capacity = Capacity {
    servers: 32768,
    upstreams: 4096,
    workers: 8,
    slots: 4,
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
    /// Where the part begins that workers write: the count of all failures.
    pub live: usize,
    /// A row for each worker and one for all dead ones.
    pub scoreboard: usize,
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
        let live = align(tenancy + servers, PAGE);
        let scoreboard = live + APART;
        let failures = scoreboard + (workers + 1) * row::WORDS;
        let counters = align(failures + workers * failures::WORDS, PAGE);
        let counters_words = align(servers * counter::WORDS, PAGE);
        let words = counters + (workers + 1) * counters_words;
        Layout {
            capacity,
            tables,
            slot_words,
            text_bytes,
            tenancy,
            live,
            scoreboard,
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
            boot,
            at(self.tables),
            at(self.slot_words),
            at(self.tenancy),
            at(self.scoreboard),
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
    assert!(header::CHECKSUM == 15 && header::MASTER == 16 && header::WRITER == 17);
    assert!(header::VERSION == 64 && header::VERSION.is_multiple_of(APART));
    assert!(header::VERSION + APART <= PAGE);
    assert!(slot::CHECKSUM == slot::HEAD - 1 && slot::HEAD == 8);
    assert!(slot::UPSTREAM == 3 && slot::SERVER == 7 && slot::LEAVER == 9);
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
    assert!(layout.slot_words == 406_032 && layout.slot_words.is_multiple_of(APART));
    assert!(layout.tenancy == 1_624_640);
    assert!(layout.live == 1_657_856 && layout.live.is_multiple_of(PAGE));
    assert!(layout.scoreboard == 1_657_872 && layout.scoreboard.is_multiple_of(APART));
    assert!(layout.failures == 1_658_016 && layout.failures.is_multiple_of(APART));
    assert!(layout.counters == 1_660_416 && layout.counters.is_multiple_of(PAGE));
    assert!(layout.counters_words == 262_144);
    assert!(layout.words == 4_019_712);
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
        ] {
            let with = |value| {
                let mut capacity = Capacity::default();
                *[
                    &mut capacity.servers,
                    &mut capacity.upstreams,
                    &mut capacity.workers,
                    &mut capacity.slots,
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
        });
        assert!(largest.bytes() < 1 << 40);
    }
}
