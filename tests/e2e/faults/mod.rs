//! Whatever breaks between weir and Consul, or etcd: no request fails, no server is lost, the log says what
//! it is without a flood, a change made meanwhile appears soon after the end, and so does every
//! later one.
//!
//! Each subject is a table of [`row::Row`]s, which run side by side on one weir: an upstream and a
//! [`crate::support::fault::FaultProxy`] for each row, real Consul behind them, requests to all of
//! them all the time. `cargo test --test e2e faults:: -- --nocapture` prints how long each took.

mod answers;
mod checks;
mod connections;
mod controls;
mod entries;
mod etcd;
mod half_open;
mod outages;
mod row;
mod scene;
mod situations;
mod sizes;
mod stage;
mod tokens;
mod workers;

use std::time::Duration;

/// How soon after a broken connection, a refusal or an error is over a change made meanwhile is
/// there, on a machine with nothing else to do.
const RECOVERED: Duration = Duration::from_millis(250);
/// As [`RECOVERED`], for a connection that is open and dead.
const HALF_OPEN: Duration = Duration::from_secs(15);
/// As [`RECOVERED`], for a long poll that waits for an index from before Consul's data was lost.
const PARKED: Duration = Duration::from_secs(11);

/// As [`PARKED`], when an answer shows it.
const VISIBLE: Duration = Duration::from_secs(1);

/// How long a fault lasts at least: long enough for the pause between two attempts to have grown
/// as far as it may.
const LASTS: Duration = Duration::from_secs(3);

/// The deadline on a machine that is busy with other things.
fn at_most(bound: Duration) -> Duration {
    (bound * 10).min(bound + Duration::from_secs(10))
}

/// Requests that a fault may cost: so many at once, and so many a second after that.
const REQUESTS: usize = 15;
const REQUESTS_A_SECOND: usize = 10;

fn requests(span: Duration) -> usize {
    REQUESTS + REQUESTS_A_SECOND * (span.as_secs() as usize + 1)
}

/// Log lines that a fault may cost: each kind once, and once more every so often.
const LINES: usize = 6;
const LINES_AGAIN: Duration = Duration::from_secs(5);

fn lines(span: Duration) -> usize {
    LINES + (span.as_secs() / LINES_AGAIN.as_secs()) as usize
}
