//! Plans that are no longer in use: what a big one holds is let go a slice at a time.

use std::rc::Rc;

use super::plan::{Plan, UpstreamPlan};

/// See the module.
#[derive(Debug, Default)]
pub struct Retired {
    /// Of plans that are gone; most of them are shared with later ones.
    upstreams: Vec<Rc<UpstreamPlan>>,
    /// Those that no later plan has. Requests may.
    replaced: Vec<Rc<UpstreamPlan>>,
    /// Nobody else has this one any more.
    open: Option<UpstreamPlan>,
}

impl Retired {
    /// A plan that has been replaced, and its upstreams that the next one does not have.
    pub fn add(&mut self, plan: Rc<Plan>, replaced: Vec<Rc<UpstreamPlan>>) {
        if let Ok(mut plan) = Rc::try_unwrap(plan) {
            self.upstreams.append(&mut plan.upstreams);
        }
        self.replaced.extend(replaced);
    }

    /// There is something to let go at once.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        self.open.is_some() || !self.upstreams.is_empty() || self.free().is_some()
    }

    /// One that nobody else has.
    fn free(&self) -> Option<usize> {
        let mut all = self.replaced.iter();
        all.position(|one| Rc::strong_count(one) == 1)
    }

    /// Lets go about so many upstreams and servers.
    pub fn step(&mut self, mut budget: usize) {
        while budget > 0 {
            budget -= 1;
            if let Some(open) = &mut self.open {
                budget = budget.saturating_sub(dismantle(open, budget.max(1)));
                if open.servers.is_empty() && open.addresses.is_empty() {
                    self.open = None;
                }
            } else if self.upstreams.pop().is_none() {
                let Some(free) = self.free() else { return };
                self.open = Rc::into_inner(self.replaced.swap_remove(free));
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
            retired.step(20);
            slices += 1;
        }
        assert!((50..60).contains(&slices), "{slices}");
        assert!(address.upgrade().is_none());
        assert_eq!(Rc::strong_count(&kept), 1);
        assert_eq!(Rc::strong_count(&in_use), 2);
        drop(in_use);
        assert!(retired.wants_turn());
        while retired.wants_turn() {
            retired.step(usize::MAX);
        }
        assert!(retired.replaced.is_empty());
    }
}
