//! How long to wait before asking again: pure, time and randomness come in.

use std::time::Duration;

/// The first delay of a row; it doubles from failure to failure.
pub const FIRST: Duration = Duration::from_millis(10);

/// The longest delay after a fault, so that a source is found again within 250 ms of its return.
pub const FAULT_MAX: Duration = Duration::from_millis(200);
/// The longest delay after an answer that makes no sense.
pub const ODD_MAX: Duration = Duration::from_millis(500);
/// The longest delay after an answer that refuses who asks.
pub const REFUSED_MAX: Duration = Duration::from_secs(1);

/// A delay for each failure of a row, doubling up to a cap, with jitter.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after one more failure: between half and all of `FIRST` doubled, and of `cap`
    /// when that is less. A `cap` below `FIRST` counts as `FIRST`: nobody wants a hot loop.
    pub fn next(&mut self, cap: Duration, random: u64) -> Duration {
        let doubled = FIRST.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let delay = doubled.min(cap.max(FIRST));
        self.failures = self.failures.saturating_add(1).min(u32::BITS);
        let half = u64::try_from(delay.as_micros() / 2).unwrap_or(u64::MAX / 2);
        delay - Duration::from_micros(random % (half + 1))
    }

    /// The row ended.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Answers without a change that may follow each other at once.
pub const BURST: u32 = 20;
/// Further ones are spaced by this much: a change among them is live within 50 ms.
pub const SPACING: Duration = Duration::from_millis(40);

/// Spaces events that mean nothing new: a burst passes, then one every [`SPACING`].
#[derive(Clone, Debug, Default)]
pub struct Spacing {
    /// When the events so far would all have been due, had they come evenly.
    due: Duration,
}

impl Spacing {
    /// The delay before the next request after such an event at `now` (a monotonic clock).
    pub fn next(&mut self, now: Duration) -> Duration {
        self.due = self.due.max(now) + SPACING;
        self.due.saturating_sub(now + SPACING * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn delays_double_up_to_the_cap_and_start_anew() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..8)
            .map(|_| backoff.next(500 * MS, 0).as_millis())
            .collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.next(500 * MS, 0), 10 * MS);
        assert_eq!(Backoff::default().next(Duration::ZERO, 0), FIRST);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_zero_and_never_above_the_cap(
            cap_ms in 10u32..400_000, randoms in proptest::collection::vec(any::<u64>(), 1..100)
        ) {
            let cap = cap_ms * MS;
            let mut backoff = Backoff::default();
            for random in randoms {
                let delay = backoff.next(cap, random);
                prop_assert!(delay >= FIRST / 2 && delay <= cap);
            }
            prop_assert!(backoff.next(Duration::MAX, 7) <= Duration::MAX);
        }

        #[test]
        fn spacing_lets_a_burst_pass_and_then_holds_the_rate(gaps_ms in proptest::collection::vec(0u32..200, 1..300)) {
            let mut spacing = Spacing::default();
            let mut now = Duration::ZERO;
            let mut times = Vec::new();
            for gap in gaps_ms {
                now += gap * MS;
                times.push(now);
                now += spacing.next(now);
            }
            let burst = BURST as usize;
            for window in times.windows(burst + 2) {
                prop_assert!(window[burst + 1] - window[0] >= SPACING);
            }
            let total = times[times.len() - 1];
            prop_assert!(times.len() as u128 <= total.as_millis() / SPACING.as_millis() + burst as u128 + 2);
        }
    }
}
