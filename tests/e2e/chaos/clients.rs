//! The clients of the campaign: every kind of them counts each request that fails, and on which
//! connection.

use std::fmt;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::link::{Asked, Link};
use crate::support::backend::{Backend, Request, Stream, Then, ok};
use crate::support::client::{Client, Response};
use crate::support::weir::Weir;
use crate::support::{PATIENCE, wait_until};

/// A download of length 1 comes in so many pieces of this many bytes, with a pause before each.
const PIECES: usize = 40;
const PIECE: usize = 8192;
/// So does an upload, in smaller ones.
const UPLOAD_PIECE: usize = 1024;
/// Messages that a tunnel of length 1 carries there and back.
const MESSAGES: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);
/// Between two requests of a client that sends one after another.
const BREATH: Duration = Duration::from_millis(2);

/// What a client does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One request after another on a connection that is kept.
    Kept,
    /// A connection for each request.
    OneShot,
    /// An answer that takes seconds.
    Download,
    /// A request that takes seconds.
    Upload,
    /// A WebSocket's tunnel.
    Tunnel,
    /// As `Kept`, at an address that comes and goes: there is no connection at times, but what is
    /// connected stays so.
    Guest,
}

/// Each kind, and how many there are of it.
pub const CLIENTS: [(Kind, usize); 6] = [
    (Kind::Kept, 6),
    (Kind::OneShot, 4),
    (Kind::Download, 4),
    (Kind::Upload, 3),
    (Kind::Tunnel, 3),
    (Kind::Guest, 2),
];

/// Where clients go, and for how long.
#[derive(Clone, Debug)]
pub struct Course {
    /// Addresses that are always there: the clients of a kind share them.
    pub addresses: Vec<String>,
    /// One that comes and goes.
    pub guests: Option<String>,
    /// The longest of the downloads, uploads and tunnels; the first of each kind has length 1.
    pub longest: usize,
}

/// A request that got no whole, right answer, or a connection that was closed between two.
#[derive(Clone, Debug)]
pub struct Failed {
    pub kind: Kind,
    /// The client's.
    pub port: Option<u16>,
    /// The worker, if it was known.
    pub worker: Option<u32>,
    pub opened: Instant,
    /// The request; `None` where the connection was closed before anything was asked.
    pub asked: Option<Asked>,
    pub at: Instant,
    pub why: String,
}

