//! The ring's latch: one writer publishes, any number of readers copy, nobody waits.
//!
//! A version g lives in slot g mod N. The writer of g+1 overwrites the slot of g+1-N and then moves
//! the version; a reader that copied slot g mod N must therefore know that nobody had begun to
//! write g+N, which the writer does while the version reads g+N-1. So a copy is good when the
//! version, read again after it, has moved by less than N-1.
//!
//! Two fences make "read again after it" true. The writer's release fence comes before the words
//! of a slot, the reader's acquire fence after them: a reader that saw even one word of g+N then
//! also sees the version at g+N-1 or later. The protocol is generic over its memory, so that a
//! model checker runs the very same code.

/// Memory of words that can be read.
pub trait Load {
    /// A relaxed load.
    fn load(&self, word: usize) -> u64;
    /// A load with acquire order.
    fn load_acquire(&self, word: usize) -> u64;
    /// An acquire fence.
    fn fence_acquire(&self);
}

/// Memory of words that can be written.
pub trait Store {
    /// A relaxed store.
    fn store(&self, word: usize, value: u64);
    /// A store with release order.
    fn store_release(&self, word: usize, value: u64);
    /// A release fence.
    fn fence_release(&self);
    /// Adds to a word to which others add at the same time, with release order.
    fn add_release(&self, word: usize, value: u64);
}

/// Where the version and the slots of a ring are, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    version: usize,
    slots_at: usize,
    slot_words: usize,
    slots: u64,
    tolerance: u64,
}

impl Ring {
    /// A ring of `slots` (at least 2) of `slot_words` each from `slots_at` on.
    pub const fn new(version: usize, slots_at: usize, slot_words: usize, slots: u64) -> Self {
        assert!(slots >= 2);
        Ring {
            version,
            slots_at,
            slot_words,
            slots,
            tolerance: slots - 1,
        }
    }

    /// The same ring with a wrong rule of acceptance: the negative control of its tests.
    #[doc(hidden)]
    pub const fn with_tolerance(self, tolerance: u64) -> Self {
        Ring { tolerance, ..self }
    }

    /// By how many versions the writer may have moved on before a copy is no longer good.
    pub const fn tolerance(&self) -> u64 {
        self.tolerance
    }

    /// The first word of the slot of a version.
    pub const fn slot(&self, version: u64) -> usize {
        self.slots_at + (version % self.slots) as usize * self.slot_words
    }

    /// Whether a copy of `seen` is good when the version reads `now` after it.
    pub const fn accepts(&self, seen: u64, now: u64) -> bool {
        now.wrapping_sub(seen) < self.tolerance
    }

    /// The version that was published last; what it published may be read.
    #[inline]
    pub fn version(&self, memory: &impl Load) -> u64 {
        memory.load_acquire(self.version)
    }

    /// Publishes `words` as `version`, which is the one after the last. Only one writer at a time.
    pub fn publish<M: Store>(&self, memory: &M, version: u64, words: &[u64]) {
        assert!(words.len() <= self.slot_words);
        memory.fence_release();
        let slot = self.slot(version);
        for (at, word) in words.iter().enumerate() {
            memory.store(slot + at, *word);
        }
        memory.store_release(self.version, version);
    }

    /// One attempt to read: `copy` loads words of the slot, which may be torn and must not be
    /// trusted; its result is handed out, with its version, only when they were not.
    pub fn read<M: Load, T>(
        &self,
        memory: &M,
        copy: impl FnOnce(u64, Slot<'_, M>) -> T,
    ) -> Option<(u64, T)> {
        let version = self.version(memory);
        let copied = self.read_of(memory, version, |slot| copy(version, slot))?;
        Some((version, copied))
    }

    /// The same of an older version than that which [`Ring::version`] has told, as long as it lasts.
    pub fn read_of<M: Load, T>(
        &self,
        memory: &M,
        version: u64,
        copy: impl FnOnce(Slot<'_, M>) -> T,
    ) -> Option<T> {
        let slot = Slot {
            memory,
            first: self.slot(version),
            words: self.slot_words,
        };
        let copied = copy(slot);
        memory.fence_acquire();
        let now = memory.load(self.version);
        self.accepts(version, now).then_some(copied)
    }
}

/// A slot that is being copied.
#[derive(Debug)]
pub struct Slot<'a, M> {
    memory: &'a M,
    first: usize,
    words: usize,
}

impl<M: Load> Slot<'_, M> {
    /// Words of the slot.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Copies the words from `at` on into `into`; false when the slot ends before.
    pub fn copy(&self, at: usize, into: &mut [u64]) -> bool {
        if at
            .checked_add(into.len())
            .is_none_or(|end| end > self.words)
        {
            return false;
        }
        for (offset, word) in into.iter_mut().enumerate() {
            *word = self.memory.load(self.first + at + offset);
        }
        true
    }
}
