//! `upsync_discover` in the book: upstreams that are folders of a source, and come and go with them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use weir_shm::{Table, Upstream};

use super::passed::{CONFIGURED, Passed, PassedOver};
use super::{Book, Feed, FeedId, Slot};
use crate::settings::{Discover, Settings, Upsync};
use crate::syncer::lesson::Heard;

/// An `upsync_discover`, whichever configurations have it.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    pub(super) id: FeedId,
    pub(super) settings: Discover,
    /// It has had an answer.
    pub(super) answered: bool,
}

/// An upstream that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) slot: Slot,
    /// Who found it; unknown of one from before.
    finder: Option<FeedId>,
    template: Arc<str>,
    /// Its folder is not there any more.
    absent: bool,
    /// It is to be asked for a second time.
    asked: bool,
    /// Only a pin keeps it.
    ended: bool,
}

/// What an answer of a finder comes to.
#[derive(Debug, Default)]
pub struct Finding {
    /// The list of each upstream that it is about.
    pub lists: Vec<(FeedId, Heard)>,
    /// Upstreams that are gone.
    pub gone: Vec<String>,
    /// Upstreams whose folders are missing: it is to be read once more.
    pub missing: Vec<String>,
    /// Folders that are no upstreams, and why: those that were none of before are left out.
    pub refused: Vec<(String, String)>,
}

impl Book {
    /// The finders of a configuration: one that the configuration in force has goes on.
    pub(super) fn make_finders(&mut self, settings: &Settings) -> Vec<Finder> {
        let make = |discover: &Discover| {
            let same = |finder: &&Finder| finder.settings.upsync == discover.upsync;
            let known = self.finders.iter().find(same);
            let (id, answered) = match known {
                Some(known) => (known.id, known.answered),
                None => (self.next, false),
            };
            self.next = self.next.max(id + 1);
            Finder {
                id,
                settings: discover.clone(),
                answered,
            }
        };
        let finders: Vec<Finder> = settings.discovers.iter().map(make).collect();
        self.finder_ids
            .extend(finders.iter().map(|finder| finder.id));
        finders
    }

    /// Takes the finders that no configuration has any more out.
    pub(super) fn gone_finders(&mut self) -> Vec<FeedId> {
        let left: HashSet<FeedId> = self.all_finders().map(|finder| finder.id).collect();
        let gone = self.finder_ids.difference(&left).copied().collect();
        self.finder_ids = left;
        gone
    }

    /// Why `strong_dependency=on` of a finder is not met.
    pub(super) fn unmet_finder(&self, id: FeedId) -> Option<String> {
        let finder = self.all_finders().find(|finder| finder.id == id)?;
        let upsync = &finder.settings.upsync;
        let met = !upsync.strong || finder.answered || !self.found.is_empty();
        (!met).then(|| {
            format!(
                "upsync_server {} gave no folders below \"{}\", which has strong_dependency=on, \
                 and there are none from before",
                upsync.host, upsync.prefix
            )
        })
    }

    /// Goes on with what was found before.
    pub(super) fn find_again(&mut self, table: &Table) {
        for upstream in &table.upstreams {
            let Some(template) = &upstream.template else {
                continue;
            };
            let of = |finder: &&Finder| *finder.settings.template == **template;
            let mut finders = self.finders.iter().filter(of);
            let Some(first) = finders.next() else {
                continue;
            };
            let finder = finders.next().is_none().then_some(first.id);
            let settings = first.settings.clone();
            if self.current.iter().any(|slot| slot.name == upstream.name) {
                continue;
            }
            let id = self.add_found(&upstream.name, &settings, finder);
            if let Some(feed) = self.feeds.get_mut(&id) {
                feed.learned = true;
                feed.servers.clone_from(&upstream.servers);
            }
        }
    }

    pub(super) fn add_found(
        &mut self,
        name: &str,
        settings: &Discover,
        finder: Option<FeedId>,
    ) -> FeedId {
        let id = self.next;
        self.next += 1;
        let upsync = Upsync {
            prefix: format!("{}/{name}", settings.upsync.prefix),
            strong: false,
            folders: false,
            ..settings.upsync.clone()
        };
        let mut feed = Feed::new(name, &upsync, None);
        feed.answered = true;
        self.feeds.insert(id, feed);
        self.found_feeds.insert(id, name.to_owned());
        let found = Found {
            slot: Slot {
                name: name.to_owned(),
                configured: Vec::new(),
                names: Vec::new(),
                feed: Some(id),
                dump: None,
                guard: settings.guard,
            },
            finder,
            template: settings.template.as_str().into(),
            absent: false,
            asked: false,
            ended: false,
        };
        self.found.insert(name.to_owned(), found);
        id
    }

    pub(super) fn all_finders(&self) -> impl Iterator<Item = &Finder> {
        let prepared = self.prepared_finders.iter().flatten();
        self.finders.iter().chain(prepared)
    }

