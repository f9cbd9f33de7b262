//! Upstreams as a worker sees them: the plan made from the table, and idle connections.

pub mod keepalive;
pub mod plan;
pub mod resolved;
