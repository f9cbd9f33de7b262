//! What the syncer knows: the upstreams of the configuration in force, those of one being
//! prepared, and the lists that watches feed. Pure: no socket, no thread, no region.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use weir_shm::{Server, Table, Upstream};

use super::order::merge;
use crate::ResolvedUpstream;
use crate::settings::{Settings, Upsync};

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

/// An upstream of a configuration.
#[derive(Clone, Debug)]
struct Slot {
    name: String,
    configured: Vec<Server>,
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
    next: FeedId,
}

impl Book {
    /// The book of a syncer that starts: an `upsync` upstream goes on with what `table` has for
    /// it, if that was learned.
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
            .map(|(upstream, ResolvedUpstream { name, servers })| Slot {
                feed: upstream.upsync.as_ref().map(|upsync| {
                    self.shared(&name, upsync).unwrap_or_else(|| {
                        let first = first(&name);
                        self.add(&name, upsync, first)
                    })
                }),
                dump: upstream.dump.clone(),
                configured: servers,
                name,
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
            servers: learned
                .map_or(&slot.configured, |feed| &feed.servers)
                .clone(),
        }
    }

    /// The table to publish: the upstreams in force, then the new names of those being prepared.
    pub fn table(&self) -> Vec<Upstream> {
        let mut slots: Vec<&Slot> = self.current.iter().collect();
        if let Some(prepared) = &self.prepared {
            let names: std::collections::HashSet<&str> =
                self.current.iter().map(|slot| slot.name.as_str()).collect();
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
        let gone: Vec<FeedId> = all.filter(|id| self.slot_of(*id).is_none()).collect();
        self.feeds.retain(|id, _| !gone.contains(id));
        gone
    }

    /// Whether one of `feeds` has had no answer yet.
    pub fn is_waiting(&self, feeds: &[FeedId]) -> bool {
        let mut feeds = feeds.iter().filter_map(|id| self.feeds.get(id));
        feeds.any(|feed| !feed.answered)
    }

    /// Why `strong_dependency=on` is not met by one of `feeds`: it has neither an answer nor
    /// servers from before, or its upstream would be empty.
    pub fn unmet(&self, feeds: &[FeedId]) -> Option<String> {
        feeds.iter().find_map(|id| {
            let feed = self.feeds.get(id)?;
            let configured = self
                .slot_of(*id)
                .is_some_and(|slot| !slot.configured.is_empty());
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
