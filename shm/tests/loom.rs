//! A model of the latch: every order of events and every value that the memory model allows a
//! load to return, over the code that weir runs. Each mutant of it must tear.
//!
//! A slot has two words, both holding their version, so that a torn copy shows two versions. The
//! smallest ring keeps the model small; what it shows holds for larger ones, whose slots come
//! around later.

#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::sync::atomic::AtomicUsize;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use weir_shm::CounterId;
use weir_shm::failures::Rings;
use weir_shm::history::Log;
use weir_shm::latch::{Load, Ring, Store};

const SLOT_WORDS: usize = 2;

struct Memory {
    words: Vec<AtomicU64>,
    release_fence: bool,
    acquire_fence: bool,
}

impl Load for Memory {
    fn load(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    fn load_acquire(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Acquire)
    }

    fn fence_acquire(&self) {
        if self.acquire_fence {
            fence(Ordering::Acquire);
        }
    }
}

impl Store for Memory {
    fn store(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Relaxed);
    }

    fn store_release(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Release);
    }

    fn fence_release(&self) {
        if self.release_fence {
            fence(Ordering::Release);
        }
    }

    fn add_release(&self, word: usize, value: u64) {
        self.words[word].fetch_add(value, Ordering::Release);
    }
}

fn memory(words: usize, release_fence: bool, acquire_fence: bool) -> Arc<Memory> {
    let words = (0..words).map(|_| AtomicU64::new(0)).collect();
    Arc::new(Memory {
        words,
        release_fence,
        acquire_fence,
    })
}

/// What is modelled: the latch as it is, or one thing about it changed.
#[derive(Clone, Copy)]
struct Model {
    slots: u64,
    publishes: u64,
    too_generous: bool,
    release_fence: bool,
    acquire_fence: bool,
}

const CORRECT: Model = Model {
    slots: 2,
    publishes: 3,
    too_generous: false,
    release_fence: true,
    acquire_fence: true,
};

impl Model {
    fn ring(self) -> Ring {
        let ring = Ring::new(0, 1, SLOT_WORDS, self.slots);
        if self.too_generous {
            ring.with_tolerance(ring.tolerance() + 1)
        } else {
            ring
        }
    }

    fn memory(self) -> Arc<Memory> {
        memory(
            1 + self.slots as usize * SLOT_WORDS,
            self.release_fence,
            self.acquire_fence,
        )
    }

    /// One writer publishes, one reader reads once; in how many orders of events the reader took
    /// its copy and in how many it refused it.
    fn run(self) -> (usize, usize) {
        let counts = std::sync::Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let count = std::sync::Arc::clone(&counts);
        loom::model(move || {
            let memory = self.memory();
            let ring = self.ring();
            let writer = {
                let memory = Arc::clone(&memory);
                thread::spawn(move || {
                    for version in 1..=self.publishes {
                        ring.publish(&*memory, version, &[version; SLOT_WORDS]);
                    }
                })
            };
            let taken = read(&ring, &memory);
            let counter = if taken { &count.0 } else { &count.1 };
            counter.fetch_add(1, Ordering::Relaxed);
            writer.join().unwrap();
        });
        (
            counts.0.load(Ordering::Relaxed),
            counts.1.load(Ordering::Relaxed),
        )
    }

    /// A writer dies in the middle of a slot, and another goes on from the published version.
    fn run_with_a_death(self) {
        loom::model(move || {
            let memory = self.memory();
            let ring = self.ring();
            let first = {
                let memory = Arc::clone(&memory);
                thread::spawn(move || {
                    ring.publish(&*memory, 1, &[1; SLOT_WORDS]);
                    memory.fence_release();
                    memory.store(ring.slot(2), 2);
                })
            };
            let second = {
                let memory = Arc::clone(&memory);
                thread::spawn(move || {
                    // The lock that the second waits for.
                    first.join().unwrap();
                    let version = ring.version(&*memory) + 1;
                    ring.publish(&*memory, version, &[version; SLOT_WORDS]);
                })
            };
            read(&ring, &memory);
            second.join().unwrap();
        });
    }
}

fn read(ring: &Ring, memory: &Memory) -> bool {
    let read = ring.read(memory, |_, slot| {
        let mut words = [u64::MAX; SLOT_WORDS];
        assert!(slot.copy(0, &mut words));
        words
    });
    if let Some((version, words)) = read {
        assert_eq!(words, [version; SLOT_WORDS], "torn");
    }
    read.is_some()
}

