//! A worker in a thread of the test, over real sockets, with a region and a control channel.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir_shm::{Address, Capacity, CounterId, Publisher, Region, Server, Upstream as Published};
use weir_worker::Start;
use weir_worker::channel::{Answer, Channel, Order};
use weir_worker::settings::{
    Handler, Level, Listener, Location, LocationKind, LocationSettings, LogTarget, Logs, Part,
    Proxy, ProxyTarget, Settings, TempFolder, Template, Upstream, VirtualServer,
};

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

/// A text without variables.
pub fn text(text: &str) -> Template {
    Template {
        parts: vec![Part::Text(text.as_bytes().to_vec())],
    }
}

/// Texts and variables.
pub fn template(parts: &[Part]) -> Template {
    Template {
        parts: parts.to_vec(),
    }
}

/// What `location / { proxy_pass http://NAME; }` inherits by default.
pub fn location(handler: Handler) -> LocationSettings {
    LocationSettings {
        name: b"/".to_vec(),
        handler,
        error_logs: vec![LogTarget {
            resource: 0,
            level: Level::Debug,
        }]
        .into(),
        ..LocationSettings::default()
    }
}

pub fn proxy(upstream: usize) -> Proxy {
    Proxy {
        target: ProxyTarget::Upstream(upstream),
        host: b"backend".to_vec(),
        ..Proxy::default()
    }
}

pub fn upstream(name: &str) -> Upstream {
    Upstream {
        name: name.to_owned(),
        ..Upstream::default()
    }
}

/// One listener, one server whose only location proxies to the upstream `backend`.
pub fn settings(address: SocketAddr) -> Settings {
    let proxied = Arc::new(location(Handler::Proxy(Box::new(proxy(0)))));
    Settings {
        worker_connections: 512,
        shutdown_timeout: None,
        multi_accept: false,
        error_logs: proxied.error_logs.clone(),
        logs: Logs::default(),
        listeners: vec![Listener {
            address: Address::Ip(address),
            servers: vec![0],
            default: 0,
        }],
        servers: vec![VirtualServer {
            locations: vec![Location {
                kind: LocationKind::Prefix,
                path: b"/".to_vec(),
                settings: proxied,
                inner: Vec::new(),
            }],
            fallback: Arc::new(location(Handler::None)),
            ..VirtualServer::default()
        }],
        upstreams: vec![upstream("backend")],
    }
}

/// Changes the only location.
pub fn edit(settings: &mut Settings, change: impl FnOnce(&mut LocationSettings)) {
    change(Arc::make_mut(
        &mut settings.servers[0].locations[0].settings,
    ));
}

/// Changes the proxy of the only location.
pub fn edit_proxy(settings: &mut Settings, change: impl FnOnce(&mut Proxy)) {
    edit(settings, |location| match &mut location.handler {
        Handler::Proxy(proxy) => change(proxy),
        other => panic!("{other:?}"),
    });
}

pub fn server(address: SocketAddr) -> Server {
    Server {
        address: Address::Ip(address),
        weight: 1,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    }
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

/// A raw connection.
pub struct Client {
    pub stream: TcpStream,
    pub unread: Vec<u8>,
}

/// An answer, or a request as a backend sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::from(TcpStream::connect(address).unwrap())
    }

    pub fn from(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            unread: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads once more; false at the end of the stream.
    fn more(&mut self) -> bool {
        let mut chunk = [0; 65536];
        let read = self.stream.read(&mut chunk).unwrap();
        self.unread.extend_from_slice(&chunk[..read]);
        read > 0
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(
                self.more(),
                "ended after {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        }
        self.unread.drain(..count).collect()
    }

    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(end + 2);
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            assert!(
                self.more(),
                "ended after {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        }
    }

    pub fn head(&mut self) -> String {
        let mut head = String::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return head;
            }
            head.push_str(&line);
            head.push_str("\r\n");
        }
    }

    /// A head and the body that its fields announce.
    pub fn message(&mut self) -> Message {
        let mut message = Message {
            head: self.head(),
            body: Vec::new(),
        };
        if let Some(length) = message.field("Content-Length") {
            let length = length.parse().unwrap();
            message.body = self.take(length);
        } else if message.field("Transfer-Encoding") == Some("chunked") {
            message.body = self.chunks();
        }
        message
    }

    pub fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line(), 16).unwrap();
            body.extend(self.take(size));
            assert_eq!(self.line(), "");
            if size == 0 {
                return body;
            }
        }
    }

    pub fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.message()
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the other side has closed, in one way or the other.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.read(&mut byte), Ok(0) | Err(_))
    }
}

/// A server of the test, which hands each of its connections to the test.
pub struct Backend {
    pub address: SocketAddr,
    pub connections: Receiver<Client>,
}

impl Backend {
    pub fn start() -> Backend {
        let (listener, address) = listener();
        let (sender, connections): (Sender<Client>, _) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if sender.send(Client::from(stream.unwrap())).is_err() {
                    return;
                }
            }
        });
        Backend {
            address,
            connections,
        }
    }

    /// Answers every request on every connection with its own path, kept alive.
    pub fn echo() -> SocketAddr {
        Backend::serve(|client, request| {
            let path = request.head.split(' ').nth(1).unwrap().to_owned();
            client.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            ));
        })
    }

    /// Calls `answer` for every request.
    pub fn serve(answer: impl Fn(&mut Client, Message) + Clone + Send + 'static) -> SocketAddr {
        let (listener, address) = listener();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut client = Client::from(stream.unwrap());
                let answer = answer.clone();
                std::thread::spawn(move || {
                    while client.is_there() {
                        let request = client.message();
                        answer(&mut client, request);
                    }
                });
            }
        });
        address
    }

    pub fn accept(&self) -> Client {
        self.connections.recv_timeout(PATIENCE).unwrap()
    }
}

impl Client {
    /// Waits for a byte; false at the end.
    pub fn is_there(&mut self) -> bool {
        if !self.unread.is_empty() {
            return true;
        }
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.unread.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }
}
