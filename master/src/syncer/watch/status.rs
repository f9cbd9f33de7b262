//! How a watch does, for the recorder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_worker::log::Clock;

use super::super::client::Fault;
use super::super::poll::Poller;
use super::super::recorder::report::{SourceError, SourceState, SourceStatus};
use super::super::recorder::{Note, Recorder};
use super::super::turns::WatchId;

/// A watch that finds nothing new says so this often: there may be a thousand that take turns.
const QUIET: Duration = Duration::from_secs(5);

/// Tells the recorder that a watch has ended when it does.
pub struct Status {
    recorder: Recorder,
    now: SourceStatus,
    source: Arc<str>,
    noted: Instant,
    /// The index of the latest answer; it is told when nothing of that is to be read again first.
    latest: u64,
    /// Something that people wait for is not told yet.
    is_due: bool,
}

impl Status {
    /// A watch that has asked for nothing yet.
    pub fn new(id: WatchId, poller: &Poller, recorder: Recorder) -> Status {
        let upsync = poller.upsync();
        let now = SourceStatus {
            id,
            kind: upsync.kind.name().to_owned(),
            address: match upsync.tls {
                Some(_) => format!("https://{}", upsync.host),
                None => upsync.host.clone(),
            },
            path: format!("{}{}", upsync.kind.path(), upsync.prefix),
            ..SourceStatus::default()
        };
        let mut status = Status {
            recorder,
            source: now.name().into(),
            now,
            noted: Instant::now(),
            latest: 0,
            is_due: true,
        };
        status.describes(poller);
        status
    }

    /// The watch, for people: no secret.
    pub fn source(&self) -> Arc<str> {
        Arc::clone(&self.source)
    }

    /// Its upstreams may be others by now.
    pub fn describes(&mut self, poller: &Poller) {
        let targets = poller.targets().iter();
        self.now.upstreams = targets.map(|target| target.upstream.clone()).collect();
        self.note();
    }

    /// A request is on its way.
    pub fn asks(&mut self) {
        self.now.requests += 1;
    }

    /// An answer was handled; `is_known`: it said what was in force already, of each upstream.
    pub fn answered(&mut self, index: u64, changed: bool, is_known: bool) {
        self.is_due |= changed || self.now.state != SourceState::Watching;
        self.latest = index;
        self.now.success_ms = Some(Clock::system_millis());
        self.now.known_ms = self.now.success_ms.filter(|_| is_known);
        self.now.state = SourceState::Watching;
    }

    /// All that the latest answer says was handled, with the reads that it asked for.
    pub fn settles(&mut self) {
        self.is_due |= self.latest != self.now.index;
        self.now.index = self.latest;
    }

    /// The next request follows after `delay`.
    pub fn rests(&mut self, delay: Duration) {
        self.now.delay_ms = millis(delay);
        match self.now.state {
            SourceState::Watching if !delay.is_zero() => self.now.state = SourceState::Waiting,
            _ => {}
        }
        if self.is_due || self.noted.elapsed() >= QUIET {
            self.note();
        }
    }

    /// A request failed; the next follows after about `delay`.
    pub fn failed(&mut self, fault: &Fault, delay: Duration) {
        self.now.failures += 1;
        self.now.state = SourceState::Failing;
        self.now.delay_ms = millis(delay);
        self.blame(fault.to_string());
    }

    /// A direct read says nothing that counts.
    pub fn doubts(&mut self, why: &str) {
        self.blame(why.to_owned());
    }

    /// It leaves its upstreams to others.
    pub fn is_split(&mut self, why: &str) {
        self.now.state = SourceState::Waiting;
        self.blame(format!("not shared: {why}"));
    }

    fn blame(&mut self, text: String) {
        let time_ms = Clock::system_millis();
        self.now.error = Some(SourceError { time_ms, text });
        self.note();
    }

    fn note(&mut self) {
        self.is_due = false;
        self.noted = Instant::now();
        self.recorder.note(Note::Source(self.now.clone()));
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        let id = self.now.id;
        self.recorder.note(Note::SourceGone { id });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
