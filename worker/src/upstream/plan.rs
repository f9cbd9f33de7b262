//! The plan by which requests are routed to servers: made from the table, and made anew when that
//! changes, of which unchanged upstreams notice nothing. A request keeps the upstream that it
//! began with, so that a change takes effect on the next one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use weir_shm::{Address, CounterId, Server};

use super::places::{Place, Places};
use crate::balance::{Failed, RoundRobin, Tried};

/// An upstream and its servers.
#[derive(Debug)]
pub struct UpstreamPlan {
    /// Its name in the configuration.
    pub name: String,
    /// The upstream of the configuration that it is like, if `upsync_discover` found it.
    pub template: Option<Arc<str>>,
    /// A number that stays with the name while plans have that: which list of idle connections it
    /// has.
    pub number: usize,
    /// Its servers, in the table's order.
    pub servers: Vec<Server>,
    /// Their addresses as `$upstream_addr` has them.
    pub addresses: Vec<Arc<str>>,
    /// How many of them are not `down`.
    pub up: usize,
    pub(super) balancer: RefCell<RoundRobin>,
}

/// The counter of servers that are in no table, for which nothing is counted.
pub const UNCOUNTED: CounterId = CounterId {
    index: u32::MAX,
    incarnation: 0,
};

/// The number of upstreams that are in no table, which keep no connection.
const UNNUMBERED: usize = usize::MAX;

impl UpstreamPlan {
    /// The name of the upstream of the configuration that it is, or is like.
    pub fn configured(&self) -> &str {
        self.template.as_deref().unwrap_or(&self.name)
    }

    /// Of servers that no table has, with nginx's defaults: addresses that were resolved or given
    /// while a request was served.
    #[must_use]
    pub fn outside(name: String, addresses: Vec<Address>) -> Self {
        let server = |address| Server {
            address,
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: UNCOUNTED,
        };
        let servers: Vec<_> = addresses.into_iter().map(server).collect();
        let shown = servers.iter().map(|server| server.address.to_string());
        Self {
            name,
            template: None,
            number: UNNUMBERED,
            addresses: shown.map(Into::into).collect(),
            up: servers.len(),
            balancer: RefCell::new(RoundRobin::new(&servers)),
            servers,
        }
    }

    /// False of [`UpstreamPlan::outside`].
    #[must_use]
    pub fn is_in_table(&self) -> bool {
        self.number != UNNUMBERED
    }

    /// The next server for a request, or none if all are down, failed or tried.
    pub fn pick(&self, now_ms: u64, tried: &Tried) -> Option<usize> {
        self.balancer.borrow_mut().pick(now_ms, tried)
    }

    /// A request to this server went well.
    pub fn succeeded(&self, server: usize) {
        self.balancer.borrow_mut().succeeded(server);
    }

    /// A request to this server failed, here or in another worker.
    pub fn failed(&self, server: usize, now_ms: u64) -> Failed {
        self.balancer.borrow_mut().failed(server, now_ms)
    }
}

/// All upstreams at one table version.
#[derive(Debug, Default)]
pub struct Plan {
    /// The table version.
    pub version: u64,
    pub(super) upstreams: Vec<Rc<UpstreamPlan>>,
    pub(super) names: Rc<Names>,
    pub(super) places: Places,
}

/// Where upstreams are among all of them: shared by plans with the same ones in the same order.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<String, usize>,
    /// By the number that stays with the name; `None`: the plan does not have it.
    by_number: Vec<Option<u32>>,
}

impl Names {
    pub(super) fn at(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn insert(&mut self, upstream: &UpstreamPlan, at: usize) {
        self.by_name.insert(upstream.name.clone(), at);
        if upstream.number >= self.by_number.len() {
            self.by_number.resize(upstream.number + 1, None);
        }
        self.by_number[upstream.number] = Some(at as u32);
    }
}

impl Plan {
    /// The upstream of this name.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&Rc<UpstreamPlan>> {
        self.upstreams.get(self.names.at(name)?)
    }

    /// All of them, in configuration order.
    #[must_use]
    pub fn upstreams(&self) -> &[Rc<UpstreamPlan>] {
        &self.upstreams
    }

    /// The server that a counter counts for; `None` when the table has dropped it.
    #[must_use]
    pub fn find(&self, counter: CounterId) -> Option<(&Rc<UpstreamPlan>, usize)> {
        let Place { upstream, server } = self.places.find(counter)?;
        let at = (*self.names.by_number.get(upstream as usize)?)?;
        Some((&self.upstreams[at as usize], server as usize))
    }
}
