//! A configuration made ready for requests: names and locations to be looked up, logs opened.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use weir_shm::Address;

use crate::http::{LargeBuffers, Limits};
use crate::log::cache::Cache;
use crate::log::files::COMPLAINT_PAUSE;
use crate::log::{ErrorLog, Files};
use crate::route::{Found, Locations, Names};
use crate::settings::{
    ExpiresRule, Handler, Location, LocationSettings, Part, ServerId, ServerName, Settings,
    Template, UpstreamId, Variable, VirtualServer,
};
use crate::upstream::plan::UpstreamPlan;
use crate::url::{Url, UrlHost};

/// Settings, and what is looked up in them for each request.
#[derive(Debug)]
pub struct Conf {
    /// As they were built.
    pub settings: Settings,
    /// The config generation.
    pub generation: u64,
    /// The opened logs.
    pub files: Arc<Files>,
    /// `error_log` of the main context.
    pub log: ErrorLog,
    /// `$hostname`.
    pub hostname: Vec<u8>,
    /// Some access log or field asks for `$server_addr`.
    pub uses_server_addr: bool,
    /// Some access log or field asks for `$sent_http_…`.
    pub uses_sent_http: bool,
    /// Some template asks for `$connections_…`.
    pub uses_connections: bool,
    /// Open logs with variables in their names, as `settings.logs` lists their caches.
    pub log_caches: RefCell<Vec<Cache>>,
    /// The second of the latest complaint about such a log.
    complained_at: Cell<Option<u64>>,
    names: Vec<Names>,
    /// What each listener's default server takes of a head.
    limits: Vec<Limits>,
    /// Another server of the listener takes something else.
    limits_vary: Vec<bool>,
    locations: Vec<Locations>,
    /// `$server_name` of each server.
    server_names: Vec<String>,
    /// By name in lower case: nginx compares the names of upstreams in any.
    upstreams: HashMap<String, UpstreamId>,
    /// Upstreams that the table has dropped because a later configuration does not name them, as they
    /// were.
    departed: RefCell<HashMap<String, Rc<UpstreamPlan>>>,
    /// By the number of a listening socket, its place in `settings.listeners`.
    listeners: Vec<Option<usize>>,
}

/// What a request is served by.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The location.
    pub location: &'a Arc<LocationSettings>,
    /// It is none, but what the server itself says.
    pub is_server: bool,
    /// The same path with a slash at its end is the right one.
    pub redirect: bool,
}

/// `server_name`s as text, the first of each server.
fn first_name(server: &VirtualServer) -> String {
    match server.names.first() {
        Some(ServerName::Exact(name) | ServerName::Dotted(name)) => name.clone(),
        Some(ServerName::Leading(name)) => format!("*.{name}"),
        Some(ServerName::Trailing(name)) => format!("{name}.*"),
        None => String::new(),
    }
}

impl Conf {
    /// `sockets` are the addresses of the worker's listening sockets by their numbers; gone ones
    /// are `None`.
    #[must_use]
    pub fn new(
        settings: Settings,
        generation: u64,
        files: Arc<Files>,
        sockets: &[Option<Address>],
    ) -> Self {
        let names = settings.listeners.iter();
        let names = names.map(|listener| Names::new(listener, &settings.servers));
        let server = |id: &ServerId| settings.servers.get(*id).map(limits_of);
        let limits = settings.listeners.iter();
        let limits: Vec<Limits> = limits
            .map(|listener| server(&listener.default).unwrap_or_default())
            .collect();
        let listeners = settings.listeners.iter().zip(&limits);
        let limits_vary = listeners.map(|(listener, limits)| {
            let mut servers = listener.servers.iter();
            servers.any(|id| server(id).is_some_and(|other| other != *limits))
        });
        let limits_vary = limits_vary.collect();
        let locations = settings.servers.iter();
        let locations = locations.map(|server| Locations::new(&server.locations));
        let upstreams = settings.upstreams.iter().zip(0..);
        let hostname = nix::unistd::gethostname();
        Self {
            generation,
            log: ErrorLog::new(Arc::clone(&files), Arc::clone(&settings.error_logs)),
            hostname: hostname.map_or_else(|_| Vec::new(), OsString::into_encoded_bytes),
            uses_server_addr: asks(&settings, |asked| *asked == Variable::ServerAddr),
            uses_sent_http: asks(&settings, |asked| matches!(asked, Variable::SentHttp(_))),
            uses_connections: asks(&settings, |asked| {
                matches!(
                    asked,
                    Variable::ConnectionsActive
                        | Variable::ConnectionsReading
                        | Variable::ConnectionsWaiting
                        | Variable::ConnectionsWriting
                )
            }),
            log_caches: RefCell::new(
                settings
                    .logs
                    .caches
                    .iter()
                    .copied()
                    .map(Cache::new)
                    .collect(),
            ),
            complained_at: Cell::new(None),
            names: names.collect(),
            limits,
            limits_vary,
            locations: locations.collect(),
            server_names: settings.servers.iter().map(first_name).collect(),
            upstreams: upstreams
                .map(|(upstream, id)| (upstream.name.to_ascii_lowercase(), id))
                .collect(),
            departed: RefCell::default(),
            listeners: sockets
                .iter()
                .map(|socket| {
                    let address = socket.as_ref()?;
                    let mut listeners = settings.listeners.iter();
                    listeners.position(|listener| listener.address == *address)
                })
                .collect(),
            settings,
            files,
        }
    }

