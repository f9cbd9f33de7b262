//! What all connections of a worker share.

use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use weir_shm::{Address, CounterId, Cursors, Metric, WorkerRegion};

use super::drain::Drains;
use super::exchange::Exchange;
use super::numbers::{Numbers, Phase};
use crate::buffer::{NoMemory, Pool};
use crate::conf::Conf;
use crate::connection::Key;
use crate::links::{Links, List};
use crate::log::{Clock, ErrorLog};
use crate::reserve::Reserve;
use crate::resolver::Clients;
use crate::temp;
use crate::timer::Timers;
use crate::upstream::keepalive::Keepalive;
use crate::upstream::plan::{Plan, UNCOUNTED, UpstreamPlan};
use crate::upstream::resolved::Resolved;
use crate::variable::RequestIds;

/// Exchanges that are kept for later, with the room that they have grown.
const FREE_EXCHANGES: usize = 4096;

/// Everything that is not a connection.
pub struct Shared<N> {
    /// How connections are made and watched.
    pub net: N,
    /// The configuration that new requests are served by.
    pub conf: Rc<Conf>,
    /// Earlier ones, as long as a request is served by them.
    former: Vec<Weak<Conf>>,
    /// The upstreams that new requests are routed by.
    pub plan: Rc<Plan>,
    /// Counters, failures and scoreboard.
    pub region: WorkerRegion,
    /// The other workers' failures that were seen.
    pub failures: Cursors,
    /// The time of this turn of the loop, for logs and fields.
    pub clock: Clock,
    /// The same in milliseconds of a clock that never goes back.
    pub now_ms: u64,
    /// Buffers.
    pub pool: Pool,
    /// Numbers of temporary files.
    pub temp: temp::Numbers,
    /// Deadlines of clients, by their place.
    pub client_timers: Timers,
    /// Deadlines of upstream connections, by their place.
    pub peer_timers: Timers,
    /// Servers that are gone, and how long they have for what is in flight.
    pub(super) drains: Drains,
    /// Idle upstream connections.
    pub idle: Keepalive,
    /// Idle clients, the latest first, by their place.
    pub resting: List,
    pub(super) resting_links: Links,
    /// Servers that are in no table, by their addresses: what a `proxy_pass` with variables gave.
    pub(super) addresses: HashMap<Address, Rc<UpstreamPlan>>,
    /// What names resolve to, and which clients wait for some.
    pub names: Clients<Key>,
    /// The upstreams at the addresses of such names.
    pub(super) resolved: Resolved,
    /// What `stub_status` shows of this worker.
    pub numbers: Numbers,
    /// How many connections there may be, listening sockets among them.
    pub limit: usize,
    /// A descriptor for a request in flight, when there is no other.
    pub reserve: Reserve,
    /// Idle clients to be closed for connections that were made already.
    pub(super) owed: usize,
    /// The worker ends: no connection is kept.
    pub quitting: bool,
    /// Clients that have more to do without any event.
    pub again: VecDeque<Key>,
    /// Where `$request_id` comes from.
    pub(super) request_ids: RequestIds,
    /// A line in the making.
    pub(super) line: Vec<u8>,
    /// The name of a log in the making.
    pub(super) log_path: Vec<u8>,
    #[expect(
        clippy::vec_box,
        reason = "a box goes back and forth, never what is in it"
    )]
    exchanges: Vec<Box<Exchange>>,
}

impl<N> Shared<N> {
    /// At the time `now_ms`, without any connection.
    pub fn new(net: N, conf: Rc<Conf>, region: WorkerRegion, now_ms: u64) -> Self {
        let limit = conf.settings.worker_connections;
        Self {
            net,
            conf,
            former: Vec::new(),
            plan: Rc::new(Plan::default()),
            failures: region.failures().cursors(),
            region,
            clock: Clock::system(),
            now_ms,
            pool: Pool::default(),
            temp: temp::Numbers::new(now_ms as u32),
            client_timers: Timers::new(now_ms),
            peer_timers: Timers::new(now_ms),
            drains: Drains::default(),
            idle: Keepalive::default(),
            resting: List::default(),
            resting_links: Links::default(),
            addresses: HashMap::new(),
            names: Clients::default(),
            resolved: Resolved::default(),
            numbers: Numbers::default(),
            limit,
            reserve: Reserve::default(),
            owed: 0,
            quitting: false,
            again: VecDeque::new(),
            request_ids: RequestIds::default(),
            line: Vec::new(),
            log_path: Vec::new(),
            exchanges: Vec::new(),
        }
    }

    /// New requests are served by this configuration.
    pub(super) fn set_conf(&mut self, conf: Rc<Conf>) {
        self.conf.retire();
        conf.keep_all_of(&self.conf);
        let former = std::mem::replace(&mut self.conf, conf);
        self.former.push(Rc::downgrade(&former));
        drop(former);
        self.former.retain(|conf| conf.strong_count() > 0);
    }

