//! The hub: one thread to which everything that happens is told, in one queue. It keeps the book,
//! publishes, and follows the master's orders; it never blocks on anything but its queue.

mod command;
mod orders;
mod reload;
mod start;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use weir_shm::{Reader, Table};
use weir_worker::channel::{Answer, Channel, Order};

use super::Start;
use super::book::{Book, FeedId};
use super::log::Log;
use super::names::{Names, Resolved};
use super::prepare::{Handed, Plan};
use super::publish::{Learned, Tables};
use super::recorder::Recorder;
use super::turns::WatchId;
use super::vault::Vault;
use super::watches::Watches;
use crate::Built;
use crate::settings::PrivateFile;
use start::{First, Opened};

/// What found no room in the region is tried again this often.
const HELD_RETRY: Duration = Duration::from_secs(1);
/// The region is told this often that the loop turns: seldom, as it may be all that an idle syncer does.
const TURNED: Duration = Duration::from_secs(10);
/// At most this many answers go into one table version, so that none waits for ever.
const BATCH_MAX: usize = 4096;

/// Something that happened.
pub enum Event {
    /// The region's lock was waited for.
    Opened(Result<Box<Opened>, String>),
    /// A watch has an answer.
    Learned(WatchId, Learned),
    /// The feeds of a watch are to have one each, or no longer.
    Split(WatchId, bool),
    /// A name was asked for.
    Resolved(FeedId, Resolved),
    /// The master said something.
    Order(Order, Vec<OwnedFd>),
    /// A configuration was built (or not), of this generation.
    Planned(u64, Result<Box<Plan>, String>),
    /// What a table was, for the command of this id.
    LookedBack(u64, Result<Table, String>),
    /// A signal, or the end of the master.
    End,
}

enum Phase {
    /// The region's lock is not had yet.
    Locked,
    /// Waits for first answers until `deadline`.
    Starting {
        deadline: Instant,
    },
    Running,
    /// A configuration is being built.
    Planning {
        generation: u64,
    },
    /// The new feeds of a configuration wait for first answers until `deadline`.
    Preparing {
        generation: u64,
        deadline: Instant,
        new: Vec<FeedId>,
        plan: Box<Plan>,
    },
    Prepared {
        generation: u64,
        plan: Box<Plan>,
    },
}

/// See the module.
pub struct Hub {
    events: Sender<Event>,
    queue: Receiver<Event>,
    /// Taken from the queue too early.
    pending: VecDeque<Event>,
    channel: Arc<Channel>,
    log: Log,
    build: fn(&str) -> Result<Built, String>,
    respawned: bool,
    start_timeout: Duration,
    first: Option<First>,
    phase: Phase,
    book: Book,
    tables: Option<Tables>,
    /// Told what happens, for people.
    recorder: Recorder,
    /// For what the recorder wrote.
    reader: Option<Arc<Reader>>,
    /// When to try again what is behind; it does not move while other things happen.
    retry_at: Option<Instant>,
    /// When to tell again that the loop turns.
    turned_at: Instant,
    watches: Watches,
    /// Tokens and certificates that watches ask with.
    vault: Arc<Vault>,
    /// The private files of the configuration in force, by number.
    private: Vec<PrivateFile>,
    /// Resolves names, once there are some.
    names: Option<Names>,
    /// Descriptors of an order whose last packet is to come.
    handed: Handed,
    /// An order to prepare that came while the syncer was starting.
    early: Option<(u64, Handed)>,
}

