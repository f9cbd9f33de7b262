//! The shared region of weir: versioned upstream tables behind a latch, counters and a scoreboard.
//!
//! This crate is the only home of shared memory. Everything above it works with owned values: a
//! [`Table`] goes in through a [`Publisher`], comes out through a [`WorkerRegion`] (a worker) or a
//! [`Reader`] (a process outside the tree), and nobody else knows an offset.
//! `docs/region.md` describes the layout for readers in other languages.
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test ends where it is surprised")
)]
mod carry;
mod check;
mod clock;
mod counters;
mod decode;
mod encode;
mod error;
#[doc(hidden)]
pub mod failures;
pub mod fault;
mod follow;
#[doc(hidden)]
pub mod history;
mod journal;
#[doc(hidden)]
pub mod latch;
mod latency;
pub mod layout;
mod map;
mod publisher;
mod reader;
mod reading;
mod reconcile;
mod region;
mod rows;
mod scoreboard;
pub mod table;
#[allow(unsafe_code, reason = "makes atomics from the words of a mapping")]
mod word;
mod worker;

pub use carry::{Identity, SameServers};
pub use check::{Report, SlotReport};
pub use clock::monotonic_ms;
pub use counters::{Counters, Counts};
pub use error::{Damage, Error, PublishError, ReadError, SnapshotError, TooLong};
pub use failures::{Cursors, Failures};
pub use follow::{Carried, Tally};
pub use history::Record;
pub use journal::Journal;
pub use latency::{Histogram, Latencies};
pub use layout::Capacity;
pub use publisher::{Publication, Publisher};
pub use reader::{Header, Reader, ServerCounters};
pub use region::Region;
pub use scoreboard::{Metric, Row, Status, WorkerRow, WorkerState};
pub use table::{Address, CounterId, Leaving, Seen, Server, TEMPLATE_NAME_MAX, Table, Upstream};
pub use worker::{Snapshot, SnapshotUpstream, WorkerRegion};
