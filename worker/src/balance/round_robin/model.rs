//! nginx's algorithm in its plain form, one walk over all peers a pick, to compare with.

use weir_shm::Server;

use crate::balance::Tried;

pub(super) struct Model {
    peers: Vec<Peer>,
}

struct Peer {
    server: Server,
    current: i64,
    effective: i64,
    fails: u32,
    accessed: u64,
    checked: u64,
}

impl Model {
    pub(super) fn new(servers: &[Server]) -> Model {
        let peer = |server: &Server| Peer {
            server: server.clone(),
            current: 0,
            effective: i64::from(server.weight),
            fails: 0,
            accessed: 0,
            checked: 0,
        };
        Model {
            peers: servers.iter().map(peer).collect(),
        }
    }

    pub(super) fn pick(&mut self, now: u64, tried: &Tried) -> Option<usize> {
        if let [only] = self.peers.as_slice() {
            return (!only.server.down && !tried.contains(0)).then_some(0);
        }
        [false, true]
            .into_iter()
            .find_map(|backup| self.pick_tier(now, tried, backup))
    }

    fn pick_tier(&mut self, now: u64, tried: &Tried, backup: bool) -> Option<usize> {
        let (mut total, mut best) = (0, None::<usize>);
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            let Server {
                max_fails,
                fail_timeout_ms,
                down,
                ..
            } = peer.server;
            let exhausted = max_fails > 0 && peer.fails >= max_fails;
            if peer.server.backup != backup
                || down
                || tried.contains(at)
                || (exhausted && now - peer.checked <= fail_timeout_ms)
            {
                continue;
            }
            peer.current += peer.effective;
            total += peer.effective;
            if peer.effective < i64::from(peer.server.weight) {
                peer.effective += 1;
            }
            if best.is_none_or(|best| self.peers[at].current > self.peers[best].current) {
                best = Some(at);
            }
        }
        let best = best?;
        let peer = &mut self.peers[best];
        peer.current -= total;
        if now - peer.checked > peer.server.fail_timeout_ms {
            peer.checked = now;
        }
        Some(best)
    }

    pub(super) fn failed(&mut self, at: usize, now: u64) {
        if self.peers.len() == 1 {
            return;
        }
        let peer = &mut self.peers[at];
        peer.fails += 1;
        (peer.accessed, peer.checked) = (now, now);
        if let Some(lost) = peer.server.weight.checked_div(peer.server.max_fails) {
            peer.effective = (peer.effective - i64::from(lost)).max(0);
        }
    }

    pub(super) fn succeeded(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if peer.accessed < peer.checked {
            peer.fails = 0;
        }
    }
}
