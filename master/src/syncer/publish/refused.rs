//! The entries of answers that are not applied, for the report.

use std::collections::{HashMap, HashSet};

use weir_worker::log::Clock;

use crate::syncer::book::{Book, FeedId};
use crate::syncer::consul::folder;
use crate::syncer::decode::Refused;
use crate::syncer::lesson::Lesson;
use crate::syncer::recorder::Note;

/// What was reported, so that its end is, too.
#[derive(Debug, Default)]
pub(super) struct Reported {
    feeds: HashSet<FeedId>,
    /// The upstreams that an `upsync_discover` has found.
    folders: HashMap<FeedId, HashSet<String>>,
    /// By prefix: what is no such upstream's.
    rest: HashMap<FeedId, Vec<(String, String)>>,
}

/// What a lesson says of one feed.
pub(super) struct Refusals {
    feed: FeedId,
    own: Vec<Refused>,
    /// By folder: those that have some.
    folders: Vec<(String, Vec<Refused>)>,
}

/// The entries of a lesson that are none.
pub(super) fn refusals(lesson: &Lesson) -> Vec<Refusals> {
    let lists = lesson.lists.iter().map(|(feed, heard)| {
        let folders = heard.folders.iter();
        let folders = folders.filter(|(_, own)| !own.refused.is_empty());
        Refusals {
            feed: *feed,
            own: heard.refused.clone(),
            folders: folders
                .map(|(name, own)| (name.clone(), own.refused.clone()))
                .collect(),
        }
    });
    lists.collect()
}

impl Reported {
    /// The notes about a lesson that the book has taken in.
    pub(super) fn notes(&mut self, lesson: Vec<Refusals>, book: &Book) -> Vec<Note> {
        let mut notes = Vec::new();
        for refusals in lesson {
            if book.is_finder(refusals.feed) {
                self.discovered(refusals, book, &mut notes);
                continue;
            }
            let upstream = book.feed(refusals.feed).map(|feed| feed.upstream.as_str());
            let entries = entries(&refusals.own);
            notes.extend(self.news(refusals.feed, upstream, entries));
        }
        notes
    }

    /// The entries of an upstream that was found are its own; what is left is the prefix's, with the
    /// folders that cannot be upstreams.
    fn discovered(&mut self, refusals: Refusals, book: &Book, notes: &mut Vec<Note>) {
        let Refusals { feed, own, folders } = refusals;
        let mut now = HashSet::new();
        let mut theirs = HashSet::new();
        for (name, refused) in folders.iter().filter(|(name, _)| book.is_found(name)) {
            theirs.extend(refused.iter().map(|entry| entry.key.as_str()));
            now.insert(name.clone());
            notes.push(note(name, entries(refused)));
        }
        let before = self.folders.insert(feed, now.clone()).unwrap_or_default();
        let over = before.difference(&now);
        notes.extend(over.map(|name| note(name, Vec::new())));
        let rest = own.into_iter().filter(|e| !theirs.contains(e.key.as_str()));
        let rest = rest.map(|entry| (entry.key, entry.reason)).collect();
        self.rest.insert(feed, rest);
        notes.extend(self.of_prefix(feed, book));
    }

    /// What is left of a prefix's, and the folders that cannot be upstreams, as they are now.
    fn of_prefix(&mut self, feed: FeedId, book: &Book) -> Option<Note> {
        let prefix = book.prefix(feed)?;
        let (folder, mut all) = (folder(prefix), self.rest.get(&feed)?.clone());
        let passed = book.passed_over(feed);
        all.extend(passed.map(|(name, why)| (format!("{folder}/{name}/"), why.to_owned())));
        self.news(feed, Some(prefix), all)
    }

    /// The notes about prefixes of which a folder may have become an upstream.
    pub(super) fn freed(&mut self, book: &Book) -> Vec<Note> {
        self.rest.retain(|feed, _| book.prefix(*feed).is_some());
        let feeds: Vec<FeedId> = self.rest.keys().copied().collect();
        let notes = feeds.into_iter();
        notes
            .filter_map(|feed| self.of_prefix(feed, book))
            .collect()
    }

    /// A note about a feed that has such entries, or had them before.
    fn news(
        &mut self,
        feed: FeedId,
        upstream: Option<&str>,
        entries: Vec<(String, String)>,
    ) -> Option<Note> {
        let had = match entries.is_empty() {
            true => self.feeds.remove(&feed),
            false => !self.feeds.insert(feed),
        };
        let upstream = upstream.filter(|_| had || !entries.is_empty())?;
        Some(note(upstream, entries))
    }
}

fn entries(refused: &[Refused]) -> Vec<(String, String)> {
    let refused = refused.iter();
    refused.map(|e| (e.key.clone(), e.reason.clone())).collect()
}

fn note(upstream: &str, entries: Vec<(String, String)>) -> Note {
    Note::Refused {
        upstream: upstream.to_owned(),
        entries,
        at_ms: Clock::system_millis(),
    }
}