impl Failed {
    fn new(kind: Kind, link: Option<&Link>, opened: Instant, why: String) -> Failed {
        Failed {
            kind,
            port: link.map(|link| link.port),
            worker: link.and_then(|link| link.worker),
            opened,
            asked: link.and_then(|link| link.asked),
            at: Instant::now(),
            why,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago = |then: Instant| self.at.saturating_duration_since(then);
        write!(f, "{:?}", self.kind)?;
        if let Some(port) = self.port {
            write!(f, " on port {port}")?;
        }
        if let Some(worker) = self.worker {
            write!(f, " of worker {worker}")?;
        }
        write!(f, ", opened {:?} ago", ago(self.opened))?;
        if let Some(asked) = self.asked {
            write!(f, ", asked {:?} ago", ago(asked.sent))?;
        }
        write!(f, ": {}", self.why)
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: [AtomicUsize; CLIENTS.len()],
    failed: Mutex<Vec<Failed>>,
}

/// Running clients; dropping them stops them.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Clients {
    /// Starts them all, and waits until every kind at an address that is always there has had
    /// success.
    pub fn start(course: &Course) -> Clients {
        let shared = Arc::<Shared>::default();
        let mut threads = Vec::new();
        for (number, (kind, count)) in CLIENTS.into_iter().enumerate() {
            for each in 0..count {
                let (shared, one) = (Arc::clone(&shared), One::new(kind, each, count, course));
                if let Some(one) = one {
                    threads.push(thread::spawn(move || run(&shared, number, &one)));
                }
            }
        }
        let clients = Clients { shared, threads };
        wait_until(PATIENCE, "every kind of client is served", || {
            let mut done = clients.done().into_iter();
            let all = done.all(|(kind, done)| kind == Kind::Guest || done > 0);
            all || !clients.failed().is_empty()
        });
        clients
    }

    /// How often each kind has had success.
    pub fn done(&self) -> Vec<(Kind, usize)> {
        let done = self.shared.done.iter();
        let done = done.map(|done| done.load(Ordering::Acquire));
        CLIENTS
            .into_iter()
            .map(|(kind, _)| kind)
            .zip(done)
            .collect()
    }

    pub fn failed(&self) -> Vec<Failed> {
        self.shared.failed.lock().unwrap().clone()
    }

    /// Lets each finish what it does, and tells what has failed.
    pub fn stop(mut self) -> Vec<Failed> {
        self.end();
        self.failed()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.end();
    }
}

/// One client.
struct One {
    kind: Kind,
    address: String,
    length: usize,
}

impl One {
    /// The client `each` of `count`; `None` where its address never comes.
    fn new(kind: Kind, each: usize, count: usize, course: &Course) -> Option<One> {
        let address = match kind {
            Kind::Guest => course.guests.clone()?,
            _ => course.addresses[each % course.addresses.len()].clone(),
        };
        Some(One {
            kind,
            address,
            length: 1 + (course.longest - 1) * each / (count - 1).max(1),
        })
    }
}

fn run(shared: &Shared, number: usize, one: &One) {
    let mut kept = None;
    while !shared.stop.load(Ordering::Acquire) {
        let mut link = kept.take();
        let begun = Instant::now();
        match one.go(&mut link) {
            Ok(Went::Well) => {
                shared.done[number].fetch_add(1, Ordering::AcqRel);
                kept = link;
            }
            Ok(Went::Nowhere) => {}
            Err(why) => {
                let opened = link.as_ref().map_or(begun, |link| link.opened);
                let failed = Failed::new(one.kind, link.as_ref(), opened, why);
                shared.failed.lock().unwrap().push(failed);
            }
        }
        thread::sleep(BREATH);
    }
}

/// What came of it, where it is no failure.
enum Went {
    Well,
    /// There is nobody at an address that comes and goes.
    Nowhere,
}

impl One {
    /// Once: the connection is left in `link` if it is to be kept, or if it failed.
    fn go(&self, link: &mut Option<Link>) -> Result<Went, String> {
        match self.kind {
            Kind::Kept => one_more(link, &self.address)?,
            Kind::Guest => return guest(link, &self.address),
            Kind::OneShot => one_shot(Link::open_in(link, &self.address)?)?,
            Kind::Download => download(Link::open_in(link, &self.address)?, self.length)?,
            Kind::Upload => upload(Link::open_in(link, &self.address)?, self.length)?,
            Kind::Tunnel => tunnel(Link::open_in(link, &self.address)?, self.length)?,
        }
        if self.kind != Kind::Kept {
            *link = None;
        }
        Ok(Went::Well)
    }
}

fn expect(response: &Response, status: u16, length: usize) -> Result<(), String> {
    match (response.status, response.body.len()) {
        (is, has) if (is, has) == (status, length) => Ok(()),
        (is, has) => Err(format!("status {is} with {has} bytes")),
    }
}

fn one_more(kept: &mut Option<Link>, address: &str) -> Result<(), String> {
    let link = match kept {
        Some(link) => link,
        None => Link::open_in(kept, address)?,
    };
    let response = link.get("/short", "")?;
    expect(&response, 200, 2)?;
    if !response.keeps() {
        *kept = None;
    }
    Ok(())
}

fn guest(kept: &mut Option<Link>, address: &str) -> Result<Went, String> {
    if kept.is_none() {
        // Who waits where nobody listens any more has no answer.
        let came = Link::open(address).and_then(|mut link| {
            link.get("/short", "")?;
            Ok(link)
        });
        *kept = came.ok();
    }
    if kept.is_none() {
        thread::sleep(PAUSE);
        return Ok(Went::Nowhere);
    }
    one_more(kept, address)?;
    Ok(Went::Well)
}

fn one_shot(link: &mut Link) -> Result<(), String> {
    let response = link.get("/short", "Connection: close\r\n")?;
    expect(&response, 200, 2)?;
    match link.closed()? {
        true => Ok(()),
        false => Err("more than an answer came".to_owned()),
    }
}

fn download(link: &mut Link, length: usize) -> Result<(), String> {
    let head = format!("GET /download/{length} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    link.ask(head.as_bytes())?;
    link.head(200)?;
    while link.fill()? > 0 {}
    let body = link.rest();
    let whole = body.len() == length * PIECES * PIECE && body.iter().all(|byte| *byte == b'd');
    whole
        .then_some(())
        .ok_or_else(|| format!("{} bytes of a download", body.len()))
}

fn upload(link: &mut Link, length: usize) -> Result<(), String> {
    // Tells which worker it is, should the upload fail.
    if !link.get("/short", "")?.keeps() {
        return Ok(());
    }
    let pieces = length * PIECES;
    let length = pieces * UPLOAD_PIECE;
    let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    link.ask(head.as_bytes())?;
    for _ in 0..pieces {
        link.send(&[b'u'; UPLOAD_PIECE])?;
        thread::sleep(PAUSE);
    }
    let response = link.response("POST")?;
    match (response.status, response.text()) {
        (200, said) if said == length.to_string() => Ok(()),
        (status, said) => Err(format!("status {status}: {said}")),
    }
}

fn tunnel(link: &mut Link, length: usize) -> Result<(), String> {
    link.ask(
        b"GET /tunnel HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    )?;
    link.head(101)?;
    for number in 0..length * MESSAGES {
        let message = format!("message {number:04}\n");
        link.send(message.as_bytes())?;
        let goal = (number + 1) * message.len();
        while link.rest().len() < goal {
            if link.fill()? == 0 {
                return Err(format!("the tunnel ended after {number} messages"));
            }
        }
        if !link.rest().ends_with(message.as_bytes()) {
            return Err("another message came back".to_owned());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// So many downloads at once.
pub fn many_downloads(weir: &Weir, count: usize) {
    let mut clients: Vec<Client> = (0..count).map(|_| weir.connect()).collect();
    for client in &mut clients {
        client
            .send(b"GET /download/1 HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
    }
    for client in &mut clients {
        let response = client.response("GET").unwrap();
        assert_eq!(
            (response.status, response.body.len()),
            (200, PIECES * PIECE)
        );
    }
}

/// A server for all of them.
pub fn backend() -> Backend {
    Backend::answering(serve)
}

fn serve(request: &Request, out: &mut Stream) -> Then {
    let length = request.target.strip_prefix("/download/");
    let length = length.and_then(|length| length.parse().ok());
    let written = match request.target.as_str() {
        _ if length.is_some() => send_download(out, length.unwrap_or(1)),
        "/upload" => out.write_all(&ok(&request.body.len().to_string())),
        "/tunnel" => {
            let _ = echo(out);
            return Then::Close;
        }
        _ => out.write_all(&ok("ok")),
    };
    match written {
        Ok(()) => Then::Keep,
        Err(_) => Then::Close,
    }
}

fn send_download(out: &mut Stream, length: usize) -> std::io::Result<()> {
    let pieces = length * PIECES;
    let length = pieces * PIECE;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    out.write_all(head.as_bytes())?;
    for _ in 0..pieces {
        thread::sleep(PAUSE);
        out.write_all(&[b'd'; PIECE])?;
    }
    Ok(())
}

fn echo(out: &mut Stream) -> std::io::Result<()> {
    out.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    )?;
    let mut bytes = [0; 4096];
    loop {
        match out.read(&mut bytes)? {
            0 => return Ok(()),
            count => out.write_all(&bytes[..count])?,
        }
    }
}
