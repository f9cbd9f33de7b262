//! A blocking HTTP/1.1 client for one server: keep-alive, deadlines, and a complete answer counts
//! even if the connection is reset right behind it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::connection::{Connection, Tls};
use super::response::{Parser, Response};
use super::stop::Stop;
use crate::settings::SourceAddress;

/// Read at once, in bytes.
const READ: usize = 256 * 1024;

/// Read at once of a stream, in bytes.
const STREAM_READ: usize = 4 * 1024;

/// An answer that comes more slowly than so many bytes a second, for long, keeps changes back: it
/// is given up.
pub const LEAST_RATE: u32 = 64 * 1024;

/// How long each part of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// To connect to one address, or to send the request.
    pub connect: Duration,
    /// From the request to the first byte of the answer.
    pub answer: Duration,
    /// Between two reads of an answer that has begun.
    pub silence: Duration,
    /// So much longer than at [`LEAST_RATE`] may an answer take from its first byte on.
    pub slack: Duration,
    /// From the request to the last byte of the answer.
    pub total: Duration,
}

/// What kept an answer from coming.
#[derive(Debug)]
pub enum Fault {
    /// The watch is to end, or is wanted otherwise.
    Stopped,
    /// What is asked with has changed: ask again.
    Nudged,
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
    /// TLS could not be agreed upon, or broke.
    Tls(String),
    /// The answer is not HTTP, beyond a limit, or none to what was asked.
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

    /// The source ended a connection that was new before a byte of an answer: a kept one is replaced
    /// before that is a fault.
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        matches!(
            self,
            Fault::Send(_) | Fault::Receive(_, false) | Fault::Closed(false)
        )
    }

    /// Whether another address of the same source may do better.
    #[must_use]
    pub fn is_of_address(&self) -> bool {
        !matches!(self, Fault::Stopped | Fault::Nudged) && !self.is_forbidden()
    }
}

/// A connection that is kept between requests.
#[derive(Debug)]
pub struct Kept {
    /// Whom it goes to.
    pub address: SourceAddress,
    connection: Connection,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Stopped => f.write_str("stopped"),
            Fault::Nudged => f.write_str("to be asked again"),
            Fault::Tls(why) => f.write_str(why),
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
    address: SourceAddress,
    stop: Arc<Stop>,
    idle: Option<Connection>,
    buffer: Vec<u8>,
    /// For the next body.
    room: Vec<u8>,
}

/// A buffer with room for more than this is not kept, in bytes.
const ROOM_MAX: usize = 16 << 20;

impl Client {
    /// Connects when it is first used; the name is resolved anew for each connection.
    pub fn new(address: SourceAddress, stop: Arc<Stop>) -> Client {
        Client {
            address,
            stop,
            idle: None,
            buffer: vec![0; READ],
            room: Vec::new(),
        }
    }

    /// Takes a buffer for the next body: what is as large as the last one need not be asked of the system
    /// each time.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= ROOM_MAX {
            buffer.clear();
            self.room = buffer;
        }
    }

    /// Whom it asks.
    pub fn address(&self) -> &SourceAddress {
        &self.address
    }

    /// Gives the kept connection away: nobody but its next user may shut it down.
    pub fn give(&mut self) -> Option<Kept> {
        self.stop.forget();
        Some(Kept {
            address: self.address.clone(),
            connection: self.idle.take()?,
        })
    }

    /// Takes over a connection that a client of the same server gave away.
    pub fn take(&mut self, kept: Kept) {
        self.idle = Some(kept.connection);
    }

    /// Sends `request`, which may be made twice, and waits for its answer. A kept connection that
    /// turns out to be gone before a byte of the answer came is replaced by a new one at once: the
    /// server closed it while it was idle, which is no fault.
    ///
    /// # Errors
    /// What kept a complete answer from coming.
    pub fn get(
        &mut self,
        request: &[u8],
        deadlines: Deadlines,
        tls: Option<&Tls>,
    ) -> Result<Response, Fault> {
        if let Some(connection) = self.idle.take().filter(Connection::is_idle) {
            match self.exchange(connection, request, deadlines) {
                Err(Fault::Send(_) | Fault::Receive(_, false) | Fault::Closed(false)) => {}
                result => return result,
            }
        }
        let connection = self.connect(deadlines.connect, tls)?;
        self.exchange(connection, request, deadlines)
    }

    fn connect(&self, limit: Duration, tls: Option<&Tls>) -> Result<Connection, Fault> {
        let result = Connection::open(&self.address, limit, &self.stop, tls);
        result.map_err(|fault| self.why(fault))
    }

    fn exchange(
        &mut self,
        mut connection: Connection,
        request: &[u8],
        deadlines: Deadlines,
    ) -> Result<Response, Fault> {
        if !self.stop.watch(connection.socket()) {
            return Err(self.why(Fault::Stopped));
        }
        let sent = connection.send(request, Instant::now() + deadlines.connect);
        let result = match sent {
            // Who takes no request may have said why before it closed: 429 for one connection too many.
            Err(fault @ Fault::Send(_)) => {
                let said = self.receive(&mut connection, deadlines);
                said.map_err(|_| fault)
            }
            sent => sent.and_then(|()| self.receive(&mut connection, deadlines)),
        };
        if self.stop.is_cut() || self.stop.is_nudged() {
            return Err(self.why(Fault::Stopped));
        }
        match &result {
            Ok(response) if response.keep => self.idle = Some(connection),
            _ => self.stop.forget(),
        }
        result
    }

    /// `fault`, unless there is something behind it.
    fn why(&self, fault: Fault) -> Fault {
        why(&self.stop, fault)
    }

    fn receive(
        &mut self,
        connection: &mut Connection,
        deadlines: Deadlines,
    ) -> Result<Response, Fault> {
        let began = Instant::now();
        let mut parser = Parser::with_room(std::mem::take(&mut self.room));
        // How much has come, and from when on.
        let mut come: Option<(Instant, usize)> = None;
        loop {
            let begun = come.is_some();
            let (due, doing) = match come {
                None => (began + deadlines.answer, "waiting for the answer"),
                Some((since, bytes)) => {
                    let due = since + deadlines.slack + at_least_rate(bytes);
                    let silent = Instant::now() + deadlines.silence;
                    (due.min(silent), "reading the answer")
                }
            };
            let until = due.min(began + deadlines.total);
            let received = connection.receive(&mut self.buffer, until);
            if let Ok(count) = received {
                let (since, bytes) = come.unwrap_or((Instant::now(), 0));
                come = Some((since, bytes + count));
            }
            match received {
                Ok(0) => return parser.end().ok_or(Fault::Closed(begun)),
                Ok(count) => match parser.feed(&self.buffer[..count]).map_err(Fault::Invalid)? {
                    Some(response) => return Ok(response),
                    None => continue,
                },
                Err(error) if is_timeout(&error) => return Err(Fault::TimedOut(doing)),
                Err(error) => return Err(connection.broken(error, begun)),
            }
        }
    }
}

