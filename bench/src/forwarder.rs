//! The floor that the proxies are measured against: a forwarder that does no more than it must.
//!
//! One thread and one epoll. It reads a request's head, hands the bytes as they are to the next
//! server's idle connection, and the answer's bytes back to the client. It trusts both sides,
//! keeps no time, writes no log and checks nothing: this is no proxy.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
const BUFFER_SIZE: usize = 32 << 10;
const CLOSE: &[u8] = b"connection: close";
const KEEP: &[u8; CLOSE.len()] = b"connection: stays";
const VERSION: &[u8] = b"HTTP/1.0";

struct Connection {
    stream: TcpStream,
    /// The other side of the request under way.
    other: Option<usize>,
    /// Its place among the servers; `None` is a client.
    server: Option<usize>,
    /// Bytes for `other` that it did not take.
    waiting: VecDeque<u8>,
    /// Bytes of the answer that are still to come.
    left: usize,
    /// The client wants the connection closed after the answer.
    close: bool,
}

/// Forwards what comes to `address` to `servers` in turn, until the process ends.
///
/// # Errors
/// As `bind(2)` and `epoll_wait(2)`.
pub fn serve(address: SocketAddr, servers: &[SocketAddr]) -> io::Result<()> {
    let mut listener = TcpListener::bind(address)?;
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut forwarder = Forwarder {
        poll,
        servers,
        idle: vec![Vec::new(); servers.len()],
        next: 0,
        connections: Vec::new(),
        free: Vec::new(),
        buffer: vec![0; BUFFER_SIZE],
    };
    let mut events = Events::with_capacity(256);
    loop {
        match forwarder.poll.poll(&mut events, None) {
            // Whoever traces it interrupts it.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            waited => waited?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    // A client that is gone already is found out by the first read.
                    let _ = stream.set_nodelay(true);
                    let client = forwarder.add(stream, None)?;
                    forwarder.ready(client);
                }
            } else {
                forwarder.ready(event.token().0);
            }
        }
    }
}

struct Forwarder<'a> {
    poll: Poll,
    servers: &'a [SocketAddr],
    idle: Vec<Vec<usize>>,
    next: usize,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

