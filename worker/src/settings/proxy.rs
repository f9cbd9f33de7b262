//! `proxy_pass` and what shapes it.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Bind, Buffering, CookieFlags, CookieName, Hidden, IgnoredHeaders, MINUTE, NextUpstream,
    RESOLVER_TIMEOUT, Resolver, Rewrite, RewriteFrom, Template, UpstreamId,
};

/// A `proxy_pass` and the directives that shape it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Which upstream.
    pub target: ProxyTarget,
    /// `$proxy_host`: the name and port as `proxy_pass` has them (empty with variables).
    pub host: Vec<u8>,
    /// `$proxy_port`; 0 for a unix socket.
    pub port: u16,
    /// The URI of `proxy_pass`, which replaces the location's part; `None` passes the request's own.
    pub uri: Option<Vec<u8>>,
    /// `proxy_http_version`: 0 or 1, the minor version.
    pub http_minor: u8,
    /// `proxy_pass_trailers`: trailer fields of answers are passed on as such.
    pub pass_trailers: bool,
    /// `proxy_method`; `None` is the request's own.
    pub method: Option<Template>,
    /// `proxy_set_header Host`; without it, or where it is empty and the version is 1.1, `$proxy_host`.
    pub set_host: Option<Template>,
    /// `proxy_set_header` in force but for `Host`, nginx's defaults merged in; a result that is empty
    /// drops the field. The framing of the body is no field of these.
    pub set_headers: Vec<(Vec<u8>, Template)>,
    /// `proxy_set_header Content-Length ""`: a request without a body has no `Content-Length: 0`.
    pub drop_length: bool,
    /// `proxy_set_body`
    pub set_body: Option<Template>,
    /// `proxy_pass_request_headers`
    pub pass_request_headers: bool,
    /// `proxy_pass_request_body`
    pub pass_request_body: bool,
    /// `proxy_hide_header` and `proxy_pass_header`
    pub hidden: Hidden,
    /// `proxy_ignore_headers`
    pub ignored: IgnoredHeaders,
    /// `proxy_intercept_errors`
    pub intercept_errors: bool,
    /// `proxy_redirect`; empty is `off`.
    pub redirects: Vec<Rewrite>,
    /// `proxy_cookie_domain`; empty is `off`.
    pub cookie_domains: Vec<Rewrite>,
    /// `proxy_cookie_path`; empty is `off`.
    pub cookie_paths: Vec<Rewrite>,
    /// `proxy_cookie_flags`; empty is `off`.
    pub cookie_flags: Vec<CookieFlags>,
    /// `proxy_bind`
    pub bind: Option<Bind>,
    /// `proxy_socket_keepalive`
    pub socket_keepalive: bool,
    /// `proxy_next_upstream`: after which failures another server is asked.
    pub next_upstream: NextUpstream,
    /// `proxy_next_upstream_tries`: servers that are asked at most; 0 is no limit.
    pub next_upstream_tries: u64,
    /// `proxy_next_upstream_timeout`: for how long servers are asked; zero is no limit.
    pub next_upstream_timeout: Duration,
    /// How much of a body is held, in both directions.
    pub buffering: Buffering,
    /// `proxy_connect_timeout`.
    pub connect_timeout: Duration,
    /// `proxy_read_timeout`, between two reads.
    pub read_timeout: Duration,
    /// `proxy_send_timeout`, between two writes.
    pub send_timeout: Duration,
    /// `resolver`: who knows the names that variables give.
    pub resolver: Option<Arc<Resolver>>,
    /// `resolver_timeout`: how long a request waits for a name.
    pub resolver_timeout: Duration,
}

impl Default for Proxy {
    /// nginx's defaults, to the first upstream; without any field of its own.
    fn default() -> Self {
        Self {
            target: ProxyTarget::Upstream(0),
            host: Vec::new(),
            port: 0,
            uri: None,
            http_minor: 1,
            pass_trailers: false,
            method: None,
            set_host: None,
            set_headers: Vec::new(),
            drop_length: false,
            set_body: None,
            pass_request_headers: true,
            pass_request_body: true,
            hidden: Hidden::default(),
            ignored: IgnoredHeaders::default(),
            intercept_errors: false,
            redirects: Vec::new(),
            cookie_domains: Vec::new(),
            cookie_paths: Vec::new(),
            cookie_flags: Vec::new(),
            bind: None,
            socket_keepalive: false,
            next_upstream: NextUpstream::DEFAULT,
            next_upstream_tries: 0,
            next_upstream_timeout: Duration::ZERO,
            buffering: Buffering::default(),
            connect_timeout: MINUTE,
            read_timeout: MINUTE,
            send_timeout: MINUTE,
            resolver: None,
            resolver_timeout: RESOLVER_TIMEOUT,
        }
    }
}

impl Proxy {
    /// Every value with variables.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let target = match &self.target {
            ProxyTarget::Named(template) => Some(template),
            ProxyTarget::Upstream(_) => None,
        };
        target
            .into_iter()
            .chain(&self.method)
            .chain(&self.set_host)
            .chain(&self.set_body)
            .chain(&self.buffering.limit_rate)
            .chain(match &self.bind {
                Some(Bind::Value(template)) => Some(template),
                _ => None,
            })
            .chain(self.rewrites())
            .chain(self.set_headers.iter().map(|(_, value)| value))
    }

    fn rewrites(&self) -> impl Iterator<Item = &Template> {
        let rules = self.redirects.iter();
        let rules = rules.chain(&self.cookie_domains).chain(&self.cookie_paths);
        let rules = rules.flat_map(|rule| {
            let from = match &rule.from {
                RewriteFrom::Prefix(from) | RewriteFrom::Domain(from) => Some(from),
                RewriteFrom::Pattern(_) => None,
            };
            from.into_iter().chain([&rule.to])
        });
        let flags = self.cookie_flags.iter().flat_map(|rule| {
            let cookie = match &rule.cookie {
                CookieName::Named(name) => Some(name),
                CookieName::Pattern(_) => None,
            };
            cookie.into_iter().chain(&rule.flags)
        });
        rules.chain(flags)
    }

    /// Whether some directive changes cookies.
    #[must_use]
    pub fn changes_cookies(&self) -> bool {
        !(self.cookie_domains.is_empty()
            && self.cookie_paths.is_empty()
            && self.cookie_flags.is_empty())
    }

    /// The client's body is not passed on: another one is sent, or none.
    #[must_use]
    pub fn drops_body(&self) -> bool {
        self.set_body.is_some() || !self.pass_request_body
    }
}

/// Which upstream a `proxy_pass` names.
#[derive(Clone, Debug, PartialEq)]
pub enum ProxyTarget {
    /// Known when the configuration was read.
    Upstream(UpstreamId),
    /// With variables: a URL, scheme and all, whose host is looked up among the upstreams for each
    /// request; a URI in it is passed as it is.
    Named(Template),
}
