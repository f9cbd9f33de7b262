//! From what the directives said to settings: defaults, inheritance, and the checks that need the
//! whole.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir_master::Built;
use weir_master::settings::{self as master, ListenSocket, Region, Resource};
use weir_shm::Capacity;
use weir_worker::settings::{
    self as worker, Buffering, ClientBody, Handler, LogTarget, ServerName, TempFolder,
};

use super::draft::{Common, Draft, Events, Http, Level, Listen, Main, UpstreamDraft};
use super::error::Fault;
use super::level::{self, Outer};
use super::source::Source;
use crate::paths;

/// nginx's `user`.
const NOBODY: &str = "nobody";
/// nginx's `worker_connections`.
const WORKER_CONNECTIONS: u64 = 512;
/// The most connections that a worker may be given.
const MOST_CONNECTIONS: u64 = 1 << 24;
/// `region … servers=`, `upstreams=`, `slots=` and `history=`
const SERVERS: u32 = 32_768;
const UPSTREAMS: u32 = 4096;
const SLOTS: u32 = Capacity::MIN_SLOTS;
const HISTORY: u32 = 4 << 20;
/// `region … workers=` is `worker_processes` and as many again, to grow in: of those at least and at
/// most so many, as each takes room whether it comes or not.
const MORE_WORKERS: (u32, u32) = (4, 16);
/// The longest path of a control socket: what a unix address holds, and one byte for the name that it
/// is made under.
const CONTROL_MAX: usize = 106;
/// Where `upsync_state` lies unless it is given.
const STATE_FOLDER: &str = "state";
/// `upsync_start_timeout`
const START_TIMEOUT: Duration = Duration::from_secs(2);

/// Settings, and the warnings that came up in making them.
pub struct Outcome {
    /// The settings of all processes.
    pub built: Built,
    /// Warnings of the configuration.
    pub warnings: Vec<Fault>,
    /// Warnings of how it fits the machine, which nginx gives after "syntax is ok".
    pub late_warnings: Vec<Fault>,
}

/// Makes the settings.
pub fn build(mut draft: Draft, source: &mut Source) -> Result<Outcome, Fault> {
    let Some(events) = draft.events.take() else {
        return Err(Fault::whole("no \"events\" section in configuration"));
    };
    let mut main = std::mem::take(&mut draft.main);
    if main.user.is_none() && source.root() {
        main.user = Some(nobody(source)?);
    }
    let error_logs = main_error_logs(&mut draft, &mut main, source);
    let http = draft.http.take().unwrap_or_default();
    let mut warnings = Vec::new();
    let listeners = listeners(&http, &mut warnings)?;
    let sockets = http.listens.iter().map(socket).collect::<Vec<_>>();
    let connections = connections(&events, sockets.len())?;
    let (order, upstreams) = ordered(&http.upstreams);
    check_upstreams(&upstreams, &http)?;
    let servers = virtual_servers(&mut draft, &http, &order, &error_logs, source)?;
    let worker = worker::Settings {
        worker_connections: connections,
        shutdown_timeout: main.shutdown_timeout,
        multi_accept: events.multi_accept.unwrap_or(false),
        error_logs: Arc::clone(&error_logs),
        logs: logs(&draft.resources, &http),
        listeners,
        servers,
        upstreams: upstreams
            .iter()
            .map(|upstream| worker_upstream(upstream, &http))
            .collect(),
    };
    let late_warnings = file_limit_warning(&main, connections, source);
    let finders = http.discovers.iter().map(|discover| &discover.upstream);
    let sources: Vec<_> = upstreams.iter().copied().chain(finders).collect();
    let fed = super::upsync::sources(&sources, &http, source)?;
    let (control, state) = (main.control.take(), main.upsync_state.take());
    let mut settings = master_settings(main, &http, sockets, &upstreams, connections, source);
    let mut upsyncs = fed.upsyncs.into_iter();
    for upstream in &mut settings.upstreams {
        upstream.upsync = upsyncs.next().flatten();
    }
    settings.discovers =
        super::upsync::discovers(&http.discovers, upsyncs, &upstreams, &settings.upstreams)?;
    let control = control_path(control.as_deref(), &settings.region.path, source)?;
    let settings = master::Settings {
        resources: draft.resources,
        private: fed.private,
        temp_folders: temp_folders(&worker.servers)?,
        error_logs,
        control,
        state: state_path(state.as_deref(), &settings, source),
        ..settings
    };
    Ok(Outcome {
        built: Built { settings, worker },
        warnings,
        late_warnings,
    })
}

