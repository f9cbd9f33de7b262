//! The clock of the region's times: all processes of a machine share it, and nobody sets it.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds of CLOCK_MONOTONIC, as the region's heartbeats are in.
pub fn monotonic_ms() -> u64 {
    now_ns() / 1_000_000
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn now_ns() -> u64 {
    // It cannot fail: every Linux has this clock.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        (time.tv_sec() as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec() as u64)
    })
}