#[test]
fn no_copy_is_torn() {
    CORRECT.run();
    Model {
        slots: 3,
        publishes: 4,
        ..CORRECT
    }
    .run();
}

#[test]
fn no_copy_is_torn_when_a_writer_dies() {
    CORRECT.run_with_a_death();
}

#[test]
#[should_panic = "torn"]
fn without_the_writers_release_fence_it_tears() {
    Model {
        release_fence: false,
        ..CORRECT
    }
    .run();
}

#[test]
#[should_panic = "torn"]
fn without_the_readers_acquire_fence_it_tears() {
    Model {
        acquire_fence: false,
        ..CORRECT
    }
    .run();
}

#[test]
#[should_panic = "torn"]
fn one_version_too_generous_it_tears() {
    Model {
        too_generous: true,
        ..CORRECT
    }
    .run();
}

#[test]
#[should_panic = "torn"]
fn a_larger_ring_is_no_more_forgiving() {
    Model {
        slots: 3,
        publishes: 4,
        too_generous: true,
        ..CORRECT
    }
    .run();
}

/// One worker notes failures, another looks twice: each is reported at most once, in order and as
/// what it is, and in the end none is missing that the ring still holds.
fn failures(release_fence: bool, acquire_fence: bool) {
    const LENGTH: usize = 2;
    const NOTED: u32 = 3;
    const RINGS: Rings = Rings {
        shared: 0,
        first: 1,
        entries: 1,
        length: LENGTH,
        workers: 2,
    };
    loom::model(move || {
        let memory = memory(1 + 2 * (1 + LENGTH), release_fence, acquire_fence);
        let mut cursors = RINGS.cursors(&*memory);
        let noting = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                for index in 1..=NOTED {
                    RINGS.note(
                        &*memory,
                        0,
                        CounterId {
                            index,
                            incarnation: 1,
                        },
                    );
                }
            })
        };
        let mut seen = Vec::new();
        RINGS.poll(&*memory, 1, &mut cursors, |id| seen.push(id.index));
        noting.join().unwrap();
        RINGS.poll(&*memory, 1, &mut cursors, |id| seen.push(id.index));
        assert!(
            seen.is_sorted_by(|one, next| one < next),
            "reported as another: {seen:?}"
        );
        assert_eq!(seen.last(), Some(&NOTED));
    });
}

#[test]
fn failures_are_reported_as_what_they_are() {
    failures(true, true);
}

#[test]
#[should_panic = "reported as another"]
fn without_a_release_fence_failures_are_mistaken() {
    failures(false, true);
}

#[test]
#[should_panic = "reported as another"]
fn without_an_acquire_fence_failures_are_mistaken() {
    failures(true, false);
}

/// The writer appends to a log of two entries, a word each, which is its position; a reader gets
/// what it asked for, or nothing.
fn history(release_fence: bool, acquire_fence: bool, tail_first: bool) {
    const LENGTH: usize = 2;
    const LOG: Log = Log {
        tail: 0,
        head: 1,
        first: 2,
        words: LENGTH,
    };
    loom::model(move || {
        let memory = memory(2 + LENGTH, release_fence, acquire_fence);
        let writing = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                for position in 0..4u64 {
                    let room = (position + 1).saturating_sub(LENGTH as u64);
                    if tail_first {
                        LOG.append(&*memory, room, &[position + 100]);
                    } else {
                        memory.store(LOG.at(position), position + 100);
                        LOG.append(&*memory, room, &[position + 100]);
                    }
                }
            })
        };
        if let Some((position, words)) = LOG.read(&*memory) {
            let expected: Vec<u64> = (position..).take(words.len()).map(|at| at + 100).collect();
            assert_eq!(words, expected, "overwritten");
        }
        writing.join().unwrap();
        assert_eq!(LOG.read(&*memory), Some((2, vec![102, 103])));
    });
}

#[test]
fn no_record_is_read_that_was_overwritten() {
    history(true, true, true);
}

#[test]
#[should_panic = "overwritten"]
fn without_a_release_fence_overwritten_records_are_read() {
    history(false, true, true);
}

#[test]
#[should_panic = "overwritten"]
fn without_an_acquire_fence_overwritten_records_are_read() {
    history(true, false, true);
}

#[test]
#[should_panic = "overwritten"]
fn writing_before_the_tail_has_moved_overwrites_what_is_read() {
    history(true, true, false);
}
