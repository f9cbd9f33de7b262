//! Steady requests from several threads while something happens to weir.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::client::{Client, Failure};
use super::{PATIENCE, wait_until};

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// Threads that each send one GET after another on a persistent connection.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What the load has seen.
#[derive(Debug)]
pub struct Outcome {
    pub answered: usize,
    /// A line for each request that got no answer, or not status 200.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `connections` of them; returns when answers come.
    pub fn start(address: &str, target: &str, connections: usize) -> Load {
        let shared = Arc::<Shared>::default();
        let threads = (0..connections)
            .map(|_| {
                let (shared, address, target) =
                    (Arc::clone(&shared), address.to_owned(), target.to_owned());
                thread::spawn(move || run(&shared, &address, &target))
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

fn run(shared: &Shared, address: &str, target: &str) {
    let mut client = None;
    while !shared.stop.load(Ordering::Acquire) {
        match once(&mut client, address, target) {
            Ok(()) => {
                shared.answered.fetch_add(1, Ordering::AcqRel);
            }
            Err(failure) => {
                client = None;
                shared.failures.lock().unwrap().push(failure);
            }
        }
    }
}

fn once(client: &mut Option<Client>, address: &str, target: &str) -> Result<(), String> {
    let text = |failure: Failure| failure.to_string();
    let mut own = match client.take() {
        Some(own) => own,
        None => Client::try_connect(address).map_err(text)?,
    };
    let response = own.get(target).map_err(text)?;
    if response.keeps() {
        *client = Some(own);
    }
    match response.status {
        200 => Ok(()),
        status => Err(format!("status {status}")),
    }
}
