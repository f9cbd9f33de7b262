//! The names of `server … resolve` in the book, and what they resolve to.

use std::collections::HashMap;
use std::net::IpAddr;

use weir_shm::{Server, Upstream};

use super::{Book, FeedId, content};
use crate::resolve::Named;
use crate::settings;
use crate::syncer::names::Name;

/// What a name of `server … resolve` resolves to, whichever servers it is of.
#[derive(Clone, Debug)]
pub(super) struct NameFeed {
    pub(super) name: Name,
    pub(super) addresses: Vec<IpAddr>,
    /// It was asked for once, whatever came of that.
    pub(super) answered: bool,
}

impl Book {
    /// Names begin with the addresses that their servers have in the table.
    pub(super) fn seed(&mut self, tables: &HashMap<&str, &Upstream>) {
        for slot in &self.current {
            let Some(known) = tables.get(slot.name.as_str()) else {
                continue;
            };
            let is_configured = |server: &Server| {
                slot.configured
                    .iter()
                    .any(|own| content(own) == content(server))
            };
            let found = known.servers.iter().filter(|server| !is_configured(server));
            let found: Vec<&Server> = found.collect();
            for (id, named) in &slot.names {
                let Some(feed) = self.names.get_mut(id) else {
                    continue;
                };
                for address in found.iter().filter_map(|server| named.address_of(server)) {
                    if !feed.addresses.contains(&address) {
                        feed.addresses.push(address);
                    }
                }
            }
        }
    }

    /// The feed of a name. One that is new begins with what the same name resolved to for another
    /// `resolver`.
    pub(super) fn named(&mut self, upstream: &settings::Upstream, named: &Named) -> Option<FeedId> {
        let name = Name {
            name: named.name.clone(),
            resolver: upstream.resolver.clone()?,
            timeout: upstream.resolver_timeout,
        };
        let mut known = self.names.iter();
        if let Some((id, _)) = known.find(|(_, feed)| feed.name == name) {
            return Some(*id);
        }
        let mut known = self.names.values();
        let before = known.find(|feed| feed.name.name == name.name);
        let feed = NameFeed {
            addresses: before.map_or_else(Vec::new, |feed| feed.addresses.clone()),
            answered: false,
            name,
        };
        let id = self.next;
        self.next += 1;
        self.names.insert(id, feed);
        Some(id)
    }

    /// The names to resolve, from this feed on.
    pub fn names(&self, first: FeedId) -> impl Iterator<Item = (FeedId, &Name)> {
        self.names
            .range(first..)
            .map(|(id, feed)| (*id, &feed.name))
    }

    /// The outcome of a resolution: the addresses that there were before if these are others.
    /// Those that stay keep their order. `None` is a failure, which changes nothing.
    pub fn resolve(&mut self, id: FeedId, found: Option<Vec<IpAddr>>) -> Option<Vec<IpAddr>> {
        let feed = self.names.get_mut(&id)?;
        feed.answered = true;
        let found = found?;
        let mut addresses = feed.addresses.clone();
        addresses.retain(|address| found.contains(address));
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        (addresses != feed.addresses).then(|| std::mem::replace(&mut feed.addresses, addresses))
    }

    /// Takes addresses back that could not be published.
    pub fn unresolve(&mut self, id: FeedId, before: Vec<IpAddr>) {
        if let Some(feed) = self.names.get_mut(&id) {
            feed.addresses = before;
        }
    }
}
