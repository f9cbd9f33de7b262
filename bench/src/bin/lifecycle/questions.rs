//! Clients that ask all the time on connections that they keep, and count what happens to these.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use weir_bench::client::Client;

const CLIENTS: usize = 16;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(1);

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub answered: usize,
    /// Connections that were closed in order, with or without a request on its way.
    pub closed: usize,
    pub reset: usize,
    /// Connections that did not come about.
    pub refused: usize,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    answered: AtomicUsize,
    closed: AtomicUsize,
    reset: AtomicUsize,
    refused: AtomicUsize,
}

/// Asks while `act` does something.
pub fn ask_while<T>(port: u16, act: impl FnOnce() -> T) -> (Outcome, T) {
    let counts = Counts::default();
    let result = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask(&counts, port));
        }
        let result = act();
        counts.stop.store(true, Ordering::Release);
        result
    });
    let outcome = Outcome {
        answered: counts.answered.into_inner(),
        closed: counts.closed.into_inner(),
        reset: counts.reset.into_inner(),
        refused: counts.refused.into_inner(),
    };
    (outcome, result)
}

fn ask(counts: &Counts, port: u16) {
    let add = |count: &AtomicUsize| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let mut kept = None;
    while !counts.stop.load(Ordering::Acquire) {
        let mut client = match kept.take().map_or_else(|| Client::connect(port), Ok) {
            Ok(client) => client,
            Err(_) => {
                add(&counts.refused);
                continue;
            }
        };
        match client.request("GET", "/x", "") {
            Ok(answer) => {
                add(&counts.answered);
                match answer.field("connection") {
                    Some("close") => add(&counts.closed),
                    _ => kept = Some(client),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => add(&counts.closed),
            Err(_) => add(&counts.reset),
        }
        thread::sleep(PAUSE);
    }
}
