//! A syncer in a thread of the test, and what it takes to look at it.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod scripted;

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use weir_master::settings::{
    Host, Place, Region as RegionSettings, Server, Settings, Upstream, Upsync,
};
use weir_master::syncer::{self, Start};
use weir_master::{Built, resolve};
use weir_shm::{Capacity, Publisher, Reader, Region};
use weir_worker::channel::{Answer, Channel, Order, Role};
use weir_worker::settings::{Level, LogTarget, Settings as WorkerSettings};

/// Nothing that a test waits for takes longer, even on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const CAPACITY: Capacity = Capacity {
    servers: 64,
    upstreams: 8,
    workers: 4,
    slots: 4,
    history: Capacity::MIN_HISTORY,
};

/// Polls until `found` has something.
pub fn poll<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A configuration of the tests, one upstream a line:
/// `NAME SERVER,… CONSUL_PORT PREFIX TIMEOUT_MS INTERVAL_MS STRONG DUMP`, `-` for none.
pub fn build(text: &str) -> Result<Built, String> {
    let upstreams = text.lines().map(upstream).collect::<Result<Vec<_>, _>>()?;
    let error_logs: Arc<[LogTarget]> = Arc::new([LogTarget {
        resource: 0,
        level: Level::Debug,
    }]);
    let settings = Settings {
        daemon: false,
        master_process: true,
        user: None,
        pid: PathBuf::new(),
        worker_processes: 1,
        rlimit_nofile: None,
        watchdog: None,
        worker_connections: 512,
        shutdown_timeout: None,
        region: RegionSettings {
            path: PathBuf::new(),
            capacity: CAPACITY,
            workers_given: true,
            servers_given: true,
        },
        listeners: Vec::new(),
        resources: Vec::new(),
        private: Vec::new(),
        temp_folders: Vec::new(),
        error_logs: Arc::clone(&error_logs),
        upstreams,
        discovers: Vec::new(),
        start_timeout: Duration::from_millis(400),
        upsync_log: None,
        state: None,
        control: None,
    };
    let worker = WorkerSettings {
        worker_connections: 512,
        shutdown_timeout: None,
        multi_accept: false,
        error_logs,
        logs: weir_worker::settings::Logs::default(),
        listeners: Vec::new(),
        servers: Vec::new(),
        upstreams: Vec::new(),
    };
    Ok(Built { settings, worker })
}

fn upstream(line: &str) -> Result<Upstream, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, servers, port, prefix, timeout, interval, strong, dump] = words[..] else {
        return Err(format!("invalid line {line:?} in test.conf:1"));
    };
    let ms = |text: &str| Duration::from_millis(text.parse().unwrap());
    let servers = servers.split(',').filter(|server| *server != "-");
    Ok(Upstream {
        name: name.to_owned(),
        servers: servers.map(configured).collect(),
        upsync: (port != "-").then(|| Upsync {
            timeout: ms(timeout),
            interval: ms(interval),
            strong: strong == "on",
            ..Upsync::folder("127.0.0.1", port.parse().unwrap(), prefix)
        }),
        dump: (dump != "-").then(|| dump.into()),
        guard: Some(weir_master::settings::Guard::default()),
        resolver: None,
        resolver_timeout: Duration::ZERO,
        place: Place::default(),
    })
}

fn configured(address: &str) -> Server {
    Server {
        host: Host::Address(weir_shm::Address::Ip(address.parse().unwrap())),
        weight: 1,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        resolve: false,
        place: Place::default(),
    }
}

/// How a syncer is started.
pub struct Options {
    pub text: String,
    pub capacity: Capacity,
    pub respawned: bool,
    /// The first table has its servers from before.
    pub learned: bool,
}

impl Options {
    pub fn new(text: impl Into<String>) -> Options {
        Options {
            text: text.into(),
            capacity: CAPACITY,
            respawned: false,
            learned: false,
        }
    }
}

