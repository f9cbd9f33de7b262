//! A balancer in the making: a few peers at a time, so that a big one keeps nobody waiting.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use weir_shm::Server;

use super::{EXACT_WEIGHTS, Peer, RoundRobin, Tier};

/// The distinct weights of a tier, the smallest first.
#[derive(Debug, Default)]
pub(super) struct Weights(pub(super) Vec<i64>);

impl Weights {
    /// How many weights a cluster has: about the square root of many keeps both choices short.
    pub(super) fn cluster(&self) -> usize {
        match self.0.len() {
            few @ ..=EXACT_WEIGHTS => few.max(1),
            many => many.isqrt(),
        }
    }

    fn place(&self, weight: i64) -> (u32, u32) {
        let at = self.0.partition_point(|&other| other < weight);
        let size = self.cluster();
        ((at / size) as u32, (at % size) as u32)
    }
}

/// See the module. Each step is about one peer.
#[derive(Debug)]
pub struct Making {
    made: RoundRobin,
    stage: Stage,
    /// Distinct weights of the primary servers, and of the backup ones.
    found: [BTreeSet<i64>; 2],
    weights: [Weights; 2],
    /// Peers that have no place in a tier yet, by their turns.
    order: BinaryHeap<(i64, Reverse<u32>)>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Peers are made of the servers.
    Peers,
    /// They learn their groups, from this one on.
    Groups(usize),
    /// They go there in the order of their turns, so that each goes to the end of its queue.
    Settling,
}

impl Making {
    /// Of so many servers.
    pub fn new(servers: usize) -> Making {
        let none = Weights::default();
        Making {
            made: RoundRobin {
                peers: Vec::with_capacity(servers),
                primary: Tier::new(&none, false),
                backup: Tier::new(&none, true),
                single: servers == 1,
                watched: None,
            },
            stage: Stage::Peers,
            found: [BTreeSet::new(), BTreeSet::new()],
            weights: [Weights::default(), Weights::default()],
            order: BinaryHeap::with_capacity(servers),
        }
    }

    pub(super) fn at_once(
        servers: &[Server],
        old: Option<&RoundRobin>,
        before: impl Fn(usize) -> Option<usize>,
    ) -> RoundRobin {
        let mut making = Making::new(servers.len());
        loop {
            if let Some(made) = making.step(&mut usize::MAX.clone(), servers, old, &before) {
                return made;
            }
        }
    }

    /// Goes on as long as the budget lasts; the balancer when it is whole. `servers`, `old` and `before` are
    /// those of [`RoundRobin::following`], the same each time.
    pub fn step(
        &mut self,
        budget: &mut usize,
        servers: &[Server],
        old: Option<&RoundRobin>,
        before: impl Fn(usize) -> Option<usize>,
    ) -> Option<RoundRobin> {
        loop {
            if *budget == 0 {
                return None;
            }
            *budget -= 1;
            match self.stage {
                Stage::Peers => {
                    let at = self.made.peers.len();
                    match servers.get(at) {
                        Some(server) => self.add(server, old, before(at)),
                        None => self.deal(),
                    }
                }
                Stage::Groups(at) => match self.made.peers.get_mut(at) {
                    Some(peer) => {
                        let weights = &self.weights[usize::from(peer.backup)];
                        (peer.cluster, peer.group) = weights.place(peer.weight);
                        self.order.push((peer.current, Reverse(at as u32)));
                        self.stage = Stage::Groups(at + 1);
                    }
                    None => self.stage = Stage::Settling,
                },
                Stage::Settling => match self.order.pop() {
                    // Whose time on the bench is over is let out by the next pick.
                    Some((_, Reverse(peer))) => self.made.settle_unless_benched(peer as usize, 0),
                    None => {
                        let none = Making::new(0).made;
                        return Some(std::mem::replace(&mut self.made, none));
                    }
                },
            }
        }
    }

    fn add(&mut self, server: &Server, old: Option<&RoundRobin>, known: Option<usize>) {
        let mut peer = Peer::new(server);
        if let Some(old) = old
            && let Some(known) = known.and_then(|index| old.peers.get(index))
        {
            if known.backup == peer.backup && known.weight == peer.weight {
                peer.current = old.current(known);
            }
            peer.copy_failures(known);
        }
        self.found[usize::from(peer.backup)].insert(peer.weight);
        self.made.peers.push(peer);
    }

    fn deal(&mut self) {
        self.weights =
            std::mem::take(&mut self.found).map(|set| Weights(set.into_iter().collect()));
        self.made.primary = Tier::new(&self.weights[0], false);
        self.made.backup = Tier::new(&self.weights[1], true);
        self.stage = Stage::Groups(0);
    }
}
