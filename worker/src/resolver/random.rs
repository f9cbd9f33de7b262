//! Numbers that nobody can guess, for the ids of questions.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

/// A keyed hash of a count; the key is the system's.
#[derive(Debug, Default)]
pub struct Random {
    key: RandomState,
    count: u64,
}

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.key.hash_one(self.count)
    }
}
