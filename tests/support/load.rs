//! Steady requests from several threads while something happens to weir.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Failure};
use super::process::alive;
use super::{PATIENCE, wait_until};

/// From the last connection's end to the process's.
const EXIT: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<Failed>>,
}

/// Threads that each send one GET after another on a persistent connection, for one target after
/// another.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// A request that failed.
#[derive(Clone)]
pub struct Failed {
    /// The X-Pid of the answer before it on the same connection, if there was one.
    pub worker: Option<String>,
    /// The status of its answer, if it had one.
    pub status: Option<u16>,
    /// Why.
    pub why: String,
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (worker {:?})", self.why, self.worker)
    }
}

/// What the load has seen.
#[derive(Debug)]
pub struct Outcome {
    pub answered: usize,
    /// One for each request that got no answer, or not status 200.
    pub failures: Vec<Failed>,
}

impl Load {
    /// Starts `connections` of them; returns when answers come.
    pub fn start(address: &str, target: &str, connections: usize) -> Load {
        Load::paced(address, &[target.to_owned()], connections, Duration::ZERO)
    }

    /// As [`Load::start`], for several targets and with a pause between two requests.
    pub fn paced(address: &str, targets: &[String], connections: usize, pause: Duration) -> Load {
        let shared = Arc::<Shared>::default();
        let threads = (0..connections)
            .map(|number| {
                let (shared, address) = (Arc::clone(&shared), address.to_owned());
                let mut targets = targets.to_vec();
                let first = number * targets.len() / connections;
                targets.rotate_left(first);
                thread::spawn(move || run(&shared, &address, &targets, pause))
            })
            .collect();
        let load = Load { shared, threads };
        load.progress();
        load
    }

    /// Waits until some requests more have been answered, those in flight now among them.
    pub fn progress(&self) {
        let goal = self.answered() + 20 * self.threads.len().max(1);
        wait_until(PATIENCE, "the load gets answers", || {
            self.answered() >= goal || !self.shared.failures.lock().unwrap().is_empty()
        });
    }

    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Acquire)
    }

    pub fn stop(mut self) -> Outcome {
        self.end();
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        Outcome {
            answered: self.answered(),
            failures,
        }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl Outcome {
    /// The failures but those without an answer on a kept connection of a worker that has retired: any
    /// server may close an idle connection while a request is on its way there.
    pub fn unexplained(&self) -> Vec<&Failed> {
        let retired = |failed: &Failed| {
            let pid = failed
                .worker
                .as_ref()
                .and_then(|worker| worker.parse().ok());
            failed.status.is_none() && pid.is_some_and(ends)
        };
        self.failures
            .iter()
            .filter(|failed| !retired(failed))
            .collect()
    }
}

/// Whether a process has ended, or is about to: its connections go a little earlier.
fn ends(pid: u32) -> bool {
    let begun = Instant::now();
    while alive(pid) && begun.elapsed() < EXIT {
        thread::sleep(Duration::from_millis(5));
    }
    !alive(pid)
}

/// A kept connection and the worker behind it.
struct Open {
    client: Client,
    worker: Option<String>,
}

fn run(shared: &Shared, address: &str, targets: &[String], pause: Duration) {
    let mut open = None;
    for target in targets.iter().cycle() {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        thread::sleep(pause);
        let worker = open.as_ref().and_then(|open: &Open| open.worker.clone());
        match once(open.take(), address, target) {
            Ok(next) => {
                open = next;
                shared.answered.fetch_add(1, Ordering::AcqRel);
            }
            Err((status, why)) => {
                let why = format!("{target}: {why}");
                let failed = Failed {
                    worker,
                    status,
                    why,
                };
                shared.failures.lock().unwrap().push(failed);
            }
        }
    }
}

/// One request; the connection if it is kept. The error has the status of its answer, if it had one.
fn once(
    open: Option<Open>,
    address: &str,
    target: &str,
) -> Result<Option<Open>, (Option<u16>, String)> {
    let text = |failure: Failure| (None, failure.to_string());
    let mut client = match open {
        Some(open) => open.client,
        None => Client::try_connect(address).map_err(text)?,
    };
    let response = client.get(target).map_err(text)?;
    match response.status {
        200 => {
            let worker = response.field("x-pid").map(str::to_owned);
            Ok(response.keeps().then_some(Open { client, worker }))
        }
        status => Err((Some(status), format!("status {status}"))),
    }
}
