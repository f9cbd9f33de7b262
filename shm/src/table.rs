//! An upstream table as owned values: what the syncer publishes and what readers get back.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The longest name of an upstream that others are like, in bytes.
pub const TEMPLATE_NAME_MAX: usize = 255;

/// All upstreams at one table version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The table version; 0 before the first publish, then rising by one a publish.
    pub version: u64,
    /// In configuration order.
    pub upstreams: Vec<Upstream>,
    /// Removed servers whose counter rows were still in use when this table was published.
    pub leaving: Vec<Leaving>,
    /// When its cause was seen.
    pub seen: Seen,
    /// When it was published, in nanoseconds of CLOCK_MONOTONIC; 0 before the first publish.
    pub published: u64,
}

/// When what caused a table was seen, in nanoseconds of CLOCK_MONOTONIC: the last byte of a
/// source's answer was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen(pub u64);

impl Seen {
    /// Nobody saw it: the table has no cause outside.
    pub const NOBODY: Seen = Seen(0);

    /// At this moment.
    #[must_use]
    pub fn now() -> Seen {
        Seen(crate::clock::now_ns())
    }
}

/// A server that was removed and whose counter row is not free yet: a worker may still route by
/// an older table, or a request may be in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The name of the upstream that it was in.
    pub upstream: Arc<str>,
    /// What it was.
    pub server: Server,
    /// The table version that dropped it.
    pub dropped: u64,
}

/// One upstream and its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name of the `upstream` block, or `host:port` of a `proxy_pass` without one.
    pub name: String,
    /// The table version that last changed this upstream.
    pub changed: u64,
    /// `servers` were learned, from Consul or a dump of what it said; else they are configured.
    pub learned: bool,
    /// It was found by `upsync_discover`, and is like the upstream of this name; `None`: it is in
    /// the configuration. At most [`TEMPLATE_NAME_MAX`] bytes.
    pub template: Option<Arc<str>>,
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

impl CounterId {
    /// As one word: the incarnation in the high half.
    pub(crate) fn word(self) -> u64 {
        halves(self.index, self.incarnation)
    }

    /// From one word.
    pub(crate) fn from_word(word: u64) -> Self {
        CounterId {
            index: low(word),
            incarnation: high(word),
        }
    }
}

/// The low half of a word.
pub(crate) fn low(word: u64) -> u32 {
    (word & u64::from(u32::MAX)) as u32
}

/// The high half of a word.
pub(crate) fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// A word of two halves.
pub(crate) fn halves(low: u32, high: u32) -> u64 {
    (u64::from(high) << 32) | u64::from(low)
}
