//! Folders of an `upsync_discover` that are no upstreams as others have their names, until these are
//! free: then what was last heard of them is in force at once, and nobody has to ask for it again.

use std::collections::BTreeMap;

use super::{Book, FeedId};
use crate::settings::Discover;
use crate::syncer::lesson::Heard;

/// Why one that a configuration has is.
pub(super) const CONFIGURED: &str = "the configuration has an upstream of this name";

/// A folder that was passed over.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) why: String,
    /// What the latest answer has for it.
    pub(super) own: Heard,
    /// It was logged.
    pub(super) told: bool,
}

/// By name.
pub(super) type PassedOver = BTreeMap<String, Passed>;

impl Book {
    /// The folders of a finder that were passed over, and why.
    pub fn passed_over(&self, finder: FeedId) -> impl Iterator<Item = (&str, &str)> {
        let passed = self.passed.get(&finder).into_iter().flatten();
        passed.map(|(name, passed)| (name.as_str(), passed.why.as_str()))
    }

    /// Takes in those of one answer; returns the ones that are to be logged.
    pub(super) fn pass_over(
        &mut self,
        finder: FeedId,
        mut passed: PassedOver,
    ) -> Vec<(String, String)> {
        let before = self.passed.remove(&finder).unwrap_or_default();
        let mut news = Vec::new();
        for (name, passed) in &mut passed {
            if !before.get(name).is_some_and(|before| before.told) {
                news.push((name.clone(), passed.why.clone()));
            }
            passed.told = true;
        }
        self.passed.insert(finder, passed);
        news
    }

    /// The configuration has the name of an upstream that was found: its folder may be there all the
    /// same, and an answer that says so once more teaches nothing.
    pub(super) fn pass_over_found(&mut self, finder: FeedId, name: &str) {
        let feed = self.found.get(name).and_then(|found| found.slot.feed);
        let Some(feed) = feed.and_then(|feed| self.feeds.get(&feed)) else {
            return;
        };
        let applied = feed.applied.clone();
        let own = Heard {
            servers: applied.unwrap_or_else(|| feed.servers.as_slice().into()),
            ..Heard::default()
        };
        let passed = Passed {
            why: CONFIGURED.to_owned(),
            own,
            told: false,
        };
        let all = self.passed.entry(finder).or_default();
        all.insert(name.to_owned(), passed);
    }

    /// What is still passed over under another configuration is logged again.
    pub(super) fn pass_over_anew(&mut self) {
        let finders = &self.finders;
        self.passed
            .retain(|id, _| finders.iter().any(|finder| finder.id == *id));
        for passed in self.passed.values_mut().flat_map(BTreeMap::values_mut) {
            passed.told = false;
        }
    }

    /// Makes upstreams of those whose names nobody has any more.
    pub(super) fn take_freed(&mut self) {
        let finders = self.finders.iter();
        let finders: Vec<(FeedId, Discover)> = finders
            .filter(|finder| self.passed.contains_key(&finder.id))
            .map(|finder| (finder.id, finder.settings.clone()))
            .collect();
        for (id, settings) in finders {
            let mut passed = self.passed.remove(&id).unwrap_or_default();
            let names: Vec<String> = passed.keys().cloned().collect();
            for name in names {
                if self.found.contains_key(&name) || self.taken(&name, id).is_some() {
                    continue;
                }
                let own = passed.remove(&name).map(|passed| passed.own);
                // A folder becomes an upstream with its first server.
                if let Some(own) = own.filter(|own| !own.servers.is_empty()) {
                    let feed = self.add_found(&name, &settings, Some(id));
                    self.learn(feed, &own.servers);
                }
            }
            self.passed.insert(id, passed);
        }
    }

    /// Whether the servers of an upstream that was found are those of an answer.
    pub fn is_heard(&self, name: &str) -> bool {
        let feed = self.found.get(name).and_then(|found| found.slot.feed);
        let feed = feed.and_then(|feed| self.feeds.get(&feed));
        feed.is_some_and(|feed| feed.applied.is_some())
    }
}
