//! Publishing: one table version for everything that is known by now, then a wake for each worker.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use weir_shm::{PublishError, Publisher, Seen, Server};
use weir_worker::log::Clock;
use weir_worker::settings::Level;

use super::book::{Before, Book, Dump, FeedId};
use super::dump::Dumper;
use super::lesson::{Lesson, Verdict};
use super::log::Log;
use super::names::Resolved;
use super::recorder::history::Cause;
use super::recorder::report::Hold;
use super::recorder::{Note, Recorder};

/// A lesson, and who waits for its verdict.
pub struct Learned {
    /// What a watch learned from one answer.
    pub lesson: Lesson,
    /// Told once the lesson is handled.
    pub done: std::sync::mpsc::SyncSender<Verdict>,
}

/// The region's writer and those who wait for it.
pub struct Tables {
    publisher: Publisher,
    /// By worker slot.
    wakers: Vec<OwnedFd>,
    dumper: Dumper,
    recorder: Recorder,
    log: Log,
    /// The last publish of the whole book failed: the region has an older one.
    behind: bool,
    /// When the oldest of the answers that are being settled was seen.
    seen: Seen,
}

impl Tables {
    /// Publishes through `publisher`; `wakers` are the workers' eventfds.
    pub fn new(
        publisher: Publisher,
        wakers: Vec<OwnedFd>,
        recorder: Recorder,
        log: Log,
    ) -> std::io::Result<Tables> {
        Ok(Tables {
            publisher,
            wakers,
            dumper: Dumper::start(log.clone())?,
            recorder,
            log,
            behind: false,
            seen: Seen::NOBODY,
        })
    }

    /// Publishes the book as it is; `cause` is for the history.
    ///
    /// # Errors
    /// It does not fit the region; the previous table stays.
    pub fn publish(&mut self, book: &Book, cause: Cause) -> Result<(), PublishError> {
        let publication = self.publisher.publish(book.table(), self.seen)?;
        self.behind = false;
        if publication.changed {
            self.wake();
            let version = publication.version;
            self.recorder.note(Note::Published {
                table: Arc::new(self.publisher.table().clone()),
                at_ms: Clock::system_millis(),
                cause,
            });
            self.log.log(
                Level::Info,
                format_args!("table version {version} published"),
            );
        }
        Ok(())
    }

    /// The same for what has to go into force: a failure is logged, and retried with the held.
    pub fn publish_or_retry(&mut self, book: &Book, cause: Cause) {
        if let Err(error) = self.publish(book, cause) {
            self.behind = true;
            self.log.log(Level::Error, format_args!("{error}"));
        }
    }

    fn wake(&self) {
        for waker in &self.wakers {
            // EAGAIN: the counter is full, so the worker is about to wake anyway.
            let _ = rustix::io::write(waker, &1u64.to_ne_bytes());
        }
    }

    /// Applies what watches learned under one table version, and tells them.
    pub fn settle(&mut self, book: &mut Book, batch: Vec<Learned>) {
        let seen = batch.iter().map(|learned| learned.lesson.origin.seen_ns);
        self.seen = Seen(seen.filter(|seen| *seen > 0).min().unwrap_or_default());
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut changes = Vec::new();
        let mut cause = Cause::Start;
        let mut notes = Vec::new();
        for Learned { lesson, done } in batch {
            let mut verdict = Verdict::default();
            notes.extend(notes_of(&lesson, book));
            for (feed, heard) in lesson.lists {
                let before = self.apply(book, feed, &heard.servers);
                verdict.changed |= before.is_some();
                if before.is_some() {
                    cause = Cause::Source {
                        source: lesson.origin.source.to_string(),
                        index: lesson.origin.index,
                    };
                }
                changes.extend(before.map(|before| (feed, heard.servers, before)));
            }
            outcomes.push((done, verdict));
        }
        if !changes.is_empty() && self.put(book, changes, &cause) {
            self.retry_held(book);
        }
        self.seen = Seen::NOBODY;
        for note in notes {
            self.recorder.note(note);
        }
        for (done, verdict) in outcomes {
            // The watch may have been stopped since.
            let _ = done.send(verdict);
        }
    }

    /// Puts what a name resolved to in force. Addresses for which there is no room are not taken;
    /// the name is asked for again anyway.
    pub fn resolve(&mut self, book: &mut Book, id: FeedId, found: Resolved) {
        let Some(before) = book.resolve(id, found) else {
            return;
        };
        match self.publish(book, Cause::Names) {
            Ok(()) => self.retry_held(book),
            Err(error) => {
                book.unresolve(id, before);
                self.log.log(
                    Level::Error,
                    format_args!("the addresses of a name stay as they were: {error}"),
                );
            }
        }
    }

