//! The `weirctl` binary on regions made here: what it shows, and what it makes of damage.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails where something unexpected happens"
)]

mod damage;
mod output;
mod region;
