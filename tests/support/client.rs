//! A small blocking HTTP/1.1 client over one persistent connection. It shows what a browser hides:
//! resets, truncated answers, interim answers, the order of header fields.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::PATIENCE;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No connection.
    Connect(io::Error),
    /// The other side closed before the first byte of an answer.
    Closed,
    /// It closed in the middle of one.
    Truncated(String),
    /// It reset the connection, or nothing came for long.
    Io(io::Error),
    /// What came is not HTTP/1.1.
    Malformed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(error) => write!(f, "no connection: {error}"),
            Failure::Closed => write!(f, "closed without an answer"),
            Failure::Truncated(what) => write!(f, "truncated: {what}"),
            Failure::Io(error) => write!(f, "no answer: {error}"),
            Failure::Malformed(what) => write!(f, "not HTTP/1.1: {what}"),
        }
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// The status line and the header as they came.
    pub head: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The lines of the trailer section, without their ends.
    pub trailers: Vec<String>,
    /// Status codes of the interim answers before it.
    pub interim: Vec<u16>,
}

impl Response {
    /// The first field of that name, without regard to case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields_named(name).first().copied()
    }

    pub fn fields_named(&self, name: &str) -> Vec<&str> {
        let named = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the server keeps the connection after this answer.
    pub fn keeps(&self) -> bool {
        !self
            .field("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection to a server.
pub struct Client {
    stream: Stream,
    /// Bytes that came after the last answer.
    rest: Vec<u8>,
    host: String,
}

impl Client {
    pub fn try_connect(address: impl ToSocketAddrs + ToString) -> Result<Client, Failure> {
        let host = address.to_string();
        let stream = TcpStream::connect(address).map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let client = Client {
            stream: Stream::Tcp(stream),
            rest: Vec::new(),
            host,
        };
        client.set_timeout(PATIENCE);
        Ok(client)
    }

    #[track_caller]
    pub fn connect(address: impl ToSocketAddrs + ToString) -> Client {
        let name = address.to_string();
        Client::try_connect(address).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn connect_unix(path: &Path) -> Client {
        let stream = Stream::Unix(UnixStream::connect(path).unwrap());
        let client = Client {
            stream,
            rest: Vec::new(),
            host: "localhost".to_owned(),
        };
        client.set_timeout(PATIENCE);
        client
    }

    /// How long one read or write may take.
    pub fn set_timeout(&self, limit: Duration) {
        match &self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(limit)).unwrap();
                stream.set_write_timeout(Some(limit)).unwrap();
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(limit)).unwrap();
                stream.set_write_timeout(Some(limit)).unwrap();
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
        .map_err(Failure::Io)
    }

    pub fn get(&mut self, target: &str) -> Result<Response, Failure> {
        self.request("GET", target, "", b"")
    }

    /// One request with more header lines (each ending in CRLF) and a body with its length.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &str,
        body: &[u8],
    ) -> Result<Response, Failure> {
        let length = match (body.len(), method) {
            (0, "GET" | "HEAD" | "DELETE") => String::new(),
            (length, _) => format!("Content-Length: {length}\r\n"),
        };
        let host = match fields.to_ascii_lowercase().contains("host:") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.host),
        };
        let head = format!("{method} {target} HTTP/1.1\r\n{host}{fields}{length}\r\n");
        self.send(&[head.as_bytes(), body].concat())?;
        self.response(method)
    }

    /// The next answer; `method` says whether it has a body.
    pub fn response(&mut self, method: &str) -> Result<Response, Failure> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                interim.push(response.status);
                continue;
            }
            response.interim = interim;
            self.body(method, &mut response)?;
            return Ok(response);
        }
    }

    /// Whether the other side has closed in order; waits for it.
    pub fn closed(&mut self) -> Result<bool, Failure> {
        Ok(self.rest.is_empty() && self.fill()? == 0)
    }

    /// Reads once more from the connection: the number of bytes that came, 0 at its end.
    pub fn fill(&mut self) -> Result<usize, Failure> {
        let mut chunk = [0; 65_536];
        let count = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut chunk),
            Stream::Unix(stream) => stream.read(&mut chunk),
        }
        .map_err(Failure::Io)?;
        self.rest.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// Whether the connection is known to be closed or broken by now; does not wait.
    pub fn is_closed(&self) -> bool {
        let Stream::Tcp(stream) = &self.stream else {
            return false;
        };
        stream.set_nonblocking(true).unwrap();
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        match seen {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// The client's own port; 0 on a unix socket.
    pub fn port(&self) -> u16 {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().map_or(0, |address| address.port()),
            Stream::Unix(_) => 0,
        }
    }

    /// What has come and is not part of an answer that was asked for.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Reads a header, leaving what follows it in place.
    pub fn head(&mut self) -> Result<Response, Failure> {
        let end = loop {
            if let Some(end) = find(&self.rest, b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill()? == 0 {
                return Err(match self.rest.is_empty() {
                    true => Failure::Closed,
                    false => Failure::Truncated(lossy(&self.rest)),
                });
            }
        };
        let head = lossy(&self.rest[..end]);
        self.rest.drain(..end);
        parse(head)
    }

    fn body(&mut self, method: &str, response: &mut Response) -> Result<(), Failure> {
        if method == "HEAD" || matches!(response.status, 204 | 304) {
            return Ok(());
        }
        if let Some(coding) = response.field("transfer-encoding") {
            assert!(coding.eq_ignore_ascii_case("chunked"), "{coding}");
            return self.chunks(response);
        }
        response.body = match response.field("content-length") {
            Some(length) => {
                let length = length
                    .parse()
                    .map_err(|_| Failure::Malformed(response.head.clone()))?;
                self.take(length)?
            }
            None => {
                while self.fill()? > 0 {}
                std::mem::take(&mut self.rest)
            }
        };
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.rest.len() < length {
            if self.fill()? == 0 {
                let got = self.rest.len();
                return Err(Failure::Truncated(format!("{got} of {length} bytes")));
            }
        }
        Ok(self.rest.drain(..length).collect())
    }

    fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = find(&self.rest, b"\r\n") {
                let line = lossy(&self.rest[..end]);
                self.rest.drain(..end + 2);
                return Ok(line);
            }
            if self.fill()? == 0 {
                return Err(Failure::Truncated(lossy(&self.rest)));
            }
        }
    }

    fn chunks(&mut self, response: &mut Response) -> Result<(), Failure> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.trim(), 16)
                .map_err(|_| Failure::Malformed(format!("chunk size {line:?}")))?;
            if size == 0 {
                break;
            }
            response.body.extend(self.take(size)?);
            let end = self.line()?;
            if !end.is_empty() {
                return Err(Failure::Malformed(format!("after a chunk: {end:?}")));
            }
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            response.trailers.push(line);
        }
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn get(address: impl ToSocketAddrs + ToString, target: &str) -> Response {
    let mut client = Client::connect(address);
    client
        .get(target)
        .unwrap_or_else(|error| panic!("GET {target}: {error}"))
}

fn parse(head: String) -> Result<Response, Failure> {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3)?.parse().ok());
    let fields: Option<Vec<_>> = lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        })
        .collect();
    match (status, fields) {
        (Some(status), Some(fields)) => Ok(Response {
            status,
            head,
            fields,
            body: Vec::new(),
            trailers: Vec::new(),
            interim: Vec::new(),
        }),
        _ => Err(Failure::Malformed(head)),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
