//! The plan by which requests are routed to servers: made from the table, and made anew when that
//! changes, of which unchanged upstreams notice nothing. A request keeps the upstream that it
//! began with, so that a change takes effect on the next one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use weir_shm::{Address, CounterId, Server, Snapshot};

use crate::balance::{Failed, RoundRobin, Tried};

/// Servers that are taken into a new plan in one turn of the loop; the old plan serves meanwhile.
pub const SERVERS_A_SLICE: usize = 1024;

/// An upstream and its servers.
#[derive(Debug)]
pub struct UpstreamPlan {
    /// Its name in the configuration.
    pub name: String,
    /// A number that stays with the name: which list of idle connections it has.
    pub number: usize,
    /// Its servers, in the table's order.
    pub servers: Vec<Server>,
    /// Their addresses as `$upstream_addr` has them.
    pub addresses: Vec<Arc<str>>,
    /// How many of them are not `down`.
    pub up: usize,
    balancer: RefCell<RoundRobin>,
}

/// The counter of servers that are in no table, for which nothing is counted.
pub const UNCOUNTED: CounterId = CounterId {
    index: u32::MAX,
    incarnation: 0,
};

/// The number of upstreams that are in no table, which keep no connection.
const UNNUMBERED: usize = usize::MAX;

impl UpstreamPlan {
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
            number: UNNUMBERED,
            addresses: shown.map(Into::into).collect(),
            up: servers.len(),
            balancer: RefCell::new(RoundRobin::new(&servers)),
            servers,
        }
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

/// Where the server of a counter is.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    incarnation: u32,
    upstream: u32,
    server: u32,
}

/// All upstreams at one table version.
#[derive(Debug, Default)]
pub struct Plan {
    /// The table version.
    pub version: u64,
    upstreams: Vec<Rc<UpstreamPlan>>,
    by_name: HashMap<String, usize>,
    by_counter: Vec<Place>,
}

impl Plan {
    /// The upstream of this name.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&Rc<UpstreamPlan>> {
        Some(&self.upstreams[*self.by_name.get(name)?])
    }

    /// All of them, in configuration order.
    #[must_use]
    pub fn upstreams(&self) -> &[Rc<UpstreamPlan>] {
        &self.upstreams
    }

    /// The server that a counter counts for; `None` when the table has dropped it.
    #[must_use]
    pub fn find(&self, counter: CounterId) -> Option<(&Rc<UpstreamPlan>, usize)> {
        let place = self.by_counter.get(counter.index as usize)?;
        if place.incarnation == 0 || place.incarnation != counter.incarnation {
            return None;
        }
        let upstream = &self.upstreams[place.upstream as usize];
        Some((upstream, place.server as usize))
    }

    /// Counters of servers that `newer` does not have, with their upstreams.
    pub fn dropped_by<'a>(
        &'a self,
        newer: &'a Plan,
    ) -> impl Iterator<Item = (&'a UpstreamPlan, CounterId)> + 'a {
        let counters = self.upstreams.iter().filter(|old| {
            // What both plans share has lost nothing.
            let same = newer.upstream(&old.name);
            same.is_none_or(|new| !Rc::ptr_eq(new, old))
        });
        counters
            .flat_map(|upstream| {
                upstream
                    .servers
                    .iter()
                    .map(|server| (&**upstream, server.counter))
            })
            .filter(|(_, counter)| newer.find(*counter).is_none())
    }
}

/// Numbers that stay with upstreams' names over all plans.
#[derive(Debug, Default)]
pub struct Numbering(HashMap<String, usize>);

impl Numbering {
    fn of(&mut self, name: &str) -> usize {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = self.0.len();
        self.0.insert(name.to_owned(), number);
        number
    }
}

/// A plan in the making.
#[derive(Debug)]
pub struct Builder {
    old: Rc<Plan>,
    new: Plan,
    upstreams: std::vec::IntoIter<(String, Option<Vec<Server>>)>,
    current: Option<Draft>,
}

