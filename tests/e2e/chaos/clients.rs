//! The clients of the campaign: every kind of them counts each request that fails, and which worker
//! it was with.

use std::fmt;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Request, Stream, Then, answer, ok};
use crate::support::client::{Client, Failure, Response};
use crate::support::weir::Weir;
use crate::support::{PATIENCE, wait_until};

/// A download comes in so many pieces of this many bytes, with a pause before each.
const PIECES: usize = 40;
const PIECE: usize = 8192;
/// So does an upload, in smaller ones.
const UPLOAD_PIECE: usize = 1024;
/// Messages that a tunnel carries there and back.
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
}

/// Each kind, and how many there are of it.
pub const CLIENTS: [(Kind, usize); 5] = [
    (Kind::Kept, 6),
    (Kind::OneShot, 4),
    (Kind::Download, 4),
    (Kind::Upload, 3),
    (Kind::Tunnel, 3),
];

/// A request that got no whole, right answer.
#[derive(Clone, Debug)]
pub struct Failed {
    pub kind: Kind,
    /// The worker, if it was known.
    pub worker: Option<u32>,
    pub why: String,
    pub at: Instant,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed {
            kind, worker, why, ..
        } = self;
        write!(f, "{kind:?} of worker {worker:?}: {why}")
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: [AtomicUsize; CLIENTS.len()],
    failed: Mutex<Vec<Failed>>,
}

/// All clients, at work.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Clients {
    /// Starts them all; returns when each kind has had success.
    pub fn start(address: &str) -> Clients {
        let shared = Arc::<Shared>::default();
        let mut threads = Vec::new();
        for (number, (kind, count)) in CLIENTS.into_iter().enumerate() {
            for _ in 0..count {
                let (shared, address) = (Arc::clone(&shared), address.to_owned());
                threads.push(thread::spawn(move || run(&shared, number, kind, &address)));
            }
        }
        let clients = Clients { shared, threads };
        wait_until(PATIENCE, "every kind of client is served", || {
            clients.done().iter().all(|(_, done)| *done > 0) || !clients.failed().is_empty()
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

fn run(shared: &Shared, number: usize, kind: Kind, address: &str) {
    let mut kept = None;
    while !shared.stop.load(Ordering::Acquire) {
        let mut worker = kept.as_ref().and_then(|(_, worker)| *worker);
        let result = match kind {
            Kind::Kept => one_more(&mut kept, address),
            Kind::OneShot => one_shot(address, &mut worker),
            Kind::Download => download(address, &mut worker),
            Kind::Upload => upload(address, &mut worker),
            Kind::Tunnel => tunnel(address, &mut worker),
        };
        match result {
            Ok(()) => {
                shared.done[number].fetch_add(1, Ordering::AcqRel);
            }
            Err(why) => {
                kept = None;
                let at = Instant::now();
                shared.failed.lock().unwrap().push(Failed {
                    kind,
                    worker,
                    why,
                    at,
                });
            }
        }
        thread::sleep(BREATH);
    }
}

fn text(failure: Failure) -> String {
    failure.to_string()
}

fn worker_of(response: &Response) -> Option<u32> {
    response.field("x-pid")?.parse().ok()
}

fn expect(response: &Response, status: u16, length: usize) -> Result<(), String> {
    match (response.status, response.body.len()) {
        (is, has) if (is, has) == (status, length) => Ok(()),
        (is, has) => Err(format!("status {is} with {has} bytes")),
    }
}

fn one_more(kept: &mut Option<(Client, Option<u32>)>, address: &str) -> Result<(), String> {
    let (mut client, _) = match kept.take() {
        Some(kept) => kept,
        None => (Client::try_connect(address).map_err(text)?, None),
    };
    let response = client.get("/short").map_err(text)?;
    expect(&response, 200, 2)?;
    if response.keeps() {
        *kept = Some((client, worker_of(&response)));
    }
    Ok(())
}

fn one_shot(address: &str, worker: &mut Option<u32>) -> Result<(), String> {
    let mut client = Client::try_connect(address).map_err(text)?;
    let fields = "Connection: close\r\n";
    let response = client.request("GET", "/short", fields, b"").map_err(text)?;
    *worker = worker_of(&response);
    expect(&response, 200, 2)?;
    match client.closed().map_err(text)? {
        true => Ok(()),
        false => Err("more than an answer came".to_owned()),
    }
}

fn download(address: &str, worker: &mut Option<u32>) -> Result<(), String> {
    let mut client = Client::try_connect(address).map_err(text)?;
    client
        .send(b"GET /download HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .map_err(text)?;
    let head = client.head().map_err(text)?;
    *worker = worker_of(&head);
    if head.status != 200 {
        return Err(format!("status {}", head.status));
    }
    while client.fill().map_err(text)? > 0 {}
    let body = client.rest();
    let whole = body.len() == PIECES * PIECE && body.iter().all(|byte| *byte == b'd');
    whole
        .then_some(())
        .ok_or_else(|| format!("{} bytes of a download", body.len()))
}

fn upload(address: &str, worker: &mut Option<u32>) -> Result<(), String> {
    let mut client = Client::try_connect(address).map_err(text)?;
    // Tells which worker it is, should the upload fail.
    let response = client.get("/short").map_err(text)?;
    *worker = worker_of(&response);
    if !response.keeps() {
        return Ok(());
    }
    let length = PIECES * UPLOAD_PIECE;
    let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    client.send(head.as_bytes()).map_err(text)?;
    for _ in 0..PIECES {
        client.send(&[b'u'; UPLOAD_PIECE]).map_err(text)?;
        thread::sleep(PAUSE);
    }
    let response = client.response("POST").map_err(text)?;
    match (response.status, response.text()) {
        (200, said) if said == length.to_string() => Ok(()),
        (status, said) => Err(format!("status {status}: {said}")),
    }
}

fn tunnel(address: &str, worker: &mut Option<u32>) -> Result<(), String> {
    let mut client = Client::try_connect(address).map_err(text)?;
    client
        .send(
            b"GET /tunnel HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        )
        .map_err(text)?;
    let head = client.head().map_err(text)?;
    *worker = worker_of(&head);
    if head.status != 101 {
        return Err(format!("status {}", head.status));
    }
    for number in 0..MESSAGES {
        let message = format!("message {number:04}\n");
        client.send(message.as_bytes()).map_err(text)?;
        let goal = (number + 1) * message.len();
        while client.rest().len() < goal {
            if client.fill().map_err(text)? == 0 {
                return Err(format!("the tunnel ended after {number} messages"));
            }
        }
        if !client.rest().ends_with(message.as_bytes()) {
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
            .send(b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")
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
    let written = match request.target.as_str() {
        "/download" => send_download(out),
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

fn send_download(out: &mut Stream) -> std::io::Result<()> {
    let whole = answer("200 OK", "", &vec![b'd'; PIECES * PIECE]);
    let head = whole.len() - PIECES * PIECE;
    out.write_all(&whole[..head])?;
    for piece in whole[head..].chunks(PIECE) {
        thread::sleep(PAUSE);
        out.write_all(piece)?;
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
