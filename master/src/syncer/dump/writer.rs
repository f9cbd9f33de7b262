//! The thread that writes dumps, so that a slow or full disk never delays a publish.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use weir_shm::Server;
use weir_worker::settings::Level;

use super::super::book::Dump;
use super::super::log::Log;

/// What could not be written is tried again this much later, or with the next change.
const RETRY: Duration = Duration::from_secs(10);
/// A syncer that ends waits at most this long for its last dumps.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// Hands dumps to their thread.
#[derive(Debug)]
pub struct Dumper {
    dumps: Sender<Vec<Dump>>,
    finished: Receiver<()>,
}

impl Dumper {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(log: Log) -> io::Result<Dumper> {
        let (dumps, queue) = mpsc::channel();
        let (ended, finished) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("dump".to_owned())
            .spawn(move || {
                run(&queue, &log);
                let _ = ended.send(());
            })?;
        Ok(Dumper { dumps, finished })
    }

    /// Has `dumps` written, each in the place of an earlier one for its path.
    pub fn write(&self, dumps: Vec<Dump>) {
        if !dumps.is_empty() {
            // The thread lives as long as this sender.
            let _ = self.dumps.send(dumps);
        }
    }

    /// Waits for what is still to be written, [`FINISH_MAX`] at most.
    pub fn finish(self) {
        drop(self.dumps);
        let _ = self.finished.recv_timeout(FINISH_MAX);
    }
}

fn run(queue: &Receiver<Vec<Dump>>, log: &Log) {
    let mut failed: BTreeMap<PathBuf, Vec<Server>> = BTreeMap::new();
    let mut retry_at = Instant::now();
    loop {
        let first = if failed.is_empty() {
            queue.recv().map_err(RecvTimeoutError::from)
        } else {
            queue.recv_timeout(retry_at.saturating_duration_since(Instant::now()))
        };
        let mut fresh: BTreeMap<PathBuf, Vec<Server>> = match first {
            Ok(dumps) => dumps.into_iter().collect(),
            Err(RecvTimeoutError::Timeout) => BTreeMap::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Ok(dumps) = queue.try_recv() {
            fresh.extend(dumps);
        }
        if fresh.is_empty() || retry_at <= Instant::now() {
            for (path, servers) in &failed {
                fresh.entry(path.clone()).or_insert_with(|| servers.clone());
            }
            retry_at = Instant::now() + RETRY;
        }
        write_each(fresh, &mut failed, log);
    }
}

fn write_each(
    dumps: BTreeMap<PathBuf, Vec<Server>>,
    failed: &mut BTreeMap<PathBuf, Vec<Server>>,
    log: &Log,
) {
    for (path, servers) in dumps {
        match super::write(&path, &servers) {
            Ok(()) => {
                if failed.remove(&path).is_some() {
                    let path = path.display();
                    log.log(
                        Level::Notice,
                        format_args!("dump \"{path}\" is written again"),
                    );
                }
            }
            Err(error) => {
                let name = path.display();
                if !failed.contains_key(&path) {
                    log.log(
                        Level::Error,
                        format_args!("dump \"{name}\" could not be written ({error}), routing goes on, retry in {} s", RETRY.as_secs()),
                    );
                }
                failed.insert(path, servers);
            }
        }
    }
}
