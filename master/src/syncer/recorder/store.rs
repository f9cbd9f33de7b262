//! When the state goes to disk, and how much of the history goes with it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use weir_worker::log::Clock;

use super::super::log::Log;
use super::super::place::Place;
use super::Note;
use super::ledger::Ledger;
use super::state::Writer;

/// A change is on disk so much later, with those that came meanwhile.
const PAUSE: Duration = Duration::from_secs(1);
/// That a source has confirmed what is on disk already matters less.
const CONFIRMED_PAUSE: Duration = Duration::from_secs(60);
/// That it says the very same still matters for the age that is told after a power cut alone.
const KNOWN_PAUSE: Duration = Duration::from_secs(600);
/// So much of the history goes along, in bytes.
const HISTORY_MAX: usize = 64 << 10;

/// See the module.
pub struct Store {
    place: Place,
    path: Option<PathBuf>,
    writer: Writer,
    due: Option<Instant>,
    history: VecDeque<Box<RawValue>>,
    history_bytes: usize,
}

impl Store {
    /// Begins with these records, the oldest first.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(records: Vec<Vec<u8>>, place: Place, log: Log) -> io::Result<Store> {
        let mut store = Store {
            place,
            path: None,
            writer: Writer::start(log)?,
            due: None,
            history: VecDeque::new(),
            history_bytes: 0,
        };
        records.into_iter().for_each(|record| store.keep(record));
        Ok(store)
    }

    /// From now on writes there.
    pub fn exchange(&mut self, path: Option<PathBuf>) {
        self.path = path;
    }

    /// One more record; the oldest make room.
    pub fn keep(&mut self, record: Vec<u8>) {
        let text = String::from_utf8(record).unwrap_or_default();
        let Ok(record) = RawValue::from_string(text) else {
            return;
        };
        self.history_bytes += record.get().len();
        self.history.push_back(record);
        while self.history_bytes > HISTORY_MAX {
            let Some(oldest) = self.history.pop_front() else {
                return;
            };
            self.history_bytes -= oldest.get().len();
        }
    }

    /// Sees whether what is on disk is out of date now.
    pub fn note(&mut self, note: &Note, now: Instant) {
        let pause = match note {
            Note::Configured { .. } | Note::Published { .. } | Note::Pinned { .. } => PAUSE,
            Note::Confirmed { .. } => CONFIRMED_PAUSE,
            Note::Source(status) if status.known_ms.is_some() => KNOWN_PAUSE,
            _ => return,
        };
        let due = now + pause;
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// When there is something to write.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes what is due.
    pub fn turn(&mut self, ledger: &Ledger, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.write(ledger);
        }
    }

    fn write(&mut self, ledger: &Ledger) {
        self.due = None;
        if let Some(path) = self.path.as_ref().filter(|_| self.place.is_held()) {
            let mut saved = ledger.saved(Clock::system_millis());
            saved.history = self.history.iter().cloned().collect();
            self.writer.put(path.clone(), saved);
        }
    }

    /// Writes what is still to be written, for a moment at most.
    pub fn finish(mut self, ledger: &Ledger) {
        if self.due.is_some() {
            self.write(ledger);
        }
        self.writer.finish();
    }
}
