//! What the directives have said so far, before anything is inherited.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::Fault;
use weir_master::settings::{
    Guard, Place, Resource, Secret, Server, SocketOptions, Upsync, UpsyncLog,
};
use weir_shm::Address;
use weir_worker::settings::{
    AccessLog, AccessRule, AddHeader, Bind, CookieFlags, ErrorPage, ExpiresRule, InFileOnly,
    KeepaliveDisable, LingeringClose, LocationKind, LogBuffer, LogFileCache, LogFormat, LogTarget,
    Resolver, Return, Rewrite, ServerId, ServerName, TempFolder, Template,
};

/// A whole configuration.
#[derive(Default)]
pub struct Draft {
    /// The main context.
    pub main: Main,
    /// `events {}`
    pub events: Option<Events>,
    /// `http {}`
    pub http: Option<Http>,
    /// The `http {}` level, and the levels within it that are being read.
    levels: Vec<Level>,
    /// Outside every level; nothing reads it.
    outside: Level,
    /// What the master opens.
    pub resources: Vec<Resource>,
}

impl Draft {
    /// The level that is being read.
    pub fn level(&mut self) -> &mut Level {
        self.levels.last_mut().unwrap_or(&mut self.outside)
    }

    /// Begins a level.
    pub fn enter(&mut self, level: Level) {
        self.levels.push(level);
    }

    /// Ends a level.
    pub fn leave(&mut self) -> Level {
        self.levels.pop().unwrap_or_default()
    }

    /// The directives of this level that the levels within it inherit.
    pub fn common(&mut self) -> &mut Common {
        &mut self.level().common
    }

    /// `events {}`
    pub fn events(&mut self) -> &mut Events {
        self.events.get_or_insert_default()
    }

    /// `http {}`
    pub fn http(&mut self) -> &mut Http {
        self.http.get_or_insert_default()
    }

    /// The number of a resource; each is opened once.
    pub fn resource(&mut self, resource: Resource) -> usize {
        let found = self.resources.iter().position(|known| *known == resource);
        found.unwrap_or_else(|| {
            self.resources.push(resource);
            self.resources.len() - 1
        })
    }
}

/// The main context.
#[derive(Default)]
pub struct Main {
    pub daemon: Option<bool>,
    pub master_process: Option<bool>,
    pub user: Option<weir_master::settings::User>,
    pub pid: Option<String>,
    pub worker_processes: Option<usize>,
    pub rlimit_nofile: Option<u64>,
    pub shutdown_timeout: Option<Duration>,
    pub watchdog: Option<Duration>,
    pub error_logs: Option<Vec<LogTarget>>,
    pub region: Option<RegionDraft>,
    pub control: Option<String>,
    pub upsync_state: Option<String>,
}

/// `region`
pub struct RegionDraft {
    pub path: String,
    pub servers: Option<u32>,
    pub upstreams: Option<u32>,
    pub workers: Option<u32>,
    pub slots: Option<u32>,
    /// In bytes.
    pub history: Option<u32>,
}

/// `events {}`
#[derive(Default)]
pub struct Events {
    pub worker_connections: Option<u64>,
    pub multi_accept: Option<bool>,
    pub used: Option<String>,
}

/// `http {}`, beside its level.
#[derive(Default)]
pub struct Http {
    pub level: Level,
    pub servers: Vec<Level>,
    pub listens: Vec<Listen>,
    pub upstreams: Vec<UpstreamDraft>,
    /// The one whose block is being read.
    pub open_upstream: usize,
    /// `log_format`s in their order.
    pub formats: Vec<(String, Arc<LogFormat>)>,
    /// `access_log … buffer=`, by resource.
    pub log_buffers: HashMap<usize, LogBuffer>,
    /// Each `open_log_file_cache`.
    pub log_caches: Vec<LogFileCache>,
    pub start_timeout: Option<Duration>,
    /// `Some(None)` is `off`.
    pub drain_timeout: Option<Option<Duration>>,
    /// `upsync_guard`; `Some(None)` is off.
    pub guard: Option<Option<Guard>>,
    pub upsync_log: Option<UpsyncLog>,
    pub source: SourceDraft,
    /// Each `upsync_discover`.
    pub discovers: Vec<DiscoverDraft>,
}

impl Http {
    /// The upstream whose block is being read.
    pub fn upstream(&mut self) -> &mut UpstreamDraft {
        if self.open_upstream >= self.upstreams.len() {
            self.open_upstream = self.upstreams.len();
            self.upstreams.push(UpstreamDraft::default());
        }
        &mut self.upstreams[self.open_upstream]
    }
}