impl Hub {
    /// Starts to wait for the region's lock and to listen to the master.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn new(start: Start, events: Sender<Event>, queue: Receiver<Event>) -> Result<Hub, String> {
        let channel = Arc::new(Channel::new(start.channel));
        let log = Log::new(start.files, Arc::clone(&start.settings.error_logs));
        let vault = Arc::new(Vault::default());
        for (private, file) in start.settings.private.iter().zip(&start.private) {
            vault.put(private, file)?;
        }
        let private = start.settings.private.clone();
        let thread_error = |error: std::io::Error| format!("thread: {error}");
        start::listen(Arc::clone(&channel), events.clone(), log.clone()).map_err(thread_error)?;
        start::open(start.region, start.writer, events.clone()).map_err(thread_error)?;
        let watches = start::watches(&events, &vault, &log, Recorder::mute());
        Ok(Hub {
            events,
            queue,
            pending: VecDeque::new(),
            channel,
            log,
            build: start.build,
            respawned: start.respawned,
            start_timeout: start.settings.start_timeout,
            first: Some(First {
                settings: start.settings,
                resolved: start.resolved,
                wakers: start.wakers,
            }),
            phase: Phase::Locked,
            book: Book::default(),
            tables: None,
            recorder: Recorder::mute(),
            reader: None,
            retry_at: None,
            turned_at: Instant::now() + TURNED,
            watches,
            vault,
            private,
            names: None,
            handed: Handed::default(),
            early: None,
        })
    }

    /// Works until the syncer is to end.
    ///
    /// # Errors
    /// See [`super::run`].
    pub fn run(mut self) -> Result<(), String> {
        let result = self.work();
        self.watches.end();
        if let Some(tables) = self.tables {
            tables.finish();
        }
        self.recorder.finish();
        result
    }

    fn work(&mut self) -> Result<(), String> {
        loop {
            match self.next() {
                Some(Event::End) | Some(Event::Order(Order::Quit, _)) => return Ok(()),
                Some(Event::Opened(opened)) => self.opened(*opened?)?,
                Some(Event::Learned(watch, learned)) => self.learned(watch, learned),
                Some(Event::Split(watch, is_split)) => {
                    let split = self.watches.split(watch, is_split);
                    split.map_err(|error| format!("thread for a watch: {error}"))?;
                }
                Some(Event::Resolved(name, found)) => {
                    if let Some(tables) = &mut self.tables {
                        tables.resolve(&mut self.book, name, found);
                    }
                }
                Some(Event::Order(order, descriptors)) => self.order(order, descriptors),
                Some(Event::LookedBack(id, table)) => self.roll_back(id, table),
                Some(Event::Planned(generation, plan)) => self.planned(generation, plan),
                None => {
                    if let Some(tables) = &mut self.tables {
                        tables.retry(&mut self.book);
                    }
                }
            }
            self.advance()?;
        }
    }

    /// The next event; `None` when there is something to do without one.
    fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.pending.pop_front() {
            return Some(event);
        }
        let now = Instant::now();
        let tables = self.tables.as_ref();
        if now >= self.turned_at {
            tables.inspect(|tables| tables.turned());
            self.turned_at = now + TURNED;
        }
        let behind = tables.is_some_and(Tables::is_behind);
        let retry = behind.then(|| self.retry_at.unwrap_or(now + HELD_RETRY));
        self.retry_at = retry.filter(|at| *at > now);
        if retry != self.retry_at {
            return None;
        }
        let deadline = match &self.phase {
            Phase::Starting { deadline } | Phase::Preparing { deadline, .. } => Some(*deadline),
            _ => None,
        };
        let first = deadline.into_iter().chain(retry).min();
        let until = first.map_or(self.turned_at, |first| first.min(self.turned_at));
        let left = until.saturating_duration_since(now);
        match self.queue.recv_timeout(left) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            // Not while this hub holds a sender itself.
            Err(RecvTimeoutError::Disconnected) => Some(Event::End),
        }
    }

    /// Starts to resolve the names from `first_new` on.
    fn resolve(&mut self, first_new: FeedId) -> Result<(), String> {
        for (id, name) in self.book.names(first_new) {
            if self.names.is_none() {
                let events = self.events.clone();
                let tell = move |id, found| drop(events.send(Event::Resolved(id, found)));
                let names = Names::start(tell, self.log.clone());
                let names = names.map_err(|error| format!("thread to resolve names: {error}"))?;
                self.names = Some(names);
            }
            if let Some(names) = &self.names {
                names.watch(id, name.clone());
            }
        }
        Ok(())
    }

    /// Watches what the book has, whose feeds from `first_new` on are new.
    fn watch(&mut self, first_new: FeedId) -> Result<(), String> {
        self.resolve(first_new)?;
        let set = self.watches.set(&self.book.watched());
        set.map_err(|error| format!("thread for a watch: {error}"))
    }

    /// Takes everything that the watches have told by now into one table version.
    fn learned(&mut self, watch: WatchId, first: Learned) {
        let mut batch = vec![self.spoken(watch, first)];
        while batch.len() < BATCH_MAX {
            match self.queue.try_recv() {
                Ok(Event::Learned(watch, learned)) => batch.push(self.spoken(watch, learned)),
                Ok(other) => {
                    self.pending.push_back(other);
                    break;
                }
                Err(_) => break,
            }
        }
        if let Some(tables) = &mut self.tables {
            tables.settle(&mut self.book, batch);
        }
    }

    /// What a watch has learned about the feeds that it speaks for.
    fn spoken(&self, watch: WatchId, mut learned: Learned) -> Learned {
        let lists = &mut learned.lesson.lists;
        lists.retain(|(feed, _)| self.watches.speaks_for(watch, *feed));
        learned
    }

    /// Goes to the next phase when what it waits for is there, or will not come in time.
    fn advance(&mut self) -> Result<(), String> {
        match &self.phase {
            Phase::Starting { deadline } => {
                let feeds = self.book.ids();
                if self.book.is_waiting(&feeds) && Instant::now() < *deadline {
                    return Ok(());
                }
                let unmet = self.book.unmet(&feeds).filter(|_| !self.respawned);
                if let Some(message) = unmet {
                    return Err(message);
                }
                self.phase = Phase::Running;
                self.answer(&Answer::Ready);
                if let Some((generation, handed)) = self.early.take() {
                    self.prepare(generation, handed);
                }
            }
            Phase::Preparing {
                generation,
                deadline,
                new,
                ..
            } => {
                let generation = *generation;
                if self.book.is_waiting(new) && Instant::now() < *deadline {
                    return Ok(());
                }
                match self.book.unmet(new) {
                    Some(message) => self.refuse(generation, message),
                    None => {
                        if let Phase::Preparing { plan, .. } =
                            std::mem::replace(&mut self.phase, Phase::Running)
                        {
                            self.phase = Phase::Prepared { generation, plan };
                        }
                        self.answer(&Answer::Prepared { generation });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
