//! A worker in a thread of the test, over real sockets, with a region and a control channel.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod backend;
pub mod client;
pub mod settings;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir_shm::{Address, Capacity, Publisher, Region, Upstream as Published};
use weir_worker::Start;
use weir_worker::channel::{Answer, Channel, Order};
use weir_worker::settings::{Settings, TempFolder};

use client::Client;
use settings::{edit, edit_proxy, server, settings};

/// Nothing in these tests takes this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A worker and what it needs.
pub struct Worker {
    pub address: SocketAddr,
    pub region: Region,
    pub publisher: Publisher,
    pub master: Channel,
    pub folder: TempDir,
    wake: OwnedFd,
    thread: Option<JoinHandle<Result<(), String>>>,
}

fn no_build(_: &str) -> Result<Settings, String> {
    Err("this test has no configuration language".to_owned())
}

/// A listening socket that is ours until the end of the test.
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Worker {
    /// With the default settings and these servers.
    pub fn start(servers: &[SocketAddr]) -> Worker {
        Worker::with(servers, |_| ())
    }

    /// With bodies of requests passed on as they come.
    pub fn streaming(servers: &[SocketAddr]) -> Worker {
        Worker::with(servers, |settings| {
            edit_proxy(settings, |proxy| proxy.buffering.request = false);
        })
    }

    pub fn with(servers: &[SocketAddr], change: impl FnOnce(&mut Settings)) -> Worker {
        Worker::build(servers, no_build, change)
    }

    pub fn build(
        servers: &[SocketAddr],
        build: fn(&str) -> Result<Settings, String>,
        change: impl FnOnce(&mut Settings),
    ) -> Worker {
        let folder = tempfile::tempdir().unwrap();
        let capacity = Capacity {
            servers: 64,
            upstreams: 8,
            workers: 2,
            slots: 4,
            history: Capacity::MIN_HISTORY,
        };
        let region = Region::create(&folder.path().join("region"), capacity).unwrap();
        let mut publisher = Publisher::new(&region, region.writer_file().unwrap()).unwrap();
        publisher
            .publish(table(servers), weir_shm::Seen::NOBODY)
            .unwrap();
        let (socket, address) = listener();
        let mut settings = settings(address);
        let temp = Arc::new(TempFolder {
            path: folder.path().to_owned(),
            levels: Vec::new(),
        });
        edit(&mut settings, |location| {
            location.client_body.temp = Arc::clone(&temp);
        });
        edit_proxy(&mut settings, |proxy| proxy.buffering.temp = temp);
        change(&mut settings);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.path().join("error.log"))
            .unwrap();
        let access = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.path().join("access.log"))
            .unwrap();
        let (master, theirs) = Channel::pair().unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let start = Start {
            slot: 0,
            generation: 1,
            settings,
            listeners: vec![(Address::Ip(address), socket.into())],
            files: vec![log, access],
            region: region.worker(0).unwrap(),
            wake: wake.try_clone().unwrap(),
            channel: theirs.into_socket(),
            build,
        };
        let thread = std::thread::spawn(move || weir_worker::run(start));
        let ready = master.recv::<Answer>().unwrap();
        assert_eq!(ready.map(|(answer, _)| answer), Some(Answer::Ready));
        Worker {
            address,
            region,
            publisher,
            master,
            folder,
            wake,
            thread: Some(thread),
        }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Publishes these servers and waits until the worker routes by them.
    pub fn publish(&mut self, servers: &[SocketAddr]) {
        self.publish_table(table(servers));
    }

    pub fn publish_table(&mut self, table: Vec<Published>) {
        let version = self
            .publisher
            .publish(table, weir_shm::Seen::NOBODY)
            .unwrap()
            .version;
        rustix::io::write(&self.wake, &1u64.to_ne_bytes()).unwrap();
        wait_until("the worker routes by the new table", || {
            self.region.scoreboard()[0].table_version == version
        });
    }

    pub fn error_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap()
    }

    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap()
    }

    pub fn order(&self, order: &Order) {
        self.master.send(order, &[]).unwrap();
    }

    /// Waits for the worker's end.
    pub fn ended(&mut self) -> Result<(), String> {
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.error_log());
        }
        if let Some(thread) = self.thread.take() {
            let _ = self.master.send(&Order::Quit, &[]);
            if !std::thread::panicking() {
                let _ = thread.join();
            }
        }
    }
}

pub fn table(servers: &[SocketAddr]) -> Vec<Published> {
    vec![Published {
        name: "backend".to_owned(),
        changed: 0,
        learned: false,
        template: None,
        servers: servers.iter().map(|address| server(*address)).collect(),
    }]
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
