//! What becomes of lessons: each goes into the table as a whole, under one version, or waits as a
//! whole for room; what the guard keeps back is its upstream's alone.

use std::collections::HashSet;
use std::sync::Arc;

use weir_shm::{PublishError, Seen, Server};
use weir_worker::log::Clock;
use weir_worker::settings::Level;

use super::refused::refusals;
use super::{Learned, Tables};
use crate::syncer::book::{Before, Book, FeedId, Finding, Heed};
use crate::syncer::lesson::{Heard, Lesson, Origin, Verdict};
use crate::syncer::recorder::Note;
use crate::syncer::recorder::history::Cause;
use crate::syncer::recorder::report::Hold;

/// Lists that go into force together, in key order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Together {
    lists: Vec<(FeedId, Arc<[Server]>)>,
}

/// Lists that are in the book and not in the region yet.
struct Applied {
    lists: Together,
    before: Vec<(FeedId, Before)>,
}

impl Together {
    pub(super) fn one(feed: FeedId, servers: Arc<[Server]>) -> Together {
        Together {
            lists: vec![(feed, servers)],
        }
    }

    /// Puts what changes the book into it, and forgets the rest.
    fn apply(mut self, book: &mut Book) -> Applied {
        let mut before = Vec::new();
        self.lists.retain(|(feed, servers)| {
            let was = book.learn(*feed, servers);
            let changed = was.is_some();
            before.extend(was.map(|was| (*feed, was)));
            changed
        });
        Applied {
            lists: self,
            before,
        }
    }
}

impl Applied {
    fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    fn take_back(self, book: &mut Book) -> Together {
        for (feed, before) in self.before.into_iter().rev() {
            book.unlearn(feed, before);
        }
        self.lists
    }
}

impl Tables {
    /// Applies what watches learned under one table version, and tells them.
    pub fn settle(&mut self, book: &mut Book, batch: Vec<Learned>) {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut applied = Vec::with_capacity(batch.len());
        let mut origins = Vec::new();
        let seen = batch.iter().map(|learned| learned.lesson.origin.seen_ns);
        self.seen = Seen(seen.filter(|seen| *seen > 0).min().unwrap_or_default());
        let mut notes = Vec::new();
        for Learned { lesson, done } in batch {
            let first = lesson.lists.iter().map(|(feed, _)| *feed);
            let first = first.filter(|id| book.feed(*id).is_some_and(|feed| !feed.answered));
            let first: Vec<FeedId> = first.collect();
            let refusals = refusals(&lesson);
            let origin = lesson.origin.clone();
            let (mut verdict, good) = self.hear(book, lesson);
            notes.extend(self.reported.notes(refusals, book));
            notes.push(confirmed(&good, book));
            let heard: HashSet<FeedId> = good.lists.iter().map(|(feed, _)| *feed).collect();
            let lists = good.apply(book);
            verdict.changed |= !lists.is_empty();
            if verdict.changed {
                origins.push((origin.source.to_string(), origin.index));
            }
            let changed = |id: &FeedId| lists.before.iter().any(|(feed, _)| feed == id);
            for id in first.into_iter().filter(|id| !changed(id)) {
                self.dumper.write(book.dumps(id));
            }
            applied.push(self.after_waiting(book, lists, &heard));
            outcomes.push((done, verdict));
        }
        let cause = Cause::answers(origins);
        let published = self.put(book, applied, &cause);
        if std::mem::take(&mut self.lost) && !published {
            self.publish_or_retry(book, cause);
        }
        self.seen = Seen::NOBODY;
        if published {
            self.retry_waiting(book);
        }
        for note in notes {
            self.recorder.note(note);
        }
        for (done, verdict) in outcomes {
            // The watch may have been stopped since.
            let _ = done.send(verdict);
        }
    }

    /// What the guard lets through of a lesson, with what it replaces of those that wait.
    fn hear(&mut self, book: &mut Book, lesson: Lesson) -> (Verdict, Together) {
        let Lesson {
            origin,
            lists,
            confirmed,
        } = lesson;
        let mut verdict = Verdict::default();
        let mut good = Together::default();
        for (finder, feed, heard) in self.found(book, lists, &origin, confirmed, &mut verdict) {
            let heed = book.hear(feed, &heard, &origin, confirmed);
            let Some(heed) = heed else { continue };
            if !matches!(heed, Heed::Apply { .. }) {
                self.supersede(book, feed);
            }
            self.tell(book, feed, heed, &heard, &origin);
            match heed {
                Heed::Apply { .. } => good.lists.push((feed, heard.servers)),
                Heed::Confirm { .. } => verdict.confirm.push(finder.unwrap_or(feed)),
                Heed::Hold { .. } => verdict.held = true,
            }
        }
        verdict.confirm.sort_unstable();
        verdict.confirm.dedup();
        (verdict, good)
    }

