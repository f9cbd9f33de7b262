//! The shared region of weir: versioned upstream tables behind a latch, counters and a scoreboard.
//!
//! This crate is the only home of shared memory. Everything above it works with owned values: a
//! [`Table`] goes in through a [`Publisher`], comes out through a [`TableReader`] (a worker) or a
//! [`Reader`] (a process outside the tree), and nobody else knows an offset.
//! `docs/region.md` describes the layout for readers in other languages.
#[cfg(not(target_os = "linux"))]
compile_error!("weir runs on Linux only");

pub mod layout;
pub mod table;

pub use layout::Capacity;
pub use table::{Address, CounterId, Server, Table, Upstream};
