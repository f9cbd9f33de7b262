//! A weir worker: one thread around one mio poll, HTTP/1.1 in and out, proxying and balancing.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that fails may panic")
)]

pub mod balance;
pub mod buffer;
pub mod channel;
pub mod connection;
pub mod http;
pub mod log;
pub mod settings;
pub mod timer;
pub mod transport;
pub mod upstream;
