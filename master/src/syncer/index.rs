//! Consul's rules for the index of a blocking query, and when to ask again.

use std::time::Duration;

use super::backoff::{Backoff, ODD_MAX, REFUSED_MAX, Spacing};

/// What a blocking query asked with, and what its answers say about the next one.
#[derive(Debug)]
pub struct Index {
    asked: u64,
    /// `upsync_interval`, which caps each delay.
    cap: Duration,
    failures: Backoff,
    /// Answers whose index did not move forward.
    odd: Backoff,
    /// Answers that moved the index and nothing else.
    idle: Spacing,
}

/// A complete answer, after it was handled.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// `X-Consul-Index`.
    pub index: u64,
    /// It changed the upstream.
    pub changed: bool,
    /// How long it might have waited for a change.
    pub wait: Duration,
    /// From the request to the answer.
    pub took: Duration,
    /// A monotonic clock.
    pub now: Duration,
}

impl Index {
    /// Starts at 0, which is answered at once. No delay is beyond `cap` (`upsync_interval`).
    pub fn new(cap: Duration) -> Index {
        Index {
            asked: 0,
            cap,
            failures: Backoff::default(),
            odd: Backoff::default(),
            idle: Spacing::default(),
        }
    }

    /// The index to ask with.
    pub fn get(&self) -> u64 {
        self.asked
    }

    /// Commits the index of a handled answer: at least 1, and 0 when it went backwards. Returns
    /// the delay before the next request: none after a change, so that a change is never late;
    /// growing when the index stands still although the query did not wait, or goes backwards.
    pub fn answered(&mut self, answer: Answered, random: u64) -> Duration {
        self.failures.reset();
        let index = answer.index.max(1);
        let first = self.asked == 0;
        let backwards = index < self.asked;
        let early = index == self.asked && answer.took < answer.wait / 2;
        self.asked = if backwards { 0 } else { index };
        if backwards || early {
            return self.odd.next(self.cap.min(ODD_MAX), random);
        }
        // The answer to index 0 says nothing about the order of indices: two Consul servers behind
        // one address that disagree would otherwise be asked as fast as they answer.
        if !first {
            self.odd.reset();
        }
        if answer.changed {
            Duration::ZERO
        } else {
            self.idle.next(answer.now)
        }
    }

    /// The next request is answered at once, with everything.
    pub fn restart(&mut self) {
        self.asked = 0;
    }

    /// The delay after a request that failed. The next asks for everything: what answers then may
    /// be another source, whose index is the same by chance.
    pub fn failed(&mut self, random: u64) -> Duration {
        self.restart();
        self.failures.next(self.cap.min(REFUSED_MAX), random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WAIT: Duration = Duration::from_secs(10);
    const CAP: Duration = Duration::from_millis(500);

    fn index() -> Index {
        Index::new(CAP)
    }

    fn at_once(index: u64, changed: bool) -> Answered {
        Answered {
            index,
            changed,
            wait: WAIT,
            took: Duration::ZERO,
            now: Duration::ZERO,
        }
    }

    #[test]
    fn the_index_follows_consuls_rules() {
        let mut index = index();
        for (answered, asked) in [
            (0, 1),
            (7, 7),
            (7, 7),
            (9, 9),
            (3, 0),
            (3, 3),
            (0, 0),
            (0, 1),
        ] {
            index.answered(at_once(answered, true), 0);
            assert_eq!(index.get(), asked, "after {answered}");
        }
        index.answered(at_once(5, true), 0);
        index.failed(0);
        assert_eq!(index.get(), 0);
        index.answered(at_once(5, true), 0);
        index.restart();
        assert_eq!(index.get(), 0);
    }

    #[test]
    fn changes_are_asked_for_without_delay() {
        let mut index = index();
        for number in 1..1000 {
            assert_eq!(index.answered(at_once(number, true), 0), Duration::ZERO);
        }
    }

    #[test]
    fn a_full_wait_without_a_change_is_no_reason_to_delay() {
        let mut index = index();
        let mut now = Duration::ZERO;
        for _ in 0..100 {
            now += WAIT;
            let answer = Answered {
                index: 4,
                changed: false,
                wait: WAIT,
                took: WAIT,
                now,
            };
            assert_eq!(index.answered(answer, 0), Duration::ZERO);
        }
    }

    /// Requests that a server which always answers at once gets in a minute.
    fn requests_in_a_minute(mut answer: impl FnMut(u64) -> (u64, bool)) -> usize {
        let mut index = index();
        let mut now = Duration::ZERO;
        let mut requests = 0;
        while now < Duration::from_secs(60) && requests < 100_000 {
            requests += 1;
            let (number, changed) = answer(index.get());
            let answered = Answered {
                index: number,
                changed,
                wait: WAIT,
                took: Duration::ZERO,
                now,
            };
            now += index.answered(answered, 0) + Duration::from_micros(100);
        }
        requests
    }

    #[test]
    fn no_server_makes_a_hot_loop() {
        let standing = requests_in_a_minute(|_| (7, false));
        assert!((100..150).contains(&standing), "{standing}");
        let standing_but_changing = requests_in_a_minute(|_| (7, true));
        assert!(standing_but_changing < 150, "{standing_but_changing}");
        let flip_flop = requests_in_a_minute(|asked| (if asked == 100 { 50 } else { 100 }, true));
        assert!(flip_flop < 300, "{flip_flop}");
        let moving = requests_in_a_minute(|asked| (asked + 1, false));
        assert!((1400..1700).contains(&moving), "{moving}");
        // The negative control: with changes there is no brake.
        assert_eq!(requests_in_a_minute(|asked| (asked + 1, true)), 100_000);
    }

    proptest! {
        #[test]
        fn a_stored_index_is_zero_only_after_a_step_back(answers in proptest::collection::vec(any::<u64>(), 1..50)) {
            let mut index = index();
            for answered in answers {
                let asked = index.get();
                index.answered(at_once(answered, true), answered);
                prop_assert_eq!(index.get() == 0, answered.max(1) < asked);
            }
        }
    }
}
