//! From what the directives said to settings: defaults, inheritance, and the checks that need the
//! whole.

mod files;
mod servers;
mod upstreams;

use std::sync::Arc;
use std::time::Duration;

use weir_master::Built;
use weir_master::settings::{self as master, ListenSocket, Resource};
use weir_worker::settings::{self as worker, LogTarget};

use super::draft::{Draft, Events, Http, Main, UpstreamDraft};
use super::error::Fault;
use super::source::Source;
use crate::paths;
use files::{control_path, region, state_path};
use servers::{listeners, socket, temp_folders, virtual_servers};
use upstreams::{check_upstreams, master_upstream, ordered, worker_upstream};

/// nginx's `user`.
const NOBODY: &str = "nobody";
/// nginx's `worker_connections`.
const WORKER_CONNECTIONS: u64 = 512;
/// The most connections that a worker may be given.
const MOST_CONNECTIONS: u64 = 1 << 24;
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
