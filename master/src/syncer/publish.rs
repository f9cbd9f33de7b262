//! Publishing: one table version for everything that is known by now, then a wake for each worker.

mod operate;
mod refused;
mod settle;

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use weir_shm::{PublishError, Publisher, Seen};
use weir_worker::log::Clock;
use weir_worker::settings::Level;

use super::book::{Book, Dump, FeedId};
use super::dump::Dumper;
use super::lesson::{Lesson, Verdict};
use super::log::Log;
use super::names::Resolved;
use super::place::Place;
use super::recorder::history::Cause;
use super::recorder::note::Discovered;
use super::recorder::{Note, Recorder};
pub use operate::Done;
use refused::Reported;
use settle::Together;

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
    /// Upstreams that were discovered and are in the table, as the recorder was told.
    discovered: Option<Vec<(String, Option<FeedId>)>>,
    /// Upstreams that were discovered are gone from the book.
    lost: bool,
    /// Lists for which the region has no room yet.
    waiting: Vec<Together>,
    /// Entries that are not applied, as the recorder knows.
    reported: Reported,
}

impl Tables {
    /// Publishes through `publisher`; `wakers` are the workers' eventfds.
    pub fn new(
        publisher: Publisher,
        wakers: Vec<OwnedFd>,
        recorder: Recorder,
        place: Place,
        log: Log,
    ) -> std::io::Result<Tables> {
        Ok(Tables {
            publisher,
            wakers,
            dumper: Dumper::start(log.clone(), place)?,
            recorder,
            log,
            behind: false,
            seen: Seen::NOBODY,
            discovered: None,
            lost: false,
            waiting: Vec::new(),
            reported: Reported::default(),
        })
    }

    /// Publishes the book as it is; `cause` is for the history.
    ///
    /// # Errors
    /// It does not fit the region; the previous table stays.
    pub fn publish(&mut self, book: &Book, cause: Cause) -> Result<(), PublishError> {
        let publication = self.publisher.publish(book.table(), self.seen)?;
        self.behind = false;
        let heard = self.tell_discovered(book);
        if publication.changed {
            self.wake();
            self.recorder.note(Note::Published {
                table: Arc::new(self.publisher.table().clone()),
                at_ms: Clock::system_millis(),
                cause,
            });
            if !heard.is_empty() {
                self.recorder.note(Note::Confirmed {
                    upstreams: heard,
                    at_ms: Clock::system_millis(),
                });
            }
            let version = publication.version;
            self.log.log(
                Level::Info,
                format_args!("table version {version} published"),
            );
        }
        Ok(())
    }

    /// Tells the recorder of upstreams that come and go; returns those that come with an answer's word.
    fn tell_discovered(&mut self, book: &Book) -> Vec<String> {
        let now = book.discovered();
        if self.discovered.as_ref() == Some(&now) {
            return Vec::new();
        }
        let before = self.discovered.take().into_iter().flatten();
        let before: HashSet<String> = before.map(|(name, _)| name).collect();
        let new = now.iter().map(|(name, _)| name);
        let new = new.filter(|name| !before.contains(*name));
        let heard = new.filter(|name| book.is_heard(name)).cloned().collect();
        let found = now.iter().map(|(name, finder)| Discovered {
            name: name.clone(),
            prefix: finder.and_then(|finder| Some(book.prefix(finder)?.to_owned())),
        });
        self.recorder.note(Note::Discovered {
            upstreams: found.collect(),
        });
        self.discovered = Some(now);
        for note in self.reported.freed(book) {
            self.recorder.note(note);
        }
        heard
    }

    /// The same for what has to go into force: a failure is logged, and retried later.
    pub fn publish_or_retry(&mut self, book: &Book, cause: Cause) {
        if let Err(error) = self.publish(book, cause) {
            self.behind = true;
            self.log.log(Level::Error, format_args!("{error}"));
        }
    }

    /// Tells whoever looks at the region that the syncer's loop turns.
    pub fn turned(&self) {
        self.publisher.turned();
    }

    fn wake(&self) {
        for waker in &self.wakers {
            // EAGAIN: the counter is full, so the worker is about to wake anyway.
            let _ = rustix::io::write(waker, &1u64.to_ne_bytes());
        }
    }

    /// Puts what a name resolved to in force. Addresses for which there is no room are not taken;
    /// the name is asked for again anyway.
    pub fn resolve(&mut self, book: &mut Book, id: FeedId, found: Resolved) {
        let Some(before) = book.resolve(id, found) else {
            return;
        };
        match self.publish(book, Cause::Names) {
            Ok(()) => self.retry_waiting(book),
            Err(error) => {
                book.unresolve(id, before);
                self.log.log(
                    Level::Error,
                    format_args!("the addresses of a name stay as they were: {error}"),
                );
            }
        }
    }

    /// Whether something waits for room in the region.
    pub fn is_behind(&self) -> bool {
        self.behind || !self.waiting.is_empty()
    }

    /// Tries again what is behind: room comes when the workers have left removed servers.
    pub fn retry(&mut self, book: &mut Book) {
        if self.behind {
            // Logged when it failed first.
            let _ = self.publish(book, Cause::Room);
        }
        self.retry_waiting(book);
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