    /// Whether a feed is a finder's.
    pub fn is_finder(&self, id: FeedId) -> bool {
        self.prefix(id).is_some()
    }

    /// Where a finder looks for folders; `None` for a feed.
    pub fn prefix(&self, id: FeedId) -> Option<&str> {
        let finder = self.all_finders().find(|finder| finder.id == id)?;
        Some(&finder.settings.upsync.prefix)
    }

    /// What is to be watched: the feed, its name for people, and its source.
    pub fn watched(&self) -> Vec<(FeedId, &str, &Upsync)> {
        let feeds = self.feeds.iter();
        let feeds = feeds.filter(|(id, _)| !self.found_feeds.contains_key(id));
        let feeds = feeds.map(|(id, feed)| (*id, feed.upstream.as_str(), &feed.upsync));
        let finders: BTreeMap<FeedId, &Finder> = self
            .all_finders()
            .map(|finder| (finder.id, finder))
            .collect();
        let finders = finders.into_values().map(|finder| {
            let Discover { upsync, .. } = &finder.settings;
            (finder.id, upsync.prefix.as_str(), upsync)
        });
        feeds.chain(finders).collect()
    }

    /// Takes in which folders there are, without applying what is in them. `None` when the finder
    /// is gone.
    pub fn find(&mut self, id: FeedId, heard: Heard, confirmed: bool) -> Option<Finding> {
        let current = self.finders.iter_mut();
        let mut all = current.chain(self.prepared_finders.iter_mut().flatten());
        let finder = all.find(|finder| finder.id == id)?;
        finder.answered = true;
        let settings = finder.settings.clone();
        let mut finding = Finding::default();
        let mut passed = PassedOver::new();
        let mut there = HashSet::new();
        let mut has_servers = false;
        let (guarded, filtered) = (settings.guard.is_some(), heard.filtered);
        for (name, mut own) in heard.folders {
            // What is left out of an answer may be of any folder.
            own.filtered = filtered;
            if let Some(why) = self.taken(&name, id) {
                let told = false;
                passed.insert(name, Passed { why, own, told });
                continue;
            }
            has_servers |= !own.servers.is_empty();
            there.insert(name.clone());
            let feed = match self.found.get_mut(&name) {
                Some(found) => {
                    found.finder = Some(id);
                    (found.absent, found.asked, found.ended) = (false, false, false);
                    found.slot.feed
                }
                // A folder becomes an upstream with its first server.
                None if own.servers.is_empty() => None,
                None => Some(self.add_found(&name, &settings, Some(id))),
            };
            finding.lists.extend(feed.map(|feed| (feed, own)));
        }
        finding.refused = self.pass_over(id, passed);

        let is_lost = guarded && (filtered || !has_servers);
        for name in self.missing(id, &settings, &there) {
            let Some(found) = self.found.get_mut(&name) else {
                continue;
            };
            found.absent = true;
            let nothing = Heard {
                filtered,
                ..Heard::default()
            };
            match found.slot.feed.filter(|_| is_lost) {
                Some(feed) => finding.lists.push((feed, nothing)),
                None if guarded && !(confirmed && found.asked) => {
                    found.asked = true;
                    finding.missing.push(name);
                }
                None => finding.gone.push(name),
            }
        }
        finding.gone.retain(|name| self.lose(name));
        self.take_freed();
        Some(finding)
    }

