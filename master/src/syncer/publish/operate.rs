//! What an operator does to the table.

use weir_shm::Upstream;
use weir_worker::log::Clock;
use weir_worker::settings::Level;

use super::Tables;
use super::settle::Together;
use crate::syncer::book::Book;
use crate::syncer::recorder::Note;
use crate::syncer::recorder::history::Cause;
use crate::syncer::recorder::report;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The table version now in force.
    pub version: u64,
    /// The upstreams that it was done to.
    pub upstreams: Vec<String>,
}

impl Tables {
    /// Pins an upstream, or all that are fed, to what they have now.
    ///
    /// # Errors
    /// See [`Book::pin`].
    pub fn pin(&mut self, book: &mut Book, upstream: Option<&str>) -> Result<Done, String> {
        let version = self.version();
        self.operate(book, Cause::Pin, |book| book.pin(upstream, version))
    }

    /// Lets an upstream, or all, follow what is learned again.
    ///
    /// # Errors
    /// See [`Book::unpin`], or what was learned meanwhile does not fit the region.
    pub fn unpin(&mut self, book: &mut Book, upstream: Option<&str>) -> Result<Done, String> {
        self.operate(book, Cause::Unpin, |book| book.unpin(upstream))
    }

    /// Pins everything that is fed to what it had in table `version`.
    ///
    /// # Errors
    /// See [`Book::rollback`], or it does not fit the region.
    pub fn rollback(
        &mut self,
        book: &mut Book,
        version: u64,
        content: &[Upstream],
    ) -> Result<Done, String> {
        let cause = Cause::Rollback { version };
        self.operate(book, cause, |book| book.rollback(version, content))
    }

    /// Applies the answer that an upstream's guard holds.
    ///
    /// # Errors
    /// See [`Book::accept`], or there is no room for it yet.
    pub fn accept(&mut self, book: &mut Book, upstream: &str) -> Result<Done, String> {
        let (feed, held) = book.accept(upstream)?;
        let is_lost = book.accept_loss(upstream);
        self.log.log(
            Level::Notice,
            format_args!("upstream \"{upstream}\": the answer that upsync_guard held is accepted"),
        );
        self.note_hold(upstream, None);
        if is_lost {
            self.publish_or_retry(book, Cause::Accept);
        } else {
            self.force(book, Together::one(feed, held.servers), &Cause::Accept)?;
        }
        Ok(Done {
            version: self.version(),
            upstreams: vec![upstream.to_owned()],
        })
    }

    /// Applies what is held for upstreams that have no guard any more.
    pub fn release(&mut self, book: &mut Book) {
        for (feed, held) in book.unguarded() {
            self.note_no_hold(book, feed);
            // What finds no room waits, and was logged.
            let _ = self.force(book, Together::one(feed, held.servers), &Cause::Reload);
        }
    }

    fn version(&self) -> u64 {
        self.publisher.table().version
    }

    fn operate(
        &mut self,
        book: &mut Book,
        cause: Cause,
        change: impl FnOnce(&mut Book) -> Result<Vec<String>, String>,
    ) -> Result<Done, String> {
        let before = book.pins().clone();
        let upstreams = change(book)?;
        if let Err(error) = self.publish(book, cause.clone()) {
            book.set_pins(before);
            return Err(error.to_string());
        }
        let since_ms = Clock::system_millis();
        for name in &upstreams {
            let pin = book.pins().get(name);
            let version = pin.map(|pin| pin.version);
            match version {
                Some(version) => self.say(name, format_args!("pinned to table version {version}")),
                None => self.say(name, format_args!("no longer pinned")),
            }
            self.recorder.note(Note::Pinned {
                upstream: name.clone(),
                pin: version.map(|version| report::Pin { since_ms, version }),
            });
        }
        self.dumper.write(book.dumps_of(&upstreams));
        self.retry_waiting(book);
        Ok(Done {
            version: self.version(),
            upstreams,
        })
    }

    fn say(&self, upstream: &str, what: std::fmt::Arguments<'_>) {
        self.log.log(
            Level::Notice,
            format_args!("upstream \"{upstream}\" is {what} by an operator"),
        );
    }
}
