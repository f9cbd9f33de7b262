//! What the syncer knows: the upstreams of the configuration in force, those of one being
//! prepared, the lists that watches feed, and what names resolve to. Pure: no socket, no thread, no
//! region.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use weir_shm::{Server, Table, Upstream};

use super::names::Name;
use super::order::merge;
use crate::ResolvedUpstream;
use crate::resolve::Named;
use crate::settings::{self, Settings, Upsync};

/// Names a feed for as long as the syncer lives; never used twice.
pub type FeedId = u64;

/// The list of one `upsync`, whichever upstreams and configurations use it.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The upstream that it was made for.
    pub upstream: String,
    /// Where it comes from.
    pub upsync: Upsync,
    /// In the order of `upstream_show`.
    pub servers: Vec<Server>,
    /// `servers` came from a source, now or before: not the configured ones.
    pub learned: bool,
    /// The watch has had an answer.
    pub answered: bool,
    /// What an answer said that the region had no room for, in key order.
    pub held: Option<Vec<Server>>,
}

/// What a name of `server … resolve` resolves to, whichever servers it is of.
#[derive(Clone, Debug)]
struct NameFeed {
    name: Name,
    addresses: Vec<IpAddr>,
    /// It was asked for once, whatever came of that.
    answered: bool,
}

/// An upstream of a configuration.
#[derive(Clone, Debug)]
struct Slot {
    name: String,
    configured: Vec<Server>,
    names: Vec<(FeedId, Named)>,
    feed: Option<FeedId>,
    dump: Option<PathBuf>,
}

/// A list to write to `upsync_dump_path`.
pub type Dump = (PathBuf, Vec<Server>);

/// What a feed had before [`Book::learn`], to go back to.
#[derive(Debug)]
pub struct Before {
    servers: Vec<Server>,
    learned: bool,
}

/// The upstreams and their feeds.
#[derive(Debug, Default)]
pub struct Book {
    current: Vec<Slot>,
    prepared: Option<Vec<Slot>>,
    feeds: BTreeMap<FeedId, Feed>,
    names: BTreeMap<FeedId, NameFeed>,
    next: FeedId,
}

impl Book {
    /// The book of a syncer that starts: an `upsync` upstream goes on with what `table` has for
    /// it, if that was learned, and a name with the addresses that its servers have there.
    pub fn new(settings: &Settings, resolved: Vec<ResolvedUpstream>, table: &Table) -> Book {
        let mut book = Book::default();
        let tables: HashMap<&str, &Upstream> = table
            .upstreams
            .iter()
            .map(|u| (u.name.as_str(), u))
            .collect();
        book.current = book.slots(settings, resolved, |name| {
            let known = tables.get(name).filter(|known| known.learned)?;
            (!known.servers.is_empty()).then(|| known.servers.clone())
        });
        book.seed(&tables);
        book
    }

