//! The history: a log of records in a ring of words, the oldest of which go first.
//!
//! Positions are words since the beginning of the log and only rise; position p lies in word p mod
//! the ring's length. What is readable is from the tail, where the oldest record begins, to the
//! head. The writer first moves the tail past the records that it will overwrite, then writes the
//! words of the new one, then moves the head. A reader copies from tail to head and then looks at
//! the tail again: what lies before it now may have been overwritten, the rest was not. The two
//! fences are those of the latch and for the same reason. A writer that dies half-way has at most
//! moved the tail.

use crate::encode::checksum;
use crate::error::Damage;
use crate::latch::{Load, Store};
use crate::layout::{Layout, WORD, header, record};

/// Where the log is, in words of its memory; generic over that for the model checker's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The word that holds the position of the oldest record.
    pub tail: usize,
    /// The word that holds the position of the next one.
    pub head: usize,
    /// The first word of the ring.
    pub first: usize,
    /// Words of the ring.
    pub words: usize,
}

/// A record of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The table version that it is about.
    pub version: u64,
    /// What was recorded; `None` where it was larger than the whole history.
    pub text: Option<Vec<u8>>,
}

impl Log {
    /// The log of a region.
    pub(crate) fn of(layout: &Layout) -> Self {
        Log {
            tail: header::HISTORY_TAIL,
            head: header::HISTORY_HEAD,
            first: layout.history,
            words: layout.history_words,
        }
    }

    /// The word of a position.
    pub fn at(&self, position: u64) -> usize {
        self.first + (position % self.words as u64) as usize
    }

    /// Appends words, no more than the ring has. Everything before `tail`, a position where a record
    /// begins, makes room for them. Only one writer at a time.
    pub fn append<M: Load + Store>(&self, memory: &M, tail: u64, words: &[u64]) {
        let head = memory.load(self.head);
        assert!(words.len() as u64 <= self.words as u64 - head.wrapping_sub(tail));
        memory.store(self.tail, tail);
        memory.fence_release();
        for (position, word) in (0..).map(|at| head.wrapping_add(at)).zip(words) {
            memory.store(self.at(position), *word);
        }
        memory.store_release(self.head, head.wrapping_add(words.len() as u64));
    }

    /// One attempt to read: the position of the oldest record and the words from there on. `None`
    /// when the writer has meanwhile gone once around.
    pub fn read(&self, memory: &impl Load) -> Option<(u64, Vec<u64>)> {
        let tail = memory.load_acquire(self.tail);
        let head = memory.load_acquire(self.head);
        let used = self.used(tail, head)?;
        let mut words: Vec<u64> = (0..used)
            .map(|at| memory.load(self.at(tail.wrapping_add(at))))
            .collect();
        memory.fence_acquire();
        let now = memory.load(self.tail);
        words.drain(..self.overtaken(tail, now, used)?);
        Some((now, words))
    }

    /// Words from tail to head; `None` for positions that no moment had.
    pub fn used(&self, tail: u64, head: u64) -> Option<u64> {
        Some(head.wrapping_sub(tail)).filter(|used| *used <= self.words as u64)
    }

    /// How many of `used` words that were copied from `tail` on may be no good, as the tail is
    /// `now`; `None` when all are, although there were some: a log that has been written into is
    /// never without its newest record.
    pub fn overtaken(&self, tail: u64, now: u64, used: u64) -> Option<usize> {
        Some(now.wrapping_sub(tail))
            .filter(|gone| *gone == 0 || *gone < used)
            .map(|gone| gone as usize)
    }
}

/// The marker of a record whose text was too large; no text is so long.
const LOST: u64 = u64::MAX;

/// A record's words; `None`: its text was too large.
pub(crate) fn encode(position: u64, version: u64, text: Option<&[u8]>) -> Vec<u64> {
    let bytes = text.map_or(LOST, |text| text.len() as u64);
    let mut words = vec![position, bytes, version, 0];
    words.extend(text_words(text.unwrap_or_default()));
    words[record::CHECKSUM] = sum(&words);
    words
}

/// Bytes as words, the last one filled up with zeros.
pub(crate) fn text_words(text: &[u8]) -> impl Iterator<Item = u64> + '_ {
    text.chunks(WORD).map(|chunk| {
        let mut word = [0; WORD];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}

/// Words as the first `bytes` bytes that they hold.
pub(crate) fn bytes_of(words: &[u64], bytes: usize) -> Vec<u8> {
    let mut text: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    text.truncate(bytes);
    text
}

/// Words of a record whose word for the length is this; `None` if no record is so long.
pub(crate) fn record_words(bytes: u64, most: usize) -> Option<usize> {
    let text = if bytes == LOST { 0 } else { bytes };
    let text = usize::try_from(text.div_ceil(WORD as u64)).ok()?;
    let words = text.checked_add(record::HEAD)?;
    (words <= most).then_some(words)
}

fn sum(words: &[u64]) -> u64 {
    u64::from(checksum(&[
        &words[..record::CHECKSUM],
        &words[record::HEAD..],
    ]))
}

/// The records in words that begin with one at `position`.
pub(crate) fn decode(mut position: u64, mut words: &[u64]) -> Result<Vec<Record>, Damage> {
    let mut records = Vec::new();
    while !words.is_empty() {
        let bad = |what: &str| Damage(format!("the record at {position} {what}"));
        let head = words
            .first_chunk::<{ record::HEAD }>()
            .ok_or_else(|| bad("ends in its head"))?;
        if head[record::POSITION] != position {
            return Err(bad("is of another place"));
        }
        let bytes = head[record::BYTES];
        let length = record_words(bytes, words.len()).ok_or_else(|| bad("has no end"))?;
        let (this, rest) = words.split_at(length);
        if head[record::CHECKSUM] != sum(this) {
            return Err(bad("has a wrong checksum"));
        }
        records.push(Record {
            version: head[record::VERSION],
            text: (bytes != LOST).then(|| bytes_of(&this[record::HEAD..], bytes as usize)),
        });
        position = position.wrapping_add(length as u64);
        words = rest;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_lost_every_word_is_none_and_not_an_empty_history() {
        let log = Log {
            tail: 0,
            head: 1,
            first: 2,
            words: 64,
        };
        assert_eq!(log.overtaken(7, 7, 0), Some(0));
        assert_eq!(log.overtaken(7, 7, 40), Some(0));
        assert_eq!(log.overtaken(7, 46, 40), Some(39));
        assert_eq!(log.overtaken(7, 47, 40), None);
        assert_eq!(log.overtaken(7, 90, 40), None);
    }
}