    /// The present plan does not have all the servers of this upstream of an earlier one. If it does
    /// not have the upstream at all, a reload has removed it; requests that began before, and all those
    /// of a worker that is on its way out, are served by settings that name it.
    pub(super) fn part_with(&self, upstream: &Rc<UpstreamPlan>) {
        if self.plan.upstream(upstream.configured()).is_none() {
            let former = self.former.iter().filter_map(Weak::upgrade);
            former.for_each(|conf| conf.keep(upstream));
            self.conf.keep(upstream);
        }
    }

    /// The upstream of this name for a request that is served by `conf`.
    pub(super) fn upstream(&self, conf: &Conf, name: &str) -> Option<Rc<UpstreamPlan>> {
        let present = self.plan.upstream(name).cloned();
        present.or_else(|| conf.departed(name))
    }

    /// An exchange with a buffer to read into.
    ///
    /// # Errors
    /// There is no memory for the buffer.
    pub fn lend(&mut self) -> Result<Box<Exchange>, NoMemory> {
        let input = self.pool.take()?;
        let mut exchange = self.exchanges.pop().unwrap_or_default();
        exchange.input = input;
        Ok(exchange)
    }

    /// Takes an exchange and its buffers back.
    pub fn give_back(&mut self, mut exchange: Box<Exchange>) {
        exchange.reset();
        self.pool.give(std::mem::take(&mut exchange.input));
        self.pool.give(std::mem::take(&mut exchange.output));
        if self.exchanges.len() < FREE_EXCHANGES {
            self.exchanges.push(exchange);
        }
    }

    /// The client is due after `timeout` from now.
    pub fn arm_client(&mut self, client: Key, timeout: Duration) {
        self.arm_client_ms(client, millis(timeout));
    }

    /// The client is due after so many milliseconds.
    pub fn arm_client_ms(&mut self, client: Key, timeout_ms: u64) {
        let deadline = self.now_ms.saturating_add(timeout_ms);
        self.client_timers.set(client.index, deadline);
    }

    /// The upstream connection is due after `timeout` from now.
    pub fn arm_peer(&mut self, peer: Key, timeout: Duration) {
        let deadline = self.now_ms.saturating_add(millis(timeout));
        self.peer_timers.set(peer.index, deadline);
    }

    /// A client goes from one phase to another: keeps the numbers, and the list of those that
    /// wait for their next request and may be closed when connections are short.
    #[inline]
    pub fn move_client(&mut self, client: Key, from: Option<Phase>, to: Option<Phase>) {
        if from == to {
            return;
        }
        self.numbers.shift(from, to);
        if from == Some(Phase::Waiting) {
            self.resting_links.remove(&mut self.resting, client.index);
        }
        if to == Some(Phase::Waiting) {
            self.resting_links.push(&mut self.resting, client.index);
        }
    }

    /// A server failed for a request of this worker.
    pub fn note_failure(&mut self, counter: CounterId) {
        if counter == UNCOUNTED {
            return;
        }
        self.region.counters().fail(counter, self.now_ms);
        self.region.failures().note(counter);
    }

    /// Applies what the other workers saw fail; one load when nothing did.
    pub fn take_failures(&mut self) {
        let (plan, now_ms) = (&self.plan, self.now_ms);
        self.region.failures().poll(&mut self.failures, |counter| {
            if let Some((upstream, server)) = plan.find(counter) {
                upstream.failed(server, now_ms);
            }
        });
    }

    /// Writes this worker's numbers where `stub_status` and weirctl see them.
    pub fn publish_numbers(&self) {
        let row = self.region.scoreboard();
        let numbers = &self.numbers;
        row.set(Metric::Active, numbers.active());
        row.set(Metric::Reading, numbers.of(Phase::Reading));
        row.set(Metric::Writing, numbers.of(Phase::Writing));
        row.set(Metric::Waiting, numbers.of(Phase::Waiting));
        row.set(Metric::Accepted, numbers.accepted);
        row.set(Metric::Handled, numbers.handled);
        row.set(Metric::Requests, numbers.requests);
        row.set(Metric::LostLines, self.conf.files.lost_lines());
    }

    /// nginx's words for too many connections, or ours where descriptors are what there are too few
    /// of.
    pub(crate) fn limited(&self) -> String {
        let (limit, configured) = (self.limit, self.conf.settings.worker_connections);
        match limit == configured {
            true => format!("{configured} worker_connections are not enough"),
            false => format!(
                "{limit} connections, all that the open file resource limit leaves room for, are not enough"
            ),
        }
    }

    /// The error log of the main context.
    #[must_use]
    pub fn log(&self) -> &ErrorLog {
        &self.conf.log
    }
}

/// In whole milliseconds, no fewer than asked for.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