/// Whom root's workers run as unless `user` says otherwise; the group's name depends on the system.
fn nobody(source: &mut Source) -> Result<master::User, Fault> {
    let ids = source
        .user(NOBODY, NOBODY)
        .or_else(|_| source.user(NOBODY, "nogroup"));
    let (uid, gid) = ids.map_err(Fault::whole)?;
    Ok(master::User {
        name: NOBODY.to_owned(),
        uid,
        gid,
    })
}

/// What a worker has to know of the logs that the master opens, and of those that it opens itself.
fn logs(resources: &[Resource], http: &Http) -> worker::Logs {
    let files = resources.iter().enumerate().map(|(id, resource)| {
        let path = match resource {
            Resource::Log(path) => path.to_string_lossy().into_owned(),
            Resource::Stderr => "stderr".to_owned(),
        };
        let buffer = http.log_buffers.get(&id).copied();
        worker::LogFile { path, buffer }
    });
    worker::Logs {
        files: files.collect(),
        caches: http.log_caches.clone(),
    }
}

fn main_error_logs(draft: &mut Draft, main: &mut Main, source: &Source) -> Arc<[LogTarget]> {
    if let Some(logs) = main.error_logs.take() {
        return logs.into();
    }
    let resource = match source.paths().error_log.as_str() {
        "stderr" => Resource::Stderr,
        "" => Resource::Log(source.paths().full(paths::ERROR_LOG).into()),
        path => Resource::Log(source.paths().full(path).into()),
    };
    let resource = draft.resource(resource);
    [LogTarget {
        resource,
        level: worker::Level::Error,
    }]
    .into()
}

fn connections(events: &Events, sockets: usize) -> Result<usize, Fault> {
    let connections = events.worker_connections.unwrap_or(WORKER_CONNECTIONS);
    if connections < sockets as u64 + 1 {
        return Err(Fault::whole(format!(
            "{connections} worker_connections are not enough for {sockets} listening sockets"
        )));
    }
    if connections > MOST_CONNECTIONS {
        return Err(Fault::whole(format!(
            "{connections} worker_connections are more than weir takes: {MOST_CONNECTIONS}"
        )));
    }
    Ok(connections as usize)
}

fn file_limit_warning(main: &Main, connections: usize, source: &Source) -> Vec<Fault> {
    let limit = main.rlimit_nofile.unwrap_or(source.nofile());
    let wanted = connections as u64;
    if wanted <= limit {
        return Vec::new();
    }
    vec![Fault::whole(format!(
        "{connections} worker_connections exceed open file resource limit: {limit}"
    ))]
}

fn socket(listen: &Listen) -> ListenSocket {
    ListenSocket {
        address: listen.address.clone(),
        backlog: listen.backlog,
        ipv6only: listen.ipv6only,
        options: listen.options,
        place: listen.place.clone(),
    }
}

fn listeners(http: &Http, warnings: &mut Vec<Fault>) -> Result<Vec<worker::Listener>, Fault> {
    let mut listeners = Vec::new();
    for listen in &http.listens {
        let Some(&first) = listen.servers.first() else {
            continue;
        };
        if listen.servers.len() > 1 {
            check_names(http, listen, warnings)?;
        }
        listeners.push(worker::Listener {
            address: listen.address.clone(),
            servers: listen.servers.clone(),
            default: listen.default.unwrap_or(first),
        });
    }
    Ok(listeners)
}