    /// No new request is served by it: the logs of those in flight are opened for each line, so
    /// that it is always the file of that name.
    pub fn retire(&self) {
        self.log_caches.borrow_mut().clear();
    }

    /// The table has this upstream no more: requests that are served by this configuration, which
    /// may name it, go on by it.
    pub fn keep(&self, upstream: &Rc<UpstreamPlan>) {
        if self.upstream(upstream.configured()).is_some() {
            let (name, kept) = (upstream.name.clone(), Rc::clone(upstream));
            self.departed.borrow_mut().insert(name, kept);
        }
    }

    /// Takes over what another one with the same upstreams has kept.
    pub fn keep_all_of(&self, other: &Conf) {
        for upstream in other.departed.borrow().values() {
            self.keep(upstream);
        }
    }

    /// An upstream that was kept.
    #[must_use]
    pub fn departed(&self, name: &str) -> Option<Rc<UpstreamPlan>> {
        self.departed.borrow().get(name).cloned()
    }

    /// Whether it is time, at this second, to complain about a log with variables in its name; then
    /// it is not for a while.
    #[must_use]
    pub fn complains_of_paths(&self, now: u64) -> bool {
        let last = self.complained_at.get();
        let time = last.is_none_or(|last| now.abs_diff(last) >= COMPLAINT_PAUSE);
        if time {
            self.complained_at.set(Some(now));
        }
        time
    }

    /// A socket got this number.
    pub fn add_socket(&mut self, number: u32, address: &Address) {
        let number = number as usize;
        if number >= self.listeners.len() {
            self.listeners.resize(number + 1, None);
        }
        let mut listeners = self.settings.listeners.iter();
        self.listeners[number] = listeners.position(|listener| listener.address == *address);
    }

    /// The place of a listening socket's address in the settings; the first one's for a socket that
    /// is not configured any more, whose clients are on their way out.
    fn listener(&self, number: u32) -> Option<usize> {
        let place = self.listeners.get(number as usize).copied().flatten();
        place.or_else(|| (!self.settings.listeners.is_empty()).then_some(0))
    }

    /// Whether an address is listened at.
    #[must_use]
    pub fn has_listener(&self, address: &Address) -> bool {
        let mut listeners = self.settings.listeners.iter();
        listeners.any(|listener| listener.address == *address)
    }

    /// `tcp_nodelay` of an address's default server.
    #[must_use]
    pub fn nodelay(&self, address: &Address) -> bool {
        let mut listeners = self.settings.listeners.iter();
        let listener = listeners.find(|listener| listener.address == *address);
        let server = listener.and_then(|listener| self.settings.servers.get(listener.default));
        server.is_some_and(|server| server.fallback.tcp_nodelay)
    }

    /// The address of a listening socket.
    #[must_use]
    pub fn listener_address(&self, number: u32) -> Option<&Address> {
        Some(&self.settings.listeners[self.listener(number)?].address)
    }

    /// The listener's default server.
    #[must_use]
    pub fn default_server(&self, listener: u32) -> Option<&VirtualServer> {
        let listener = &self.settings.listeners[self.listener(listener)?];
        self.settings.servers.get(listener.default)
    }

    /// What is taken of a request's head, as far as it has come. nginx reads a head by the default
    /// server's settings until a name in it tells of another one.
    #[must_use]
    pub fn head_limits(&self, listener: u32, head: &[u8]) -> Limits {
        let Some(place) = self.listener(listener) else {
            return Limits::default();
        };
        let limits = self.limits[place];
        if !self.limits_vary[place] {
            return limits;
        }
        let Some(host) = crate::http::head::host_in(head) else {
            return limits;
        };
        let server = self.names[place].find(&host);
        let server = self.settings.servers.get(server);
        let of_fields = server.map_or(limits, limits_of);
        Limits {
            field: of_fields.field,
            fields: of_fields.fields,
            ignore_invalid: of_fields.ignore_invalid,
            underscores: of_fields.underscores,
            ..limits
        }
    }

    /// `client_header_timeout`.
    #[must_use]
    pub fn header_timeout(&self, listener: u32) -> Duration {
        self.default_server(listener)
            .map_or(Duration::ZERO, |server| server.client_header_timeout)
    }

