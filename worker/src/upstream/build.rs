//! A new plan in the making: from the old one and what changed, a slice of bounded work at a time,
//! while the old one serves. What did not change is shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use weir_shm::{CounterId, Server, Snapshot};

use super::places::Place;
use super::plan::{Names, Plan, UpstreamPlan};
use crate::balance::{Making, RoundRobin};

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

/// A plan, and what it does not have any more.
#[derive(Debug)]
pub struct Built {
    /// The plan.
    pub plan: Rc<Plan>,
    /// Counters of servers that are gone, with their upstreams as they were.
    pub dropped: Vec<(Rc<UpstreamPlan>, CounterId)>,
    /// Upstreams of the one before that it does not have, or has otherwise.
    pub replaced: Vec<Rc<UpstreamPlan>>,
}

/// A plan in the making.
#[derive(Debug)]
pub struct Builder {
    old: Rc<Plan>,
    new: Plan,
    names: Names,
    dropped: Vec<(Rc<UpstreamPlan>, CounterId)>,
    replaced: Vec<Rc<UpstreamPlan>>,
    /// The new plan has the same upstreams in the same order, so far.
    same: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Upstreams are taken over, the one in the draft first.
    Upstreams(Option<Box<Draft>>),
    /// They get their names, from this one on.
    Names(usize),
    /// Of the old ones, this one is looked for.
    Gone(usize),
    /// Of the old one of this number, which is gone, servers go from this one on.
    Dropping(usize, usize),
}

impl Builder {
    /// Begins a plan from what changed since `old`.
    #[must_use]
    pub fn new(old: &Rc<Plan>, snapshot: &Snapshot) -> Self {
        Self {
            old: Rc::clone(old),
            new: Plan {
                version: snapshot.version,
                upstreams: Vec::with_capacity(snapshot.upstreams.len()),
                names: Rc::clone(&old.names),
                places: old.places.clone(),
            },
            names: Names::default(),
            dropped: Vec::new(),
            replaced: Vec::new(),
            same: old.upstreams.len() == snapshot.upstreams.len(),
            stage: Stage::Upstreams(None),
        }
    }

    /// Goes up to `budget` steps further, taking servers out of `snapshot`, which is the same each
    /// time; the plan when it is whole.
    pub fn step(
        &mut self,
        mut budget: usize,
        snapshot: &mut Snapshot,
        numbering: &mut Numbering,
    ) -> Option<Built> {
        while budget > 0 {
            match &mut self.stage {
                Stage::Upstreams(draft) => {
                    if let Some(mut open) = draft.take() {
                        if !open.step(&mut budget, &self.old, &mut self.new, &mut self.dropped) {
                            *draft = Some(open);
                            return None;
                        }
                        self.replaced.extend(open.old.clone());
                        let whole = Rc::new(open.finish(&self.new));
                        self.new.upstreams.push(whole);
                    }
                    budget = budget.saturating_sub(1);
                    if self.next_upstream(snapshot, numbering) {
                        continue;
                    }
                    if self.same {
                        return Some(self.finish());
                    }
                    self.stage = Stage::Names(0);
                }
                Stage::Names(at) => {
                    budget -= 1;
                    if let Some(upstream) = self.new.upstreams.get(*at) {
                        self.names.insert(upstream, *at);
                        *at += 1;
                    } else {
                        self.new.names = Rc::new(std::mem::take(&mut self.names));
                        self.stage = Stage::Gone(0);
                    }
                }
                Stage::Gone(at) => {
                    budget -= 1;
                    match self.old.upstreams.get(*at) {
                        Some(old) if self.new.names.at(&old.name).is_none() => {
                            self.stage = Stage::Dropping(*at, 0);
                        }
                        Some(_) => *at += 1,
                        None => return Some(self.finish()),
                    }
                }
                Stage::Dropping(upstream, at) => {
                    budget -= 1;
                    let old = &self.old.upstreams[*upstream];
                    if let Some(server) = old.servers.get(*at) {
                        self.new.places.clear(server.counter);
                        self.dropped.push((Rc::clone(old), server.counter));
                        *at += 1;
                    } else {
                        self.replaced.push(Rc::clone(old));
                        self.stage = Stage::Gone(*upstream + 1);
                    }
                }
            }
        }
        None
    }

