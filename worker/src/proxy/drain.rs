//! Servers that the table has dropped: `upsync_drain_timeout` ends what is in flight to them then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::rc::Rc;

use weir_shm::CounterId;

use super::client::{Event, Next, State};
use super::exchange::Exchange;
use super::retry::Failure;
use super::session::Session;
use super::shared::millis;
use super::{Network, Proxy};
use crate::balance::Tried;
use crate::connection::Key;
use crate::settings::Level;
use crate::upstream::plan::UpstreamPlan;

/// Servers that have until a deadline.
#[derive(Debug, Default)]
pub struct Drains {
    /// Each one's deadline, in milliseconds: that of its latest removal.
    ends: HashMap<CounterId, u64>,
    /// In order, by deadline, index and incarnation; one that the map does not have is no more.
    queue: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

impl Drains {
    fn add(&mut self, counter: CounterId, deadline_ms: u64) {
        self.ends.insert(counter, deadline_ms);
        let entry = (deadline_ms, counter.index, counter.incarnation);
        self.queue.push(Reverse(entry));
    }

    /// When the next one's time is over.
    pub fn next_ms(&self) -> Option<u64> {
        self.queue
            .peek()
            .map(|Reverse((deadline_ms, ..))| *deadline_ms)
    }

    /// Those whose time is over.
    fn due(&mut self, now_ms: u64) -> HashSet<CounterId> {
        let mut due = HashSet::new();
        while self
            .next_ms()
            .is_some_and(|deadline_ms| deadline_ms <= now_ms)
        {
            let Some(Reverse((deadline_ms, index, incarnation))) = self.queue.pop() else {
                break;
            };
            let counter = CounterId { index, incarnation };
            if self.ends.get(&counter) == Some(&deadline_ms) {
                self.ends.remove(&counter);
                due.insert(counter);
            }
        }
        due
    }
}

impl<N: Network> Proxy<N> {
    /// The plan has a server no more: its idle connections are closed, and what is in flight to it
    /// has its time.
    pub(super) fn dropped(&mut self, upstream: &UpstreamPlan, counter: CounterId) {
        while let Some(index) = self.shared.idle.take(counter) {
            self.close_peer_at(index);
        }
        let shared = &mut self.shared;
        if shared.region.counters().in_flight(counter) == 0 {
            return;
        }
        let id = shared.conf.upstream(upstream.configured());
        let settings = id.and_then(|id| shared.conf.settings.upstreams.get(id));
        if let Some(timeout) = settings.and_then(|settings| settings.drain_timeout) {
            let deadline_ms = shared.now_ms.saturating_add(millis(timeout));
            shared.drains.add(counter, deadline_ms);
        }
    }

    /// Ends the requests whose server's time is over.
    pub(super) fn drain(&mut self) {
        let now_ms = self.shared.now_ms;
        if self
            .shared
            .drains
            .next_ms()
            .is_none_or(|next| next > now_ms)
        {
            return;
        }
        let mut due = self.shared.drains.due(now_ms);
        // Who came back meanwhile is no more to go.
        due.retain(|counter| self.shared.plan.find(*counter).is_none());
        let clients: Vec<Key> = self
            .peers
            .keys()
            .filter_map(|key| self.peers.get(key))
            .filter(|peer| due.contains(&peer.counter))
            .filter_map(|peer| peer.client)
            .collect();
        for client in clients {
            self.client(client, Event::Drained);
        }
    }
}

impl<N: Network> Session<'_, N> {
    /// An attempt at this server begins: one that was removed while the request was on its way has
    /// its time too.
    pub(super) fn drain_late(&mut self, exchange: &Exchange, counter: CounterId) {
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        let id = exchange.upstream_id;
        let settings = id.and_then(|id| conf.settings.upstreams.get(id));
        if let Some(timeout) = settings.and_then(|settings| settings.drain_timeout)
            && self.shared.plan.find(counter).is_none()
            && !self.shared.drains.ends.contains_key(&counter)
        {
            let deadline_ms = self.shared.now_ms.saturating_add(millis(timeout));
            self.shared.drains.add(counter, deadline_ms);
        }
    }

    /// The time of the request's server is over: as if it had closed the connection.
    pub(super) fn drained(&mut self, state: State) -> Next {
        let State::Proxying(exchange) = state else {
            return Next::Go(state);
        };
        if exchange.attempt.is_none() {
            return Next::Go(State::Proxying(exchange));
        }
        self.log_request(
            &exchange,
            Level::Error,
            format_args!(
                "upstream server was removed and upsync_drain_timeout has passed while {}",
                self.doing(&exchange)
            ),
        );
        self.give_server_up(exchange, Failure::Removed)
    }

    /// The request goes on by the present plan, however old the one is that it began with: a server
    /// that has left may be switched off by now. It stays at its own upstream, and where it has been
    /// it has been; `again`, a server of the former plan, becomes that of the present one, if it is
    /// still there. False: the upstream is gone.
    pub(super) fn route_anew(&self, exchange: &mut Exchange, again: &mut Option<usize>) -> bool {
        let former = exchange.upstream.clone();
        let Some(former) = former.filter(|former| former.is_in_table()) else {
            return true;
        };
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        let Some(present) = self.shared.upstream(conf, &former.name) else {
            return false;
        };
        if Rc::ptr_eq(&present, &former) {
            return true;
        }
        let plan = &self.shared.plan;
        let place = |server: usize| {
            let counter = former.servers[server].counter;
            match plan.find(counter) {
                Some((upstream, at)) => Rc::ptr_eq(upstream, &present).then_some(at),
                None if plan.upstream(&present.name).is_some() => None,
                // A reload has removed the upstream.
                None => present
                    .servers
                    .iter()
                    .position(|one| one.counter == counter),
            }
        };
        *again = again.and_then(place);
        let mut tried = Tried::new();
        exchange
            .tried
            .iter()
            .filter_map(place)
            .for_each(|at| tried.insert(at));
        exchange.tried = tried;
        exchange.upstream = Some(present);
        true
    }
}
