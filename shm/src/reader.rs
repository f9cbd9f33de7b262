//! A reader outside the process tree: weirctl, or a start that takes over the last good table.
//!
//! It maps nothing. It reads with pread(2), believes nothing that it reads, and never writes; it
//! works beside a running weir and on the file of a dead one.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::counters::{Counts, row_of_bytes};
use crate::decode::{Head, decode};
use crate::encode::checksum;
use crate::error::{Damage, ReadError};
use crate::latch::Ring;
use crate::layout::{Capacity, LAYOUT_VERSION, Layout, MAGIC, WORD, counter, header, row, slot};
use crate::region::ring;
use crate::scoreboard::{Status, WorkerRow};
use crate::table::{Address, CounterId, Table};

/// Attempts before a region counts as too busy to be read.
pub(crate) const ATTEMPTS: usize = 1000;

/// What the header of a region says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The layout's version.
    pub layout_version: u64,
    /// Bytes of the region.
    pub size: u64,
    /// What it has room for.
    pub capacity: Capacity,
    /// A random number for each region made.
    pub boot_id: u64,
    /// Process id of the master; 0 before it is known.
    pub master_pid: u32,
    /// Process id of the syncer that took the writer's lock last; 0 before the first.
    pub writer_pid: u32,
    /// When that syncer's loop last turned, in milliseconds of CLOCK_MONOTONIC; 0 if it does not say.
    pub writer_turned_ms: u64,
    /// The table version; 0 before the first publish.
    pub version: u64,
}

/// What was counted for a server, over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCounters {
    /// The name of its upstream.
    pub upstream: String,
    /// Its address.
    pub address: Address,
    /// Its counter row.
    pub id: CounterId,
    /// It was removed, and its row is still in use.
    pub leaving: bool,
    /// The sum over all workers, dead ones included.
    pub total: Counts,
    /// Workers that have counted for it, by slot.
    pub workers: Vec<(u32, Counts)>,
}

/// An open region.
#[derive(Debug)]
pub struct Reader {
    file: File,
    layout: Layout,
    ring: Ring,
    header: Header,
}

impl Reader {
    /// Opens a region and checks its header and size.
    pub fn open(path: &Path) -> Result<Reader, ReadError> {
        check_kind(path)?;
        Reader::new(File::open(path)?)
    }

    /// The same for a file that is open.
    pub fn new(file: File) -> Result<Reader, ReadError> {
        let has = file.metadata()?.len();
        let expected = (header::WORDS * WORD) as u64;
        if has < WORD as u64 || words(&file, 0, 1)?[0] != MAGIC {
            return Err(ReadError::NotARegion);
        }
        if has < expected {
            return Err(ReadError::Truncated { expected, has });
        }
        let head = words(&file, 0, header::WORDS)?;
        let layout = check_header(&head)?;
        if has < layout.bytes() {
            return Err(ReadError::Truncated {
                expected: layout.bytes(),
                has,
            });
        }
        if has > layout.bytes() {
            return Err(ReadError::Size {
                stated: layout.bytes(),
                has,
            });
        }
        let header = parse_header(&head, layout.capacity);
        Ok(Reader {
            file,
            layout,
            ring: ring(&layout),
            header,
        })
    }

