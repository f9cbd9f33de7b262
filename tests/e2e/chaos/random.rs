//! A small generator (xorshift64), so that a failure can be run again.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // It stays at nought for ever.
        Random(seed.max(1))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
