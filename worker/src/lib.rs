//! A weir worker: one thread around one mio poll, HTTP/1.1 in and out, proxying and balancing.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that fails may panic")
)]

mod accepting;
pub mod access;
pub mod balance;
pub mod buffer;
pub mod channel;
pub mod conf;
pub mod connection;
pub mod cycle;
mod descriptors;
pub mod event;
pub mod follow;
pub mod handler;
pub mod http;
pub mod links;
mod listening;
pub mod log;
pub mod proxy;
mod reload;
pub mod reserve;
pub mod resolver;
pub mod route;
pub mod settings;
mod signal;
pub mod socket;
mod start;
mod temp;
#[cfg(test)]
mod testing;
pub mod timer;
pub mod transport;
pub mod unit;
pub mod upstream;
pub mod url;
pub mod variable;

pub use cycle::run;
pub use start::Start;
