//! The proxy over streams in memory: no socket, no clock, every step under control.

mod allocation;
mod answers;
mod bodies;
mod drain;
mod edges;
mod follow;
mod names;
mod table;
mod timing;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use weir_shm::{
    Address, Capacity, CounterId, Publisher, Region, Server, Snapshot, Upstream as Published,
};

use super::shared::Shared;
use super::{Accepted, Network, Proxy};
use crate::conf::Conf;
use crate::connection::Key;
use crate::event::Token;
use crate::log::Files;
use crate::settings::{
    Handler, Listener, Location, LocationKind, LocationSettings, Logs, Proxy as Proxied,
    ProxyTarget, Settings, TempFolder, Upstream, VirtualServer,
};
use crate::transport::{Origin, Readiness, Transport, Unconnected};
use crate::upstream::build::{Builder, Numbering};

/// The time at which each test begins, in milliseconds.
pub(super) const BEGIN_MS: u64 = 1_000_000;

/// The far end of a stream, as the test holds it.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// What is there to be read.
    pub input: VecDeque<u8>,
    /// Nothing comes after it.
    pub ended: bool,
    /// What was written.
    pub output: Vec<u8>,
    /// How much more can be written.
    pub room: usize,
    /// Every read and write fails with this.
    pub broken: Option<io::ErrorKind>,
    /// Our direction was ended.
    pub shut: bool,
    /// What follows is a reset.
    pub aborted: bool,
    /// The connection was closed.
    pub closed: bool,
    /// Reads and writes that were tried.
    pub calls: usize,
    /// Under which token it is watched.
    pub token: Option<Token>,
}

/// A stream in memory.
#[derive(Debug)]
pub(super) struct Stream(pub Rc<RefCell<Wire>>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

impl Transport for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        wire.calls += 1;
        if let Some(kind) = wire.broken {
            return Err(kind.into());
        }
        if wire.input.is_empty() && !wire.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = wire.input.len().min(into.len());
        for (to, from) in into.iter_mut().zip(wire.input.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        wire.calls += 1;
        if let Some(kind) = wire.broken {
            return Err(kind.into());
        }
        if wire.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = 0;
        for part in parts {
            let count = part.len().min(wire.room);
            wire.output.extend_from_slice(&part[..count]);
            wire.room -= count;
            written += count;
        }
        Ok(written)
    }

    fn send_file(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        let mut bytes = vec![0; count];
        file.read_exact_at(&mut bytes, offset)?;
        self.write(&[IoSlice::new(&bytes)])
    }

    fn shutdown(&mut self) -> io::Result<()> {
        self.0.borrow_mut().shut = true;
        Ok(())
    }

    fn abort(&mut self) {
        self.0.borrow_mut().aborted = true;
    }
}

/// How the next connections to servers begin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Connecting {
    #[default]
    Connected,
    Pending,
    Refused,
}

/// Connections to servers, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub connecting: Connecting,
    pub made: Vec<Rc<RefCell<Wire>>>,
}

impl Network for Memory {
    type Stream = Stream;

    fn connect(&mut self, _: &Address, _: &Origin) -> Result<(Stream, bool), Unconnected> {
        let connected = match self.connecting {
            Connecting::Connected => true,
            Connecting::Pending => false,
            Connecting::Refused => {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
            }
        };
        let wire = wire(if connected { usize::MAX } else { 0 });
        self.made.push(Rc::clone(&wire));
        Ok((Stream(wire), connected))
    }

    fn watch(&mut self, stream: &Stream, token: Token) -> io::Result<()> {
        stream.0.borrow_mut().token = Some(token);
        Ok(())
    }

    fn set_nodelay(&mut self, _: &Stream, _: bool) {}
}

pub(super) fn wire(room: usize) -> Rc<RefCell<Wire>> {
    Rc::new(RefCell::new(Wire {
        room,
        ..Wire::default()
    }))
}