    /// Takes over the next upstream, or begins its draft; false if there is none.
    fn next_upstream(&mut self, snapshot: &mut Snapshot, numbering: &mut Numbering) -> bool {
        let at = self.new.upstreams.len();
        let Some(next) = snapshot.upstreams.get_mut(at) else {
            return false;
        };
        let mut old = self.old.upstreams.get(at);
        if old.is_none_or(|old| old.name != next.name) {
            self.same = false;
            old = self.old.upstream(&next.name);
        }
        match (next.servers.take(), old) {
            (None, Some(old)) => self.new.upstreams.push(Rc::clone(old)),
            (servers, old) => {
                let draft = Draft::new(
                    next.name.clone(),
                    next.template.clone(),
                    numbering.of(&next.name),
                    servers.unwrap_or_default(),
                    old.cloned(),
                );
                self.stage = Stage::Upstreams(Some(Box::new(draft)));
            }
        }
        true
    }

    fn finish(&mut self) -> Built {
        Built {
            plan: Rc::new(std::mem::take(&mut self.new)),
            dropped: std::mem::take(&mut self.dropped),
            replaced: std::mem::take(&mut self.replaced),
        }
    }
}

/// A draft's balancer.
#[derive(Debug)]
enum Balancer {
    Making(Making),
    Made(RoundRobin),
}

/// An upstream that is being taken over.
#[derive(Debug)]
struct Draft {
    name: String,
    template: Option<Arc<str>>,
    number: usize,
    servers: Vec<Server>,
    addresses: Vec<Arc<str>>,
    up: usize,
    old: Option<Rc<UpstreamPlan>>,
    balancer: Balancer,
    /// Servers of the old one that were looked for.
    looked_for: usize,
}

impl Draft {
    fn new(
        name: String,
        template: Option<Arc<str>>,
        number: usize,
        servers: Vec<Server>,
        old: Option<Rc<UpstreamPlan>>,
    ) -> Self {
        if let Some(old) = &old {
            old.balancer.borrow_mut().watch();
        }
        Self {
            name,
            template,
            number,
            addresses: Vec::with_capacity(servers.len()),
            up: 0,
            balancer: Balancer::Making(Making::new(servers.len())),
            servers,
            old,
            looked_for: 0,
        }
    }

    /// Goes on as long as the budget lasts; true when it is whole.
    fn step(
        &mut self,
        budget: &mut usize,
        old: &Plan,
        new: &mut Plan,
        dropped: &mut Vec<(Rc<UpstreamPlan>, CounterId)>,
    ) -> bool {
        while let Some(server) = self.servers.get(self.addresses.len()) {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            let place = Place {
                upstream: self.number as u32,
                server: self.addresses.len() as u32,
            };
            new.places.set(server.counter, place);
            self.up += usize::from(!server.down);
            let known = before(self.old.as_deref(), old, server.counter);
            let address = match (known, &self.old) {
                (Some(at), Some(old)) if old.servers[at].address == server.address => {
                    Arc::clone(&old.addresses[at])
                }
                _ => server.address.to_string().into(),
            };
            self.addresses.push(address);
        }
        if let Balancer::Making(making) = &mut self.balancer {
            let was = self.old.as_ref().map(|old| old.balancer.borrow());
            let before = |at: usize| before(self.old.as_deref(), old, self.servers[at].counter);
            let Some(made) = making.step(budget, &self.servers, was.as_deref(), before) else {
                return false;
            };
            self.balancer = Balancer::Made(made);
        }
        while let Some(was) = &self.old
            && let Some(server) = was.servers.get(self.looked_for)
        {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            self.looked_for += 1;
            let place = new.places.find(server.counter);
            let now = place.and_then(|place| self.servers.get(place.server as usize));
            if now.is_none_or(|now| now.counter != server.counter) {
                new.places.clear(server.counter);
                dropped.push((Rc::clone(was), server.counter));
            }
        }
        true
    }

    fn finish(self, new: &Plan) -> UpstreamPlan {
        let mut balancer = match self.balancer {
            Balancer::Made(balancer) => balancer,
            Balancer::Making(_) => RoundRobin::new(&self.servers),
        };
        if let Some(old) = &self.old {
            // What happened to a server since it was copied.
            let mut was = old.balancer.borrow_mut();
            let touched = was.watched();
            for at in touched {
                let counter = old.servers[at as usize].counter;
                let place = new.places.find(counter).map(|place| place.server as usize);
                let stayed = place.filter(|at| {
                    self.servers
                        .get(*at)
                        .is_some_and(|now| now.counter == counter)
                });
                if let Some(now) = stayed {
                    balancer.follow(now, &was, at as usize);
                }
            }
        }
        UpstreamPlan {
            number: self.number,
            name: self.name,
            template: self.template,
            up: self.up,
            servers: self.servers,
            addresses: self.addresses,
            balancer: RefCell::new(balancer),
        }
    }
}

