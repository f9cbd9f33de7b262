//! Plans that are no longer in use: what a big one holds is let go a slice at a time.

use std::rc::Rc;

use super::plan::{Plan, UpstreamPlan};

/// Nobody tells when a request lets go of what it has: that is looked at when something is added, and
/// so often besides, in milliseconds.
const LOOK_MS: u64 = 1000;

/// See the module.
#[derive(Debug, Default)]
pub struct Retired {
    /// Of plans that are gone; most of them are shared with later ones.
    upstreams: Vec<Rc<UpstreamPlan>>,
    /// Those that no later plan has. Requests may.
    replaced: Vec<Rc<UpstreamPlan>>,
    /// Nobody else has this one any more.
    open: Option<UpstreamPlan>,
    /// Of those that requests may have, the ones from here on are looked at in this round.
    looked_at: usize,
    /// When the next round begins, if nothing is added before.
    look_ms: u64,
}

impl Retired {
    /// A plan that has been replaced, and its upstreams that the next one does not have.
    pub fn add(&mut self, plan: Rc<Plan>, replaced: Vec<Rc<UpstreamPlan>>) {
        if let Ok(mut plan) = Rc::try_unwrap(plan) {
            self.upstreams.append(&mut plan.upstreams);
        }
        self.begin_round();
        self.replaced.extend(replaced);
    }

    /// One that is under way goes on.
    fn begin_round(&mut self) {
        if self.looked_at >= self.replaced.len() {
            self.looked_at = 0;
        }
    }

    /// There is something to let go, or to look at, at once.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        self.open.is_some() || !self.upstreams.is_empty() || self.looked_at < self.replaced.len()
    }

    /// When there will be something to look at, if a request may have some.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        (!self.replaced.is_empty()).then_some(self.look_ms)
    }

    /// Lets go, or looks at, about so many upstreams and servers.
    pub fn step(&mut self, mut budget: usize, now_ms: u64) {
        if now_ms >= self.look_ms {
            self.look_ms = now_ms + LOOK_MS;
            self.begin_round();
        }
        while budget > 0 {
            budget -= 1;
            if let Some(open) = &mut self.open {
                budget = budget.saturating_sub(dismantle(open, budget.max(1)));
                if open.servers.is_empty() && open.addresses.is_empty() {
                    self.open = None;
                }
            } else if self.upstreams.pop().is_none() {
                let Some(one) = self.replaced.get(self.looked_at) else {
                    return;
                };
                if Rc::strong_count(one) == 1 {
                    self.open = Rc::into_inner(self.replaced.swap_remove(self.looked_at));
                } else {
                    self.looked_at += 1;
                }
            }
        }
    }
}

/// Takes up to so many addresses, then servers, off the ends; how many.
fn dismantle(upstream: &mut UpstreamPlan, most: usize) -> usize {
    let addresses = upstream.addresses.len().min(most);
    let servers = upstream.servers.len().min(most - addresses);
    let left = upstream.addresses.len() - addresses;
    upstream.addresses.truncate(left);
    let left = upstream.servers.len() - servers;
    upstream.servers.truncate(left);
    addresses + servers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use weir_shm::Address;

    fn upstream(servers: u16) -> Rc<UpstreamPlan> {
        let address = |port| Address::Ip((Ipv4Addr::LOCALHOST, port).into());
        let addresses = (1..=servers).map(address).collect();
        Rc::new(UpstreamPlan::outside("a".to_owned(), addresses))
    }

    #[test]
    fn what_nobody_has_goes_in_slices_and_what_a_request_has_after_it() {
        let (gone, kept, in_use) = (upstream(500), upstream(500), upstream(500));
        let mut retired = Retired::default();
        let plan = Plan {
            upstreams: vec![Rc::clone(&gone), Rc::clone(&kept), Rc::clone(&in_use)],
            ..Plan::default()
        };
        let address = std::sync::Arc::downgrade(&gone.addresses[0]);
        retired.add(Rc::new(plan), vec![gone, Rc::clone(&in_use)]);
        let mut slices = 0;
        while retired.wants_turn() {
            assert!(address.upgrade().is_some() || slices > 20);
            retired.step(20, 0);
            slices += 1;
        }
        assert!((50..60).contains(&slices), "{slices}");
        assert!(address.upgrade().is_none());
        assert_eq!(Rc::strong_count(&kept), 1);
        assert_eq!(Rc::strong_count(&in_use), 2);
        drop(in_use);
        assert_eq!(retired.due_ms(), Some(LOOK_MS));
        retired.step(usize::MAX, LOOK_MS - 1);
        assert_eq!(retired.replaced.len(), 1);
        retired.step(1, LOOK_MS);
        while retired.wants_turn() {
            retired.step(usize::MAX, LOOK_MS);
        }
        assert!(retired.replaced.is_empty());
        assert_eq!(retired.due_ms(), None);
    }

    #[test]
    fn what_requests_have_is_looked_at_in_slices_and_not_each_time() {
        let requests: Vec<_> = (0..1000).map(|_| upstream(1)).collect();
        let mut retired = Retired::default();
        retired.add(Rc::default(), requests.clone());
        for slice in 1..=10 {
            assert!(retired.wants_turn());
            retired.step(100, 0);
            assert_eq!(retired.looked_at, slice * 100);
            // A round is not begun anew before it is at its end.
            retired.add(Rc::default(), Vec::new());
        }
        assert_eq!(retired.looked_at, 0);
        retired.step(1000, 0);
        assert!(!retired.wants_turn());
        drop(requests);
        retired.step(1000, 0);
        assert_eq!(retired.replaced.len(), 1000);
        // Whatever is new makes a round, in which all those go.
        retired.add(Rc::default(), vec![upstream(1)]);
        while retired.wants_turn() {
            retired.step(100, 0);
        }
        assert!(retired.replaced.is_empty());
    }
}
