//! The upstream server of the benchmarks: one thread, answers of a fixed size, as cheap as can be.
//!
//! `GET /N` is answered with a body of N bytes, kept alive unless the request says
//! `Connection: close`. It trusts its peers: this is no HTTP server.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
/// The largest body it makes.
const BODY_LIMIT: usize = 64 << 20;

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    sending: Option<(Rc<Vec<u8>>, usize)>,
    close: bool,
}

/// Answers on `address` until the process ends; `ready` hears the address that was bound.
pub fn serve(address: SocketAddr, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    ready(listener.local_addr()?);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let mut answers: HashMap<usize, Rc<Vec<u8>>> = HashMap::new();
    let mut next = 0;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => done?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(next);
                    next += 1;
                    poll.registry().register(
                        &mut stream,
                        token,
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    let connection = Connection {
                        stream,
                        received: Vec::new(),
                        sending: None,
                        close: false,
                    };
                    connections.insert(token, connection);
                }
            } else if let Some(connection) = connections.get_mut(&event.token())
                && connection.advance(&mut answers).is_err()
            {
                connections.remove(&event.token());
            }
        }
    }
}

impl Connection {
    /// Reads and writes until the socket would block; an error means that it is over.
    fn advance(&mut self, answers: &mut HashMap<usize, Rc<Vec<u8>>>) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            while let Some((answer, sent)) = &mut self.sending {
                match self.stream.write(&answer[*sent..]) {
                    Ok(count) => *sent += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
                if *sent == answer.len() {
                    self.sending = None;
                    if self.close {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
            }
            if let Some((size, close, length)) = request(&self.received) {
                self.received.drain(..length);
                self.close = close;
                let answer = answers.entry(size).or_insert_with(|| Rc::new(answer(size)));
                self.sending = Some((answer.clone(), 0));
                continue;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if request(&self.received).is_none() {
                return Ok(());
            }
        }
    }
}

/// Body size asked for, whether to close, and the length of the first whole request.
fn request(bytes: &[u8]) -> Option<(usize, bool, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let path = bytes.split(|byte| *byte == b' ').nth(1)?;
    let digits: String = path
        .iter()
        .skip(1)
        .take_while(|byte| byte.is_ascii_digit())
        .map(|byte| char::from(*byte))
        .collect();
    let size = digits.parse().unwrap_or(0).min(BODY_LIMIT);
    let close = bytes[..end]
        .windows(17)
        .any(|window| window.eq_ignore_ascii_case(b"connection: close"));
    Some((size, close, end))
}

fn answer(size: usize) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n")
            .into_bytes();
    answer.resize(answer.len() + size, b'x');
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_size_and_close() {
        let head = b"GET /128 HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(request(head), Some((128, false, head.len())));
        assert_eq!(request(&head[..head.len() - 1]), None);
        let closing = b"GET /16384?a HTTP/1.1\r\nConnection: close\r\n\r\nGET";
        assert_eq!(request(closing), Some((16384, true, closing.len() - 3)));
        assert!(answer(5).ends_with(b"\r\n\r\nxxxxx"));
    }
}