    /// The server for a request.
    #[must_use]
    pub fn server(&self, listener: u32, host: &[u8]) -> Option<ServerId> {
        Some(self.names[self.listener(listener)?].find(host))
    }

    /// The location of a server for a normalized path.
    #[must_use]
    pub fn route(&self, server: ServerId, path: &[u8]) -> Option<Route<'_>> {
        let fallback = &self.settings.servers.get(server)?.fallback;
        let route = |location, redirect| Route {
            location,
            is_server: Arc::ptr_eq(location, fallback),
            redirect,
        };
        // `return` of the server answers before a location is looked for.
        if fallback.ret.is_some() {
            return Some(route(fallback, false));
        }
        Some(match self.locations[server].find(path) {
            Found::Location(location) => route(location, false),
            Found::Redirect(location) => route(location, true),
            Found::Nothing => route(fallback, false),
        })
    }

    /// The location `@name` of a server.
    #[must_use]
    pub fn named(&self, server: ServerId, name: &[u8]) -> Option<&Arc<LocationSettings>> {
        let mut named = self.settings.servers.get(server)?.named.iter();
        let (_, location) = named.find(|(known, _)| known == name)?;
        Some(location)
    }

    /// What serves a request whose head could not be taken: the listener's default server itself.
    #[must_use]
    pub fn default_route(&self, listener: u32) -> Option<(ServerId, &Arc<LocationSettings>)> {
        let server = self.settings.listeners[self.listener(listener)?].default;
        Some((server, &self.settings.servers.get(server)?.fallback))
    }

    /// The upstream of this name.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<UpstreamId> {
        self.upstreams.get(&name.to_ascii_lowercase()).copied()
    }

    /// The upstream that a URL of `proxy_pass` means: a block by its name alone, or what another
    /// `proxy_pass` names with the same port.
    #[must_use]
    pub fn upstream_of(&self, url: &Url) -> Option<UpstreamId> {
        let key = match &url.host {
            UrlHost::Unix(path) => format!("unix:{path}"),
            _ => format!("{}:{}", url.text, url.port),
        };
        let block = url.no_port.then(|| self.upstream(&url.text)).flatten();
        let is_block = |id: &UpstreamId| {
            let upstream = self.settings.upstreams.get(*id);
            upstream.is_some_and(|upstream| !upstream.implicit)
        };
        block.or_else(|| self.upstream(&key).filter(|id| !is_block(id)))
    }

    /// `$server_name`: the first name of the server, without the dot at its front.
    #[must_use]
    pub fn server_name(&self, server: ServerId) -> &str {
        self.server_names.get(server).map_or("", String::as_str)
    }
}

/// What a server takes of a request's head.
fn limits_of(server: &VirtualServer) -> Limits {
    let (number, size) = server.large_client_header_buffers;
    let large = LargeBuffers { number, size };
    Limits {
        first: server.client_header_buffer_size,
        line: large,
        field: large,
        fields: server.max_headers,
        ignore_invalid: server.ignore_invalid_headers,
        underscores: server.underscores_in_headers,
        merge_slashes: server.merge_slashes,
    }
}

/// Whether any template asks for such a variable.
fn asks(settings: &Settings, which: impl Fn(&Variable) -> bool) -> bool {
    let asks = |template: &Template| {
        let mut parts = template.parts.iter();
        parts.any(|part| matches!(part, Part::Variable(variable) if which(variable)))
    };
    let location = |location: &LocationSettings| {
        let mut fields = location.add_headers.iter().chain(&location.add_trailers);
        let fields = fields.any(|field| asks(&field.value));
        let mut logs = location.access_logs.iter();
        let logs = logs.any(|log| log.templates().any(asks));
        let text = location.ret.as_ref().and_then(|ret| ret.text.as_ref());
        let rates = [&location.limit_rate, &location.limit_rate_after];
        let rates = rates.into_iter().flatten().any(asks);
        let proxy = match &location.handler {
            Handler::Proxy(proxy) => proxy.templates().any(asks),
            _ => false,
        };
        let expires = match &location.expires {
            Some(ExpiresRule::Variable { value, .. }) => asks(value),
            _ => false,
        };
        let pages = location.error_pages.iter().any(|page| asks(&page.target));
        fields || logs || proxy || rates || pages || expires || text.is_some_and(asks)
    };
    settings.servers.iter().any(|server| {
        let mut named = server.named.iter();
        location(&server.fallback)
            || named.any(|(_, one)| location(one))
            || any_location(&server.locations, &location)
    })
}

/// Whether this is so of any location, those within others included.
fn any_location(locations: &[Location], which: &impl Fn(&LocationSettings) -> bool) -> bool {
    let mut locations = locations.iter();
    locations.any(|one| which(&one.settings) || any_location(&one.inner, which))
}