/// A proxy with one upstream of `servers` servers, and what it lives on.
pub(super) struct World {
    pub proxy: Proxy<Memory>,
    pub region: Region,
    pub folder: TempDir,
}

/// A client, from its own side.
#[derive(Clone)]
pub(super) struct Far {
    pub key: Option<Key>,
    pub wire: Rc<RefCell<Wire>>,
}

fn location(handler: Handler) -> LocationSettings {
    LocationSettings {
        name: b"/".to_vec(),
        handler,
        ..LocationSettings::default()
    }
}

fn settings(adjust: impl FnOnce(&mut LocationSettings, &mut Proxied)) -> Settings {
    let mut proxied = Proxied {
        target: ProxyTarget::Upstream(0),
        host: b"backend".to_vec(),
        ..Proxied::default()
    };
    let mut served = location(Handler::None);
    adjust(&mut served, &mut proxied);
    served.handler = Handler::Proxy(Box::new(proxied));
    Settings {
        worker_connections: 512,
        shutdown_timeout: None,
        multi_accept: false,
        error_logs: Arc::new([]),
        logs: Logs::default(),
        listeners: vec![Listener {
            address: Address::Ip(([127, 0, 0, 1], 80).into()),
            servers: vec![0],
            default: 0,
        }],
        servers: vec![VirtualServer {
            locations: vec![Location {
                kind: LocationKind::Prefix,
                path: b"/".to_vec(),
                settings: Arc::new(served),
                inner: Vec::new(),
            }],
            fallback: Arc::new(location(Handler::None)),
            ..VirtualServer::default()
        }],
        upstreams: vec![Upstream {
            name: "backend".to_owned(),
            ..Upstream::default()
        }],
    }
}

impl World {
    pub fn new(servers: u16) -> World {
        Self::with(servers, |_, _| {})
    }

    /// A world whose location was adjusted; temporary files go to a folder of its own.
    pub fn with(servers: u16, adjust: impl FnOnce(&mut LocationSettings, &mut Proxied)) -> World {
        Self::whose(servers, None, adjust)
    }

    /// The same, with an `upsync_drain_timeout`.
    pub fn whose(
        servers: u16,
        drain_timeout: Option<Duration>,
        adjust: impl FnOnce(&mut LocationSettings, &mut Proxied),
    ) -> World {
        let folder = tempfile::tempdir().unwrap();
        let temp = Arc::new(TempFolder {
            path: folder.path().to_owned(),
            levels: Vec::new(),
        });
        let mut settings = settings(|location, proxied| {
            location.client_body.temp = Arc::clone(&temp);
            proxied.buffering.temp = temp;
            adjust(location, proxied);
        });
        settings.upstreams[0].drain_timeout = drain_timeout;
        let capacity = Capacity {
            servers: 8,
            upstreams: 2,
            workers: 1,
            slots: 4,
            history: Capacity::MIN_HISTORY,
        };
        let region = Region::create(&folder.path().join("region"), capacity).unwrap();
        let mut publisher = Publisher::new(&region, region.writer_file().unwrap()).unwrap();
        let server = |port| Server {
            address: Address::Ip(([127, 0, 0, 1], port).into()),
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        };
        let table = vec![Published {
            name: "backend".to_owned(),
            changed: 0,
            learned: false,
            template: None,
            servers: (1..=servers).map(server).collect(),
        }];
        publisher.publish(table, weir_shm::Seen::NOBODY).unwrap();
        let mut worker = region.worker(0).unwrap();
        let mut snapshot = Snapshot::default();
        worker.read(0, &mut snapshot).unwrap();
        let mut builder = Builder::new(&Rc::default(), &snapshot);
        let built = builder.step(usize::MAX, &mut snapshot, &mut Numbering::default());
        let listener = settings.listeners[0].address.clone();
        let conf = Conf::new(settings, 1, Arc::new(Files::default()), &[Some(listener)]);
        let shared = Shared::new(Memory::default(), Rc::new(conf), worker, BEGIN_MS);
        let mut proxy = Proxy::new(shared);
        proxy.set_plan(built.unwrap());
        World {
            proxy,
            region,
            folder,
        }
    }