/// A running syncer.
pub struct Syncer {
    pub folder: Arc<tempfile::TempDir>,
    pub channel: Channel,
    pub wakers: Vec<EventFd>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Syncer {
    /// Makes a region with the configured servers, as a master does, and starts a syncer on it.
    pub fn start(options: Options) -> Syncer {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let settings = build(&options.text).unwrap().settings;
        let region = Region::create(&folder.path().join("region"), options.capacity).unwrap();
        let upstreams = resolve(&settings.upstreams).unwrap().into_iter();
        let table = upstreams.map(|u| weir_shm::Upstream {
            name: u.name,
            changed: 0,
            learned: options.learned,
            template: None,
            servers: u.servers,
        });
        let mut publisher = Publisher::new(&region, region.writer_file().unwrap()).unwrap();
        publisher
            .publish(table.collect(), weir_shm::Seen::NOBODY)
            .unwrap();
        drop(publisher);
        Syncer::on(region, folder, options)
    }

    /// Starts a syncer on a region that is there.
    pub fn on(region: Region, folder: Arc<tempfile::TempDir>, options: Options) -> Syncer {
        let settings = build(&options.text).unwrap().settings;
        let (channel, child) = Channel::pair().unwrap();
        let wakers: Vec<EventFd> = (0..2)
            .map(|_| EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap())
            .collect();
        let clone = |waker: &EventFd| waker.as_fd().try_clone_to_owned().unwrap();
        let start = Start {
            private: Vec::new(),
            resolved: resolve(&settings.upstreams).unwrap(),
            settings,
            generation: 1,
            respawned: options.respawned,
            writer: region.writer_file().unwrap(),
            region,
            wakers: wakers.iter().map(clone).collect(),
            channel: child.into_socket(),
            files: vec![append(&folder.path().join("error.log"))],
            build,
        };
        let thread = std::thread::spawn(move || syncer::run(start));
        Syncer {
            folder,
            channel,
            wakers,
            thread: Some(thread),
        }
    }

    /// The next answer of the syncer.
    pub fn answer(&self) -> Answer {
        self.channel.recv().unwrap().unwrap().0
    }

    pub fn ready(self) -> Syncer {
        assert_eq!(self.answer(), Answer::Ready, "{}", self.log());
        self
    }

    pub fn region(&self) -> PathBuf {
        self.folder.path().join("region")
    }

    /// The table version and the servers of an upstream.
    pub fn table(&self, upstream: &str) -> (u64, Option<Vec<String>>) {
        let table = Reader::open(&self.region()).unwrap().table().unwrap();
        let found = table.upstreams.iter().find(|u| u.name == upstream);
        let servers = found.map(|u| u.servers.iter().map(|s| s.address.to_string()).collect());
        (table.version, servers)
    }

    /// Waits until an upstream has just these servers; returns the table version.
    pub fn wait_for(&self, upstream: &str, servers: &[&str]) -> u64 {
        poll(
            &format!(
                "{upstream}: {servers:?}, not {:?}; {}",
                self.table(upstream),
                self.log()
            ),
            || {
                let (version, now) = self.table(upstream);
                (now? == servers).then_some(version)
            },
        )
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap()
    }

    pub fn wait_for_log(&self, text: &str) {
        poll(&format!("log line {text:?} in {}", self.log()), || {
            self.log().contains(text).then_some(())
        });
    }

    /// Sends an order to prepare `text`, as a master does.
    pub fn prepare(&self, generation: u64, text: &str) {
        let path = self.folder.path().join(format!("text-{generation}"));
        std::fs::write(&path, text).unwrap();
        let text: OwnedFd = File::open(path).unwrap().into();
        let log: OwnedFd = append(&self.folder.path().join("error.log")).into();
        let descriptors = vec![Role::Text, Role::Resource(0)];
        let order = Order::Prepare {
            generation,
            descriptors,
            more: false,
        };
        self.channel
            .send(&order, &[text.as_fd(), log.as_fd()])
            .unwrap();
    }

    pub fn order(&self, order: &Order) {
        self.channel.send(order, &[]).unwrap();
    }

    /// Ends the syncer and waits for it.
    pub fn end(mut self) -> Result<(), String> {
        let _ = self.channel.send(&Order::Quit, &[]);
        self.thread.take().unwrap().join().unwrap()
    }

    /// Waits for a syncer that ends by itself.
    pub fn ended(mut self) -> Result<(), String> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.channel.send(&Order::Quit, &[]);
            let _ = thread.join();
        }
    }
}

pub fn append(path: &Path) -> File {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
}