/// The upstream that is being taken over.
#[derive(Debug)]
struct Draft {
    name: String,
    servers: Vec<Server>,
    addresses: Vec<Arc<str>>,
    old: Option<Rc<UpstreamPlan>>,
    places: HashMap<CounterId, usize>,
}

impl Builder {
    /// Begins a plan from what changed since `old`; takes the servers out of the snapshot.
    #[must_use]
    pub fn new(old: &Rc<Plan>, snapshot: &mut Snapshot) -> Self {
        let upstreams: Vec<_> = snapshot
            .upstreams
            .iter_mut()
            .map(|upstream| (upstream.name.clone(), upstream.servers.take()))
            .collect();
        Self {
            old: Rc::clone(old),
            new: Plan {
                version: snapshot.version,
                ..Plan::default()
            },
            upstreams: upstreams.into_iter(),
            current: None,
        }
    }

    /// Takes up to `budget` servers further; the plan when all are in.
    pub fn step(&mut self, mut budget: usize, numbering: &mut Numbering) -> Option<Plan> {
        loop {
            if let Some(mut draft) = self.current.take() {
                if !draft.name_servers(&mut budget) {
                    self.current = Some(draft);
                    return None;
                }
                self.insert(Rc::new(draft.finish(numbering)));
            }
            let Some((name, servers)) = self.upstreams.next() else {
                return Some(std::mem::take(&mut self.new));
            };
            match (servers, self.old.upstream(&name).cloned()) {
                (None, Some(old)) => self.insert(old),
                (servers, old) => {
                    self.current = Some(Draft::new(name, servers.unwrap_or_default(), old));
                }
            }
        }
    }

    fn insert(&mut self, upstream: Rc<UpstreamPlan>) {
        let number = self.new.upstreams.len();
        for (at, server) in upstream.servers.iter().enumerate() {
            let row = server.counter.index as usize;
            if row >= self.new.by_counter.len() {
                self.new.by_counter.resize(row + 1, Place::default());
            }
            self.new.by_counter[row] = Place {
                incarnation: server.counter.incarnation,
                upstream: number as u32,
                server: at as u32,
            };
        }
        self.new.by_name.insert(upstream.name.clone(), number);
        self.new.upstreams.push(upstream);
    }
}

impl Draft {
    fn new(name: String, servers: Vec<Server>, old: Option<Rc<UpstreamPlan>>) -> Self {
        let known = old.iter().flat_map(|old| old.servers.iter());
        let places = known.map(|server| server.counter).zip(0..).collect();
        Self {
            name,
            addresses: Vec::with_capacity(servers.len()),
            servers,
            old,
            places,
        }
    }

    /// Goes on as long as the budget lasts; true when every server has its text.
    fn name_servers(&mut self, budget: &mut usize) -> bool {
        while let Some(server) = self.servers.get(self.addresses.len()) {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            let known = self.places.get(&server.counter);
            let address = match (known, &self.old) {
                (Some(at), Some(old)) if old.servers[*at].address == server.address => {
                    Arc::clone(&old.addresses[*at])
                }
                _ => server.address.to_string().into(),
            };
            self.addresses.push(address);
        }
        true
    }

