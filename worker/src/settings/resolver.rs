//! `resolver`: who is asked for the addresses of names.

use std::net::SocketAddr;
use std::time::Duration;

/// nginx's default of `resolver_timeout`.
pub const RESOLVER_TIMEOUT: Duration = Duration::from_secs(30);

/// A `resolver` directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// The name servers, asked in turn; at least one.
    pub servers: Vec<SocketAddr>,
    /// `valid=`: how long an answer is used; `None` is what its records say.
    pub valid: Option<Duration>,
    /// `ipv4=`: IPv4 addresses are asked for. It or `ipv6` is on.
    pub ipv4: bool,
    /// `ipv6=`: IPv6 addresses are asked for.
    pub ipv6: bool,
}