    /// Upstreams of a finder whose folders are not `there`.
    fn missing(&self, id: FeedId, settings: &Discover, there: &HashSet<String>) -> Vec<String> {
        let mut same = self.finders.iter();
        let all_answered =
            same.all(|finder| finder.answered || finder.settings.template != settings.template);
        let is_its = |found: &Found| match found.finder {
            Some(finder) => finder == id,
            None => all_answered && *found.template == *settings.template,
        };
        let its = self.found.iter().filter(|(_, found)| is_its(found));
        let missing = its.filter(|(name, _)| !there.contains(*name));
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// Why a folder cannot be an upstream.
    pub(super) fn taken(&self, name: &str, finder: FeedId) -> Option<String> {
        // One that is served goes when the configuration that has its name comes into force.
        let is_served = self.found.contains_key(name);
        let prepared = self.prepared.iter().flatten().filter(|_| !is_served);
        let mut slots = self.current.iter().chain(prepared);
        if slots.any(|slot| slot.name.eq_ignore_ascii_case(name)) {
            return Some(CONFIGURED.to_owned());
        }
        let Some(other) = self.found.get(name)?.finder else {
            let mut finders = self.finders.iter();
            let in_force = finders.any(|known| known.id == finder);
            return (!in_force).then(|| "there is an upstream of this name".to_owned());
        };
        let mut others = self.all_finders().filter(|known| known.id != finder);
        let other = others.find(|known| known.id == other)?;
        let prefix = &other.settings.upsync.prefix;
        Some(format!("there is a folder of this name below {prefix}/"))
    }

    /// Forgets an upstream, unless it is pinned: then it stays until it is not.
    fn lose(&mut self, name: &str) -> bool {
        let Some(found) = self.found.get_mut(name) else {
            return false;
        };
        found.ended = self.pins.contains_key(name);
        if found.ended {
            return false;
        }
        let feed = found.slot.feed;
        self.found.remove(name);
        if let Some(feed) = feed {
            self.feeds.remove(&feed);
            self.found_feeds.remove(&feed);
        }
        true
    }

    /// Forgets what only finders that are not in force have found.
    pub(super) fn lose_prepared(&mut self) {
        let finders = &self.finders;
        let in_force = |id: FeedId| finders.iter().any(|finder| finder.id == id);
        let lost = self.found.iter();
        let lost = lost.filter(|(_, found)| found.finder.is_some_and(|id| !in_force(id)));
        let lost: Vec<String> = lost.map(|(name, _)| name.clone()).collect();
        for name in lost {
            self.pins.remove(&name);
            self.lose(&name);
        }
    }

    /// Finders in force that may have upstreams which another has left: what they heard before they
    /// were in force is to be heard once more.
    pub fn heirs(&self) -> Vec<FeedId> {
        let mut heirs = Vec::new();
        for finder in self.finders.iter().filter(|finder| finder.answered) {
            let mut left = self.found.values().filter(|found| found.finder.is_none());
            if left.any(|found| *found.template == *finder.settings.template) {
                heirs.push(finder.id);
            }
        }
        heirs
    }

    /// Forgets those that only a pin kept.
    pub(super) fn lose_unpinned(&mut self) {
        let ended = self.found.iter().filter(|(_, found)| found.ended);
        let names: Vec<String> = ended.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.lose(&name);
        }
        self.take_freed();
    }

    /// Forgets an upstream whose missing folder the guard holds; false if it is none of those.
    pub fn accept_loss(&mut self, name: &str) -> bool {
        let absent = self.found.get(name).is_some_and(|found| found.absent);
        let is_lost = absent && self.lose(name);
        self.take_freed();
        is_lost
    }

    /// Whether an upstream of this name was found.
    pub fn is_found(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }

    /// What was found and is in force: its name, and who found it if that is known.
    pub fn discovered(&self) -> Vec<(String, Option<FeedId>)> {
        let shown = self.shown();
        shown
            .map(|found| (found.slot.name.clone(), found.finder))
            .collect()
    }

    pub(super) fn shown(&self) -> impl Iterator<Item = &Found> {
        let learned = |found: &&Found| {
            let feed = found.slot.feed.and_then(|feed| self.feeds.get(&feed));
            feed.is_some_and(|feed| feed.learned)
        };
        let in_force = |found: &&Found| match found.finder {
            Some(id) => self.finders.iter().any(|finder| finder.id == id),
            None => true,
        };
        self.found.values().filter(learned).filter(in_force)
    }

    pub(super) fn shown_names(&self) -> impl Iterator<Item = &str> {
        self.shown().map(|found| found.slot.name.as_str())
    }

    /// What was found, as it is in the table.
    pub(super) fn found_table(&self) -> impl Iterator<Item = Upstream> {
        self.shown().map(|found| Upstream {
            template: Some(Arc::clone(&found.template)),
            ..self.upstream(&found.slot)
        })
    }

    /// After another configuration came into force: what its finders find stays, what has a name
    /// of its own does not.
    pub(super) fn refit(&mut self) {
        let mut lost = Vec::new();
        for (name, found) in &mut self.found {
            let by_id = |finder: &&Finder| Some(finder.id) == found.finder;
            let alike = |finder: &&Finder| *finder.settings.template == *found.template;
            let finders = &self.finders;
            let finder = finders.iter().find(by_id);
            if finder.is_none() {
                found.finder = None;
            }
            let configured = self
                .current
                .iter()
                .any(|slot| slot.name.eq_ignore_ascii_case(name));
            match finder.or_else(|| finders.iter().find(alike)) {
                Some(finder)
                    if !(configured || found.absent && finder.settings.guard.is_none()) =>
                {
                    found.slot.guard = finder.settings.guard;
                    found.template = finder.settings.template.as_str().into();
                }
                finder => {
                    let finder = finder.filter(|_| configured);
                    lost.push((name.clone(), finder.map(|finder| finder.id)));
                }
            }
        }
        self.pass_over_anew();
        for (name, finder) in lost {
            self.pins.remove(&name);
            if let Some(finder) = finder {
                self.pass_over_found(finder, &name);
            }
            self.lose(&name);
        }
        self.take_freed();
    }
}

#[cfg(test)]
mod tests;