/// Where the server of a counter was in the upstream as it was.
fn before(was: Option<&UpstreamPlan>, old: &Plan, counter: CounterId) -> Option<usize> {
    let at = old.places.find(counter)?.server as usize;
    was?.servers
        .get(at)
        .is_some_and(|server| server.counter == counter)
        .then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Tried;
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
                    template: None,
                    servers: servers.clone(),
                })
                .collect(),
            ..Snapshot::default()
        }
    }

    fn build(old: &Rc<Plan>, mut snapshot: Snapshot, numbering: &mut Numbering) -> Rc<Plan> {
        build_with(old, &mut snapshot, numbering, 2, |_| {}).plan
    }

    fn build_with(
        old: &Rc<Plan>,
        snapshot: &mut Snapshot,
        numbering: &mut Numbering,
        budget: usize,
        mut between: impl FnMut(usize),
    ) -> Built {
        let mut builder = Builder::new(old, snapshot);
        for step in 0..10_000 {
            if let Some(built) = builder.step(budget, snapshot, numbering) {
                return built;
            }
            between(step);
        }
        panic!("no plan after 10,000 slices")
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
        let mut table = snapshot(2, &[("b", None), ("a", Some(changed))]);
        let built = build_with(&one, &mut table, &mut numbering, 2, |_| {});
        let two = built.plan;
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
        let gone: Vec<u32> = built
            .dropped
            .iter()
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
    fn no_slice_of_a_big_upstream_does_more_than_its_budget() {
        let servers: Vec<_> = (0..100).map(|at| server(at as u16 + 1, at, 1)).collect();
        let mut table = snapshot(1, &[("a", Some(servers))]);
        let mut numbering = Numbering::default();
        let mut slices = 1;
        let built = build_with(&Rc::default(), &mut table, &mut numbering, 30, |_| {
            slices += 1
        });
        assert_eq!(built.plan.upstream("a").unwrap().servers.len(), 100);
        // Named, made a peer, dealt to a tier, ordered and settled.
        assert!((13..=18).contains(&slices), "{slices}");
    }

    #[test]
    fn upstreams_that_go_take_their_servers_with_them() {
        let mut numbering = Numbering::default();
        let a = vec![server(1, 0, 1), server(2, 1, 1)];
        let table = snapshot(1, &[("a", Some(a)), ("b", Some(vec![server(3, 2, 1)]))]);
        let one = build(&Rc::default(), table, &mut numbering);
        let mut table = snapshot(2, &[("c", Some(vec![server(9, 1, 1)])), ("b", None)]);
        // Row 1 has another tenant now.
        table.upstreams[0].servers.as_mut().unwrap()[0]
            .counter
            .incarnation = 2;
        let built = build_with(&one, &mut table, &mut numbering, 1, |_| {});
        let two = built.plan;
        assert!(two.upstream("a").is_none());
        let gone: Vec<_> = built
            .dropped
            .iter()
            .map(|(upstream, counter)| (upstream.name.as_str(), counter.index))
            .collect();
        assert_eq!(gone, [("a", 0), ("a", 1)]);
        assert!(two.find(server(1, 0, 1).counter).is_none());
        assert!(two.find(server(2, 1, 1).counter).is_none());
        let next = CounterId {
            index: 1,
            incarnation: 2,
        };
        assert_eq!(two.find(next).unwrap().0.name, "c");
        assert_eq!(two.find(server(3, 2, 1).counter).unwrap().0.name, "b");
        assert_eq!(one.find(server(2, 1, 1).counter).unwrap().1, 1);
    }

    #[test]
    fn what_fails_while_a_plan_is_made_is_not_forgotten() {
        let mut numbering = Numbering::default();
        let table = snapshot(1, &[("a", Some(vec![server(1, 0, 1), server(2, 1, 1)]))]);
        let one = build(&Rc::default(), table, &mut numbering);
        let more = vec![server(9, 7, 1), server(2, 1, 1), server(1, 0, 1)];
        let mut fails_at = 0;
        // Whichever slice it happens before, down to the very last.
        loop {
            let mut slices = 0;
            let mut table = snapshot(2, &[("a", Some(more.clone()))]);
            let built = build_with(&one, &mut table, &mut numbering, 1, |step| {
                slices = step + 1;
                if step == fails_at {
                    one.upstream("a").unwrap().failed(0, 100);
                }
            });
            let upstream = Rc::clone(built.plan.upstream("a").unwrap());
            let picked: Vec<_> = (0..6)
                .map(|_| upstream.pick(200, &Tried::new()).unwrap())
                .collect();
            assert!(!picked.contains(&2), "{fails_at}: {picked:?}");
            fails_at += 1;
            if fails_at == slices {
                break;
            }
            // Good again.
            one.upstream("a").unwrap().pick(20_000, &Tried::new());
            one.upstream("a").unwrap().pick(20_000, &Tried::new());
            one.upstream("a").unwrap().succeeded(0);
        }
        assert!(fails_at > 10);
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