    /// The lists of a lesson, each with the `upsync_discover` that found it, if one did.
    fn found(
        &mut self,
        book: &mut Book,
        lists: Vec<(FeedId, Heard)>,
        origin: &Origin,
        confirmed: bool,
        verdict: &mut Verdict,
    ) -> Vec<(Option<FeedId>, FeedId, Heard)> {
        let mut all = Vec::with_capacity(lists.len());
        for (feed, heard) in lists {
            if !book.is_finder(feed) {
                all.push((None, feed, heard));
                continue;
            }
            let Some(finding) = book.find(feed, heard, confirmed) else {
                continue;
            };
            self.tell_found(&finding, origin);
            if !finding.missing.is_empty() {
                verdict.confirm.push(feed);
            }
            if !finding.gone.is_empty() {
                verdict.changed = true;
                self.lost = true;
            }
            let lists = finding.lists.into_iter();
            all.extend(lists.map(|(own, heard)| (Some(feed), own, heard)));
        }
        all
    }

    fn tell_found(&self, finding: &Finding, origin: &Origin) {
        let source = &origin.source;
        for (name, why) in &finding.refused {
            self.log.log(
                Level::Warn,
                format_args!("folder \"{name}\" of {source} is no upstream: {why}"),
            );
        }
        for name in &finding.missing {
            self.log.log(
                Level::Notice,
                format_args!(
                    "upstream \"{name}\": its folder of {source} is gone, it is read a second time"
                ),
            );
        }
        for name in &finding.gone {
            self.note_hold(name, None);
            self.log.log(
                Level::Notice,
                format_args!("upstream \"{name}\" is gone with its folder of {source}"),
            );
        }
    }

    /// A newer answer than the one that waits says something else.
    fn supersede(&mut self, book: &Book, feed: FeedId) {
        let mut found = false;
        for waiting in &mut self.waiting {
            let lists = waiting.lists.len();
            waiting.lists.retain(|(id, _)| *id != feed);
            found |= waiting.lists.len() < lists;
        }
        if found {
            self.waiting.retain(|waiting| !waiting.lists.is_empty());
            self.note_no_hold(book, feed);
        }
    }

    fn tell(&self, book: &Book, feed: FeedId, heed: Heed, heard: &Heard, origin: &Origin) {
        let Some(feed) = book.feed(feed) else { return };
        let (name, count) = (&feed.upstream, feed.servers.len());
        let Origin { source, index, .. } = origin;
        match heed {
            Heed::Apply { released: true } => {
                self.note_hold(name, None);
                self.log.log(
                    Level::Notice,
                    format_args!("upstream \"{name}\": a newer answer replaces the held one"),
                );
            }
            Heed::Hold { why, news: true } => {
                let servers = heard.servers.iter();
                let stays: HashSet<_> = servers.clone().map(|server| &server.address).collect();
                let gone = feed.servers.iter().filter(|s| !stays.contains(&s.address));
                let hold = Hold {
                    since_ms: Clock::system_millis(),
                    reason: why.to_string(),
                    servers: servers.filter(|server| !server.down).count(),
                    removes: gone.count(),
                };
                self.note_hold(name, Some(hold));
                self.log.log(
                    Level::Error,
                    format_args!(
                        "upstream \"{name}\": the answer of {source} with index {index} is held \
                         by upsync_guard: {why}; the {count} servers stay until \
                         \"weirctl guard accept {name}\" or a better answer"
                    ),
                );
            }
            Heed::Confirm { removed, of } => {
                self.note_hold(name, None);
                self.log.log(
                    Level::Warn,
                    format_args!(
                        "upstream \"{name}\": the answer of {source} with index {index} removes \
                         {removed} of {of} servers, it is read a second time"
                    ),
                );
            }
            _ => {}
        }
    }

    pub(super) fn note_no_hold(&self, book: &Book, feed: FeedId) {
        if let Some(feed) = book.feed(feed) {
            self.note_hold(&feed.upstream, None);
        }
    }

