//! A weir worker: one thread around one mio poll, HTTP/1.1 in and out, proxying and balancing.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails may panic"))]

pub mod channel;
pub mod settings;
