//! What a worker is told to do, built from the configuration by the crate above: plain values
//! with every inheritance of nginx's contexts already resolved.

mod answer;
mod answer_fields;
mod bind;
mod body;
mod client;
mod location;
mod log;
mod next_upstream;
mod pattern;
mod proxy;
mod resolver;
mod rewrite;
mod template;

use std::sync::Arc;
use std::time::Duration;

use weir_shm::Address;

pub use answer::{ErrorAnswer, ErrorPage, ExpiresRule};
pub use answer_fields::{Hidden, IgnoredHeaders};
pub use bind::Bind;
pub use body::{Buffering, ClientBody, InFileOnly, TempFolder};
pub use client::{KeepaliveDisable, Lingering, LingeringClose};
pub use location::{
    AccessFrom, AccessRule, AddHeader, Handler, Location, LocationKind, LocationSettings, Return,
};
pub use log::{AccessLog, Escape, LogBuffer, LogFile, LogFileCache, LogFormat, LogName, Logs};
pub use next_upstream::NextUpstream;
pub use pattern::{Captures, Pattern};
pub use proxy::{Proxy, ProxyTarget};
pub use resolver::{RESOLVER_TIMEOUT, Resolver};
pub use rewrite::{CookieFlags, CookieName, From as RewriteFrom, Rewrite};
pub use template::{Part, Template, Variable};

/// nginx's default of most timeouts.
const MINUTE: Duration = Duration::from_secs(60);
/// nginx's default of `keepalive_time`, for clients and for upstreams.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Index into the numbered resources (logs) that the master opens and hands down.
pub type ResourceId = usize;
/// Index into [`Settings::servers`].
pub type ServerId = usize;
/// Index into [`Settings::upstreams`].
pub type UpstreamId = usize;

/// One whole configuration, as a worker sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `worker_connections`: client and upstream connections together.
    pub worker_connections: usize,
    /// `worker_shutdown_timeout`; `None` waits for ever.
    pub shutdown_timeout: Option<Duration>,
    /// `multi_accept`: accept until the queue is empty in one loop turn.
    pub multi_accept: bool,
    /// `error_log` of the main context.
    pub error_logs: Arc<[LogTarget]>,
    /// The logs that these and others mean.
    pub logs: Logs,
    /// One a distinct `listen` address.
    pub listeners: Vec<Listener>,
    /// Every `server {}` of `http {}`, in configuration order.
    pub servers: Vec<VirtualServer>,
    /// Every `upstream {}` in configuration order, then the implicit ones of `proxy_pass`.
    pub upstreams: Vec<Upstream>,
}

/// Where log lines go and from which level on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTarget {
    /// The opened log.
    pub resource: ResourceId,
    /// The least severe level that is written.
    pub level: Level,
}

/// nginx's levels of `error_log`, the most severe first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[allow(missing_docs, reason = "the names are nginx's own and say it all")]
pub enum Level {
    Emerg,
    Alert,
    Crit,
    Error,
    Warn,
    Notice,
    Info,
    Debug,
}

/// A `listen` address and the servers behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The address, also the key by which sockets are matched to listeners.
    pub address: Address,
    /// Every server that names this address, in configuration order.
    pub servers: Vec<ServerId>,
    /// `default_server`, else the first.
    pub default: ServerId,
}

/// One `server {}` block of `http {}`.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualServer {
    /// `server_name`, lower case; the first is `$server_name`.
    pub names: Vec<ServerName>,
    /// Its `location {}` blocks.
    pub locations: Vec<Location>,
    /// Its `location @name {}` blocks, which only weir itself sends requests to.
    pub named: Vec<(Vec<u8>, Arc<LocationSettings>)>,
    /// What serves a request that no location matches; its `return` comes before all locations.
    pub fallback: Arc<LocationSettings>,
    /// `client_header_timeout`.
    pub client_header_timeout: Duration,
    /// `client_header_buffer_size`, bytes.
    pub client_header_buffer_size: usize,
    /// `large_client_header_buffers`: number and bytes of each.
    pub large_client_header_buffers: (usize, usize),
    /// `max_headers`
    pub max_headers: usize,
    /// `ignore_invalid_headers`
    pub ignore_invalid_headers: bool,
    /// `underscores_in_headers`
    pub underscores_in_headers: bool,
    /// `merge_slashes`
    pub merge_slashes: bool,
}

impl Default for VirtualServer {
    /// nginx's defaults; without a name.
    fn default() -> Self {
        Self {
            names: Vec::new(),
            locations: Vec::new(),
            named: Vec::new(),
            fallback: Arc::default(),
            client_header_timeout: MINUTE,
            client_header_buffer_size: 1024,
            large_client_header_buffers: (4, 8192),
            max_headers: 1000,
            ignore_invalid_headers: true,
            underscores_in_headers: false,
            merge_slashes: true,
        }
    }
}

/// A name in `server_name`, lower case, without the wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerName {
    /// `example.com`, also `""` for requests without Host.
    Exact(String),
    /// `*.example.com`: holds `example.com`; any name below it matches.
    Leading(String),
    /// `.example.com`: holds `example.com`; it and any name below it match.
    Dotted(String),
    /// `www.example.*`: holds `www.example`.
    Trailing(String),
}

/// What a worker has to know of an upstream; its servers come from the table, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The key into the table.
    pub name: String,
    /// From a `proxy_pass` without an `upstream {}`; `upstream_show` leaves it out.
    pub implicit: bool,
    /// `keepalive`: idle connections a worker keeps to this upstream; 0 is none.
    pub keepalive: usize,
    /// `keepalive_requests` of the upstream.
    pub keepalive_requests: u64,
    /// `keepalive_timeout` of the upstream.
    pub keepalive_timeout: Duration,
    /// `keepalive_time` of the upstream: the age after which a connection is not kept again.
    pub keepalive_time: Duration,
    /// `upsync_drain_timeout`: how long what is in flight to a removed server has; `None` is as long
    /// as it takes.
    pub drain_timeout: Option<Duration>,
    /// `upsync_lb`, or the method named in the block.
    pub balance: Balance,
}

impl Default for Upstream {
    /// nginx's defaults of an upstream with a block.
    fn default() -> Self {
        Self {
            name: String::new(),
            implicit: false,
            keepalive: 32,
            keepalive_requests: 1000,
            keepalive_timeout: MINUTE,
            keepalive_time: HOUR,
            drain_timeout: None,
            balance: Balance::RoundRobin,
        }
    }
}

/// How a server is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// nginx's smooth weighted round robin.
    RoundRobin,
}