impl Forwarder<'_> {
    fn add(&mut self, stream: TcpStream, server: Option<usize>) -> io::Result<usize> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let connection = self.connections[place].insert(Connection {
            stream,
            other: None,
            server,
            waiting: VecDeque::new(),
            left: 0,
            close: false,
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut connection.stream, Token(place), both)?;
        Ok(place)
    }

    fn ready(&mut self, place: usize) {
        if self.advance(place).is_err() {
            self.close(place);
        }
    }

    fn close(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::take) else {
            return;
        };
        self.free.push(place);
        if let Some(server) = connection.server {
            self.idle[server].retain(|idle| *idle != place);
        }
        if let Some(other) = connection.other {
            self.close(other);
        }
    }

    /// Takes what a connection has for the other one.
    fn advance(&mut self, place: usize) -> io::Result<()> {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(place) else {
                return Ok(());
            };
            if let Some(other) = connection.other {
                self.flush(other, place)?;
            }
            let Some(Some(connection)) = self.connections.get_mut(place) else {
                return Ok(());
            };
            if !connection.waiting.is_empty() {
                return Ok(());
            }
            let read = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            match connection.server {
                None => self.request(place, read)?,
                Some(_) => self.answer(place, read)?,
            }
            if read < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// A whole request is in the buffer.
    fn request(&mut self, client: usize, read: usize) -> io::Result<()> {
        let close = keep(&mut self.buffer[..read]);
        let server = self.next;
        self.next = (self.next + 1) % self.servers.len();
        let peer = match self.idle[server].pop() {
            Some(peer) => peer,
            None => {
                let stream = TcpStream::connect(self.servers[server])?;
                self.add(stream, Some(server))?
            }
        };
        if let Some(Some(connection)) = self.connections.get_mut(client) {
            connection.other = Some(peer);
            connection.close = close;
        }
        if let Some(Some(connection)) = self.connections.get_mut(peer) {
            connection.other = Some(client);
        }
        self.send(client, peer, read)
    }

    /// A piece of an answer is in the buffer.
    fn answer(&mut self, peer: usize, read: usize) -> io::Result<()> {
        let Some(Some(connection)) = self.connections.get_mut(peer) else {
            return Ok(());
        };
        let Some(client) = connection.other else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let (mut left, mut first) = (connection.left, false);
        if left == 0 {
            left = length(&self.buffer[..read]).ok_or(io::ErrorKind::InvalidData)?;
            first = true;
        }
        connection.left = left.saturating_sub(read);
        if first && self.closes(client) {
            // Without a field it means that the connection is closed.
            self.buffer[..VERSION.len()].copy_from_slice(VERSION);
        }
        self.send(peer, client, read)?;
        self.finish(peer)
    }

    fn closes(&self, client: usize) -> bool {
        let client = self.connections.get(client).and_then(Option::as_ref);
        client.is_some_and(|client| client.close)
    }

    /// Gives a server's connection back once the client has the whole answer.
    fn finish(&mut self, peer: usize) -> io::Result<()> {
        let Some(Some(connection)) = self.connections.get_mut(peer) else {
            return Ok(());
        };
        let (Some(client), Some(server)) = (connection.other, connection.server) else {
            return Ok(());
        };
        if connection.left > 0 || !connection.waiting.is_empty() {
            return Ok(());
        }
        connection.other = None;
        self.idle[server].push(peer);
        if let Some(Some(connection)) = self.connections.get_mut(client) {
            connection.other = None;
            if connection.close {
                self.close(client);
            }
        }
        Ok(())
    }

    /// Writes the buffer of `from` to `to`; what does not fit waits.
    fn send(&mut self, from: usize, to: usize, read: usize) -> io::Result<()> {
        let Some(Some(target)) = self.connections.get_mut(to) else {
            return Ok(());
        };
        let written = match target.stream.write(&self.buffer[..read]) {
            Ok(written) => written,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                ) =>
            {
                0
            }
            Err(error) => return Err(error),
        };
        if let Some(Some(source)) = self.connections.get_mut(from) {
            source.waiting.extend(&self.buffer[written..read]);
        }
        Ok(())
    }

    /// Writes what of `from` still waits for `to`.
    fn flush(&mut self, from: usize, to: usize) -> io::Result<()> {
        let Some(mut waiting) = self.connections.get_mut(from).and_then(|connection| {
            let connection = connection.as_mut()?;
            (!connection.waiting.is_empty()).then(|| std::mem::take(&mut connection.waiting))
        }) else {
            return Ok(());
        };
        let mut blocked = false;
        while let (Some(Some(target)), false, false) =
            (self.connections.get_mut(to), waiting.is_empty(), blocked)
        {
            match target.stream.write(waiting.as_slices().0) {
                Ok(written) => drop(waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => blocked = true,
                Err(error) => return Err(error),
            }
        }
        if let Some(Some(source)) = self.connections.get_mut(from) {
            source.waiting = waiting;
        }
        if blocked {
            return Ok(());
        }
        self.finish(from)?;
        // What it could not hand on it did not read either.
        self.advance(from)
    }
}

/// Whether a request says `Connection: close`; the server is told something else in its place.
fn keep(head: &mut [u8]) -> bool {
    let mut windows = head.windows(CLOSE.len());
    let found = windows.position(|window| window.eq_ignore_ascii_case(CLOSE));
    if let Some(at) = found {
        head[at..at + CLOSE.len()].copy_from_slice(KEEP);
    }
    found.is_some()
}

/// Bytes of an answer, its head included.
fn length(bytes: &[u8]) -> Option<usize> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(end) = answer.parse(bytes).ok()? else {
        return None;
    };
    let mut fields = answer.headers.iter();
    let field = fields.find(|field| field.name.eq_ignore_ascii_case("content-length"))?;
    let body: usize = std::str::from_utf8(field.value).ok()?.parse().ok()?;
    Some(end + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_an_answer_ends() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(length(answer), Some(answer.len() + 5));
        assert_eq!(length(&answer[..20]), None);
        assert!(!keep(&mut b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()));
        let mut head = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec();
        assert!(keep(&mut head));
        assert!(!keep(&mut head), "the server keeps its connection");
    }
}
