//! A weir of a configuration in a few words of its own.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use weir_master::settings::{
    Host, ListenSocket, Place, Region, Resource, Server, Settings, SocketOptions, Upstream,
};
use weir_master::{Built, Loaded, Program};
use weir_shm::{Address, Capacity};
use weir_worker::settings::{
    Level, Listener, LocationSettings, LogTarget, Part, Return, Settings as Worker, Template,
    VirtualServer,
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs it; the process's code.
pub fn run(file: &str) -> ExitCode {
    let path = file.to_owned();
    let load = move || {
        let folder = Path::new(&path).parent().unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = format!("folder {folder}\n{text}");
        let Built { settings, worker } = build(&text)?;
        Ok(Loaded {
            text,
            settings,
            worker,
            warnings: Vec::new(),
        })
    };
    let loaded = load().unwrap();
    let program = Program {
        load: Box::new(load),
        build,
        build_worker,
        title: format!("weir: master process {file}"),
        prefix: "/".into(),
        command: std::env::args_os().collect(),
    };
    weir_master::run(program, loaded)
}

fn build_worker(text: &str) -> Result<Worker, String> {
    if text.contains("refuse_in_worker") {
        return Err("this worker does not like it".into());
    }
    if text.contains("stop_two_before_commit") {
        stop_two(text);
    }
    build(text).map(|built| built.worker)
}

/// Two workers stop soon after they have prepared, and any other prepares late, so that the commit
/// finds those stopped.
fn stop_two(text: &str) {
    const SOON: Duration = Duration::from_millis(100);
    const LATE: Duration = Duration::from_millis(500);
    let folder = text.lines().find_map(|line| line.strip_prefix("folder "));
    let is_first = |name: &str| {
        let path = Path::new(folder.unwrap()).join(name);
        std::fs::File::create_new(path).is_ok()
    };
    if ["stopped-1", "stopped-2"].iter().any(|name| is_first(name)) {
        std::thread::spawn(|| {
            std::thread::sleep(SOON);
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).unwrap();
        });
    } else {
        std::thread::sleep(LATE);
    }
}

fn build(text: &str) -> Result<Built, String> {
    let words = |key: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(key))
            .map(str::trim)
    };
    let one = |key| words(key).next().unwrap_or_default().to_owned();
    let addresses: Vec<Address> = words("listen ")
        .map(|port| Address::Ip(([127, 0, 0, 1], port.parse().unwrap()).into()))
        .collect();
    let folder = one("folder ");
    let error_logs: Arc<[LogTarget]> = Arc::new([LogTarget {
        resource: words("front ").count(),
        level: Level::Notice,
    }]);
    let seconds = one("shutdown ").parse();
    let shutdown = seconds.map_or(SECOND, Duration::from_secs);
    let logs = words("front ").chain(["error.log"]);
    let logs: Vec<_> = logs
        .map(|name| Resource::Log(format!("{folder}/{name}").into()))
        .collect();
    let settings = Settings {
        daemon: text.contains("daemon"),
        master_process: true,
        user: None,
        pid: format!("{folder}/weir.pid").into(),
        worker_processes: one("workers ").parse().unwrap(),
        rlimit_nofile: one("files ").parse().ok(),
        watchdog: one("watchdog ").parse().ok().map(Duration::from_millis),
        worker_connections: 64,
        shutdown_timeout: Some(shutdown),
        region: Region {
            path: format!("{folder}/weir.region{}", one("moved")).into(),
            capacity: Capacity {
                servers: one("servers ").parse().unwrap_or(8),
                upstreams: 8,
                workers: one("room ").parse().unwrap_or(6),
                slots: 4,
                history: Capacity::MIN_HISTORY,
            },
            workers_given: words("room ").next().is_some(),
            servers_given: true,
        },
        listeners: addresses.iter().cloned().map(socket).collect(),
        resources: logs,
        private: Vec::new(),
        temp_folders: Vec::new(),
        error_logs: error_logs.clone(),
        upstreams: words("host ").map(upstream).collect(),
        discovers: Vec::new(),
        start_timeout: SECOND,
        upsync_log: None,
        state: None,
        control: None,
    };
    let mut worker = worker(&one("answer "), addresses, error_logs);
    worker.shutdown_timeout = Some(shutdown);
    Ok(Built { settings, worker })
}

fn socket(address: Address) -> ListenSocket {
    ListenSocket {
        address,
        backlog: 64,
        ipv6only: true,
        options: SocketOptions::default(),
        place: Place::default(),
    }
}

fn upstream(host: &str) -> Upstream {
    let place = Place {
        file: "test".into(),
        line: 1,
    };
    Upstream {
        name: host.into(),
        servers: vec![Server {
            host: Host::Name {
                host: host.into(),
                port: 80,
                written: host.into(),
            },
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            resolve: false,
            place: place.clone(),
        }],
        upsync: None,
        dump: None,
        guard: Some(weir_master::settings::Guard::default()),
        resolver: None,
        resolver_timeout: Duration::ZERO,
        place,
    }
}

fn worker(answer: &str, addresses: Vec<Address>, error_logs: Arc<[LogTarget]>) -> Worker {
    let text = Template {
        parts: vec![Part::Text(answer.into())],
    };
    let location = LocationSettings {
        ret: Some(Return {
            status: 200,
            text: Some(text),
        }),
        client_body_timeout: SECOND,
        send_timeout: SECOND,
        keepalive_timeout: SECOND,
        error_logs: error_logs.clone(),
        ..LocationSettings::default()
    };
    let server = VirtualServer {
        fallback: Arc::new(location),
        ..VirtualServer::default()
    };
    Worker {
        worker_connections: 64,
        shutdown_timeout: Some(SECOND),
        multi_accept: false,
        error_logs,
        logs: weir_worker::settings::Logs::default(),
        listeners: addresses
            .into_iter()
            .map(|address| Listener {
                address,
                servers: vec![0],
                default: 0,
            })
            .collect(),
        servers: vec![server],
        upstreams: Vec::new(),
    }
}
