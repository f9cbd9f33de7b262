//! Which server gets a request. Pure: time is an argument, and nothing here knows a socket.

pub mod round_robin;
pub mod tried;

mod cluster;

pub use round_robin::{Failed, Making, RoundRobin};
pub use tried::Tried;
