//! Smooth weighted round robin over peers of few distinct weights.
//!
//! nginx keeps a current weight a peer, adds each peer's weight to it on every pick, takes the
//! largest, and subtracts the total from the winner: O(n). Peers of one weight gain equally, so their
//! order among themselves changes only when one of them wins. A [`Group`] therefore holds what its
//! peers gained once (`base`) and each peer's difference to it, ordered; its best peer is the
//! first, and a pick looks at one peer a distinct weight. The sequence is nginx's to the letter.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::tried::Tried;

/// Peers of one weight, the one whose turn is next first.
#[derive(Clone, Debug)]
struct Group {
    weight: i64,
    /// What a peer that has been here all along has gained.
    base: i64,
    queue: VecDeque<Waiting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    /// The peer's current weight less the group's base.
    offset: i64,
    peer: u32,
}

/// The larger weight first, then the peer that is configured first.
fn order(left: &Waiting, right: &Waiting) -> Ordering {
    right
        .offset
        .cmp(&left.offset)
        .then(left.peer.cmp(&right.peer))
}

impl Group {
    fn insert(&mut self, waiting: Waiting) {
        // A winner nearly always goes to the end.
        if self
            .queue
            .back()
            .is_none_or(|last| order(last, &waiting).is_lt())
        {
            self.queue.push_back(waiting);
        } else {
            let at = self
                .queue
                .partition_point(|other| order(other, &waiting).is_lt());
            self.queue.insert(at, waiting);
        }
    }
}

/// A peer that may win.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best {
    pub(super) current: i64,
    pub(super) peer: u32,
    group: usize,
    at: usize,
}

impl Best {
    /// For a peer that is in no group.
    pub(super) fn alone(current: i64, peer: u32) -> Best {
        Best {
            current,
            peer,
            group: usize::MAX,
            at: 0,
        }
    }

    /// nginx walks the peers in order and takes the first of the largest.
    pub(super) fn beats(&self, other: &Option<Best>) -> bool {
        other.is_none_or(|other| {
            self.current > other.current
                || (self.current == other.current && self.peer < other.peer)
        })
    }
}

/// Groups that compete with each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    groups: Vec<Group>,
    /// The sum of the weights of the peers that are here.
    pub(super) weight: i64,
    /// The cluster's own current weight, where several compete.
    pub(super) current: i64,
}

impl Cluster {
    /// Without peers yet, for these distinct weights.
    pub(super) fn new(weights: &[i64]) -> Cluster {
        let group = |&weight| Group {
            weight,
            base: 0,
            queue: VecDeque::new(),
        };
        Cluster {
            groups: weights.iter().map(group).collect(),
            weight: 0,
            current: 0,
        }
    }

    pub(super) fn insert(&mut self, group: usize, peer: u32, current: i64) {
        let group = &mut self.groups[group];
        group.insert(Waiting {
            offset: current - group.base,
            peer,
        });
        self.weight += group.weight;
    }

    /// Takes a peer out; gives its current weight.
    pub(super) fn remove(&mut self, group: usize, peer: u32, offset: i64) -> i64 {
        let group = &mut self.groups[group];
        let wanted = Waiting { offset, peer };
        if let Ok(at) = group.queue.binary_search_by(|other| order(other, &wanted)) {
            group.queue.remove(at);
            self.weight -= group.weight;
        }
        offset + group.base
    }

    /// What `remove` needs to find a peer that has this current weight.
    pub(super) fn offset(&self, group: usize, current: i64) -> i64 {
        current - self.groups[group].base
    }

    /// Every peer gains its weight.
    pub(super) fn gain(&mut self) {
        for group in &mut self.groups {
            group.base += group.weight;
        }
    }

    /// The peer with the largest current weight, of those not in `skip`.
    pub(super) fn best(&self, skip: Option<&Tried>) -> Option<Best> {
        let mut best = None;
        for (number, group) in self.groups.iter().enumerate() {
            let at = match skip {
                None => 0,
                Some(tried) => {
                    let fresh = |waiting: &Waiting| !tried.contains(waiting.peer as usize);
                    let Some(at) = group.queue.iter().position(fresh) else {
                        continue;
                    };
                    at
                }
            };
            let Some(waiting) = group.queue.get(at) else {
                continue;
            };
            let current = waiting.offset + group.base;
            let candidate = Best {
                current,
                peer: waiting.peer,
                group: number,
                at,
            };
            if candidate.beats(&best) {
                best = Some(candidate);
            }
        }
        best
    }

    /// The winner pays `total` and goes where it then belongs; gives its new offset.
    pub(super) fn charge(&mut self, best: Best, total: i64) -> i64 {
        let group = &mut self.groups[best.group];
        let offset = best.current - total - group.base;
        if best.at == 0 {
            group.queue.pop_front();
        } else {
            group.queue.remove(best.at);
        }
        group.insert(Waiting {
            offset,
            peer: best.peer,
        });
        offset
    }
}
