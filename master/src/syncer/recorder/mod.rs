//! The recorder: one thread that keeps what the syncer did and how it does, for people. It owns the
//! region's report and history and the `upsync_log`. Publishers and watches tell it by notes
//! and wait for nothing: whatever is slow, comparing long lists or a full disk, is slow here.

pub mod audit;
pub mod history;
mod ledger;
pub mod note;
pub mod past;
pub mod report;
pub mod sequence;
pub mod state;
mod store;

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use weir_shm::{Journal, Table};
use weir_worker::log::Clock;
use weir_worker::settings::Level;

use super::log::Log;
use super::place::Place;
use ledger::Ledger;
pub use note::Note;
use report::Report;
use store::Store;

/// Reports are at least this far apart.
const REPORT_PAUSE: Duration = Duration::from_millis(20);
/// And so many times as long as writing one took, so that long ones cost no more than short ones.
const REPORT_SHARE: u32 = 20;
/// That a source has confirmed what is known is reported so much later at most: how the source does
/// mostly is a moment later, and goes along.
const CONFIRMED_PAUSE: Duration = Duration::from_secs(1);
/// That all is as it was is reported this many times as long later as writing the report takes, but not
/// sooner than [`CONFIRMED_PAUSE`]: 0.5 ms become 25 s.
const QUIET_SHARE: u32 = 50_000;
/// Nor later.
const QUIET_MAX: Duration = Duration::from_secs(60);
/// A syncer that ends waits at most this long for what is still to be written.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// Where reports and records go.
pub trait Sink: Send + 'static {
    /// Adds a record to the history.
    fn append(&mut self, version: u64, record: &[u8]);
    /// Replaces the report; false if there is no room for it.
    fn report(&mut self, text: &[u8]) -> bool;
}

impl Sink for Journal {
    fn append(&mut self, version: u64, record: &[u8]) {
        Journal::append(self, version, record);
    }

    fn report(&mut self, text: &[u8]) -> bool {
        Journal::report(self, text).is_ok()
    }
}

enum Order {
    Note(Box<Note>),
    After(Box<dyn FnOnce() + Send>),
    Finish(SyncSender<()>),
}

/// A handle on the recorder. Cheap to clone; its thread ends with the last one.
#[derive(Clone, Debug)]
pub struct Recorder {
    orders: Option<Sender<Order>>,
}

/// What a recorder begins with.
pub struct Beginning {
    /// The table that the syncer has taken over.
    pub table: Table,
    /// The report beside it: its predecessor's or the master's.
    pub report: Option<Report>,
    /// The records of the history, the oldest first.
    pub records: Vec<Vec<u8>>,
    /// Of the region.
    pub place: Place,
    /// Where failures and changes are logged.
    pub log: Log,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(sink: impl Sink, mut beginning: Beginning) -> io::Result<Recorder> {
        let (orders, queue) = mpsc::channel();
        let log = beginning.log.clone();
        let records = std::mem::take(&mut beginning.records);
        let store = Store::start(records, beginning.place.clone(), log.clone())?;
        let ledger = Ledger::new(beginning, Clock::system_millis());
        let desk = Desk {
            queue,
            ledger,
            audit: audit::Audit::new(log.clone()),
            store,
            sink,
            log,
            due: Some(Instant::now()),
            next: Instant::now(),
            cost: Duration::ZERO,
            was_cut: false,
        };
        thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || desk.run())?;
        Ok(Recorder {
            orders: Some(orders),
        })
    }

    /// One that records nothing.
    pub fn mute() -> Recorder {
        Recorder { orders: None }
    }

    /// Records something, a moment later.
    pub fn note(&self, note: Note) {
        if let Some(orders) = &self.orders {
            // The thread ends only with the process or after `finish`.
            let _ = orders.send(Order::Note(Box::new(note)));
        }
    }

    /// Does `then` once everything noted so far is in the report, on the recorder's thread.
    pub fn after(&self, then: impl FnOnce() + Send + 'static) {
        let then = Order::After(Box::new(then));
        let unheard = match &self.orders {
            Some(orders) => orders.send(then).err().map(|unsent| unsent.0),
            None => Some(then),
        };
        if let Some(Order::After(then)) = unheard {
            then();
        }
    }

    /// Waits until everything noted so far is written, [`FINISH_MAX`] at most.
    pub fn finish(self) {
        let (done, finished) = mpsc::sync_channel(1);
        let sent = self
            .orders
            .map(|orders| orders.send(Order::Finish(done)).is_ok());
        if sent == Some(true) {
            let _ = finished.recv_timeout(FINISH_MAX);
        }
    }
}

