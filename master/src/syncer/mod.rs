//! The syncer: the one process that long-polls Consul and publishes upstream tables.

pub mod backoff;
pub mod client;
pub mod consul;
pub mod decode;
pub mod dump;
pub mod index;
pub mod order;
pub mod response;
pub mod stop;
