//! `upsync_state`: the last good table on disk, for a start after a reboot with every source away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_worker::settings::Level;

use super::super::log::Log;
use super::history::Peer;
use super::report::Pin;
use crate::errno::describe;
use crate::sealed::Kind;

const FILE: Kind = Kind {
    magic: "weir-state 1",
    name: "state file",
    lasts: true,
};
/// What could not be written is tried again this much later, or with the next change.
const RETRY: Duration = Duration::from_secs(10);
/// A syncer that ends waits at most this long for its last write.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// What is on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    /// When, in milliseconds of Unix time.
    pub saved_ms: u64,
    /// The table version.
    pub version: u64,
    /// The upstreams, in the table's order.
    pub upstreams: Vec<SavedUpstream>,
    /// The latest records of the history, the oldest first; only what is small.
    #[serde(default)]
    pub history: Vec<Box<RawValue>>,
}

/// An upstream on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedUpstream {
    /// Its name.
    pub name: String,
    /// The version that last changed it.
    #[serde(default)]
    pub changed: u64,
    /// As in the table.
    pub learned: bool,
    /// When a source last confirmed its servers, in milliseconds of Unix time.
    pub confirmed_ms: Option<u64>,
    /// It is pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pin>,
    /// The upstream that it is like, if `upsync_discover` found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// In the table's order.
    pub servers: Vec<Peer>,
}

/// Reads the file; `None` if there is none.
///
/// # Errors
/// Why it cannot be used, with its name.
pub fn read(path: &Path) -> Result<Option<Saved>, String> {
    FILE.read(path)
}

/// The thread that writes, so that a slow disk delays nobody.
#[derive(Debug)]
pub struct Writer {
    slot: Arc<Slot>,
    finished: Receiver<()>,
}

/// Where the latest state waits; an older one that was not written yet is dropped.
#[derive(Debug, Default)]
struct Slot {
    state: Mutex<Waiting>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    next: Option<(PathBuf, Saved)>,
    closed: bool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(log: Log) -> io::Result<Writer> {
        let slot = Arc::new(Slot::default());
        let (ended, finished) = mpsc::sync_channel(1);
        let its = Arc::clone(&slot);
        thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || {
                run(&its, &log);
                let _ = ended.send(());
            })?;
        Ok(Writer { slot, finished })
    }

    /// Has it written, soon.
    pub fn put(&self, path: PathBuf, saved: Saved) {
        self.slot.lock().next = Some((path, saved));
        self.slot.moved.notify_all();
    }

    /// Waits for what is still to be written, [`FINISH_MAX`] at most.
    pub fn finish(self) {
        self.slot.lock().closed = true;
        self.slot.moved.notify_all();
        let _ = self.finished.recv_timeout(FINISH_MAX);
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next state; nothing when `until` has passed first; `None` at the end.
    fn take(&self, until: Option<Instant>) -> Option<Option<(PathBuf, Saved)>> {
        let mut waiting = self.lock();
        loop {
            if let Some(next) = waiting.next.take() {
                return Some(Some(next));
            }
            if waiting.closed {
                return None;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            waiting = match left {
                Some(Duration::ZERO) => return Some(None),
                Some(left) => match self.moved.wait_timeout(waiting, left) {
                    Ok((waiting, _)) => waiting,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self
                    .moved
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

fn run(slot: &Slot, log: &Log) {
    let mut failed: Option<(PathBuf, Saved)> = None;
    let mut is_failing = false;
    loop {
        let retry = failed.is_some().then(|| Instant::now() + RETRY);
        let Some(next) = slot.take(retry) else { return };
        let Some((path, saved)) = next.or_else(|| failed.take()) else {
            continue;
        };
        let name = path.display();
        match FILE.write(&path, &saved) {
            Ok(()) => {
                if std::mem::take(&mut is_failing) {
                    let message = format_args!("state file \"{name}\" is written again");
                    log.log(Level::Notice, message);
                }
                failed = None;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    log.log(
                        Level::Error,
                        format_args!(
                            "state file \"{name}\" could not be written {}, routing goes on, \
                             retry in {} s",
                            describe(&error),
                            RETRY.as_secs()
                        ),
                    );
                }
                failed = Some((path, saved));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(version: u64) -> Saved {
        let server = Peer {
            address: "127.0.0.1:80".into(),
            weight: 1,
            max_fails: 2,
            fail_timeout_ms: 10_000,
            down: false,
            backup: true,
        };
        Saved {
            saved_ms: 5,
            version,
            upstreams: vec![SavedUpstream {
                name: "test".into(),
                changed: 1,
                learned: true,
                confirmed_ms: Some(4),
                pinned: None,
                template: Some("like".into()),
                servers: vec![server],
            }],
            history: vec![RawValue::from_string("{\"version\":1}".into()).unwrap()],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.state");
        assert!(read(&path).unwrap().is_none());
        FILE.write(&path, &saved(1)).unwrap();
        FILE.write(&path, &saved(2)).unwrap();
        let back = read(&path).unwrap().unwrap();
        assert_eq!((back.version, back.upstreams), (2, saved(2).upstreams));
        assert_eq!(back.history[0].get(), "{\"version\":1}");
    }

    #[test]
    fn the_latest_is_written_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.state");
        let writer = Writer::start(Log::new(Vec::new(), Arc::from([]))).unwrap();
        for version in 1..=50 {
            writer.put(path.clone(), saved(version));
        }
        writer.finish();
        assert_eq!(read(&path).unwrap().unwrap().version, 50);
    }
}