/// The thread.
struct Desk<S> {
    queue: Receiver<Order>,
    ledger: Ledger,
    audit: audit::Audit,
    store: Store,
    sink: S,
    log: Log,
    /// The report in the sink is out of date, and to be written then.
    due: Option<Instant>,
    /// Not to be written before.
    next: Instant,
    /// How long the last one took to write.
    cost: Duration,
    was_cut: bool,
}

impl<S: Sink> Desk<S> {
    fn run(mut self) {
        while let Some(order) = self.next() {
            match order {
                Some(Order::Note(note)) => self.take(*note),
                Some(Order::After(then)) => {
                    if self.due.is_some() {
                        self.write_report();
                    }
                    then();
                }
                Some(Order::Finish(done)) => {
                    self.write_report();
                    self.store.finish(&self.ledger);
                    let _ = done.send(());
                    return;
                }
                None => {}
            }
            if self.report_at().is_some_and(|at| at <= Instant::now()) {
                self.write_report();
            }
            self.store.turn(&self.ledger, Instant::now());
        }
        self.store.finish(&self.ledger);
    }

    /// The next order; nothing when the report is due first; `None` at the end.
    fn next(&self) -> Option<Option<Order>> {
        let Some(next) = self.report_at().into_iter().chain(self.store.due()).min() else {
            return self.queue.recv().ok().map(Some);
        };
        let left = next.saturating_duration_since(Instant::now());
        match self.queue.recv_timeout(left) {
            Ok(order) => Some(Some(order)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// When the next report is to be written.
    fn report_at(&self) -> Option<Instant> {
        Some(self.due?.max(self.next))
    }

    fn take(&mut self, note: Note) {
        let now = Instant::now();
        let later = match &note {
            Note::Confirmed { .. } => CONFIRMED_PAUSE,
            Note::Source(status) if self.ledger.is_quiet(status) => {
                (self.cost * QUIET_SHARE).clamp(CONFIRMED_PAUSE, QUIET_MAX)
            }
            _ => Duration::ZERO,
        };
        self.due = Some(self.due.map_or(now + later, |due| due.min(now + later)));
        if let Note::Configured { log, state, .. } = &note {
            self.audit.exchange(log.clone());
            self.store.exchange(state.clone());
        }
        self.store.note(&note, now);
        let told = self.ledger.take(note);
        if let Some(record) = &told.record {
            match serde_json::to_vec(record) {
                Ok(text) => {
                    self.sink.append(record.version, &text);
                    self.store.keep(text);
                }
                Err(error) => self.log.log(
                    Level::Alert,
                    format_args!("version {} is not recorded: {error}", record.version),
                ),
            }
        }
        self.audit.write(&told, self.ledger.version());
    }

    fn write_report(&mut self) {
        let began = Instant::now();
        self.due = None;
        let report = self.ledger.report(Clock::system_millis());
        let text = serde_json::to_vec(&report).unwrap_or_default();
        if self.sink.report(&text) {
            self.was_cut = false;
        } else {
            let text = serde_json::to_vec(&report.cut()).unwrap_or_default();
            let has_room = self.sink.report(&text);
            if !std::mem::replace(&mut self.was_cut, true) {
                let what = if has_room { "is cut" } else { "is not written" };
                self.log.log(
                    Level::Warn,
                    format_args!("the syncer's report {what}: the region has no room for it"),
                );
            }
        }
        self.cost = began.elapsed();
        self.next = Instant::now() + REPORT_PAUSE.max(self.cost * REPORT_SHARE);
    }
}

#[cfg(test)]
mod tests;