/// A request whose answer is read as it comes, and may never end.
#[derive(Debug)]
pub struct Stream {
    connection: Connection,
    parser: Parser,
    stop: Arc<Stop>,
    buffer: Vec<u8>,
}

/// What a [`Stream`] had.
#[derive(Debug)]
pub enum Piece {
    /// More of the body.
    Body(Vec<u8>),
    /// The whole answer, without what was a piece before.
    End(Response),
    /// Nothing in time.
    Nothing,
}

impl Client {
    /// Sends `request` on a connection of its own.
    ///
    /// # Errors
    /// It could not be sent.
    pub fn stream(
        &self,
        request: &[u8],
        deadlines: Deadlines,
        tls: Option<&Tls>,
    ) -> Result<Stream, Fault> {
        let mut connection = self.connect(deadlines.connect, tls)?;
        if !self.stop.watch(connection.socket()) {
            return Err(self.why(Fault::Stopped));
        }
        let sent = connection.send(request, Instant::now() + deadlines.connect);
        sent.map_err(|fault| self.why(fault))?;
        Ok(Stream {
            connection,
            parser: Parser::default(),
            stop: Arc::clone(&self.stop),
            buffer: vec![0; STREAM_READ],
        })
    }
}

impl Stream {
    /// What comes next, by `until`.
    ///
    /// # Errors
    /// The connection broke, or what came is not HTTP.
    pub fn next(&mut self, until: Instant) -> Result<Piece, Fault> {
        if !self.stop.watch(self.connection.socket()) {
            return Err(why(&self.stop, Fault::Stopped));
        }
        let received = self.connection.receive(&mut self.buffer, until);
        if self.stop.is_cut() || self.stop.is_nudged() {
            return Err(why(&self.stop, Fault::Stopped));
        }
        let begun = !self.parser.is_untouched();
        match received {
            Ok(0) => self
                .parser
                .end()
                .map(Piece::End)
                .ok_or(Fault::Closed(begun)),
            Ok(count) => {
                let fed = self.parser.feed(&self.buffer[..count]);
                Ok(match fed.map_err(Fault::Invalid)? {
                    Some(response) => Piece::End(response),
                    None => Piece::Body(self.parser.take_body()),
                })
            }
            Err(error) if is_timeout(&error) => Ok(Piece::Nothing),
            Err(error) => Err(self.connection.broken(error, begun)),
        }
    }
}

/// How long so many bytes take at [`LEAST_RATE`].
fn at_least_rate(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Duration::from_secs(1) * bytes / LEAST_RATE
}

/// `fault`, unless there is something behind it.
fn why(stop: &Stop, fault: Fault) -> Fault {
    if stop.is_cut() {
        Fault::Stopped
    } else if stop.is_nudged() {
        Fault::Nudged
    } else {
        fault
    }
}

/// A deadline has passed.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    const MS: Duration = Duration::from_millis(1);
    /// For everything that is not what the test is about.
    const LONG: Duration = Duration::from_secs(60);

    /// What becomes of an answer of so many bytes that comes in such pieces, with such pauses.
    fn got(length: usize, piece: usize, pause: Duration) -> Result<usize, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            for part in vec![b' '; length].chunks(piece) {
                if stream.write_all(part).is_err() {
                    return;
                }
                std::thread::sleep(pause);
            }
        });
        let address = SourceAddress::tcp("127.0.0.1", port);
        let mut client = Client::new(address, Arc::default());
        let deadlines = Deadlines {
            connect: LONG,
            answer: LONG,
            silence: LONG,
            slack: 300 * MS,
            total: LONG,
        };
        let response = client.get(b"GET / HTTP/1.1\r\n\r\n", deadlines, None);
        drop(client);
        server.join().unwrap();
        response.map(|response| response.body.len())
    }

    #[test]
    fn an_answer_that_trickles_is_given_up_and_a_large_one_has_its_time() {
        let began = Instant::now();
        let trickled = got(2000, 1, 20 * MS);
        assert!(
            matches!(trickled, Err(Fault::TimedOut("reading the answer"))),
            "{trickled:?}"
        );
        assert!(began.elapsed() < LONG / 4);
        // It takes longer than the slack alone: what comes buys time.
        let rate = LEAST_RATE as usize;
        assert_eq!(got(rate, rate / 10, 60 * MS).unwrap(), rate);
    }
}
