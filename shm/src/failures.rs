//! Failures that all workers learn of, so that `max_fails` counts across them.
//!
//! Each worker writes its failures into a ring of its own and then raises one count that all
//! share; the others look at that one word, and at the rings only when it has moved. A ring that
//! was overrun has lost its oldest failures: many more than any `max_fails`.

use crate::latch::{Load, Store};
use crate::layout::{Layout, failures};
use crate::table::CounterId;
use crate::word::WordsMut;

/// How far a worker has read the others' failures.
#[derive(Clone, Debug)]
pub struct Cursors {
    shared: u64,
    noted: Vec<u64>,
}

/// The failures as one worker writes and reads them.
#[derive(Debug)]
pub struct Failures {
    words: WordsMut,
    rings: Rings,
    own: usize,
}

impl Failures {
    /// `base` is the word of the region with which the mapping begins.
    pub(crate) fn new(words: WordsMut, layout: &Layout, base: usize, slot: u32) -> Self {
        let rings = Rings {
            shared: layout.live - base,
            first: layout.failures - base,
            entries: failures::ENTRIES,
            length: failures::LENGTH,
            workers: layout.capacity.workers as usize,
        };
        Failures {
            words,
            rings,
            own: slot as usize,
        }
    }

    /// Cursors at the present: failures from now on will be reported.
    pub fn cursors(&self) -> Cursors {
        self.rings.cursors(&self.words)
    }

    /// A server failed in this worker.
    pub fn note(&self, id: CounterId) {
        self.rings.note(&self.words, self.own, id);
    }

    /// Reports what failed in the other workers since the last call; one load when nothing did.
    #[inline]
    pub fn poll(&self, cursors: &mut Cursors, report: impl FnMut(CounterId)) {
        self.rings.poll(&self.words, self.own, cursors, report);
    }
}

/// Where the rings are, in words, and the protocol over them, generic over the memory for the
/// model checker's sake.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    /// The word that all share.
    pub shared: usize,
    /// Where the rings begin; the first word of each counts the failures noted.
    pub first: usize,
    /// Words from the beginning of a ring to its entries.
    pub entries: usize,
    /// Entries of a ring.
    pub length: usize,
    /// Number of rings.
    pub workers: usize,
}

impl Rings {
    /// Cursors at the present.
    pub fn cursors(&self, memory: &impl Load) -> Cursors {
        let shared = memory.load_acquire(self.shared);
        let noted = (0..self.workers).map(|worker| memory.load_acquire(self.ring(worker)));
        Cursors {
            shared,
            noted: noted.collect(),
        }
    }

    /// Writes a failure into a worker's own ring.
    pub fn note<M: Load + Store>(&self, memory: &M, own: usize, id: CounterId) {
        let ring = self.ring(own);
        let noted = memory.load(ring);
        // As in the latch: whoever sees the entry below also sees `noted`.
        memory.fence_release();
        memory.store(self.entry(ring, noted), id.word());
        memory.store_release(ring, noted.wrapping_add(1));
        memory.add_release(self.shared, 1);
    }

    /// Reports what is new in the rings of the others.
    #[inline]
    pub fn poll(
        &self,
        memory: &impl Load,
        own: usize,
        cursors: &mut Cursors,
        report: impl FnMut(CounterId),
    ) {
        let shared = memory.load_acquire(self.shared);
        if shared != cursors.shared {
            cursors.shared = shared;
            self.collect(memory, own, cursors, report);
        }
    }

    #[cold]
    fn collect(
        &self,
        memory: &impl Load,
        own: usize,
        cursors: &mut Cursors,
        mut report: impl FnMut(CounterId),
    ) {
        let length = self.length as u64;
        for (worker, cursor) in cursors.noted.iter_mut().enumerate() {
            if worker == own {
                continue;
            }
            let ring = self.ring(worker);
            let noted = memory.load_acquire(ring);
            let pending = noted.wrapping_sub(*cursor).min(length);
            for number in (1..=pending).rev().map(|back| noted.wrapping_sub(back)) {
                let word = memory.load(self.entry(ring, number));
                memory.fence_acquire();
                let now = memory.load(ring);
                // At the distance of the whole ring the entry may already be in the making anew.
                if now.wrapping_sub(number) < length {
                    report(CounterId::from_word(word));
                }
            }
            *cursor = noted;
        }
    }

    fn ring(&self, worker: usize) -> usize {
        self.first + worker * (self.entries + self.length)
    }

    fn entry(&self, ring: usize, number: u64) -> usize {
        ring + self.entries + (number % self.length as u64) as usize
    }
}
