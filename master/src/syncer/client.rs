//! A blocking HTTP/1.1 client for one server: keep-alive, deadlines, and a complete answer counts
//! even if the connection is reset right behind it.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::net::RecvFlags;

use super::response::{Parser, Response};
use super::stop::Stop;

/// Read at once, in bytes.
const READ: usize = 64 * 1024;

/// How long each part of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// To connect to one address, or to send the request.
    pub connect: Duration,
    /// From the request to the first byte of the answer.
    pub answer: Duration,
    /// Between two reads of an answer that has begun.
    pub silence: Duration,
    /// From the request to the last byte of the answer.
    pub total: Duration,
}

/// What kept an answer from coming.
#[derive(Debug)]
pub enum Fault {
    /// The watch is to end.
    Stopped,
    /// The name does not resolve.
    Resolve(io::Error),
    /// connect() failed.
    Connect(io::Error),
    /// send() failed.
    Send(io::Error),
    /// recv() failed; whether a byte of the answer had come.
    Receive(io::Error, bool),
    /// The connection ended; whether a byte of the answer had come.
    Closed(bool),
    /// A deadline passed.
    TimedOut(&'static str),
    /// The answer is not HTTP, or beyond a limit.
    Invalid(String),
    /// The server refuses to answer, with this status.
    Status {
        /// Neither 200 nor what else means an answer.
        status: u16,
        /// `Retry-After`, if that is a number of seconds.
        retry_after: Option<Duration>,
        /// What the body says, foreign bytes escaped.
        message: String,
    },
}

impl Fault {
    /// The source refuses because of who asks.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Fault::Status { status: 403, .. })
    }

    /// How long the source wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Fault::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The source has as many connections or requests as it takes.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        matches!(self, Fault::Status { status: 429, .. })
    }
}

/// A connection that is kept between requests.
pub type Kept = Arc<TcpStream>;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Stopped => f.write_str("stopped"),
            Fault::Resolve(error) => write!(f, "could not be resolved ({error})"),
            Fault::Connect(error) => write!(f, "connect() failed ({})", Os(error)),
            Fault::Send(error) => write!(f, "send() failed ({})", Os(error)),
            Fault::Receive(error, _) => write!(f, "recv() failed ({})", Os(error)),
            Fault::Closed(_) => f.write_str("upstream prematurely closed connection"),
            Fault::TimedOut(doing) => {
                write!(
                    f,
                    "upstream timed out (110: Connection timed out) while {doing}"
                )
            }
            Fault::Invalid(why) => f.write_str(why),
            Fault::Status {
                status, message, ..
            } => write!(f, "answered with status {status}: {message}"),
        }
    }
}

/// nginx's form of a system error: `104: Connection reset by peer`.
struct Os<'e>(&'e io::Error);

impl fmt::Display for Os<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(code) => write!(f, "{code}: {}", Errno::from_raw(code).desc()),
            // The standard library's own, such as the one for a connect that timed out.
            None if is_timeout(self.0) => f.write_str("110: Connection timed out"),
            None => self.0.fmt(f),
        }
    }
}

/// The client of one server.
#[derive(Debug)]
pub struct Client {
    name: String,
    port: u16,
    stop: Arc<Stop>,
    idle: Option<Kept>,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects when it is first used; the name is resolved anew for each connection.
    pub fn new(name: &str, port: u16, stop: Arc<Stop>) -> Client {
        Client {
            name: name.to_owned(),
            port,
            stop,
            idle: None,
            buffer: vec![0; READ],
        }
    }

    /// Gives the kept connection away: nobody but its next user may shut it down.
    pub fn give(&mut self) -> Option<Kept> {
        self.stop.forget();
        self.idle.take()
    }

    /// Takes over a connection that a client of the same server gave away.
    pub fn take(&mut self, kept: Kept) {
        self.idle = Some(kept);
    }

    /// Sends `request`, a GET, and waits for its answer. A kept connection that turns out to be
    /// gone before a byte of the answer came is replaced by a new one at once: the server closed
    /// it while it was idle, which is no fault.
    ///
    /// # Errors
    /// What kept a complete answer from coming.
    pub fn get(&mut self, request: &[u8], deadlines: Deadlines) -> Result<Response, Fault> {
        if let Some(stream) = self.idle.take().filter(|stream| is_idle(stream)) {
            match self.exchange(stream, request, deadlines) {
                Err(Fault::Send(_) | Fault::Receive(_, false) | Fault::Closed(false)) => {}
                result => return result,
            }
        }
        let stream = self.connect(deadlines.connect)?;
        self.exchange(stream, request, deadlines)
    }

    fn connect(&self, limit: Duration) -> Result<Arc<TcpStream>, Fault> {
        self.stop.forget();
        let addresses = (self.name.as_str(), self.port)
            .to_socket_addrs()
            .map_err(Fault::Resolve)?;
        let mut last = Fault::Resolve(io::ErrorKind::NotFound.into());
        for address in addresses {
            if self.stop.is_stopped() {
                return Err(Fault::Stopped);
            }
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => {
                    // Without it a request could wait for the acknowledgement of the last.
                    stream.set_nodelay(true).map_err(Fault::Connect)?;
                    stream
                        .set_write_timeout(Some(limit))
                        .map_err(Fault::Connect)?;
                    return Ok(Arc::new(stream));
                }
                Err(error) => last = Fault::Connect(error),
            }
        }
        Err(last)
    }

    fn exchange(
        &mut self,
        stream: Arc<TcpStream>,
        request: &[u8],
        deadlines: Deadlines,
    ) -> Result<Response, Fault> {
        if !self.stop.watch(&stream) {
            return Err(Fault::Stopped);
        }
        let result = match (&*stream).write_all(request) {
            Ok(()) => self.receive(&stream, deadlines),
            Err(error) if is_timeout(&error) => Err(Fault::TimedOut("sending the request")),
            Err(error) => Err(Fault::Send(error)),
        };
        if self.stop.is_stopped() {
            return Err(Fault::Stopped);
        }
        match &result {
            Ok(response) if response.keep => self.idle = Some(stream),
            _ => self.stop.forget(),
        }
        result
    }

    fn receive(&mut self, mut stream: &TcpStream, deadlines: Deadlines) -> Result<Response, Fault> {
        let began = Instant::now();
        let mut parser = Parser::default();
        loop {
            let begun = !parser.is_untouched();
            let pause = if begun {
                deadlines.silence
            } else {
                deadlines.answer
            };
            let left = deadlines.total.saturating_sub(began.elapsed());
            let doing = if begun {
                "reading the answer"
            } else {
                "waiting for the answer"
            };
            if left.is_zero() {
                return Err(Fault::TimedOut(doing));
            }
            let received = stream
                .set_read_timeout(Some(pause.min(left)))
                .and_then(|()| stream.read(&mut self.buffer));
            match received {
                Ok(0) => return parser.end().ok_or(Fault::Closed(begun)),
                Ok(count) => match parser.feed(&self.buffer[..count]).map_err(Fault::Invalid)? {
                    Some(response) => return Ok(response),
                    None => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(Fault::TimedOut(doing)),
                Err(error) => return Err(Fault::Receive(error, begun)),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// A connection on which the server said something, or that it closed, is not used again.
fn is_idle(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = rustix::net::recv(stream, &mut [0u8; 1], flags);
    matches!(peeked, Err(rustix::io::Errno::AGAIN))
}