/// Names that two servers of one address both have; the first has it.
fn check_names(http: &Http, listen: &Listen, warnings: &mut Vec<Fault>) -> Result<(), Fault> {
    let mut exact = HashSet::new();
    let mut below = HashSet::new();
    let mut trailing = HashSet::new();
    let empty = [(String::new(), ServerName::Exact(String::new()))];
    for level in listen
        .servers
        .iter()
        .filter_map(|&server| http.servers.get(server))
    {
        let names = if level.names.is_empty() {
            &empty[..]
        } else {
            &level.names
        };
        for (text, name) in names {
            if !is_name(text) {
                let message = format!(
                    "invalid server name or wildcard \"{text}\" on {}",
                    listen.address
                );
                return Err(Fault::at(level.place.clone(), message));
            }
            let fresh = match name {
                ServerName::Exact(name) => exact.insert(name),
                ServerName::Leading(name) => below.insert(name),
                ServerName::Dotted(name) => exact.insert(name) && below.insert(name),
                ServerName::Trailing(name) => trailing.insert(name),
            };
            if !fresh {
                let message = format!(
                    "conflicting server name \"{text}\" on {}, ignored",
                    listen.address
                );
                warnings.push(Fault::at(level.place.clone(), message));
            }
        }
    }
    Ok(())
}

/// nginx's rule: at most one `*`, as a whole label at an end, and no empty label within.
fn is_name(name: &str) -> bool {
    let inner = name
        .strip_prefix("*.")
        .or_else(|| name.strip_suffix(".*"))
        .unwrap_or(name);
    !inner.contains('*') && !name.contains("..")
}

/// The upstreams in the order of the settings, blocks first, and the place of each in it.
fn ordered(upstreams: &[UpstreamDraft]) -> (Vec<usize>, Vec<&UpstreamDraft>) {
    let numbered = || upstreams.iter().enumerate();
    let explicit = numbered().filter(|(_, upstream)| upstream.explicit);
    let implicit = numbered().filter(|(_, upstream)| !upstream.explicit);
    let mut order = vec![0; upstreams.len()];
    let mut sorted = Vec::with_capacity(upstreams.len());
    for (index, upstream) in explicit.chain(implicit) {
        order[index] = sorted.len();
        sorted.push(upstream);
    }
    (order, sorted)
}

fn check_upstreams(upstreams: &[&UpstreamDraft], http: &Http) -> Result<(), Fault> {
    let mut names = HashMap::new();
    for upstream in upstreams {
        let mut discovers = http.discovers.iter();
        let is_template =
            upstream.explicit && discovers.any(|discover| discover.template == upstream.name);
        if let Some(fault) = upstream.empty.clone().filter(|_| !is_template) {
            return Err(fault);
        }
        let is_fed = is_template || upstream.upsync.is_some();
        if !is_fed && upstream.servers.iter().all(|server| server.backup) {
            let message = format!("no servers in upstream \"{}\"", upstream.name);
            return Err(Fault::at(upstream.place.clone(), message));
        }
        if upstream.servers.iter().any(master::Server::is_resolved)
            && resolver(upstream, http).is_none()
        {
            let message = format!(
                "no resolver defined to resolve names at run time in upstream \"{}\"",
                upstream.name
            );
            return Err(Fault::at(upstream.place.clone(), message));
        }
        let key = key(upstream);
        if names.insert(key.clone(), ()).is_some() {
            let message = format!("duplicate upstream \"{key}\"");
            return Err(Fault::at(upstream.place.clone(), message));
        }
    }
    Ok(())
}

/// An upstream's own `resolver`, or that of `http {}`.
fn resolver<'a>(upstream: &'a UpstreamDraft, http: &'a Http) -> Option<&'a Arc<worker::Resolver>> {
    let outer = http.level.common.resolver.as_ref();
    upstream.resolver.as_ref().or(outer)
}

/// The key into the table.
fn key(upstream: &UpstreamDraft) -> String {
    match (upstream.explicit, upstream.port) {
        (true, _) => upstream.name.clone(),
        (false, 0) => format!("unix:{}", upstream.name),
        (false, port) => format!("{}:{port}", upstream.name),
    }
}

