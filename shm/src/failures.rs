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
    /// The word that all share.
    shared: usize,
    /// Where the rings begin.
    rings: usize,
    own: usize,
    workers: usize,
}

impl Failures {
    /// `base` is the word of the region with which the mapping begins.
    pub(crate) fn new(words: WordsMut, layout: &Layout, base: usize, slot: u32) -> Self {
        Failures {
            words,
            shared: layout.live - base,
            rings: layout.failures - base,
            own: slot as usize,
            workers: layout.capacity.workers as usize,
        }
    }

    fn ring(&self, worker: usize) -> usize {
        self.rings + worker * failures::WORDS
    }

    /// Cursors at the present: failures from now on will be reported.
    pub fn cursors(&self) -> Cursors {
        let shared = self.words.load_acquire(self.shared);
        let noted = (0..self.workers)
            .map(|worker| self.words.load_acquire(self.ring(worker) + failures::NOTED))
            .collect();
        Cursors { shared, noted }
    }

    /// A server failed in this worker.
    pub fn note(&self, id: CounterId) {
        let ring = self.ring(self.own);
        let noted = self.words.load(ring + failures::NOTED);
        // As in the latch: whoever sees the entry below also sees `noted`.
        self.words.fence_release();
        self.words.store(entry(ring, noted), id.word());
        self.words
            .store_release(ring + failures::NOTED, noted.wrapping_add(1));
        self.words.add_shared(self.shared, 1);
    }

    /// Reports what failed in the other workers since the last call; one load when nothing did.
    #[inline]
    pub fn poll(&self, cursors: &mut Cursors, report: impl FnMut(CounterId)) {
        let shared = self.words.load_acquire(self.shared);
        if shared != cursors.shared {
            cursors.shared = shared;
            self.collect(cursors, report);
        }
    }

    #[cold]
    fn collect(&self, cursors: &mut Cursors, mut report: impl FnMut(CounterId)) {
        for worker in (0..self.workers).filter(|worker| *worker != self.own) {
            let Some(cursor) = cursors.noted.get_mut(worker) else {
                continue;
            };
            let ring = self.ring(worker);
            let noted = self.words.load_acquire(ring + failures::NOTED);
            let pending = noted.wrapping_sub(*cursor).min(failures::LENGTH as u64);
            for number in (1..=pending).rev().map(|back| noted.wrapping_sub(back)) {
                let word = self.words.load(entry(ring, number));
                self.words.fence_acquire();
                let now = self.words.load(ring + failures::NOTED);
                // At this distance the entry may already be in the making anew.
                if now.wrapping_sub(number) < failures::LENGTH as u64 {
                    report(CounterId::from_word(word));
                }
            }
            *cursor = noted;
        }
    }
}

fn entry(ring: usize, number: u64) -> usize {
    ring + failures::ENTRIES + (number % failures::LENGTH as u64) as usize
}
