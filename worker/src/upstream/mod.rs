//! Upstreams as a worker sees them: the plan made from the table, idle connections, failures.

pub mod keepalive;
