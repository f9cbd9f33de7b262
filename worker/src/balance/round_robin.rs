//! nginx's smooth weighted round robin with `max_fails`, `fail_timeout`, `down` and `backup`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use weir_shm::Server;

use super::cluster::{Best, Cluster};
use super::tried::Tried;

/// With more distinct weights than this, peers are dealt to clusters, and a pick chooses the cluster
/// first, then the peer in it: both smoothly by weight, but no longer in nginx's very sequence.
pub const EXACT_WEIGHTS: usize = 64;

/// Peers of one upstream and whose turn it is. Indices are those of the servers that it was made from.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    peers: Vec<Peer>,
    primary: Tier,
    backup: Tier,
    /// nginx never counts failures against the only server of an upstream.
    single: bool,
    /// Peers whose failures changed since somebody asked to be told.
    watched: Option<Vec<u32>>,
}

/// What a failure led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The server still takes requests.
    Counted,
    /// `max_fails` is reached: no request for `fail_timeout`. nginx logs `upstream server
    /// temporarily disabled` at level warn.
    Disabled,
}

#[derive(Clone, Debug)]
struct Peer {
    weight: i64,
    max_fails: u32,
    fail_timeout_ms: u64,
    backup: bool,
    cluster: u32,
    group: u32,
    place: Place,
    /// In a group, the offset to its base; elsewhere nginx's current weight.
    current: i64,
    effective: i64,
    fails: u32,
    /// When it last failed, in milliseconds.
    accessed: u64,
    /// When its current `fail_timeout` began.
    checked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At full weight.
    Group,
    /// Failed before; gains back its weight with every pick.
    Recovering,
    /// `max_fails` is reached and `fail_timeout` not over.
    Benched,
    /// `down`.
    Down,
}

/// The primary servers, or the backup ones.
#[derive(Clone, Debug)]
struct Tier {
    backup: bool,
    clusters: Vec<Cluster>,
    recovering: Vec<u32>,
    /// When a benched peer may be tried again. Entries whose peer has moved on are passed over.
    benched: BinaryHeap<Reverse<(u64, u32)>>,
    /// Tried peers that are out of their groups while one pick lasts.
    aside: Vec<u32>,
}

pub use making::Making;
use making::Weights;

impl Peer {
    fn is_exhausted(&self) -> bool {
        self.max_fails > 0 && self.fails >= self.max_fails
    }

    /// The last millisecond of its time on the bench.
    fn bench_end(&self) -> u64 {
        self.checked.saturating_add(self.fail_timeout_ms)
    }
}

impl RoundRobin {
    /// From the servers of a table, in its order.
    pub fn new(servers: &[Server]) -> RoundRobin {
        Making::at_once(servers, None, |_| None)
    }

    /// As [`RoundRobin::new`], and a server that was there before goes on where it was: its turn, its
    /// failures, its lowered weight. `before` gives a server's index in `old`.
    pub fn following(
        servers: &[Server],
        old: &RoundRobin,
        before: impl Fn(usize) -> Option<usize>,
    ) -> RoundRobin {
        Making::at_once(servers, Some(old), before)
    }

    /// From now on it is noted which peers' failures change: the next balancer is in the making.
    pub fn watch(&mut self) {
        self.watched = Some(Vec::new());
    }

    /// Whose failures changed since, which is noted no more.
    pub fn watched(&mut self) -> Vec<u32> {
        self.watched.take().unwrap_or_default()
    }

    /// A peer's failures are those that `old` has counted for it as `known` by now.
    pub fn follow(&mut self, peer: usize, old: &RoundRobin, known: usize) {
        let (Some(one), Some(known)) = (self.peers.get(peer), old.peers.get(known)) else {
            return;
        };
        if one.place == Place::Down {
            return;
        }
        self.unsettle(peer);
        self.peers[peer].copy_failures(known);
        self.settle_unless_benched(peer, 0);
    }

    fn note(&mut self, peer: usize) {
        if let Some(watched) = &mut self.watched {
            watched.push(peer as u32);
        }
    }

    /// How many servers there are, whatever their state.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// No server at all.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whose turn it is at `now_ms`, of those that are not in `tried`. The caller adds the answer to
    /// `tried` and later says how it went, with [`RoundRobin::succeeded`] or [`RoundRobin::failed`].
    /// `None`: `no live upstreams`.
    pub fn pick(&mut self, now_ms: u64, tried: &Tried) -> Option<usize> {
        if self.single {
            let free = self.peers[0].place != Place::Down && !tried.contains(0);
            return free.then_some(0);
        }
        let peer = self
            .primary
            .pick(&mut self.peers, now_ms, tried)
            .or_else(|| self.backup.pick(&mut self.peers, now_ms, tried))?;
        let chosen = &mut self.peers[peer];
        if now_ms.saturating_sub(chosen.checked) > chosen.fail_timeout_ms {
            chosen.checked = now_ms;
        }
        if chosen.is_exhausted() {
            // This request is the probe; nobody else goes there before its end or another fail_timeout.
            self.note(peer);
            self.unsettle(peer);
            self.settle_unless_benched(peer, now_ms);
        }
        Some(peer)
    }

