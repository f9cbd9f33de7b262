//! Upstreams as a worker sees them: the plan made from the table, and idle connections.

pub mod build;
pub mod keepalive;
mod places;
pub mod plan;
pub mod resolved;
pub mod retired;
