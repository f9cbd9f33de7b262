//! What the crate's tests share.

use proptest::test_runner::{Config, RngSeed};

/// Property tests see the same inputs in every run, so that a failure is never a matter of luck.
pub(crate) fn cases(count: u32) -> Config {
    Config {
        cases: count,
        rng_seed: RngSeed::Fixed(0x5eed),
        failure_persistence: None,
        ..Config::default()
    }
}
