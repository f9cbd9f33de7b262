//! The thread that writes dumps, so that a slow or full disk never delays a publish.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use weir_shm::Server;
use weir_worker::settings::Level;

use super::super::book::Dump;
use super::super::log::Log;
use super::super::place::Place;
use crate::errno::describe;

/// What could not be written is tried again this much later, or with the next change.
const RETRY: Duration = Duration::from_secs(10);
/// A syncer that ends waits at most this long for its last dumps.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// The list of each path.
type Lists = BTreeMap<PathBuf, Vec<Server>>;

/// Hands dumps to their thread.
#[derive(Debug)]
pub struct Dumper {
    place: Place,
    desk: Arc<Desk>,
    finished: Receiver<()>,
}

impl Dumper {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(log: Log, place: Place) -> io::Result<Dumper> {
        let desk = Arc::new(Desk::default());
        let (ended, finished) = mpsc::sync_channel(1);
        let its = Arc::clone(&desk);
        thread::Builder::new()
            .name("dump".to_owned())
            .spawn(move || {
                run(&its, &log);
                let _ = ended.send(());
            })?;
        Ok(Dumper {
            place,
            desk,
            finished,
        })
    }

    /// Has `dumps` written, each in the place of an earlier one for its path; unless another syncer
    /// does so.
    pub fn write(&self, dumps: Vec<Dump>) {
        if !dumps.is_empty() && self.place.is_held() {
            self.desk.put(dumps);
        }
    }

    /// Waits for what is still to be written, [`FINISH_MAX`] at most.
    pub fn finish(self) {
        self.desk.close();
        let _ = self.finished.recv_timeout(FINISH_MAX);
    }
}

/// Where lists wait to be written. Only the latest of each path does: a disk that hangs while
/// servers come and go costs no more memory than one that works.
#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Lists,
    closed: bool,
}

impl Desk {
    fn put(&self, dumps: Vec<Dump>) {
        self.lock().waiting.extend(dumps);
        self.moved.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.moved.notify_all();
    }

    /// What waits, once something does: nothing when `until` has passed, `None` at the end.
    fn take(&self, until: Option<Instant>) -> Option<Lists> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => break,
                Some(left) => match self.moved.wait_timeout(state, left) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self
                    .moved
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        Some(std::mem::take(&mut state.waiting))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(desk: &Desk, log: &Log) {
    let mut failed = Lists::new();
    let mut retry_at = Instant::now();
    while let Some(mut fresh) = desk.take((!failed.is_empty()).then_some(retry_at)) {
        if fresh.is_empty() || retry_at <= Instant::now() {
            for (path, servers) in &failed {
                fresh.entry(path.clone()).or_insert_with(|| servers.clone());
            }
            retry_at = Instant::now() + RETRY;
        }
        write_each(fresh, &mut failed, log);
    }
}

fn write_each(lists: Lists, failed: &mut Lists, log: &Log) {
    for (path, servers) in lists {
        let name = path.display();
        match super::write(&path, &servers) {
            Ok(()) => {
                if failed.contains_key(&path) {
                    let message = format_args!("dump \"{name}\" is written again");
                    log.log(Level::Notice, message);
                    failed.remove(&path);
                }
            }
            Err(error) => {
                if !failed.contains_key(&path) {
                    log.log(
                        Level::Error,
                        format_args!(
                            "dump \"{name}\" could not be written {}, routing goes on, \
                             retry in {} s",
                            describe(&error),
                            RETRY.as_secs()
                        ),
                    );
                }
                failed.insert(path, servers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shm::{Address, CounterId};

    fn dump(path: &str, port: u16) -> Dump {
        let server = Server {
            address: Address::Ip(([127, 0, 0, 1], port).into()),
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        };
        (path.into(), vec![server])
    }

    #[test]
    fn only_the_latest_list_of_a_path_waits() {
        let desk = Desk::default();
        for port in 1..100 {
            desk.put(vec![dump("a", port), dump("b", 1)]);
        }
        let expected: Lists = [dump("a", 99), dump("b", 1)].into();
        assert_eq!(desk.take(None), Some(expected));
        assert_eq!(desk.take(Some(Instant::now())), Some(Lists::new()));
    }

    #[test]
    fn what_waits_at_the_end_is_still_written() {
        let desk = Desk::default();
        desk.put(vec![dump("a", 1)]);
        desk.close();
        assert_eq!(desk.take(None), Some([dump("a", 1)].into()));
        assert_eq!(desk.take(None), None);
    }
}