/// A `listen` address.
pub struct Listen {
    pub address: Address,
    pub servers: Vec<ServerId>,
    pub default: Option<ServerId>,
    /// Options of the socket were given.
    pub set: bool,
    pub backlog: i32,
    pub ipv6only: bool,
    pub options: SocketOptions,
    pub place: Place,
}

/// `http {}`, `server {}` or `location {}`.
#[derive(Default)]
pub struct Level {
    pub place: Place,
    pub common: Common,
    pub kind: Option<LocationKind>,
    /// `location @name`
    pub named: bool,
    pub path: String,
    pub names: Vec<(String, ServerName)>,
    pub listens: bool,
    /// `access_log off`, which no other `access_log` of the level undoes.
    pub access_off: bool,
    pub handler: Option<HandlerDraft>,
    pub ret: Option<Return>,
    pub locations: Vec<Level>,
}

/// What answers a request.
#[derive(Clone)]
pub enum HandlerDraft {
    UpstreamShow,
    StubStatus,
    Proxy(ProxyPass),
}

/// `proxy_pass`
#[derive(Clone)]
pub enum ProxyPass {
    /// An upstream by its place in [`Http::upstreams`], `$proxy_host`, and the URI.
    Known {
        upstream: usize,
        host: String,
        /// `$proxy_port`; 0 for a unix socket.
        port: u16,
        /// All of it as written.
        url: String,
        uri: Option<String>,
    },
    /// With variables: what follows `http://`.
    Named(Template),
}

/// `upsync_discover`
pub struct DiscoverDraft {
    /// Its source, as that of an upstream without a name.
    pub upstream: UpstreamDraft,
    /// `template=`
    pub template: String,
}

/// An `upstream {}`, or what a `proxy_pass` names without one.
#[derive(Clone, Default)]
pub struct UpstreamDraft {
    pub name: String,
    /// It has a block.
    pub explicit: bool,
    /// The port that `proxy_pass` gave or its default; 0 for a block.
    pub port: u16,
    /// `proxy_pass` gave none.
    pub no_port: bool,
    pub place: Place,
    /// There is no server in it, which only a template may have.
    pub empty: Option<Fault>,
    pub servers: Vec<Server>,
    pub upsync: Option<Upsync>,
    /// What `upsync`'s address begins with.
    pub https: bool,
    pub source: SourceDraft,
    pub dump: Option<String>,
    /// As in [`Http`].
    pub guard: Option<Option<Guard>>,
    pub lb: Option<String>,
    pub keepalive: Option<usize>,
    pub keepalive_requests: Option<u64>,
    pub keepalive_timeout: Option<Duration>,
    pub keepalive_time: Option<Duration>,
    /// `Some(None)` is `off`.
    pub drain_timeout: Option<Option<Duration>>,
    pub resolver: Option<Arc<Resolver>>,
    pub resolver_timeout: Option<Duration>,
}

/// How a source is spoken to: in `http {}` for all upstreams, or an upstream's own.
#[derive(Clone, Default)]
pub struct SourceDraft {
    /// `upsync_token` or `upsync_token_file`, whichever the level has.
    pub token: Option<TokenDraft>,
    pub trusted: Option<FileDraft>,
    pub certificate: Option<FileDraft>,
    pub key: Option<FileDraft>,
    pub verify: Option<bool>,
    pub name: Option<String>,
}

/// A token, and the directive that gave it.
#[derive(Clone)]
pub enum TokenDraft {
    Text(Secret),
    File(FileDraft),
}

/// A file that a directive names.
#[derive(Clone)]
pub struct FileDraft {
    pub path: String,
    pub place: Place,
}

/// `add_header_inherit` and `add_trailer_inherit`: what becomes of the outer level's fields.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Inherit {
    /// `off`: they are left out.
    Off,
    /// `on`: they are taken over by a level without fields of its own.
    #[default]
    On,
    /// `merge`: they follow its own.
    Merge,
}

impl Inherit {
    fn list<T: Clone>(self, own: Option<Vec<T>>, outer: Option<&Vec<T>>) -> Option<Vec<T>> {
        match (own, outer, self) {
            (own, _, Inherit::Off) | (own, None, _) => own,
            (None, Some(outer), _) => Some(outer.clone()),
            (own, Some(_), Inherit::On) => own,
            (Some(mut own), Some(outer), Inherit::Merge) => {
                own.extend_from_slice(outer);
                Some(own)
            }
        }
    }
}