fn worker_upstream(upstream: &UpstreamDraft, http: &Http) -> worker::Upstream {
    let nginx = worker::Upstream::default();
    let keepalive = if upstream.explicit {
        nginx.keepalive
    } else {
        0
    };
    worker::Upstream {
        name: key(upstream),
        implicit: !upstream.explicit,
        keepalive: upstream.keepalive.unwrap_or(keepalive),
        keepalive_requests: upstream
            .keepalive_requests
            .unwrap_or(nginx.keepalive_requests),
        keepalive_timeout: upstream
            .keepalive_timeout
            .unwrap_or(nginx.keepalive_timeout),
        keepalive_time: upstream.keepalive_time.unwrap_or(nginx.keepalive_time),
        drain_timeout: upstream.drain_timeout.or(http.drain_timeout).flatten(),
        balance: nginx.balance,
    }
}

fn virtual_servers(
    draft: &mut Draft,
    http: &Http,
    order: &[usize],
    error_logs: &Arc<[LogTarget]>,
    source: &Source,
) -> Result<Vec<worker::VirtualServer>, Fault> {
    let mut common = http.level.common.clone();
    let named = |level: &Level| level.common.access_logs.is_some();
    if common.access_logs.is_none() && !http.servers.iter().all(named) {
        let path = source.paths().full(paths::ACCESS_LOG);
        let resource = draft.resource(Resource::Log(path.into()));
        let format = super::log::combined();
        let to = worker::LogName::File(resource);
        let filter = None;
        common.access_logs = Some(vec![worker::AccessLog { to, format, filter }]);
    }
    let main = Common {
        error_logs: Some(error_logs.to_vec()),
        client_body_temp_path: Some(default_temp(source, &ClientBody::default().temp)),
        proxy_temp_path: Some(default_temp(source, &Buffering::default().temp)),
        ..Common::default()
    };
    common.inherit(&main);
    let outer = Outer {
        common: &common,
        order,
    };
    http.servers
        .iter()
        .map(|server| level::server(server, &outer))
        .collect()
}

/// nginx's folder for temporary files, under the prefix.
fn default_temp(source: &Source, folder: &TempFolder) -> Arc<TempFolder> {
    let path = source.paths().full(&folder.path.to_string_lossy());
    Arc::new(TempFolder {
        path: path.into(),
        levels: folder.levels.clone(),
    })
}

/// Folders that some request may need a temporary file in, each once.
fn temp_folders(servers: &[worker::VirtualServer]) -> Result<Vec<PathBuf>, Fault> {
    let mut folders: Vec<&TempFolder> = Vec::new();
    let locations = servers.iter().flat_map(|server| {
        let own = server.locations.iter().map(|location| &location.settings);
        own.chain([&server.fallback])
    });
    for location in locations {
        let Handler::Proxy(proxy) = &location.handler else {
            continue;
        };
        for folder in [&location.client_body.temp, &proxy.buffering.temp] {
            match folders.iter().find(|known| known.path == folder.path) {
                Some(known) if known.levels == folder.levels => {}
                Some(_) => {
                    return Err(Fault::whole(format!(
                        "the path name \"{}\" has the same name, but the different levels",
                        folder.path.display()
                    )));
                }
                None => folders.push(folder),
            }
        }
    }
    Ok(folders.iter().map(|folder| folder.path.clone()).collect())
}

fn master_settings(
    main: Main,
    http: &Http,
    listeners: Vec<ListenSocket>,
    upstreams: &[&UpstreamDraft],
    connections: usize,
    source: &Source,
) -> master::Settings {
    let pid = source
        .paths()
        .full(main.pid.as_deref().unwrap_or(paths::PID));
    let processes = main.worker_processes.unwrap_or(1);
    master::Settings {
        daemon: main.daemon.unwrap_or(true),
        master_process: main.master_process.unwrap_or(true),
        region: region(&main, &pid, processes, source),
        user: main.user,
        pid: pid.into(),
        worker_processes: processes,
        rlimit_nofile: main.rlimit_nofile,
        worker_connections: connections,
        shutdown_timeout: main.shutdown_timeout,
        watchdog: main.watchdog.filter(|time| !time.is_zero()),
        listeners,
        resources: Vec::new(),
        private: Vec::new(),
        temp_folders: Vec::new(),
        error_logs: Arc::from([]),
        upstreams: upstreams
            .iter()
            .map(|upstream| master_upstream(upstream, http, source))
            .collect(),
        discovers: Vec::new(),
        start_timeout: http.start_timeout.unwrap_or(START_TIMEOUT),
        upsync_log: http.upsync_log,
        control: None,
        state: None,
    }
}