    /// A request to this server failed at `now_ms`, here or in another worker.
    pub fn failed(&mut self, peer: usize, now_ms: u64) -> Failed {
        let Some(one) = self.peers.get_mut(peer).filter(|_| !self.single) else {
            return Failed::Counted;
        };
        one.fails = one.fails.saturating_add(1);
        one.accessed = now_ms;
        one.checked = now_ms;
        if one.max_fails == 0 {
            return Failed::Counted;
        }
        self.note(peer);
        let one = &self.peers[peer];
        if one.place != Place::Down {
            self.unsettle(peer);
            let one = &mut self.peers[peer];
            one.effective = (one.effective - one.weight / i64::from(one.max_fails)).max(0);
            self.settle_unless_benched(peer, now_ms);
        }
        if self.peers[peer].is_exhausted() {
            Failed::Disabled
        } else {
            Failed::Counted
        }
    }

    /// A request to this server went well.
    #[inline]
    pub fn succeeded(&mut self, peer: usize) {
        let Some(one) = self.peers.get_mut(peer) else {
            return;
        };
        // Only what began after the last failure shows that the server is back.
        if one.fails > 0 && one.accessed < one.checked {
            one.fails = 0;
            if one.place == Place::Benched {
                self.settle(peer);
            }
            self.note(peer);
        }
    }

    /// nginx's current weight of a peer.
    fn current(&self, peer: &Peer) -> i64 {
        match peer.place {
            Place::Group => {
                let tier = if peer.backup {
                    &self.backup
                } else {
                    &self.primary
                };
                let cluster = &tier.clusters[peer.cluster as usize];
                peer.current - cluster.offset(peer.group as usize, 0)
            }
            _ => peer.current,
        }
    }

    fn tier(&mut self, peer: usize) -> (&mut Tier, &mut Peer) {
        let peer = &mut self.peers[peer];
        (
            if peer.backup {
                &mut self.backup
            } else {
                &mut self.primary
            },
            peer,
        )
    }

    /// Puts a peer that is nowhere where it belongs, the bench left aside.
    fn settle(&mut self, peer: usize) {
        let (tier, one) = self.tier(peer);
        tier.settle(one, peer as u32);
    }

    fn settle_unless_benched(&mut self, peer: usize, now_ms: u64) {
        let (tier, one) = self.tier(peer);
        if one.place != Place::Down && one.is_exhausted() && now_ms <= one.bench_end() {
            one.place = Place::Benched;
            tier.benched.push(Reverse((one.bench_end(), peer as u32)));
        } else {
            tier.settle(one, peer as u32);
        }
    }

    /// Takes a peer from where it is.
    fn unsettle(&mut self, peer: usize) {
        let (tier, one) = self.tier(peer);
        tier.unsettle(one, peer as u32);
    }
}

impl Peer {
    fn new(server: &Server) -> Peer {
        let weight = i64::from(server.weight.max(1));
        Peer {
            weight,
            max_fails: server.max_fails,
            fail_timeout_ms: server.fail_timeout_ms,
            backup: server.backup,
            cluster: 0,
            group: 0,
            place: if server.down {
                Place::Down
            } else {
                Place::Recovering
            },
            current: 0,
            effective: weight,
            fails: 0,
            accessed: 0,
            checked: 0,
        }
    }

    /// Goes on where the peer was that it is to follow; its current weight apart.
    fn copy_failures(&mut self, known: &Peer) {
        if known.backup == self.backup && known.weight == self.weight {
            self.effective = known.effective;
        }
        (self.fails, self.accessed, self.checked) = (known.fails, known.accessed, known.checked);
    }
}

impl Tier {
    /// Without peers yet, for these distinct weights.
    fn new(weights: &Weights, backup: bool) -> Tier {
        Tier {
            backup,
            clusters: weights
                .0
                .chunks(weights.cluster())
                .map(Cluster::new)
                .collect(),
            recovering: Vec::new(),
            benched: BinaryHeap::new(),
            aside: Vec::new(),
        }
    }

    fn settle(&mut self, one: &mut Peer, peer: u32) {
        if one.place == Place::Down {
            return;
        }
        if one.effective < one.weight {
            one.place = Place::Recovering;
            self.recovering.push(peer);
        } else {
            one.place = Place::Group;
            let several = self.clusters.len() > 1;
            let cluster = &mut self.clusters[one.cluster as usize];
            if several {
                // Current weights among all are larger than those within a cluster.
                let most = cluster.weight + one.weight;
                one.current = one.current.clamp(-most, most);
            }
            cluster.insert(one.group as usize, peer, one.current);
            one.current = cluster.offset(one.group as usize, one.current);
        }
    }

    fn unsettle(&mut self, one: &mut Peer, peer: u32) {
        match one.place {
            Place::Group => {
                let cluster = &mut self.clusters[one.cluster as usize];
                one.current = cluster.remove(one.group as usize, peer, one.current);
            }
            Place::Recovering => self.recovering.retain(|&other| other != peer),
            Place::Benched | Place::Down => {}
        }
    }

