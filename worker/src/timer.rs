//! Deadlines of connections on a lazy wheel: a timer that does not fire costs one store.
//!
//! Each connection has one deadline. Moving it later only notes it; the wheel finds out when the
//! connection's slot comes round, and links it again where it belongs now.

/// Milliseconds a slot spans: a deadline is noticed at most so late.
const SLOT_MS: u64 = 16;
/// Slots of the wheel, 64 words of 64 bits; later deadlines come round more than once.
const SLOTS: usize = 4096;
/// How far ahead the wheel can see, in milliseconds.
const HORIZON_MS: u64 = SLOT_MS * (SLOTS as u64 - 1);

const NONE: u32 = u32::MAX;
/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: u64,
    /// The wheel's tick at which it is linked; [`NEVER`] when it is not.
    tick: u64,
    previous: u32,
    next: u32,
}

const UNLINKED: Node = Node {
    deadline: NEVER,
    tick: NEVER,
    previous: NONE,
    next: NONE,
};

/// Deadlines by number (a place in a slab), in milliseconds of a clock that never goes back.
#[derive(Debug)]
pub struct Timers {
    nodes: Vec<Node>,
    slots: Box<[u32; SLOTS]>,
    /// One bit a slot with something in it.
    filled: [u64; SLOTS / 64],
    /// One bit a word of `filled` that is not zero.
    words: u64,
    /// The next tick to look at.
    tick: u64,
}

impl Timers {
    /// A wheel that begins at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            nodes: Vec::new(),
            slots: Box::new([NONE; SLOTS]),
            filled: [0; SLOTS / 64],
            words: 0,
            tick: now_ms / SLOT_MS,
        }
    }

    /// `who` is due at `deadline_ms`, which replaces an earlier order.
    pub fn set(&mut self, who: u32, deadline_ms: u64) {
        let index = who as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, UNLINKED);
        }
        let node = &mut self.nodes[index];
        node.deadline = deadline_ms;
        let due = due_tick(deadline_ms);
        if node.tick == NEVER || due < node.tick {
            self.unlink(who);
            self.link(who, due);
        }
    }

    /// `who` is due no more. It stays linked, so that setting it again is cheap.
    pub fn clear(&mut self, who: u32) {
        if let Some(node) = self.nodes.get_mut(who as usize) {
            node.deadline = NEVER;
        }
    }

    /// Takes `who` off the wheel altogether: its connection is gone.
    pub fn remove(&mut self, who: u32) {
        if (who as usize) < self.nodes.len() {
            self.nodes[who as usize].deadline = NEVER;
            self.unlink(who);
        }
    }

    /// Puts everyone who is due by `now_ms` into `due`; their deadlines are gone then.
    pub fn expire(&mut self, now_ms: u64, due: &mut Vec<u32>) {
        let last = now_ms / SLOT_MS;
        if last < self.tick {
            return;
        }
        // After a long stop one round visits every slot; more would visit them again.
        let first = self.tick.max(last.saturating_sub(SLOTS as u64 - 1));
        self.tick = last + 1;
        let mut tick = first;
        while tick <= last {
            let slot = (tick % SLOTS as u64) as usize;
            if self.filled[slot / 64] == 0 && slot.is_multiple_of(64) && tick + 63 <= last {
                tick += 64;
                continue;
            }
            self.expire_slot(slot, now_ms, due);
            tick += 1;
        }
    }

    fn expire_slot(&mut self, slot: usize, now_ms: u64, due: &mut Vec<u32>) {
        let mut who = self.slots[slot];
        while who != NONE {
            let Node { deadline, next, .. } = self.nodes[who as usize];
            self.unlink(who);
            if deadline <= now_ms {
                self.nodes[who as usize].deadline = NEVER;
                due.push(who);
            } else if deadline != NEVER {
                self.link(who, due_tick(deadline));
            }
            who = next;
        }
    }

    /// When [`Timers::expire`] has to be called next, in milliseconds; `None` if nobody waits.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        let begin = (self.tick % SLOTS as u64) as usize;
        let (word, bit) = (begin / 64, begin % 64);
        let here = self.filled[word] >> bit;
        let ahead = if here != 0 {
            here.trailing_zeros() as usize
        } else {
            // The words after this one, round to this one itself.
            let later = self.words.rotate_right(word as u32 + 1);
            if later == 0 {
                return None;
            }
            let distance = later.trailing_zeros() as usize + 1;
            let found = (word + distance) % self.filled.len();
            distance * 64 + self.filled[found].trailing_zeros() as usize - bit
        };
        Some((self.tick + ahead as u64) * SLOT_MS)
    }

    fn link(&mut self, who: u32, due: u64) {
        let furthest = self.tick + HORIZON_MS / SLOT_MS;
        let tick = due.clamp(self.tick, furthest);
        let slot = (tick % SLOTS as u64) as usize;
        let head = self.slots[slot];
        let node = &mut self.nodes[who as usize];
        node.tick = tick;
        node.previous = NONE;
        node.next = head;
        if head != NONE {
            self.nodes[head as usize].previous = who;
        }
        self.slots[slot] = who;
        self.filled[slot / 64] |= 1 << (slot % 64);
        self.words |= 1 << (slot / 64);
    }

    fn unlink(&mut self, who: u32) {
        let Node {
            tick,
            previous,
            next,
            ..
        } = self.nodes[who as usize];
        if tick == NEVER {
            return;
        }
        self.nodes[who as usize].tick = NEVER;
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
            return;
        }
        let slot = (tick % SLOTS as u64) as usize;
        self.slots[slot] = next;
        if next == NONE {
            self.filled[slot / 64] &= !(1 << (slot % 64));
            if self.filled[slot / 64] == 0 {
                self.words &= !(1 << (slot / 64));
            }
        }
    }
}