    /// Whether this region, and no other, is what is found at `path`.
    pub fn is_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), path.metadata()) {
            (Ok(mine), Ok(found)) => (mine.dev(), mine.ino()) == (found.dev(), found.ino()),
            _ => false,
        }
    }

    /// The header as it was when the region was opened.
    pub fn header(&self) -> Header {
        self.header
    }

    /// The header as it is now.
    pub fn refresh(&mut self) -> Result<Header, ReadError> {
        let head = words(&self.file, 0, header::WORDS)?;
        if check_header(&head)? != self.layout {
            return Err(ReadError::Header("it has changed its capacity".to_owned()));
        }
        self.header = parse_header(&head, self.layout.capacity);
        Ok(self.header)
    }

    /// The version of the table published last.
    pub fn version(&self) -> Result<u64, ReadError> {
        self.moving(header::VERSION)
    }

    /// A word that may move meanwhile.
    pub(crate) fn moving(&self, word: usize) -> Result<u64, ReadError> {
        // The kernel copies bytes: two equal reads are one word.
        for _ in 0..ATTEMPTS {
            let first = words(&self.file, word, 1)?[0];
            if words(&self.file, word, 1)?[0] == first {
                return Ok(first);
            }
        }
        Err(ReadError::Busy)
    }

    /// The present table.
    pub fn table(&self) -> Result<Table, ReadError> {
        for _ in 0..ATTEMPTS {
            let version = self.version()?;
            if version == 0 {
                return Ok(Table::default());
            }
            let read = self.slot(version)?;
            let now = self.version()?;
            match read {
                _ if !self.ring.accepts(version, now) => {}
                Ok(table) => return Ok(table),
                // The slot was not being written, so it was published like this.
                Err(damage) => return Err(ReadError::Table(damage)),
            }
        }
        Err(ReadError::Busy)
    }

    /// One attempt at the slot of a version; what comes back may be torn.
    pub(crate) fn slot(&self, version: u64) -> Result<Result<Table, Damage>, ReadError> {
        let first = self.ring.slot(version);
        let head = words(&self.file, first, slot::HEAD)?;
        let parsed = match head
            .first_chunk()
            .map(|head| Head::parse(head, &self.layout))
        {
            Some(Ok(parsed)) => parsed,
            Some(Err(damage)) => return Ok(Err(damage)),
            None => return Err(ReadError::Busy),
        };
        let table = decode(&words(&self.file, first, parsed.words)?, &self.layout);
        Ok(table.and_then(|table| {
            if table.version == version {
                Ok(table)
            } else {
                Err(Damage(format!(
                    "slot of version {version} has version {}",
                    table.version
                )))
            }
        }))
    }

    /// The rows of all workers, by slot.
    pub fn workers(&self) -> Result<Vec<WorkerRow>, ReadError> {
        let mut rows = Vec::new();
        for slot in 0..self.layout.capacity.workers {
            let words = words(&self.file, self.layout.row(slot), row::WORDS)?;
            rows.extend(WorkerRow::parse(slot, |word| words[word]));
        }
        Ok(rows)
    }

    /// The sum over all workers, dead ones included.
    pub fn status(&self) -> Result<Status, ReadError> {
        let mut sum = Status::default();
        for slot in 0..=self.layout.folded() {
            let words = words(&self.file, self.layout.row(slot), row::WORDS)?;
            sum.add(&Status::parse(|word| words[word]));
        }
        Ok(sum)
    }

    /// What was counted for each server of a table of this region, in its order; then for those
    /// leaving servers whose rows are still in use.
    pub fn counters(&self, table: &Table) -> Result<Vec<ServerCounters>, ReadError> {
        let listed = table.upstreams.iter().flat_map(|upstream| {
            upstream
                .servers
                .iter()
                .map(|server| (upstream.name.as_str(), server, None))
        });
        let leaving = table
            .leaving
            .iter()
            .map(|leaving| (&*leaving.upstream, &leaving.server, Some(leaving.dropped)));
        let mut dropped = Vec::new();
        let mut rows: Vec<ServerCounters> = listed
            .chain(leaving)
            .map(|(upstream, server, drop)| {
                dropped.extend(drop);
                ServerCounters {
                    upstream: upstream.to_owned(),
                    address: server.address.clone(),
                    id: server.counter,
                    leaving: drop.is_some(),
                    total: Counts::default(),
                    workers: Vec::new(),
                }
            })
            .collect();
        let Some(highest) = rows.iter().map(|row| row.id.index).max() else {
            return Ok(rows);
        };
        if highest >= self.layout.capacity.servers {
            return Err(ReadError::ForeignTable);
        }
        let mut block = vec![0; (highest as usize + 1) * counter::WORDS * WORD];
        for slot in 0..=self.layout.folded() {
            self.file
                .read_exact_at(&mut block, (self.layout.block(slot) * WORD) as u64)?;
            for row in &mut rows {
                add(row, slot, slot == self.layout.folded(), &block);
            }
        }
        let oldest = self.workers()?.iter().map(|row| row.table_version).min();
        let listed = rows.len() - dropped.len();
        let mut number = 0;
        rows.retain(|row| {
            number += 1;
            let waits = |dropped: u64| oldest.is_some_and(|oldest| oldest < dropped);
            number <= listed || row.total.in_flight > 0 || waits(dropped[number - 1 - listed])
        });
        Ok(rows)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(crate) fn words(&self, first: usize, count: usize) -> Result<Vec<u64>, ReadError> {
        words(&self.file, first, count)
    }
}

