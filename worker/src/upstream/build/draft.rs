//! An upstream that is being taken over into a new plan.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use weir_shm::{CounterId, Server};

use super::super::places::Place;
use super::super::plan::{Plan, UpstreamPlan};
use crate::balance::{Making, RoundRobin};

/// A draft's balancer.
#[derive(Debug)]
enum Balancer {
    Making(Making),
    Made(RoundRobin),
}

/// See the module.
#[derive(Debug)]
pub struct Draft {
    name: String,
    template: Option<Arc<str>>,
    number: usize,
    servers: Vec<Server>,
    addresses: Vec<Arc<str>>,
    up: usize,
    pub old: Option<Rc<UpstreamPlan>>,
    balancer: Balancer,
    /// Servers of the old one that were looked for.
    looked_for: usize,
}

impl Draft {
    pub fn new(
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
    pub fn step(
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

    pub fn finish(self, new: &Plan) -> UpstreamPlan {
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
