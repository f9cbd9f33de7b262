//! What the benchmarks of weir share: peers as processes, their CPU time, wrk, statistics.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod client;
pub mod consul;
pub mod forwarder;
pub mod peer;
pub mod responder;
pub mod statistics;
pub mod wrk;