fn master_upstream(upstream: &UpstreamDraft, http: &Http, source: &Source) -> master::Upstream {
    master::Upstream {
        name: key(upstream),
        servers: upstream.servers.clone(),
        upsync: None,
        dump: upstream
            .dump
            .as_ref()
            .map(|path| source.paths().full(path).into()),
        guard: upstream
            .guard
            .or(http.guard)
            .unwrap_or(Some(master::Guard::default())),
        resolver: resolver(upstream, http)
            .filter(|_| upstream.servers.iter().any(master::Server::is_resolved))
            .cloned(),
        resolver_timeout: upstream
            .resolver_timeout
            .or(http.level.common.resolver_timeout)
            .unwrap_or(worker::RESOLVER_TIMEOUT),
        place: upstream.place.clone(),
    }
}

fn region(main: &Main, pid: &str, processes: usize, source: &Source) -> Region {
    let draft = main.region.as_ref();
    let path = match draft {
        Some(region) => source.paths().full(&region.path),
        None => default_region(&source.absolute(pid)),
    };
    let processes = u32::try_from(processes).unwrap_or(u32::MAX);
    let more = processes.clamp(MORE_WORKERS.0, MORE_WORKERS.1);
    let workers = processes.saturating_add(more).min(Capacity::MAX_WORKERS);
    let servers = draft.and_then(|region| region.servers);
    let capacity = Capacity {
        servers: servers.unwrap_or(SERVERS),
        upstreams: draft
            .and_then(|region| region.upstreams)
            .unwrap_or(UPSTREAMS),
        workers: draft.and_then(|region| region.workers).unwrap_or(workers),
        slots: draft.and_then(|region| region.slots).unwrap_or(SLOTS),
        history: draft.and_then(|region| region.history).unwrap_or(HISTORY),
    };
    Region {
        path: PathBuf::from(path),
        capacity,
        workers_given: draft.is_some_and(|region| region.workers.is_some()),
        servers_given: servers.is_some(),
    }
}

/// The control socket: beside the region unless it is given.
fn control_path(
    given: Option<&str>,
    region: &Path,
    source: &Source,
) -> Result<Option<PathBuf>, Fault> {
    let path = match given {
        Some("off") => return Ok(None),
        Some(path) => PathBuf::from(source.paths().full(path)),
        None => region.with_extension("control"),
    };
    let bytes = path.as_os_str().len();
    if bytes > CONTROL_MAX {
        return Err(Fault::whole(format!(
            "the path of the \"control\" socket \"{}\" has {bytes} bytes, more than {CONTROL_MAX}",
            path.display()
        )));
    }
    Ok(Some(path))
}

/// The state file: named after the pid file, in a folder of its own below the prefix, unless it is
/// given; none without a source.
fn state_path(
    given: Option<&str>,
    settings: &master::Settings,
    source: &Source,
) -> Option<PathBuf> {
    settings.sources().next()?;
    match given {
        Some("off") => None,
        Some(path) => Some(source.paths().full(path).into()),
        None => {
            let pid = settings.pid.file_stem().unwrap_or_default();
            let folder = PathBuf::from(source.paths().full(STATE_FOLDER));
            Some(folder.join(pid).with_extension("state"))
        }
    }
}

/// On a tmpfs that every Linux has, one an instance: named after its pid file.
fn default_region(pid: &str) -> String {
    format!("/dev/shm/weir{}.region", pid.replace('/', "-"))
}