    fn pick(&mut self, peers: &mut [Peer], now_ms: u64, tried: &Tried) -> Option<usize> {
        self.readmit(peers, now_ms);
        // As in nginx, a peer that this request has been to gains nothing while it is passed over.
        // A request that has been to very many only passes them over.
        let skip = match tried.listed() {
            Some(list) => {
                self.set_aside(peers, list);
                None
            }
            None => Some(tried),
        };
        let picked = self.choose(peers, tried, skip);
        while let Some(peer) = self.aside.pop() {
            self.settle(&mut peers[peer as usize], peer);
        }
        self.restore(peers);
        picked
    }

    /// Whose `fail_timeout` is over may be tried again.
    fn readmit(&mut self, peers: &mut [Peer], now_ms: u64) {
        while let Some(&Reverse((end, peer))) = self.benched.peek() {
            if now_ms <= end {
                break;
            }
            self.benched.pop();
            let one = &mut peers[peer as usize];
            if one.place == Place::Benched && one.bench_end() == end {
                self.settle(one, peer);
            }
        }
    }

    fn set_aside(&mut self, peers: &mut [Peer], tried: &[u32]) {
        for &peer in tried {
            let Some(one) = peers.get_mut(peer as usize) else {
                continue;
            };
            if one.place == Place::Group && one.backup == self.backup {
                self.unsettle(one, peer);
                self.aside.push(peer);
            }
        }
    }

    /// One round of the algorithm: everybody gains, the largest wins and pays what all gained.
    fn choose(&mut self, peers: &mut [Peer], tried: &Tried, skip: Option<&Tried>) -> Option<usize> {
        let (recovered, best) = self.gain_recovering(peers, tried);
        match self.clusters.as_mut_slice() {
            [] => None,
            [cluster] => {
                cluster.gain();
                let total = recovered + cluster.weight;
                match cluster.best(skip).filter(|other| other.beats(&best)) {
                    Some(best) => Some(charge(cluster, peers, best, total)),
                    None => best.map(|best| charge_alone(peers, best, total)),
                }
            }
            clusters => choose_cluster(clusters, peers, recovered, best, skip),
        }
    }

    fn gain_recovering(&mut self, peers: &mut [Peer], tried: &Tried) -> (i64, Option<Best>) {
        let (mut total, mut best) = (0, None);
        for &peer in &self.recovering {
            if tried.contains(peer as usize) {
                continue;
            }
            let one = &mut peers[peer as usize];
            one.current += one.effective;
            total += one.effective;
            one.effective = (one.effective + 1).min(one.weight);
            let candidate = Best::alone(one.current, peer);
            if candidate.beats(&best) {
                best = Some(candidate);
            }
        }
        (total, best)
    }

    /// Who has gained back the whole weight goes back to the group.
    fn restore(&mut self, peers: &mut [Peer]) {
        let mut at = 0;
        while let Some(&peer) = self.recovering.get(at) {
            let one = &mut peers[peer as usize];
            if one.effective < one.weight {
                at += 1;
            } else {
                self.recovering.swap_remove(at);
                self.settle(one, peer);
            }
        }
    }
}

/// Clusters and recovering peers compete; then the peers of the cluster that wins.
fn choose_cluster(
    clusters: &mut [Cluster],
    peers: &mut [Peer],
    recovered: i64,
    alone: Option<Best>,
    skip: Option<&Tried>,
) -> Option<usize> {
    let total = recovered + clusters.iter().map(|cluster| cluster.weight).sum::<i64>();
    let mut first: Option<usize> = None;
    for at in 0..clusters.len() {
        let weight = clusters[at].weight;
        clusters[at].current += weight;
        if weight > 0 && first.is_none_or(|first| clusters[first].current < clusters[at].current) {
            first = Some(at);
        }
    }
    let first = first.filter(|&at| alone.is_none_or(|best| best.current < clusters[at].current));
    let Some(first) = first else {
        return alone.map(|best| charge_alone(peers, best, total));
    };
    // Only a request that has been to a whole cluster goes on to another one.
    let fresh = (first..clusters.len())
        .chain(0..first)
        .find_map(|at| clusters[at].best(skip).map(|_| at));
    let Some(at) = fresh else {
        return alone.map(|best| charge_alone(peers, best, total));
    };
    let cluster = &mut clusters[at];
    cluster.current -= total;
    cluster.gain();
    let best = cluster.best(skip)?;
    let within = cluster.weight;
    Some(charge(cluster, peers, best, within))
}

fn charge(cluster: &mut Cluster, peers: &mut [Peer], best: Best, total: i64) -> usize {
    let peer = best.peer as usize;
    peers[peer].current = cluster.charge(best, total);
    peer
}

fn charge_alone(peers: &mut [Peer], best: Best, total: i64) -> usize {
    let peer = best.peer as usize;
    peers[peer].current -= total;
    peer
}

mod making;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
