//! The server behind weir: it reads to the letter and writes down every request that it gets whole.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wire::{Message, Stop, Wire};
use crate::support::PATIENCE;

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// On the connection of this number.
    Request(usize, Message),
    /// Bytes that are no request.
    Garbage(String),
}

/// What the server does with its connection after an answer from the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
    Reset,
    /// Sends back whatever comes.
    Echo,
}

/// The answer to requests for `/row`.
#[derive(Clone, Debug)]
pub struct Script {
    pub bytes: Vec<u8>,
    pub then: Then,
}

/// Answers a request for `/row`; whether the connection goes on.
pub type Answering = dyn Fn(&mut Wire) -> bool + Send + Sync;

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    script: Mutex<Option<Script>>,
    answering: Option<Box<Answering>>,
    stopped: AtomicBool,
    accepted: AtomicUsize,
}

/// Listens until it is dropped.
pub struct Server {
    pub address: String,
    shared: Arc<Shared>,
}

impl Server {
    /// Answers by the script.
    pub fn start() -> Server {
        Server::with(Arc::default())
    }

    /// Lets `answering` answer.
    pub fn answering(answering: impl Fn(&mut Wire) -> bool + Send + Sync + 'static) -> Server {
        Server::with(Arc::new(Shared {
            answering: Some(Box::new(answering)),
            ..Shared::default()
        }))
    }

    fn with(shared: Arc<Shared>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if own.stopped.load(Ordering::Acquire) {
                    return;
                }
                let number = own.accepted.fetch_add(1, Ordering::AcqRel);
                let own = Arc::clone(&own);
                thread::spawn(move || serve(stream, number, &own));
            }
        });
        Server { address, shared }
    }

    /// What came since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    pub fn script(&self, script: Script) {
        *self.shared.script.lock().unwrap() = Some(script);
    }

    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        drop(TcpStream::connect(&self.address));
    }
}

/// What is answered to a request without a script: itself, so that no answer fits another request.
pub fn echo(request: &Message) -> Vec<u8> {
    let line = &request.head.line;
    let end = line.len() - " HTTP/1.1".len();
    [&line[..end], b"|", &request.body].concat()
}

fn serve(stream: TcpStream, number: usize, shared: &Shared) {
    // A message that never becomes whole must not hold a thread for ever.
    stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut wire = Wire::new(stream);
    loop {
        let request = match wire.request() {
            Ok(request) => request,
            Err(Stop::Bad(what)) => {
                shared.seen.lock().unwrap().push(Seen::Garbage(what));
                return;
            }
            // Nothing, or less than a request.
            Err(_) => return,
        };
        let seen = Seen::Request(number, request.clone());
        shared.seen.lock().unwrap().push(seen);
        let scripted = request.head.line.windows(5).any(|part| part == b" /row");
        let script = shared.script.lock().unwrap().clone();
        let done = match (&shared.answering, script) {
            (Some(answering), _) if scripted => answering(&mut wire),
            (None, Some(script)) if scripted => play(&mut wire, &script),
            _ => answer(&mut wire, &request),
        };
        if !done {
            return;
        }
    }
}

/// Whether the connection goes on.
fn answer(wire: &mut Wire, request: &Message) -> bool {
    let body = echo(request);
    let mut text =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    if !request.head.line.starts_with(b"HEAD ") {
        text.extend(body);
    }
    wire.stream.write_all(&text).is_ok()
}

fn play(wire: &mut Wire, script: &Script) -> bool {
    if wire.stream.write_all(&script.bytes).is_err() {
        return false;
    }
    match script.then {
        Then::Keep => true,
        Then::Close => false,
        Then::Reset => {
            reset(&wire.stream);
            false
        }
        Then::Echo => {
            let _ = wire.stream.write_all(&std::mem::take(&mut wire.rest));
            let _ = wire.stream.set_read_timeout(Some(Duration::from_secs(5)));
            while let Ok(byte) = wire.take(1) {
                if wire.stream.write_all(&byte).is_err() {
                    break;
                }
            }
            let _ = wire.stream.shutdown(Shutdown::Both);
            false
        }
    }
}

/// Makes a reset of the close; what was written before can still be read.
pub fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}
