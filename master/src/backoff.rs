//! When to start a child again: at once, later each time while it keeps dying young.

use std::time::Duration;

/// A child that lived this long has not failed at starting.
pub(crate) const STABLE: Duration = Duration::from_secs(1);
/// The first pause; it doubles from death to death.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Counts deaths soon after a start, one after another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    young: u32,
}

impl Backoff {
    /// The child died after `life`: how long to wait before the next one.
    pub(crate) fn died(&mut self, life: Duration) -> Duration {
        if life >= STABLE {
            self.young = 0;
            return Duration::ZERO;
        }
        self.young = self.young.saturating_add(1);
        match self.young {
            1 => Duration::ZERO,
            count => {
                let doubled = FIRST.saturating_mul(1 << (count - 2).min(16));
                doubled.min(LONGEST)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_slower_then_at_once_again() {
        let mut backoff = Backoff::default();
        let young = STABLE - Duration::from_millis(1);
        let pauses: Vec<u128> = (0..9).map(|_| backoff.died(young).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.died(STABLE), Duration::ZERO);
        assert_eq!(backoff.died(young), Duration::ZERO);
        assert_eq!(backoff.died(young), FIRST);
        let mut many = Backoff { young: u32::MAX };
        assert_eq!(many.died(young), LONGEST);
    }
}
