//! What the master and the syncer are told to do, built from the configuration by the crate above.

mod source;

pub use source::{
    Certificates, Consistency, Endpoint, INTERVAL, Kind, Secret, SourceAddress, TIMEOUT, Token,
    Upsync,
};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_shm::{Address, Capacity};
use weir_worker::settings::{LogTarget, Resolver};

/// One whole configuration, as the master and the syncer see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `daemon`.
    pub daemon: bool,
    /// `master_process`.
    pub master_process: bool,
    /// `user`, with its group; used only when the master runs as root.
    pub user: Option<User>,
    /// `pid`.
    pub pid: PathBuf,
    /// `worker_processes`, `auto` resolved; at least 1.
    pub worker_processes: usize,
    /// `worker_rlimit_nofile`.
    pub rlimit_nofile: Option<u64>,
    /// `worker_connections`.
    pub worker_connections: usize,
    /// `worker_shutdown_timeout`.
    pub shutdown_timeout: Option<Duration>,
    /// `worker_watchdog`: a worker that works and does not turn its loop for this long is ended.
    pub watchdog: Option<Duration>,
    /// `region`: where it lies and how large it is.
    pub region: Region,
    /// `control`: the master's socket; `None` is off.
    pub control: Option<PathBuf>,
    /// One a distinct `listen` address.
    pub listeners: Vec<ListenSocket>,
    /// The numbered resources that the master opens.
    pub resources: Vec<Resource>,
    /// The numbered files that the master opens for the syncer alone: tokens, certificates, keys.
    pub private: Vec<PrivateFile>,
    /// Folders of temporary files, made at the start and given to `user`.
    pub temp_folders: Vec<PathBuf>,
    /// `error_log` of the main context; the master's and the syncer's own lines go there.
    pub error_logs: Arc<[LogTarget]>,
    /// Every upstream, implicit ones too, in configuration order.
    pub upstreams: Vec<Upstream>,
    /// Each `upsync_discover`.
    pub discovers: Vec<Discover>,
    /// `upsync_start_timeout`: how long a start waits for first answers.
    pub start_timeout: Duration,
    /// `upsync_state`: the last good table on disk; `None` is off.
    pub state: Option<PathBuf>,
    /// `upsync_log`
    pub upsync_log: Option<UpsyncLog>,
}

impl Settings {
    /// Where servers come from: each `upsync` and each `upsync_discover`.
    pub fn sources(&self) -> impl Iterator<Item = &Upsync> {
        let upstreams = self.upstreams.iter();
        let own = upstreams.filter_map(|upstream| upstream.upsync.as_ref());
        own.chain(self.discovers.iter().map(|discover| &discover.upsync))
    }
}

/// `upsync_log FILE [json]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpsyncLog {
    /// The number of its resource.
    pub resource: usize,
    /// A JSON document a line.
    pub json: bool,
}

/// `user NAME [GROUP]`, by number: looked up when the configuration is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name, for `initgroups`.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// The group's id: the named group's, else that of the same name.
    pub gid: u32,
}

/// `region PATH [servers=N] [upstreams=N] [workers=N] [slots=N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The file, best on a tmpfs.
    pub path: PathBuf,
    /// Its size in entries.
    pub capacity: Capacity,
    /// `workers=` was given. Otherwise the room for them follows `worker_processes`.
    pub workers_given: bool,
    /// `servers=` was given. Otherwise there is room for fewer where the file system is small.
    pub servers_given: bool,
}

/// A listening socket to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSocket {
    /// The address.
    pub address: Address,
    /// `backlog=`; the default is nginx's 511.
    pub backlog: i32,
    /// `ipv6only=`; on by default.
    pub ipv6only: bool,
    /// What else is set on it.
    pub options: SocketOptions,
    /// Where it stands, for errors.
    pub place: Place,
}

/// Parameters of `listen` that only tune a socket. What is `None` stays as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// `rcvbuf=` in bytes.
    pub rcvbuf: Option<u32>,
    /// `sndbuf=` in bytes.
    pub sndbuf: Option<u32>,
    /// `so_keepalive=on|off`
    pub keepalive: Option<bool>,
    /// `so_keepalive=IDLE::` in seconds.
    pub keepidle: Option<u32>,
    /// `so_keepalive=:INTERVAL:` in seconds.
    pub keepintvl: Option<u32>,
    /// `so_keepalive=::COUNT`
    pub keepcnt: Option<u32>,
    /// `fastopen=`: connections whose handshake is not complete.
    pub fastopen: Option<i32>,
    /// `deferred`
    pub deferred: bool,
}

/// Something privileged that the master opens for its children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A log file, opened for appending and created with mode 0644.
    Log(PathBuf),
    /// Standard error.
    Stderr,
}

/// A file that only the master may be able to read, and that no worker gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateFile {
    /// Where it is.
    pub path: PathBuf,
    /// Where it stands, for errors.
    pub place: Place,
}

/// A line of a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as the configuration names it.
    pub file: String,
    /// From 1.
    pub line: usize,
}

/// An upstream and where its servers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The key into the table.
    pub name: String,
    /// The configured servers, which serve until the source's first answer.
    pub servers: Vec<Server>,
    /// `upsync`.
    pub upsync: Option<Upsync>,
    /// `upsync_dump_path`.
    pub dump: Option<PathBuf>,
    /// `upsync_guard`; `None` is off.
    pub guard: Option<Guard>,
    /// `resolver`, own or inherited, where a server needs it.
    pub resolver: Option<Arc<Resolver>>,
    /// `resolver_timeout`: how long one resolution may take.
    pub resolver_timeout: Duration,
    /// Where it stands, for errors.
    pub place: Place,
}

/// `upsync_discover ADDRESS/v1/kv/PREFIX template=NAME …`: every folder is an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// Where the folders are.
    pub upsync: Upsync,
    /// The upstream of the configuration that they are like.
    pub template: String,
    /// `upsync_guard` of the template.
    pub guard: Option<Guard>,
}

/// `upsync_guard on [share=PERCENT%] [servers=NUMBER]`: which answers are not applied at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// An answer that removes more than this share of an upstream, in percent, and …
    pub share: u8,
    /// … at least so many servers is read a second time.
    pub servers: usize,
}

impl Default for Guard {
    fn default() -> Self {
        Guard {
            share: 50,
            servers: 3,
        }
    }
}

/// A configured `server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// An address, or a name to resolve when the configuration is put in force.
    pub host: Host,
    /// `weight=`.
    pub weight: u32,
    /// `max_fails=`.
    pub max_fails: u32,
    /// `fail_timeout=` in milliseconds.
    pub fail_timeout_ms: u64,
    /// `down`.
    pub down: bool,
    /// `backup`.
    pub backup: bool,
    /// `resolve`: its name is resolved again and again while weir runs, not when the configuration
    /// is put in force.
    pub resolve: bool,
    /// Where it stands, for errors.
    pub place: Place,
}

impl Server {
    /// Whether it has a name that is resolved while weir runs.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.resolve && matches!(self.host, Host::Name { .. })
    }
}

/// Where a configured server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Known.
    Address(Address),
    /// A name; every address that it resolves to is a server.
    Name {
        /// The name.
        host: String,
        /// The port of each address.
        port: u16,
        /// What nginx calls it when it is not found.
        written: String,
    },
}
