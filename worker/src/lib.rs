//! A weir worker: one thread around one mio poll, HTTP/1.1 in and out, proxying and balancing.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that fails may panic")
)]

pub mod access;
pub mod balance;
pub mod buffer;
pub mod channel;
pub mod connection;
pub mod handler;
pub mod http;
pub mod log;
pub mod route;
pub mod settings;
mod start;
#[cfg(test)]
mod testing;
pub mod timer;
pub mod transport;
pub mod upstream;
pub mod variable;

pub use start::Start;

/// The whole life of a worker.
///
/// # Errors
/// Why it cannot go on.
pub fn run(start: Start) -> Result<(), String> {
    let slot = start.slot;
    Err(format!("worker {slot} has no event loop yet"))
}
