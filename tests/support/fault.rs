//! A TCP proxy between weir and Consul that breaks connections in the ways that networks do.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the proxy does with a connection's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Every answer passes whole and is followed by a reset.
    ResetAfterAnswer,
    /// An answer passes whole; the connection's next request is answered by a reset.
    ResetOnReuse,
    /// Of every answer, all but the last `n` bytes pass, then the connection closes.
    Truncate(usize),
    /// As [`Fault::Truncate`], then a reset.
    TruncateReset(usize),
    /// Accepts and resets before a byte of an answer.
    ResetAtOnce,
    /// Accepts and never answers.
    Mute,
    /// The answer's body is replaced, its index kept.
    Body(String),
    /// Answers with this text in place of Consul's.
    Answer(String),
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    target: Mutex<String>,
    fault: Mutex<Option<Fault>>,
    /// Faults for the next answers, one each, before the standing one.
    script: Mutex<VecDeque<Fault>>,
    requests: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
    accepted: Mutex<usize>,
}

/// The proxy; it listens until it is dropped.
pub struct FaultProxy {
    address: String,
    shared: Arc<Shared>,
    listener: Option<thread::JoinHandle<()>>,
}

impl FaultProxy {
    pub fn start(target: &str, fault: Fault) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        FaultProxy::on(listener, target, fault)
    }

    /// At a port that was kept free so far.
    pub fn start_at(port: u16, target: &str, fault: Fault) -> FaultProxy {
        FaultProxy::on(
            TcpListener::bind(("127.0.0.1", port)).unwrap(),
            target,
            fault,
        )
    }

    fn on(listener: TcpListener, target: &str, fault: Fault) -> FaultProxy {
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::<Shared>::default();
        *shared.target.lock().unwrap() = target.to_owned();
        *shared.fault.lock().unwrap() = Some(fault);
        let own = Arc::clone(&shared);
        let listener = thread::spawn(move || accept(&listener, &own));
        FaultProxy {
            address,
            shared,
            listener: Some(listener),
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// From the next request on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some(fault);
    }

    /// For one answer, before the standing fault.
    pub fn once(&self, fault: Fault) {
        self.shared.script.lock().unwrap().push_back(fault);
    }

    /// The request lines' targets so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        *self.shared.accepted.lock().unwrap()
    }

    /// Resets every open connection, also one that waits for an answer.
    pub fn reset_open(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            abort(&stream);
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        drop(TcpStream::connect(&self.address));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        self.reset_open();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        *shared.accepted.lock().unwrap() += 1;
        shared
            .open
            .lock()
            .unwrap()
            .push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let _ = connection(stream, &shared);
        });
    }
}

/// Serves one connection, a request at a time: long polls have no body and are not pipelined.
fn connection(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    if shared.fault.lock().unwrap().as_ref() == Some(&Fault::ResetAtOnce) {
        abort(&client);
        return Ok(());
    }
    let mut server: Option<TcpStream> = None;
    loop {
        let request = read_head(&mut client)?;
        if server.is_some() && *shared.fault.lock().unwrap() == Some(Fault::ResetOnReuse) {
            abort(&client);
            return Ok(());
        }
        let line = String::from_utf8_lossy(&request).into_owned();
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        shared.requests.lock().unwrap().push(target);
        if server.is_none() {
            let target = shared.target.lock().unwrap().clone();
            let stream = TcpStream::connect(target)?;
            shared.open.lock().unwrap().push(stream.try_clone()?);
            server = Some(stream);
        }
        let stream = server.as_mut().expect("connected above");
        stream.write_all(&request)?;
        let head = read_head(stream)?;
        let body = read_body(stream, &head)?;
        let next = shared.script.lock().unwrap().pop_front();
        let fault = next.or_else(|| shared.fault.lock().unwrap().clone());
        if !answer(&mut client, &head, &body, fault.unwrap_or(Fault::None))? {
            return Ok(());
        }
    }
}

/// Passes one answer on; whether the connection goes on.
fn answer(client: &mut TcpStream, head: &[u8], body: &[u8], fault: Fault) -> std::io::Result<bool> {
    let whole = [head, body].concat();
    match fault {
        Fault::None | Fault::ResetOnReuse => client.write_all(&whole)?,
        Fault::ResetAfterAnswer => {
            client.write_all(&whole)?;
            abort(client);
            return Ok(false);
        }
        Fault::Truncate(missing) => {
            client.write_all(&whole[..whole.len().saturating_sub(missing)])?;
            client.shutdown(Shutdown::Both)?;
            return Ok(false);
        }
        Fault::TruncateReset(missing) => {
            client.write_all(&whole[..whole.len().saturating_sub(missing)])?;
            abort(client);
            return Ok(false);
        }
        Fault::ResetAtOnce => {
            abort(client);
            return Ok(false);
        }
        Fault::Mute => {
            let mut byte = [0];
            let _ = client.read(&mut byte);
            return Ok(false);
        }
        Fault::Body(text) => client.write_all(&with_body(head, &text))?,
        Fault::Answer(text) => client.write_all(text.as_bytes())?,
    }
    Ok(true)
}

fn with_body(head: &[u8], body: &str) -> Vec<u8> {
    let head = String::from_utf8_lossy(head);
    let kept: Vec<_> = head
        .split("\r\n")
        .filter(|line| {
            let line = line.to_ascii_lowercase();
            let framing = ["content-length", "transfer-encoding"];
            !line.is_empty() && !framing.iter().any(|field| line.starts_with(field))
        })
        .collect();
    let length = body.len();
    format!(
        "{}\r\nContent-Length: {length}\r\n\r\n{body}",
        kept.join("\r\n")
    )
    .into_bytes()
}

/// Resets the connection, although another thread may hold a copy of the socket: a plain close
/// with zero linger would wait for that one.
fn abort(stream: &TcpStream) {
    let _ = rustix::net::connect_unspec(stream);
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// The body as it is framed: Consul sends more than some 2 KB in chunks.
fn read_body(stream: &mut TcpStream, head: &[u8]) -> std::io::Result<Vec<u8>> {
    if field(head, "transfer-encoding").is_none() {
        let length = field(head, "content-length").and_then(|value| value.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        return Ok(body);
    }
    let mut body = Vec::new();
    loop {
        let start = body.len();
        while !body[start..].ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            body.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&body[start..]);
        let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let data = body.len();
        body.resize(data + size + 2, 0);
        stream.read_exact(&mut body[data..])?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn field(head: &[u8], wanted: &str) -> Option<String> {
    String::from_utf8_lossy(head)
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim().to_owned())
}