/// Makes the struct of what inner levels inherit from outer ones, each value as a whole.
macro_rules! common {
    ($($name:ident: $type:ty,)*) => {
        /// Directives that a level takes over from the one around it when it does not have them.
        #[derive(Clone, Default)]
        pub struct Common {
            $(pub $name: Option<$type>,)*
        }

        impl Common {
            /// Takes over from the level around what this one does not say.
            pub fn inherit(&mut self, outer: &Common) {
                let own_headers = self.add_headers.take();
                let own_trailers = self.add_trailers.take();
                $(
                    if self.$name.is_none() {
                        self.$name.clone_from(&outer.$name);
                    }
                )*
                let how = self.add_header_inherit.unwrap_or_default();
                self.add_headers = how.list(own_headers, outer.add_headers.as_ref());
                let how = self.add_trailer_inherit.unwrap_or_default();
                self.add_trailers = how.list(own_trailers, outer.add_trailers.as_ref());
            }
        }
    };
}

common! {
    absolute_redirect: bool,
    access: Vec<AccessRule>,
    access_logs: Vec<AccessLog>,
    add_header_inherit: Inherit,
    add_headers: Vec<AddHeader>,
    add_trailer_inherit: Inherit,
    add_trailers: Vec<AddHeader>,
    chunked_transfer_encoding: bool,
    client_body_buffer_size: u64,
    client_body_in_file_only: InFileOnly,
    client_body_in_single_buffer: bool,
    client_body_temp_path: Arc<TempFolder>,
    client_body_timeout: Duration,
    client_header_buffer_size: u64,
    client_header_timeout: Duration,
    client_max_body_size: u64,
    default_type: String,
    error_logs: Vec<LogTarget>,
    error_pages: Vec<ErrorPage>,
    expires: ExpiresRule,
    ignore_invalid_headers: bool,
    internal: bool,
    keepalive_disable: KeepaliveDisable,
    keepalive_min_timeout: Duration,
    keepalive_requests: u64,
    keepalive_time: Duration,
    keepalive_timeout: (Duration, Option<Duration>),
    large_client_header_buffers: (u64, u64),
    log_file_cache: Option<usize>,
    limit_rate: Template,
    limit_rate_after: Template,
    lingering_close: LingeringClose,
    lingering_time: Duration,
    lingering_timeout: Duration,
    max_headers: u64,
    merge_slashes: bool,
    proxy_buffer_size: u64,
    proxy_buffering: bool,
    proxy_buffers: (u64, u64),
    proxy_busy_buffers_size: u64,
    msie_padding: bool,
    port_in_redirect: bool,
    proxy_bind: Option<Bind>,
    proxy_connect_timeout: Duration,
    proxy_cookie_domains: Vec<Rewrite>,
    proxy_cookie_flags: Vec<CookieFlags>,
    proxy_cookie_paths: Vec<Rewrite>,
    proxy_hide_headers: Vec<String>,
    proxy_http_minor: u8,
    proxy_ignore_headers: u16,
    proxy_intercept_errors: bool,
    proxy_method: Template,
    proxy_next_upstream: u16,
    proxy_next_upstream_timeout: Duration,
    proxy_next_upstream_tries: u64,
    proxy_pass_headers: Vec<String>,
    proxy_pass_request_body: bool,
    proxy_pass_request_headers: bool,
    proxy_pass_trailers: bool,
    proxy_limit_rate: Template,
    proxy_max_temp_file_size: u64,
    proxy_read_timeout: Duration,
    proxy_redirects: Vec<Rewrite>,
    proxy_request_buffering: bool,
    proxy_send_timeout: Duration,
    proxy_set_body: Template,
    proxy_socket_keepalive: bool,
    proxy_set_headers: Vec<(String, Template)>,
    proxy_temp_file_write_size: u64,
    proxy_temp_path: Arc<TempFolder>,
    recursive_error_pages: bool,
    reset_timedout_connection: bool,
    resolver: Arc<Resolver>,
    resolver_timeout: Duration,
    send_timeout: Duration,
    sendfile: bool,
    server_name_in_redirect: bool,
    server_tokens: bool,
    tcp_nodelay: bool,
    tcp_nopush: bool,
    types: Arc<HashMap<Vec<u8>, Vec<u8>>>,
    underscores_in_headers: bool,
}