    /// Names begin with the addresses that their servers have in the table.
    fn seed(&mut self, tables: &HashMap<&str, &Upstream>) {
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

    fn slots(
        &mut self,
        settings: &Settings,
        resolved: Vec<ResolvedUpstream>,
        first: impl Fn(&str) -> Option<Vec<Server>>,
    ) -> Vec<Slot> {
        let configured = settings.upstreams.iter().zip(resolved);
        configured
            .map(|(upstream, resolved)| {
                let name = resolved.name;
                let names = resolved.names.into_iter();
                let names = names.filter_map(|named| Some((self.named(upstream, &named)?, named)));
                let names = names.collect();
                let feed = upstream.upsync.as_ref().map(|upsync| {
                    self.shared(&name, upsync).unwrap_or_else(|| {
                        let first = first(&name);
                        self.add(&name, upsync, first)
                    })
                });
                Slot {
                    configured: resolved.servers,
                    names,
                    feed,
                    dump: upstream.dump.clone(),
                    name,
                }
            })
            .collect()
    }

    /// The feed that the configuration in force has for the same upstream and source.
    fn shared(&self, name: &str, upsync: &Upsync) -> Option<FeedId> {
        let slot = self.current.iter().find(|slot| slot.name == name)?;
        slot.feed
            .filter(|feed| self.feeds.get(feed).is_some_and(|f| f.upsync == *upsync))
    }

    fn add(&mut self, name: &str, upsync: &Upsync, first: Option<Vec<Server>>) -> FeedId {
        let id = self.next;
        self.next += 1;
        let feed = Feed {
            upstream: name.to_owned(),
            upsync: upsync.clone(),
            learned: first.is_some(),
            servers: first.unwrap_or_default(),
            answered: false,
            held: None,
        };
        self.feeds.insert(id, feed);
        id
    }

    /// The feed of a name. One that is new begins with what the same name resolved to for another
    /// `resolver`.
    fn named(&mut self, upstream: &settings::Upstream, named: &Named) -> Option<FeedId> {
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

    /// The feeds of both kinds.
    pub fn ids(&self) -> Vec<FeedId> {
        self.feeds
            .keys()
            .chain(self.names.keys())
            .copied()
            .collect()
    }

    /// Every feed.
    pub fn feeds(&self) -> impl Iterator<Item = (FeedId, &Feed)> {
        self.feeds.iter().map(|(id, feed)| (*id, feed))
    }

    /// One feed, unless it is gone.
    pub fn feed(&self, id: FeedId) -> Option<&Feed> {
        self.feeds.get(&id)
    }

    /// The same, to change it.
    pub fn feed_mut(&mut self, id: FeedId) -> Option<&mut Feed> {
        self.feeds.get_mut(&id)
    }

    /// Applies an answer, `servers` in key order; an empty one keeps the last list. Returns what
    /// was there before if that changed the feed.
    pub fn learn(&mut self, id: FeedId, servers: Vec<Server>) -> Option<Before> {
        let mut configured = &[][..];
        if let Some(slot) = self.slot_of(id) {
            configured = &slot.configured;
        }
        let feed = self.feeds.get(&id)?;
        if servers.is_empty() {
            return None;
        }
        let old = if feed.learned {
            &feed.servers
        } else {
            configured
        };
        let merged = merge(old, servers);
        let same = feed.learned
            && merged
                .iter()
                .map(content)
                .eq(feed.servers.iter().map(content));
        let feed = self.feeds.get_mut(&id)?;
        if same {
            return None;
        }
        Some(Before {
            servers: std::mem::replace(&mut feed.servers, merged),
            learned: std::mem::replace(&mut feed.learned, true),
        })
    }

    /// Takes an answer back that could not be published.
    pub fn unlearn(&mut self, id: FeedId, before: Before) {
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.servers = before.servers;
            feed.learned = before.learned;
        }
    }

    fn slot_of(&self, id: FeedId) -> Option<&Slot> {
        let prepared = self.prepared.iter().flatten();
        self.current
            .iter()
            .chain(prepared)
            .find(|slot| slot.feed == Some(id))
    }

    fn upstream(&self, slot: &Slot) -> Upstream {
        let feed = slot.feed.and_then(|feed| self.feeds.get(&feed));
        let learned = feed.filter(|feed| feed.learned);
        Upstream {
            name: slot.name.clone(),
            changed: 0,
            learned: learned.is_some(),
            servers: match learned {
                Some(feed) => feed.servers.clone(),
                None => self.configured(slot),
            },
        }
    }

    /// The configured servers, then those of names, as nginx has them.
    fn configured(&self, slot: &Slot) -> Vec<Server> {
        let mut servers = slot.configured.clone();
        for (id, named) in &slot.names {
            let addresses = self.names.get(id).map(|feed| &feed.addresses);
            servers.extend(addresses.into_iter().flatten().map(|ip| named.at(*ip)));
        }
        servers
    }

    /// The table to publish: the upstreams in force, then the new names of those being prepared.
    pub fn table(&self) -> Vec<Upstream> {
        let mut slots: Vec<&Slot> = self.current.iter().collect();
        if let Some(prepared) = &self.prepared {
            let names: HashSet<&str> = self.current.iter().map(|slot| slot.name.as_str()).collect();
            slots.extend(
                prepared
                    .iter()
                    .filter(|slot| !names.contains(slot.name.as_str())),
            );
        }
        slots.into_iter().map(|slot| self.upstream(slot)).collect()
    }

    /// The dumps that a change of `feed` asks for; a configuration not in force dumps nothing.
    pub fn dumps(&self, feed: FeedId) -> Vec<Dump> {
        let slots = self.current.iter().filter(|slot| slot.feed == Some(feed));
        slots.filter_map(|slot| self.dump(slot)).collect()
    }

    fn dump(&self, slot: &Slot) -> Option<Dump> {
        let feed = self.feeds.get(&slot.feed?)?;
        let path = slot.dump.clone()?;
        (feed.learned && !feed.servers.is_empty()).then(|| (path, feed.servers.clone()))
    }

    /// Takes the next configuration in beside the one in force; `dumped` is what was read from
    /// the dumps of upstreams that are new. Returns the feeds that are new.
    pub fn prepare(
        &mut self,
        settings: &Settings,
        resolved: Vec<ResolvedUpstream>,
        dumped: &HashMap<String, Vec<Server>>,
    ) -> Vec<FeedId> {
        let first_new = self.next;
        let now: HashMap<String, Vec<Server>> = self
            .current
            .iter()
            .filter_map(|slot| {
                let feed = self.feeds.get(&slot.feed?)?;
                feed.learned
                    .then(|| (slot.name.clone(), feed.servers.clone()))
            })
            .collect();
        let slots = self.slots(settings, resolved, |name| {
            now.get(name).or_else(|| dumped.get(name)).cloned()
        });
        self.prepared = Some(slots);
        (first_new..self.next).collect()
    }

    /// Puts the prepared configuration in force. Returns the feeds that are gone, and the dumps to
    /// write because their list or their path is new.
    pub fn commit(&mut self) -> (Vec<FeedId>, Vec<Dump>) {
        let Some(prepared) = self.prepared.take() else {
            return (Vec::new(), Vec::new());
        };
        let old = std::mem::replace(&mut self.current, prepared);
        let is_new = |slot: &&Slot| {
            !old.iter()
                .any(|o| o.feed == slot.feed && o.dump == slot.dump)
        };
        let dumps = self.current.iter().filter(is_new);
        let dumps = dumps.filter_map(|slot| self.dump(slot)).collect();
        (self.sweep(), dumps)
    }

    /// Forgets the prepared configuration. Returns the feeds that are gone.
    pub fn abort(&mut self) -> Vec<FeedId> {
        self.prepared = None;
        self.sweep()
    }

    fn sweep(&mut self) -> Vec<FeedId> {
        let all = self.feeds.keys().copied();
        let mut gone: Vec<FeedId> = all.filter(|id| self.slot_of(*id).is_none()).collect();
        let slots = self.current.iter().chain(self.prepared.iter().flatten());
        let named: HashSet<FeedId> = slots
            .flat_map(|slot| slot.names.iter().map(|(id, _)| *id))
            .collect();
        gone.extend(self.names.keys().filter(|id| !named.contains(id)));
        self.feeds.retain(|id, _| !gone.contains(id));
        self.names.retain(|id, _| named.contains(id));
        gone
    }

    /// Whether one of `feeds` has had no answer yet.
    pub fn is_waiting(&self, feeds: &[FeedId]) -> bool {
        feeds.iter().any(|id| {
            let feed = self.feeds.get(id).map(|feed| feed.answered);
            let name = self.names.get(id).map(|name| name.answered);
            feed.or(name) == Some(false)
        })
    }

    /// Why `strong_dependency=on` is not met by one of `feeds`: it has neither an answer nor
    /// servers from before, or its upstream would be empty.
    pub fn unmet(&self, feeds: &[FeedId]) -> Option<String> {
        feeds.iter().find_map(|id| {
            let feed = self.feeds.get(id)?;
            let configured = self
                .slot_of(*id)
                .is_some_and(|slot| !self.configured(slot).is_empty());
            let met = !feed.upsync.strong || feed.learned || (feed.answered && configured);
            (!met).then(|| {
                format!(
                    "upsync_server {} gave no servers for upstream \"{}\", which has \
                     strong_dependency=on, and there are none from before",
                    feed.upsync.host, feed.upstream
                )
            })
        })
    }
}

/// What makes a server what it is; its counter row is the region's business.
fn content(server: &Server) -> impl PartialEq + '_ {
    let Server {
        address,
        weight,
        max_fails,
        fail_timeout_ms,
        down,
        backup,
        counter: _,
    } = server;
    (address, weight, max_fails, fail_timeout_ms, down, backup)
}

#[cfg(test)]
mod tests;