    fn apply(&mut self, book: &mut Book, id: FeedId, servers: &[Server]) -> Option<Before> {
        let feed = book.feed_mut(id)?;
        let first = !std::mem::replace(&mut feed.answered, true);
        if feed.held.as_deref() == Some(servers) {
            return None;
        }
        if !servers.is_empty() {
            feed.held = None;
        }
        let before = book.learn(id, servers.to_vec());
        if first && before.is_none() {
            self.dumper.write(book.dumps(id));
        }
        before
    }

    /// Publishes applied changes together; if that does not fit, each that fits by itself.
    /// Returns whether one did.
    fn put(
        &mut self,
        book: &mut Book,
        changes: Vec<(FeedId, Vec<Server>, Before)>,
        cause: &Cause,
    ) -> bool {
        let Err(error) = self.publish(book, cause.clone()) else {
            for (feed, ..) in changes {
                self.dumper.write(book.dumps(feed));
            }
            return true;
        };
        let alone = changes.len() == 1;
        let mut again = Vec::with_capacity(changes.len());
        for (id, servers, before) in changes {
            book.unlearn(id, before);
            again.push((id, servers));
        }
        let mut published = false;
        for (id, servers) in again {
            if alone {
                self.hold(book, id, servers, &error);
            } else if let Some(before) = book.learn(id, servers.clone()) {
                published |= self.put(book, vec![(id, servers, before)], cause);
            }
        }
        published
    }

    fn hold(&mut self, book: &mut Book, id: FeedId, servers: Vec<Server>, error: &PublishError) {
        let Some(feed) = book.feed_mut(id) else {
            return;
        };
        let count = servers.len();
        feed.held = Some(servers);
        let upstream = feed.upstream.clone();
        let hold = Hold {
            since_ms: Clock::system_millis(),
            reason: error.to_string(),
            servers: count,
            removes: 0,
        };
        self.log.log(
            Level::Error,
            format_args!("upstream \"{upstream}\" with {count} servers is held: {error}"),
        );
        self.recorder.note(Note::Held {
            upstream,
            hold: Some(hold),
        });
    }

    /// Whether something waits for room in the region.
    pub fn is_behind(&self, book: &Book) -> bool {
        self.behind || book.feeds().any(|(_, feed)| feed.held.is_some())
    }

    /// Tries again what is behind: room comes when the workers have left removed servers.
    pub fn retry(&mut self, book: &mut Book) {
        if self.behind {
            // Logged when it failed first.
            let _ = self.publish(book, Cause::Room);
        }
        self.retry_held(book);
    }

    fn retry_held(&mut self, book: &mut Book) {
        let held: Vec<FeedId> = book
            .feeds()
            .filter(|(_, feed)| feed.held.is_some())
            .map(|(id, _)| id)
            .collect();
        for id in held {
            let Some(servers) = book.feed_mut(id).and_then(|feed| feed.held.take()) else {
                continue;
            };
            let Some(before) = book.learn(id, servers.clone()) else {
                continue;
            };
            if self.publish(book, Cause::Room).is_ok() {
                self.dumper.write(book.dumps(id));
                if let Some(feed) = book.feed(id) {
                    let upstream = feed.upstream.clone();
                    self.recorder.note(Note::Held {
                        upstream,
                        hold: None,
                    });
                }
                self.log.log(
                    Level::Notice,
                    format_args!("a held list of servers found room"),
                );
            } else {
                book.unlearn(id, before);
                if let Some(feed) = book.feed_mut(id) {
                    feed.held = Some(servers);
                }
            }
        }
    }

    /// Writes dumps, behind everyone's back.
    pub fn dump(&self, dumps: Vec<Dump>) {
        self.dumper.write(dumps);
    }

    /// Writes what is still to be dumped, for a moment at most.
    pub fn finish(self) {
        self.dumper.finish();
    }
}

/// What a handled lesson means for the report.
fn notes_of(lesson: &Lesson, book: &Book) -> Vec<Note> {
    let at_ms = Clock::system_millis();
    let lists = lesson.lists.iter();
    let known: Vec<_> = lists
        .filter_map(|(feed, heard)| Some((book.feed(*feed)?.upstream.clone(), heard)))
        .collect();
    let mut notes = Vec::with_capacity(known.len() + 1);
    let confirmed = known.iter().filter(|(_, heard)| !heard.servers.is_empty());
    notes.push(Note::Confirmed {
        upstreams: confirmed.map(|(upstream, _)| upstream.clone()).collect(),
        at_ms,
    });
    notes.extend(known.into_iter().map(|(upstream, heard)| {
        let entries = heard.refused.iter();
        Note::Refused {
            upstream,
            entries: entries.map(|e| (e.key.clone(), e.reason.clone())).collect(),
            at_ms,
        }
    }));
    notes
}