    /// What is held back of an upstream now.
    pub(super) fn note_hold(&self, upstream: &str, hold: Option<Hold>) {
        self.recorder.note(Note::Held {
            upstream: upstream.to_owned(),
            hold,
        });
    }

    /// Joins lists with those that wait and that an answer about `heard` replaces in part. What just
    /// waits on is left out: it keeps no other change of its watch waiting.
    fn after_waiting(
        &mut self,
        book: &mut Book,
        applied: Applied,
        heard: &HashSet<FeedId>,
    ) -> Applied {
        if self.waiting.is_empty() {
            return applied;
        }
        let mut joined = applied.take_back(book);
        for waiting in std::mem::take(&mut self.waiting) {
            let (met, others): (Vec<_>, Vec<_>) = waiting
                .lists
                .iter()
                .partition(|(feed, _)| heard.contains(feed));
            if met.iter().all(|list| joined.lists.contains(list)) {
                joined.lists.retain(|list| !met.contains(&list));
                self.waiting.push(waiting);
                continue;
            }
            for (feed, _) in &waiting.lists {
                self.note_no_hold(book, *feed);
            }
            joined.lists.extend(others.into_iter().cloned());
        }
        joined.apply(book)
    }

    /// Publishes applied lists together; if that does not fit, each group that fits by itself.
    /// Returns whether one did.
    fn put(&mut self, book: &mut Book, mut applied: Vec<Applied>, cause: &Cause) -> bool {
        applied.retain(|applied| !applied.is_empty());
        if applied.is_empty() {
            return false;
        }
        let Err(error) = self.publish(book, cause.clone()) else {
            for (feed, _) in applied.iter().flat_map(|applied| &applied.before) {
                self.dumper.write(book.dumps(*feed));
            }
            return true;
        };
        let alone = applied.len() == 1;
        let again = applied.into_iter().rev();
        let mut again: Vec<Together> = again.map(|applied| applied.take_back(book)).collect();
        again.reverse();
        let mut published = false;
        for lists in again {
            if alone {
                self.wait(book, lists, &error);
            } else {
                let applied = lists.apply(book);
                published |= self.put(book, vec![applied], cause);
            }
        }
        published
    }

    fn wait(&mut self, book: &Book, lists: Together, error: &PublishError) {
        for (feed, servers) in &lists.lists {
            let Some(feed) = book.feed(*feed) else {
                continue;
            };
            let (upstream, count) = (&feed.upstream, servers.len());
            let hold = Hold {
                since_ms: Clock::system_millis(),
                reason: error.to_string(),
                servers: count,
                removes: 0,
            };
            self.note_hold(upstream, Some(hold));
            self.log.log(
                Level::Error,
                format_args!(
                    "upstream \"{upstream}\" with {count} servers waits for room: {error}"
                ),
            );
        }
        self.waiting.push(lists);
    }

    /// Puts lists in force that no guard is asked about any more.
    ///
    /// # Errors
    /// There is no room for them: they wait for it.
    pub(super) fn force(
        &mut self,
        book: &mut Book,
        lists: Together,
        cause: &Cause,
    ) -> Result<(), String> {
        for (feed, _) in &lists.lists {
            self.supersede(book, *feed);
        }
        let applied = lists.apply(book);
        let changed = !applied.is_empty();
        if self.put(book, vec![applied], cause) {
            self.retry_waiting(book);
        } else if changed {
            return Err("the region has no room for it now: it waits".to_owned());
        }
        Ok(())
    }

    pub(super) fn retry_waiting(&mut self, book: &mut Book) {
        for lists in std::mem::take(&mut self.waiting) {
            let applied = lists.apply(book);
            if applied.is_empty() {
                continue;
            }
            if self.publish(book, Cause::Room).is_err() {
                self.waiting.push(applied.take_back(book));
                continue;
            }
            for (id, _) in &applied.before {
                self.dumper.write(book.dumps(*id));
                self.note_no_hold(book, *id);
            }
            self.log.log(
                Level::Notice,
                format_args!("a list of servers that waited found room"),
            );
        }
    }
}

/// The upstreams of which a lesson said something good, for the report.
fn confirmed(good: &Together, book: &Book) -> Note {
    let known = good.lists.iter();
    let known = known.filter_map(|(id, servers)| {
        let feed = book.feed(*id)?;
        (feed.learned || !servers.is_empty()).then(|| feed.upstream.clone())
    });
    Note::Confirmed {
        upstreams: known.collect(),
        at_ms: Clock::system_millis(),
    }
}
