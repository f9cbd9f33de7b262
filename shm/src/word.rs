//! Access to the words of a mapping: the only place where memory that others write is touched.
//!
//! Other processes change these bytes at any time, so no reference and no slice is ever formed
//! over them: each access makes an `AtomicU64` from the raw pointer for that one operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::MmapRaw;

use crate::latch::{Load, Store};

/// Words of a mapping that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    map: Arc<MmapRaw>,
    len: usize,
}

impl Words {
    /// All whole words of a mapping.
    pub(crate) fn new(map: Arc<MmapRaw>) -> Self {
        let len = map.len() / size_of::<u64>();
        Words { map, len }
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(
            index < self.len,
            "word {index} of a mapping of {}",
            self.len
        );
        // SAFETY: in bounds and aligned in a mapping that `self` keeps; all access to it is atomic.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(index)) }
    }
}

impl Load for Words {
    #[inline]
    fn load(&self, word: usize) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    #[inline]
    fn load_acquire(&self, word: usize) -> u64 {
        // Rust allows only relaxed loads from memory mapped read-only; with the fence it is at
        // least an acquire load.
        let value = self.load(word);
        fence(Ordering::Acquire);
        value
    }

    #[inline]
    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}

/// Words of a mapping that can also be written.
#[derive(Clone, Debug)]
pub(crate) struct WordsMut(Words);

impl WordsMut {
    /// All whole words of a mapping made for writing.
    pub(crate) fn new(map: Arc<MmapRaw>) -> Self {
        WordsMut(Words::new(map))
    }

    /// Adds to a word that this process alone writes: cheaper than a locked instruction.
    #[inline]
    pub(crate) fn add_own(&self, word: usize, value: u64) {
        self.store(word, self.load(word).wrapping_add(value));
    }
}

impl Load for WordsMut {
    #[inline]
    fn load(&self, word: usize) -> u64 {
        self.0.load(word)
    }

    #[inline]
    fn load_acquire(&self, word: usize) -> u64 {
        self.0.load_acquire(word)
    }

    #[inline]
    fn fence_acquire(&self) {
        self.0.fence_acquire();
    }
}

impl Store for WordsMut {
    #[inline]
    fn store(&self, word: usize, value: u64) {
        self.0.word(word).store(value, Ordering::Relaxed);
    }

    #[inline]
    fn store_release(&self, word: usize, value: u64) {
        self.0.word(word).store(value, Ordering::Release);
    }

    #[inline]
    fn fence_release(&self) {
        fence(Ordering::Release);
    }
    fn add_release(&self, word: usize, value: u64) {
        self.0.word(word).fetch_add(value, Ordering::Release);
    }
}
