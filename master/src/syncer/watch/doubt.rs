//! An answer that is not believed, or that has no server at all: it is asked again soon, as nothing
//! may tell when that is over. What a token may read again moves no index, a query that waits is
//! answered by the rights that it began with, and the index of a wrong answer is nobody's. Pure.

use std::time::Duration;

/// At first a request waits for no longer than this, and the next follows as soon.
const FIRST: Duration = Duration::from_millis(100);
/// Later that grows, to this part of the time that it has lasted, while a list is held back.
const HELD_PART: u32 = 300;
/// The most that it grows then.
const HELD_MAX: Duration = Duration::from_secs(2);
/// As [`HELD_PART`], where there is nothing to lose.
const EMPTY_PART: u32 = 50;

/// See the module.
#[derive(Debug, Default)]
pub struct Doubt {
    /// Since when, and whether a list is held back.
    state: Option<(Duration, bool)>,
}

impl Doubt {
    /// An answer was handled at `now`.
    pub fn answered(&mut self, is_held: bool, is_empty: bool, now: Duration) {
        let since = self.state.map_or(now, |(since, _)| since);
        self.state = (is_held || is_empty).then_some((since, is_held));
    }

    /// How long a request may wait for something new that else waits for `wait`.
    pub fn wait(&self, wait: Duration, now: Duration) -> Duration {
        let Some((since, is_held)) = self.state else {
            return wait;
        };
        let lasts = now.saturating_sub(since);
        wait.min(match is_held {
            true => (lasts / HELD_PART).clamp(FIRST, HELD_MAX),
            false => (lasts / EMPTY_PART).max(FIRST),
        })
    }

    /// The delay before the next request where that would else be `delay`.
    pub fn delay(&self, delay: Duration, now: Duration) -> Duration {
        match self.state {
            Some(_) => self.wait(delay, now),
            None => delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_doubtful_is_asked_again_soon_and_less_and_less_often() {
        let at = Duration::from_secs;
        let mut doubt = Doubt::default();
        assert_eq!(doubt.wait(WAIT, at(5)), WAIT);
        assert_eq!(doubt.delay(at(1), at(5)), at(1));
        for (is_held, last) in [(true, HELD_MAX), (false, WAIT)] {
            doubt.answered(is_held, true, at(10));
            for (now, expected) in [(10, FIRST), (14, FIRST), (10_000, last)] {
                doubt.answered(is_held, true, at(now));
                assert_eq!(doubt.wait(WAIT, at(now)), expected, "{is_held} {now}");
            }
            assert_eq!(doubt.wait(FIRST / 2, at(10_000)), FIRST / 2);
            // A request and the delay before the next are over within 250 ms.
            doubt.answered(false, false, at(10));
            doubt.answered(is_held, true, at(10));
            let both = doubt.wait(WAIT, at(12)) * 17 / 16 + doubt.delay(at(1), at(12));
            assert!(both < Duration::from_millis(250), "{both:?}");
            doubt.answered(false, false, at(11));
            assert_eq!(doubt.wait(WAIT, at(11)), WAIT);
        }
    }

    /// Requests in so many seconds, of a source that lets each wait.
    fn requests(is_held: bool, seconds: u64) -> usize {
        let (mut doubt, mut now, mut count) = (Doubt::default(), Duration::ZERO, 0);
        while now < Duration::from_secs(seconds) {
            doubt.answered(is_held, true, now);
            now += doubt.wait(WAIT, now);
            count += 1;
        }
        count
    }

    #[test]
    fn it_costs_few_requests_where_it_lasts() {
        assert!(requests(true, 60) < 600 && requests(false, 60) < 200);
        let hour = requests(true, 7200) - requests(true, 3600);
        assert_eq!(hour, 1800);
    }
}
