//! What a worker is told to do, built from the configuration by the crate above: plain values
//! with every inheritance of nginx's contexts already resolved.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_shm::Address;

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
    /// What serves a request that no location matches.
    pub fallback: Arc<LocationSettings>,
    /// `client_header_timeout`.
    pub client_header_timeout: Duration,
    /// `client_header_buffer_size`, bytes.
    pub client_header_buffer_size: usize,
    /// `large_client_header_buffers`: number and bytes of each.
    pub large_client_header_buffers: (usize, usize),
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

/// One `location {}` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    /// Its modifier.
    pub kind: LocationKind,
    /// The prefix or whole path, after unescaping.
    pub path: Vec<u8>,
    /// Everything that it says or inherits.
    pub settings: Arc<LocationSettings>,
}

/// The modifier of a `location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocationKind {
    /// `=`
    Exact,
    /// none
    Prefix,
    /// `^~`
    PrefixNoRegex,
}

/// Directives of a location, inherited ones included.
#[derive(Clone, Debug, PartialEq)]
pub struct LocationSettings {
    /// The location's path as written in the configuration; empty for the server's fallback.
    pub name: Vec<u8>,
    /// Who answers.
    pub handler: Handler,
    /// `return` is decided before access rules, as nginx's rewrite phase is.
    pub ret: Option<Return>,
    /// `allow` and `deny`, in order; the first match decides, no match allows.
    pub access: Vec<AccessRule>,
    /// `add_header`.
    pub add_headers: Vec<AddHeader>,
    /// `client_max_body_size` in bytes; 0 is no limit.
    pub client_max_body_size: u64,
    /// `client_body_timeout`, between two reads.
    pub client_body_timeout: Duration,
    /// `send_timeout`, between two writes.
    pub send_timeout: Duration,
    /// `keepalive_timeout`; zero closes after the answer.
    pub keepalive_timeout: Duration,
    /// `keepalive_timeout`'s second value, for the `Keep-Alive` field.
    pub keepalive_header: Option<Duration>,
    /// `keepalive_requests`.
    pub keepalive_requests: u64,
    /// `keepalive_time`: the age after which a connection closes with its next answer.
    pub keepalive_time: Duration,
    /// `tcp_nodelay`.
    pub tcp_nodelay: bool,
    /// `tcp_nopush`.
    pub tcp_nopush: bool,
    /// `sendfile`.
    pub sendfile: bool,
    /// `default_type`.
    pub default_type: Vec<u8>,
    /// `types`: file extension (lower case) to type.
    pub types: Arc<std::collections::HashMap<Vec<u8>, Vec<u8>>>,
    /// `access_log`; empty is `off`.
    pub access_logs: Vec<AccessLog>,
    /// `error_log` in force here.
    pub error_logs: Arc<[LogTarget]>,
}

/// An `access_log`.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// The opened log.
    pub resource: ResourceId,
    /// The line, without its newline; `combined` unless named.
    pub format: Template,
}

/// What produces the answer of a location.
#[derive(Clone, Debug, PartialEq)]
pub enum Handler {
    /// None was configured: 404.
    None,
    /// `proxy_pass`.
    Proxy(Box<Proxy>),
    /// `upstream_show`.
    UpstreamShow,
    /// `stub_status`.
    StubStatus,
}

/// `return CODE [TEXT|URL]` or `return URL`.
#[derive(Clone, Debug, PartialEq)]
pub struct Return {
    /// 0 to 999; 444 closes the connection without an answer.
    pub status: u16,
    /// The text, or for 301, 302, 303, 307 and 308 the URL.
    pub text: Option<Template>,
}

/// One `allow` or `deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// `allow` rather than `deny`.
    pub allow: bool,
    /// Whom it matches.
    pub from: AccessFrom,
}

/// Whom an access rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFrom {
    /// `all`
    All,
    /// `unix:`
    Unix,
    /// A network: its address with the host bits cleared, and the prefix length.
    Network(IpAddr, u8),
}

/// One `add_header`.
#[derive(Clone, Debug, PartialEq)]
pub struct AddHeader {
    /// The field's name.
    pub name: Vec<u8>,
    /// Its value; an empty result adds nothing.
    pub value: Template,
    /// Also for codes other than 200, 201, 204, 206, 301, 302, 303, 304, 307 and 308.
    pub always: bool,
}

/// A `proxy_pass` and the directives that shape it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Which upstream.
    pub target: ProxyTarget,
    /// `$proxy_host`: the name and port as `proxy_pass` has them (empty with variables).
    pub host: Vec<u8>,
    /// The URI of `proxy_pass`, which replaces the location's part; `None` passes the request's own.
    pub uri: Option<Vec<u8>>,
    /// `proxy_http_version`: 0 or 1, the minor version.
    pub http_minor: u8,
    /// `proxy_set_header` in force, nginx's defaults (Host, Connection) merged in; a result that is
    /// empty drops the field.
    pub set_headers: Vec<(Vec<u8>, Template)>,
    /// `proxy_connect_timeout`.
    pub connect_timeout: Duration,
    /// `proxy_read_timeout`, between two reads.
    pub read_timeout: Duration,
    /// `proxy_send_timeout`, between two writes.
    pub send_timeout: Duration,
}

/// Which upstream a `proxy_pass` names.
#[derive(Clone, Debug, PartialEq)]
pub enum ProxyTarget {
    /// Known when the configuration was read.
    Upstream(UpstreamId),
    /// With variables: the text after `http://`, looked up by name for each request; a URI in it
    /// is passed as it is.
    Named(Template),
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
    /// `upsync_lb`, or the method named in the block.
    pub balance: Balance,
}

/// How a server is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// nginx's smooth weighted round robin.
    RoundRobin,
}

/// A value with variables, such as `$scheme://$host/x`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Its parts in order.
    pub parts: Vec<Part>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(Vec<u8>),
    /// Evaluated for each request.
    Variable(Variable),
}

/// nginx's variables that weir knows. Names with a suffix hold it in the form in which it is
/// looked up: lower case, and `-` for `_` in names of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is nginx's variable of the same name")]
pub enum Variable {
    Arg(Vec<u8>),
    Cookie(Vec<u8>),
    Http(Vec<u8>),
    SentHttp(Vec<u8>),
    UpstreamHttp(Vec<u8>),
    Args,
    BinaryRemoteAddr,
    BodyBytesSent,
    BytesSent,
    Connection,
    ConnectionRequests,
    ContentLength,
    ContentType,
    DocumentUri,
    Host,
    Hostname,
    Https,
    IsArgs,
    Msec,
    NginxVersion,
    Pid,
    ProxyAddXForwardedFor,
    ProxyHost,
    ProxyPort,
    QueryString,
    RemoteAddr,
    RemotePort,
    RemoteUser,
    Request,
    RequestLength,
    RequestMethod,
    RequestTime,
    RequestUri,
    Scheme,
    ServerAddr,
    ServerName,
    ServerPort,
    ServerProtocol,
    Status,
    TimeIso8601,
    TimeLocal,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamResponseTime,
    Uri,
}