    fn finish(self, numbering: &mut Numbering) -> UpstreamPlan {
        let before = |at: usize| self.places.get(&self.servers[at].counter).copied();
        let balancer = match &self.old {
            Some(old) => RoundRobin::following(&self.servers, &old.balancer.borrow(), before),
            None => RoundRobin::new(&self.servers),
        };
        UpstreamPlan {
            number: numbering.of(&self.name),
            name: self.name,
            up: self.servers.iter().filter(|server| !server.down).count(),
            servers: self.servers,
            addresses: self.addresses,
            balancer: RefCell::new(balancer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shm::{Address, SnapshotUpstream};

    fn server(port: u16, index: u32, weight: u32) -> Server {
        Server {
            address: Address::Ip(([127, 0, 0, 1], port).into()),
            weight,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId {
                index,
                incarnation: 1,
            },
        }
    }

    fn snapshot(version: u64, upstreams: &[(&str, Option<Vec<Server>>)]) -> Snapshot {
        Snapshot {
            version,
            upstreams: upstreams
                .iter()
                .map(|(name, servers)| SnapshotUpstream {
                    name: (*name).to_owned(),
                    changed: version,
                    servers: servers.clone(),
                })
                .collect(),
            ..Snapshot::default()
        }
    }

    fn build(old: &Rc<Plan>, mut snapshot: Snapshot, numbering: &mut Numbering) -> Rc<Plan> {
        let mut builder = Builder::new(old, &mut snapshot);
        loop {
            if let Some(plan) = builder.step(2, numbering) {
                return Rc::new(plan);
            }
        }
    }

    #[test]
    fn an_unchanged_upstream_is_shared_and_numbers_stay() {
        let mut numbering = Numbering::default();
        let (a, b) = (
            vec![server(1, 0, 1), server(2, 1, 1)],
            vec![server(3, 2, 1)],
        );
        let table = snapshot(1, &[("a", Some(a)), ("b", Some(b))]);
        let one = build(&Rc::default(), table, &mut numbering);
        let changed = vec![server(2, 1, 5), server(4, 3, 1)];
        let table = snapshot(2, &[("b", None), ("a", Some(changed))]);
        let two = build(&one, table, &mut numbering);
        assert_eq!(two.version, 2);
        assert!(Rc::ptr_eq(
            one.upstream("b").unwrap(),
            two.upstream("b").unwrap()
        ));
        assert_eq!(
            two.upstream("a").unwrap().number,
            one.upstream("a").unwrap().number
        );
        assert_eq!(&*two.upstream("a").unwrap().addresses[1], "127.0.0.1:4");
        let (upstream, at) = two.find(server(2, 1, 1).counter).unwrap();
        assert_eq!(
            (upstream.name.as_str(), upstream.servers[at].weight),
            ("a", 5)
        );
        let gone: Vec<u32> = one
            .dropped_by(&two)
            .map(|(_, counter)| counter.index)
            .collect();
        assert_eq!(gone, [0]);
    }

    #[test]
    fn failures_stay_with_a_server_that_stays() {
        let mut numbering = Numbering::default();
        let table = snapshot(1, &[("a", Some(vec![server(1, 0, 1), server(2, 1, 1)]))]);
        let one = build(&Rc::default(), table, &mut numbering);
        one.upstream("a").unwrap().failed(0, 100);
        let more = vec![server(9, 7, 1), server(2, 1, 1), server(1, 0, 1)];
        let two = build(&one, snapshot(2, &[("a", Some(more))]), &mut numbering);
        let picked: Vec<_> = (0..6)
            .map(|_| two.upstream("a").unwrap().pick(200, &Tried::new()).unwrap())
            .collect();
        assert!(!picked.contains(&2), "{picked:?}");
    }

    #[test]
    fn a_big_upstream_takes_several_steps() {
        let servers: Vec<_> = (0..100).map(|at| server(at as u16 + 1, at, 1)).collect();
        let mut table = snapshot(1, &[("a", Some(servers))]);
        let mut numbering = Numbering::default();
        let mut builder = Builder::new(&Rc::default(), &mut table);
        let mut steps = 1;
        let plan = loop {
            match builder.step(30, &mut numbering) {
                Some(plan) => break plan,
                None => steps += 1,
            }
        };
        assert_eq!(steps, 4);
        assert_eq!(plan.upstream("a").unwrap().servers.len(), 100);
    }

    #[test]
    fn a_row_of_another_incarnation_is_another_server() {
        let mut numbering = Numbering::default();
        let table = snapshot(1, &[("a", Some(vec![server(1, 0, 1)]))]);
        let plan = build(&Rc::default(), table, &mut numbering);
        let next = CounterId {
            index: 0,
            incarnation: 2,
        };
        assert!(plan.find(next).is_none());
        assert!(plan.find(CounterId::default()).is_none());
    }
}
