//! The journal: the one writer of the history and of the report.
//!
//! The syncer keeps it beside its publisher, mostly on another thread; the region's writer's lock is
//! both's.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::encode::checksum;
use crate::error::{Damage, ReadError, TooLong};
use crate::history::{self, Log, Record, record_words, text_words};
use crate::latch::{Load, Ring, Store};
use crate::layout::{Layout, header, record, report};
use crate::reader::{ATTEMPTS, Reader};
use crate::word::WordsMut;

/// The writer's lock of a region, and whose turn it is to write into the history and the report.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    turn: Mutex<()>,
}

impl Lock {
    /// `file` is locked.
    pub(crate) fn new(file: File) -> Self {
        Lock {
            _file: file,
            turn: Mutex::new(()),
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the history and the report. Holds the writer's lock of the region until it is dropped,
/// the publisher's life apart.
#[derive(Debug)]
pub struct Journal {
    words: WordsMut,
    log: Log,
    ring: Ring,
    report_bytes: usize,
    lock: Arc<Lock>,
    buffer: Vec<u64>,
}

impl Journal {
    /// Goes on where the last one ended, however it did. A history that is damaged begins anew.
    pub(crate) fn new(words: WordsMut, layout: &Layout, lock: Arc<Lock>) -> Self {
        let journal = Journal {
            words,
            log: Log::of(layout),
            ring: ring(layout),
            report_bytes: layout.report_bytes,
            lock,
            buffer: Vec::new(),
        };
        let turn = journal.lock.turn();
        if journal.read().is_err() {
            journal.words.store(journal.log.tail, 0);
            journal.words.store_release(journal.log.head, 0);
        }
        drop(turn);
        journal
    }

    /// Appends a record about a table version; the oldest ones make room. A record that is larger
    /// than the whole history empties it and leaves a [`Record`] without its text.
    pub fn append(&mut self, version: u64, record: &[u8]) {
        let _turn = self.lock.turn();
        let head = self.words.load(self.log.head);
        let room = self.log.words;
        let fits = record_words(record.len() as u64, room).is_some();
        let words = history::encode(head, version, fits.then_some(record));
        let tail = match fits {
            true => self.tail_for(head, words.len()),
            false => head,
        };
        self.log.append(&self.words, tail, &words);
    }

    /// The position from which on records may stay when `words` more come.
    fn tail_for(&self, head: u64, words: usize) -> u64 {
        let mut tail = self.words.load(self.log.tail);
        loop {
            let used = head.wrapping_sub(tail);
            let used = usize::try_from(used).unwrap_or(usize::MAX);
            if used <= self.log.words - words {
                return tail;
            }
            let used = used.min(self.log.words);
            let at = tail.wrapping_add(record::BYTES as u64);
            let oldest = self.words.load(self.log.at(at));
            match record_words(oldest, used) {
                Some(oldest) => tail = tail.wrapping_add(oldest as u64),
                // Whoever wrote that was not a journal: nothing before the head can be told apart.
                None => return head,
            }
        }
    }

    /// The records, the oldest first.
    ///
    /// # Errors
    /// Somebody else has written into them.
    pub fn history(&self) -> Result<Vec<Record>, Damage> {
        let _turn = self.lock.turn();
        self.read()
    }

    fn read(&self) -> Result<Vec<Record>, Damage> {
        let (position, words) = self
            .log
            .read(&self.words)
            .ok_or_else(|| Damage("its ends are too far apart".to_owned()))?;
        history::decode(position, &words)
    }

    /// Makes `text` the region's report.
    ///
    /// # Errors
    /// It is longer than [`Journal::report_room`]; the previous report stays.
    pub fn report(&mut self, text: &[u8]) -> Result<(), TooLong> {
        if text.len() > self.report_bytes {
            return Err(TooLong {
                has: text.len(),
                room: self.report_bytes,
            });
        }
        let _turn = self.lock.turn();
        let version = self.ring.version(&self.words).wrapping_add(1);
        self.buffer.clear();
        self.buffer.extend([version, text.len() as u64, 0]);
        self.buffer.extend(text_words(text));
        self.buffer[report::CHECKSUM] = sum(&self.buffer);
        self.ring.publish(&self.words, version, &self.buffer);
        Ok(())
    }

    /// Bytes that a report may have.
    pub fn report_room(&self) -> usize {
        self.report_bytes
    }
}

fn ring(layout: &Layout) -> Ring {
    Ring::new(
        header::REPORT_VERSION,
        layout.report,
        layout.report_words,
        report::SLOTS,
    )
}

fn sum(words: &[u64]) -> u64 {
    u64::from(checksum(&[
        &words[..report::CHECKSUM],
        &words[report::HEAD..],
    ]))
}

impl Reader {
    /// The syncer's latest report; empty before the first.
    pub fn report(&self) -> Result<Vec<u8>, ReadError> {
        let ring = ring(self.layout());
        for _ in 0..ATTEMPTS {
            let version = self.moving(header::REPORT_VERSION)?;
            if version == 0 {
                return Ok(Vec::new());
            }
            let read = self.report_slot(&ring, version)?;
            if ring.accepts(version, self.moving(header::REPORT_VERSION)?) {
                return read.map_err(ReadError::Report);
            }
        }
        Err(ReadError::Busy)
    }

    fn report_slot(&self, ring: &Ring, version: u64) -> Result<Result<Vec<u8>, Damage>, ReadError> {
        let first = ring.slot(version);
        let head = self.words(first, report::HEAD)?;
        let room = self.layout().report_bytes;
        let Some(bytes) = usize::try_from(head[report::BYTES])
            .ok()
            .filter(|bytes| *bytes <= room)
        else {
            return Ok(Err(Damage(format!(
                "it has {} bytes, at most {room}",
                head[report::BYTES]
            ))));
        };
        let words = self.words(first, report::HEAD + bytes.div_ceil(crate::layout::WORD))?;
        Ok(if words[report::VERSION] != version {
            Err(Damage(format!(
                "slot of version {version} has version {}",
                words[report::VERSION]
            )))
        } else if words[report::CHECKSUM] != sum(&words) {
            Err(Damage("its checksum is wrong".to_owned()))
        } else {
            Ok(history::bytes_of(&words[report::HEAD..], bytes))
        })
    }

    /// The records of the history, the oldest first.
    pub fn history(&self) -> Result<Vec<Record>, ReadError> {
        let log = Log::of(self.layout());
        for _ in 0..ATTEMPTS {
            let tail = self.moving(log.tail)?;
            let head = self.moving(log.head)?;
            let Some(used) = log.used(tail, head) else {
                if self.moving(log.tail)? == tail {
                    let damage = Damage("its ends are too far apart".to_owned());
                    return Err(ReadError::History(damage));
                }
                continue;
            };
            let mut words = self.ring_words(&log, tail, used as usize)?;
            let now = self.moving(log.tail)?;
            if let Some(gone) = log.overtaken(tail, now, used) {
                words.drain(..gone);
                return history::decode(now, &words).map_err(ReadError::History);
            }
        }
        Err(ReadError::Busy)
    }

    fn ring_words(&self, log: &Log, from: u64, count: usize) -> Result<Vec<u64>, ReadError> {
        let first = log.at(from);
        let straight = count.min(log.first + log.words - first);
        let mut words = self.words(first, straight)?;
        if straight < count {
            words.extend(self.words(log.first, count - straight)?);
        }
        Ok(words)
    }
}
