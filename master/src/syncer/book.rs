//! What the syncer knows: the upstreams of the configuration in force, those of one being
//! prepared, the lists that watches feed, and what names resolve to. Pure: no socket, no thread, no
//! region.

mod discover;
mod feed;
mod names;
mod passed;
mod pins;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use weir_shm::{Server, Table, Upstream};

use crate::ResolvedUpstream;
use crate::resolve::Named;
use crate::settings::{Guard, Settings, Upsync};
pub use discover::Finding;
use discover::{Finder, Found};
pub use feed::{Before, Feed, Heed};
use names::NameFeed;
use passed::PassedOver;
pub use pins::{Pin, Pins};

/// Names a feed for as long as the syncer lives; never used twice.
pub type FeedId = u64;

/// An upstream of a configuration.
#[derive(Clone, Debug)]
struct Slot {
    name: String,
    configured: Vec<Server>,
    names: Vec<(FeedId, Named)>,
    feed: Option<FeedId>,
    dump: Option<PathBuf>,
    guard: Option<Guard>,
}

impl Slot {
    /// Whether its servers may change without a reload.
    fn is_fed(&self) -> bool {
        self.feed.is_some() || !self.names.is_empty()
    }
}

/// A list to write to `upsync_dump_path`.
pub type Dump = (PathBuf, Vec<Server>);

/// The upstreams and their feeds.
#[derive(Debug, Default)]
pub struct Book {
    current: Vec<Slot>,
    /// Where in `current` the upstream of each feed is.
    places: HashMap<FeedId, usize>,
    prepared: Option<Vec<Slot>>,
    pins: Pins,
    finders: Vec<Finder>,
    prepared_finders: Option<Vec<Finder>>,
    /// By name.
    found: BTreeMap<String, Found>,
    found_feeds: HashMap<FeedId, String>,
    finder_ids: HashSet<FeedId>,
    /// Folders that could not become upstreams, by finder.
    passed: HashMap<FeedId, PassedOver>,
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
            Some(known.servers.clone())
        });
        book.place();
        book.finders = book.make_finders(settings);
        book.find_again(table);
        book.seed(&tables);
        book
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
                    guard: upstream.guard,
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
        let feed = Feed::new(name, upsync, first);
        self.feeds.insert(id, feed);
        id
    }

    /// The feeds of both kinds.
    pub fn ids(&self) -> Vec<FeedId> {
        self.feeds
            .keys()
            .chain(self.names.keys())
            .copied()
            .chain(self.all_finders().map(|finder| finder.id))
            .collect()
    }

    /// Notes where the upstreams in force are.
    fn place(&mut self) {
        let slots = self.current.iter().enumerate();
        let places = slots.filter_map(|(at, slot)| Some((slot.feed?, at)));
        self.places = places.collect();
    }

    fn slot_of(&self, id: FeedId) -> Option<&Slot> {
        if let Some(at) = self.places.get(&id) {
            return self.current.get(*at);
        }
        if let Some(name) = self.found_feeds.get(&id) {
            return self.found.get(name).map(|found| &found.slot);
        }
        let mut prepared = self.prepared.iter().flatten();
        prepared.find(|slot| slot.feed == Some(id))
    }

    /// What an upstream has now.
    fn upstream(&self, slot: &Slot) -> Upstream {
        let feed = slot.feed.and_then(|feed| self.feeds.get(&feed));
        let learned = feed.filter(|feed| feed.learned);
        let (learned, servers) = match (self.pins.get(&slot.name), learned) {
            (Some(pin), _) => (pin.learned, pin.servers.clone()),
            (None, Some(feed)) => (true, feed.servers.clone()),
            (None, None) => (false, self.configured(slot)),
        };
        Upstream {
            name: slot.name.clone(),
            changed: 0,
            learned,
            template: None,
            servers,
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

    /// The table to publish: the upstreams in force, then the new names of those being prepared,
    /// then what was found.
    pub fn table(&self) -> Vec<Upstream> {
        let mut slots: Vec<&Slot> = self.current.iter().collect();
        if let Some(prepared) = &self.prepared {
            let current = self.current.iter().map(|slot| slot.name.as_str());
            let names: HashSet<&str> = current.chain(self.shown_names()).collect();
            slots.extend(
                prepared
                    .iter()
                    // No name twice: one that was found serves until the commit.
                    .filter(|slot| !names.contains(slot.name.as_str())),
            );
        }
        let known = slots.into_iter().map(|slot| self.upstream(slot));
        known.chain(self.found_table()).collect()
    }

    /// The dumps that a change of `feed` asks for; a configuration not in force dumps nothing.
    pub fn dumps(&self, feed: FeedId) -> Vec<Dump> {
        let slots = self.current.iter().filter(|slot| slot.feed == Some(feed));
        slots.filter_map(|slot| self.dump(slot)).collect()
    }

    /// The same for upstreams by name.
    pub fn dumps_of(&self, upstreams: &[String]) -> Vec<Dump> {
        let slots = self.current.iter();
        slots
            .filter(|slot| upstreams.contains(&slot.name))
            .filter_map(|slot| self.dump(slot))
            .collect()
    }

    /// No list without a server: nginx takes none.
    fn dump(&self, slot: &Slot) -> Option<Dump> {
        let path = slot.dump.clone()?;
        let now = self.upstream(slot);
        (now.learned && !now.servers.is_empty()).then_some((path, now.servers))
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
        // An upstream that was found may become one with a block of its own.
        let now: HashMap<String, Vec<Server>> = self
            .current
            .iter()
            .chain(self.shown().map(|found| &found.slot))
            .filter_map(|slot| {
                let feed = self.feeds.get(&slot.feed?)?;
                feed.learned
                    .then(|| (slot.name.clone(), feed.servers.clone()))
            })
            .collect();
        let finders = self.make_finders(settings);
        self.prepared_finders = Some(finders);
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
        self.finders = self.prepared_finders.take().unwrap_or_default();
        self.place();
        self.refit();
        self.drop_pins();
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
        self.prepared_finders = None;
        self.lose_prepared();
        self.refit();
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
        gone.extend(self.gone_finders());
        self.feeds.retain(|id, _| !gone.contains(id));
        self.names.retain(|id, _| named.contains(id));
        gone
    }

    /// Whether one of `feeds` has had no answer yet.
    pub fn is_waiting(&self, feeds: &[FeedId]) -> bool {
        feeds.iter().any(|id| {
            let feed = self.feeds.get(id).map(|feed| feed.answered);
            let name = self.names.get(id).map(|name| name.answered);
            let mut finders = self.all_finders();
            let finder = finders.find(|f| f.id == *id).map(|f| f.answered);
            feed.or(name).or(finder) == Some(false)
        })
    }

    /// Why `strong_dependency=on` is not met by one of `feeds`: it has neither an answer nor
    /// servers from before, or its upstream would be empty.
    pub fn unmet(&self, feeds: &[FeedId]) -> Option<String> {
        feeds.iter().find_map(|id| {
            if let Some(message) = self.unmet_finder(*id) {
                return Some(message);
            }
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
pub(super) fn content(server: &Server) -> impl PartialEq + '_ {
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
