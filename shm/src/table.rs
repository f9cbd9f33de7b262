//! An upstream table as owned values: what the syncer publishes and what readers get back.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// All upstreams at one table version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The table version; 0 before the first publish, then rising by one a publish.
    pub version: u64,
    /// In configuration order.
    pub upstreams: Vec<Upstream>,
}

/// One upstream and its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name of the `upstream` block, or `host:port` of a `proxy_pass` without one.
    pub name: String,
    /// The table version that last changed this upstream.
    pub changed: u64,
    /// In the order of `upstream_show`: the most recently added server first.
    pub servers: Vec<Server>,
}

/// One server of an upstream, with nginx's `server` parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// `weight=`, 1 to 65535.
    pub weight: u32,
    /// `max_fails=`; 0 switches the accounting of failures off.
    pub max_fails: u32,
    /// `fail_timeout=` in milliseconds.
    pub fail_timeout_ms: u64,
    /// `down`: takes no request.
    pub down: bool,
    /// `backup`: takes requests only when every other server is unavailable.
    pub backup: bool,
    /// Its row in the counters; the same across publishes.
    pub counter: CounterId,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// IPv4 or IPv6 with a port.
    Ip(SocketAddr),
    /// A unix domain socket, at most 107 bytes.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    /// nginx's form: `127.0.0.1:80`, `[::1]:80`, `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A row of the counters and which tenancy of it: an index is given to another server only with
/// the next incarnation, so that a number never counts for two servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CounterId {
    /// The row, below the region's server capacity.
    pub index: u32,
    /// Rises by one each time that the row goes to another server; 0 is no tenancy.
    pub incarnation: u32,
}
