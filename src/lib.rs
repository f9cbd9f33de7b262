//! The face of weir, shared by its binaries: command lines, the configuration language, the demo.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that fails may panic")
)]

pub mod cli;
pub mod config;
pub mod demo;
pub mod paths;
pub mod weirctl;
