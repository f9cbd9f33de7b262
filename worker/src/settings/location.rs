//! What a location says or inherits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    AccessLog, ClientBody, ErrorPage, ExpiresRule, HOUR, KeepaliveDisable, Lingering, LogTarget,
    MINUTE, Proxy, Template,
};

/// One `location {}` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    /// Its modifier.
    pub kind: LocationKind,
    /// The prefix or whole path, after unescaping.
    pub path: Vec<u8>,
    /// Everything that it says or inherits.
    pub settings: Arc<LocationSettings>,
    /// The locations within it, which are looked for when it was found.
    pub inner: Vec<Location>,
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
    /// `add_trailer`.
    pub add_trailers: Vec<AddHeader>,
    /// `expires`, if it is not off.
    pub expires: Option<ExpiresRule>,
    /// `error_page`; the first one for a status has it.
    pub error_pages: Vec<ErrorPage>,
    /// `recursive_error_pages`: an error on the way to an error page has one too.
    pub recursive_error_pages: bool,
    /// `internal`: requests from outside are told that nothing is here.
    pub internal: bool,
    /// `absolute_redirect`: a path in Location becomes a whole URL.
    pub absolute_redirect: bool,
    /// `port_in_redirect`: such a URL names the port, unless it is the scheme's own.
    pub port_in_redirect: bool,
    /// `server_name_in_redirect`: such a URL has `$server_name` and not the client's host.
    pub server_name_in_redirect: bool,
    /// `msie_padding`: browsers that would show a page of their own get a longer one.
    pub msie_padding: bool,
    /// `client_max_body_size` in bytes; 0 is no limit.
    pub client_max_body_size: u64,
    /// Where a request's body is kept while it is read.
    pub client_body: ClientBody,
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
    /// `keepalive_min_timeout`: for so long a kept connection is not closed, not even by a worker
    /// that ends; zero is off.
    pub keepalive_min_timeout: Duration,
    /// `keepalive_disable`.
    pub keepalive_disable: KeepaliveDisable,
    /// `lingering_close` and its times.
    pub lingering: Lingering,
    /// `reset_timedout_connection`.
    pub reset_timedout_connection: bool,
    /// `chunked_transfer_encoding`.
    pub chunked_transfer_encoding: bool,
    /// `server_tokens` is not `off`.
    pub server_tokens: bool,
    /// `limit_rate`: bytes a second that one answer may have, a size; 0 is no limit.
    pub limit_rate: Option<Template>,
    /// `limit_rate_after`: bytes that go before that limit holds, a size.
    pub limit_rate_after: Option<Template>,
    /// `tcp_nodelay`.
    pub tcp_nodelay: bool,
    /// `tcp_nopush`.
    pub tcp_nopush: bool,
    /// `sendfile`.
    pub sendfile: bool,
    /// `default_type`.
    pub default_type: Vec<u8>,
    /// `types`: file extension (lower case) to type.
    pub types: Arc<HashMap<Vec<u8>, Vec<u8>>>,
    /// `access_log`; empty is `off`.
    pub access_logs: Vec<AccessLog>,
    /// `open_log_file_cache`, by its place in the settings' list.
    pub log_file_cache: Option<usize>,
    /// `error_log` in force here.
    pub error_logs: Arc<[LogTarget]>,
}

impl Default for LocationSettings {
    /// nginx's defaults, without logs.
    fn default() -> Self {
        Self {
            name: Vec::new(),
            handler: Handler::None,
            ret: None,
            access: Vec::new(),
            add_headers: Vec::new(),
            add_trailers: Vec::new(),
            expires: None,
            error_pages: Vec::new(),
            recursive_error_pages: false,
            internal: false,
            absolute_redirect: true,
            port_in_redirect: true,
            server_name_in_redirect: false,
            msie_padding: true,
            client_max_body_size: 1 << 20,
            client_body: ClientBody::default(),
            client_body_timeout: MINUTE,
            send_timeout: MINUTE,
            keepalive_timeout: Duration::from_secs(75),
            keepalive_header: None,
            keepalive_requests: 1000,
            keepalive_time: HOUR,
            keepalive_min_timeout: Duration::ZERO,
            keepalive_disable: KeepaliveDisable::default(),
            lingering: Lingering::default(),
            reset_timedout_connection: false,
            chunked_transfer_encoding: true,
            server_tokens: true,
            limit_rate: None,
            limit_rate_after: None,
            tcp_nodelay: true,
            tcp_nopush: false,
            sendfile: false,
            default_type: b"text/plain".to_vec(),
            types: Arc::default(),
            access_logs: Vec::new(),
            log_file_cache: None,
            error_logs: Arc::new([]),
        }
    }
}

impl LocationSettings {
    /// The media type of what a path names: by the extension of its last segment, else `default_type`.
    #[must_use]
    pub fn content_type(&self, path: &[u8]) -> &[u8] {
        let known = extension(path).and_then(|extension| {
            if extension.iter().any(u8::is_ascii_uppercase) {
                return self.types.get(&extension.to_ascii_lowercase());
            }
            self.types.get(extension)
        });
        known.unwrap_or(&self.default_type)
    }
}

/// What follows the last dot of a path's last segment, as nginx finds it: a dot in front is none.
fn extension(path: &[u8]) -> Option<&[u8]> {
    let at = path.iter().rposition(|byte| matches!(byte, b'.' | b'/'))?;
    let is_dot = path[at] == b'.' && at > 1 && path[at - 1] != b'/';
    let extension = is_dot.then(|| &path[at + 1..])?;
    (!extension.is_empty()).then_some(extension)
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
    /// The text, or for 301, 302, 303, 307 and 308 the URL; without one, a status from 400 on is an
    /// error like any other.
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

/// One `add_header` or `add_trailer`.
#[derive(Clone, Debug, PartialEq)]
pub struct AddHeader {
    /// The field's name.
    pub name: Vec<u8>,
    /// Its value; an empty result adds nothing.
    pub value: Template,
    /// Also for codes other than 200, 201, 204, 206, 301, 302, 303, 304, 307 and 308.
    pub always: bool,
    /// It stands in for the server's own field, as nginx has it with Last-Modified and ETag; never a
    /// trailer.
    pub replaces: bool,
}