    /// The table has these servers from now on, by their ports.
    pub fn publish(&mut self, ports: &[u16]) {
        let writer = self.region.writer_file().unwrap();
        let publisher = Publisher::new(&self.region, writer).unwrap();
        let mut upstream = publisher.table().upstreams[0].clone();
        let model = upstream.servers[0].clone();
        let server = |port: &u16| Server {
            address: Address::Ip(([127, 0, 0, 1], *port).into()),
            ..model.clone()
        };
        upstream.servers = ports.iter().map(server).collect();
        self.publish_table(publisher, vec![upstream]);
    }

    /// The table has no upstream any more.
    pub fn publish_nothing(&mut self) {
        let writer = self.region.writer_file().unwrap();
        let publisher = Publisher::new(&self.region, writer).unwrap();
        self.publish_table(publisher, Vec::new());
    }

    fn publish_table(&mut self, mut publisher: Publisher, table: Vec<Published>) {
        publisher.publish(table, weir_shm::Seen::NOBODY).unwrap();
        let shared = &mut self.proxy.shared;
        let mut snapshot = Snapshot::default();
        let since = shared.plan.version;
        shared.region.read(since, &mut snapshot).unwrap();
        let mut builder = Builder::new(&shared.plan, &snapshot);
        let built = builder.step(usize::MAX, &mut snapshot, &mut Numbering::default());
        self.proxy.set_plan(built.unwrap());
    }

    /// A client that has already sent `bytes`.
    pub fn accept(&mut self, bytes: &[u8]) -> Far {
        let wire = wire(usize::MAX);
        wire.borrow_mut().input.extend(bytes);
        let accepted = Accepted {
            address: Some(([127, 0, 0, 1], 4000).into()),
            local: None,
            listener: 0,
            nodelay: true,
        };
        self.proxy.accept(Stream(Rc::clone(&wire)), accepted);
        let key = match wire.borrow().token {
            Some(Token::Client(key)) => Some(key),
            _ => None,
        };
        Far { key, wire }
    }

    /// The connections that were made to servers.
    pub fn server(&self, number: usize) -> Far {
        Far {
            key: None,
            wire: Rc::clone(&self.proxy.shared.net.made[number]),
        }
    }

    /// Tells the proxy that a connection is ready.
    pub fn event(&mut self, far: &Far, readiness: Readiness) {
        let token = far.wire.borrow().token;
        if let Some(token) = token {
            self.proxy.ready(token, readiness);
        }
    }

    /// The other side sends.
    pub fn send(&mut self, far: &Far, bytes: &[u8]) {
        far.wire.borrow_mut().input.extend(bytes);
        let readable = Readiness {
            readable: true,
            ..Readiness::default()
        };
        self.event(far, readable);
    }

    /// The other side ends its direction.
    pub fn end(&mut self, far: &Far) {
        far.wire.borrow_mut().ended = true;
        let closed = Readiness {
            readable: true,
            writable: false,
            closed: true,
        };
        self.event(far, closed);
    }

    /// The other side can take so much more.
    pub fn room(&mut self, far: &Far, room: usize) {
        far.wire.borrow_mut().room = room;
        let writable = Readiness {
            writable: true,
            ..Readiness::default()
        };
        self.event(far, writable);
    }

    /// Time passes.
    pub fn pass(&mut self, milliseconds: u64) {
        self.proxy.shared.now_ms += milliseconds;
        self.proxy.expire();
    }

    /// The state of a client.
    pub fn state(&self, far: &Far) -> &'static str {
        let client = far.key.and_then(|key| self.proxy.clients.get(key));
        client.map_or("gone", |client| client.state.name())
    }
}

impl Far {
    /// What the proxy has written since the last time.
    pub fn got(&self) -> String {
        let output = std::mem::take(&mut self.wire.borrow_mut().output);
        String::from_utf8(output).unwrap()
    }
}