/// The first tick at whose beginning the deadline has passed.
fn due_tick(deadline_ms: u64) -> u64 {
    deadline_ms.div_ceil(SLOT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cases;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn due(timers: &mut Timers, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        timers.expire(now, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn fires_once_and_not_early() {
        let mut timers = Timers::new(1000);
        timers.set(3, 1100);
        assert!(timers.next_ms().unwrap() >= 1100);
        assert!(due(&mut timers, 1099).is_empty());
        assert_eq!(due(&mut timers, 1100 + SLOT_MS), [3]);
        assert!(due(&mut timers, 9000).is_empty());
        assert_eq!(timers.next_ms(), None);
    }

    #[test]
    fn a_later_deadline_is_found_out_when_the_slot_comes_round() {
        let mut timers = Timers::new(0);
        timers.set(0, 60_000);
        for now in (0..600_000).step_by(1000) {
            assert!(due(&mut timers, now).is_empty());
            timers.set(0, now + 60_000);
        }
        assert!(due(&mut timers, 658_999).is_empty());
        assert_eq!(due(&mut timers, 659_000 + SLOT_MS), [0]);
    }

    #[test]
    fn an_earlier_deadline_moves_forward_and_a_cleared_one_stays_silent() {
        let mut timers = Timers::new(0);
        timers.set(0, 60_000);
        timers.set(1, 500);
        timers.set(0, 500);
        timers.clear(1);
        assert_eq!(due(&mut timers, 600), [0]);
        timers.set(2, 700);
        timers.remove(2);
        assert!(due(&mut timers, 100_000).is_empty());
        assert_eq!(timers.next_ms(), None);
    }

    #[test]
    fn deadlines_beyond_the_horizon_and_in_the_past() {
        let mut timers = Timers::new(5);
        timers.set(0, 10 * HORIZON_MS);
        timers.set(1, 0);
        assert_eq!(due(&mut timers, 5 + SLOT_MS), [1]);
        let mut now = 5;
        let mut rounds = 0;
        while let Some(next) = timers.next_ms() {
            assert!(next > now);
            now = next;
            rounds += 1;
            if !due(&mut timers, now).is_empty() {
                break;
            }
        }
        assert!(now >= 10 * HORIZON_MS && rounds <= 11, "{now} {rounds}");
    }

    proptest! {
        #![proptest_config(cases(256))]
        #[test]
        fn behaves_as_a_map_of_deadlines(
            steps in prop::collection::vec((0u32..8, 0u64..200_000, 0u64..3000, any::<bool>()), 1..200)
        ) {
            let mut timers = Timers::new(0);
            let mut model: HashMap<u32, u64> = HashMap::new();
            let mut now = 0;
            for (who, delay, passed, remove) in steps {
                if remove {
                    timers.remove(who);
                    model.remove(&who);
                } else {
                    timers.set(who, now + delay);
                    model.insert(who, now + delay);
                }
                now += passed;
                for who in due(&mut timers, now) {
                    let deadline = model.remove(&who);
                    prop_assert!(deadline.is_some_and(|deadline| deadline <= now));
                }
                for &deadline in model.values() {
                    prop_assert!(deadline + SLOT_MS > now, "late: {deadline} at {now}");
                    prop_assert!(timers.next_ms().is_some_and(|next| next < deadline + SLOT_MS));
                }
            }
        }
    }
}
