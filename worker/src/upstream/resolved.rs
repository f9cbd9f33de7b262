//! The upstreams of names that were resolved for requests. They are in no table, are counted nowhere
//! and keep no connection, as in nginx.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use weir_shm::Address;

use super::plan::UpstreamPlan;

/// Upstreams that are remembered, so that the next request for one goes to its next address.
const MOST: usize = 4096;

/// The upstreams of a worker's resolved names.
#[derive(Debug, Default)]
pub struct Resolved {
    /// By host and port.
    plans: HashMap<String, Rc<UpstreamPlan>>,
}

impl Resolved {
    /// The upstream of a host: the one from before if it has these addresses.
    pub fn at(&mut self, host: &str, port: u16, found: &[IpAddr]) -> Rc<UpstreamPlan> {
        let key = format!("{host}:{port}");
        let addresses = found
            .iter()
            .map(|ip| Address::Ip(SocketAddr::new(*ip, port)));
        if let Some(known) = self.plans.get(&key) {
            let servers = known.servers.iter().map(|server| &server.address);
            if addresses.clone().eq(servers.cloned()) {
                return Rc::clone(known);
            }
        }
        if self.plans.len() >= MOST {
            self.plans.clear();
        }
        let plan = Rc::new(UpstreamPlan::outside(host.to_owned(), addresses.collect()));
        self.plans.insert(key, Rc::clone(&plan));
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Tried;

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| [192, 0, 2, *last].into()).collect()
    }

    #[test]
    fn requests_take_turns_and_other_addresses_are_another_upstream() {
        let mut resolved = Resolved::default();
        let one = resolved.at("a", 80, &ips(&[1, 2]));
        let mut pick = || {
            let upstream = resolved.at("a", 80, &ips(&[1, 2]));
            upstream.pick(0, &Tried::default())
        };
        assert_eq!([pick(), pick(), pick()], [Some(0), Some(1), Some(0)]);
        assert_eq!((one.up, &*one.addresses[1]), (2, "192.0.2.2:80"));
        let other = resolved.at("a", 80, &ips(&[2]));
        assert!(!Rc::ptr_eq(&one, &other));
        assert_eq!(other.servers.len(), 1);
        assert!(!Rc::ptr_eq(&other, &resolved.at("a", 81, &ips(&[2]))));
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let mut resolved = Resolved::default();
        for number in 0..=MOST {
            resolved.at(&number.to_string(), 80, &ips(&[1]));
        }
        assert_eq!(resolved.plans.len(), 1);
    }
}
