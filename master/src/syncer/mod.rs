//! The syncer: the one process that long-polls Consul and publishes upstream tables.

pub mod dump;