fn add(row: &mut ServerCounters, slot: u32, folded: bool, block: &[u8]) {
    let Some((incarnation, counts)) = row_of_bytes(block, row.id.index) else {
        return;
    };
    if incarnation != 0 && incarnation == row.id.incarnation {
        row.total.add(&counts);
        if !folded {
            row.workers.push((slot, counts));
        }
    }
}

/// Opening a FIFO would wait for a writer, and a device may do anything.
pub(crate) fn check_kind(path: &Path) -> Result<(), ReadError> {
    if path.metadata()?.is_file() {
        Ok(())
    } else {
        Err(ReadError::NotARegion)
    }
}

fn check_header(head: &[u64]) -> Result<Layout, ReadError> {
    if head[header::MAGIC] != MAGIC {
        return Err(ReadError::NotARegion);
    }
    let has = head[header::LAYOUT];
    if has != LAYOUT_VERSION {
        return Err(ReadError::LayoutVersion {
            has,
            reads: LAYOUT_VERSION,
        });
    }
    let constant = &head[..header::CHECKSUM];
    let sum = u64::from(checksum(&[constant]));
    if head[header::CHECKSUM] != sum {
        let has = head[header::CHECKSUM];
        return Err(ReadError::Header(format!(
            "checksum is {has:#010x}, not {sum:#010x}"
        )));
    }
    let number = |word: usize, name: &str| {
        let value = head[word];
        u32::try_from(value).map_err(|_| ReadError::Header(format!("{name} is {value}")))
    };
    let capacity = Capacity {
        servers: number(header::SERVERS, "servers")?,
        upstreams: number(header::UPSTREAMS, "upstreams")?,
        workers: number(header::WORKERS, "workers")?,
        slots: number(header::SLOTS, "slots")?,
        history: number(header::HISTORY, "history")?,
    };
    capacity.check().map_err(ReadError::Header)?;
    let layout = Layout::new(capacity);
    if constant != layout.header(head[header::BOOT]) {
        return Err(ReadError::Header(
            "sizes and offsets do not fit the capacity".to_owned(),
        ));
    }
    Ok(layout)
}

fn parse_header(head: &[u64], capacity: Capacity) -> Header {
    Header {
        layout_version: head[header::LAYOUT],
        size: head[header::SIZE],
        capacity,
        boot_id: head[header::BOOT],
        master_pid: u32::try_from(head[header::MASTER]).unwrap_or(0),
        writer_pid: u32::try_from(head[header::WRITER]).unwrap_or(0),
        writer_turned_ms: head[header::WRITER_TURNED],
        version: head[header::VERSION],
    }
}

fn words(file: &File, first: usize, count: usize) -> Result<Vec<u64>, ReadError> {
    let mut bytes = vec![0; count * WORD];
    file.read_exact_at(&mut bytes, (first * WORD) as u64)
        .map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                let has = file.metadata().map_or(0, |metadata| metadata.len());
                ReadError::Truncated {
                    expected: ((first + count) * WORD) as u64,
                    has,
                }
            } else {
                ReadError::Io(error)
            }
        })?;
    let word = |bytes: &[u8]| {
        bytes
            .first_chunk()
            .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    Ok(bytes.chunks_exact(WORD).map(word).collect())
}
