//! The small HTTP/1.1 server behind the demo's backends and its KV endpoint: a thread a
//! connection, bodies by Content-Length, loopback only.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes of a request line with its fields.
const MAX_HEAD: usize = 16 * 1024;
/// Fields of a request.
const MAX_FIELDS: usize = 64;
/// Bytes of a request body: Consul's own limit of a value.
const MAX_BODY: usize = 512 * 1024;
/// Connections at one time; further ones are closed at once.
const MAX_CONNECTIONS: usize = 512;
/// Bytes and pauses that a refused client may still send.
const MAX_LINGER: u64 = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(1);
/// How long a kept connection may be idle.
const IDLE: Duration = Duration::from_secs(75);

/// A request, its body read.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// The target up to `?`, as sent.
    pub path: String,
    /// The target after `?`, as sent.
    pub query: String,
    pub body: Vec<u8>,
}

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Response {
        let fields = vec![("Content-Type", "text/plain".to_owned())];
        Response {
            status,
            fields,
            body: body.into(),
        }
    }
}

/// Answers every connection of `listener` on threads of its own.
pub fn serve<H>(listener: TcpListener, handler: H)
where
    H: Fn(&Request) -> Response + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    let connections = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                // Out of descriptors: without a pause this loop would spin.
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            if connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (handler, connections) = (handler.clone(), connections.clone());
            thread::spawn(move || {
                // A peer that goes away is no fault of the demo's.
                let _ = converse(&stream, &*handler);
                connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

fn converse<H: Fn(&Request) -> Response>(stream: &TcpStream, handler: &H) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let head = read_head(&mut reader)?;
        if head.is_empty() {
            return Ok(());
        }
        let head = match parse_head(&head) {
            Ok(head) => head,
            Err(status) => {
                write_response(stream, &Response::text(status, ""), false, false)?;
                return linger(stream, reader);
            }
        };
        if head.expects_continue {
            (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut request = head.request;
        request.body.resize(head.length, 0);
        reader.read_exact(&mut request.body)?;
        let response = handler(&request);
        write_response(stream, &response, request.method == "HEAD", head.keep)?;
        if !head.keep {
            return Ok(());
        }
    }
}

/// Reads on for a while after a refusal: closing over unread bytes resets the connection, and a
/// reset can overtake the answer.
fn linger(stream: &TcpStream, reader: impl Read) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(LINGER))?;
    io::copy(&mut reader.take(MAX_LINGER), &mut io::sink())?;
    Ok(())
}

/// The bytes up to and with the empty line; none at the end of the stream.
fn read_head(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let room = (MAX_HEAD - head.len()) as u64;
        if reader.by_ref().take(room).read_until(b'\n', &mut head)? == 0 {
            break;
        }
    }
    Ok(head)
}

struct Head {
    request: Request,
    length: usize,
    keep: bool,
    expects_continue: bool,
}

/// The status to refuse it with is the error.
fn parse_head(bytes: &[u8]) -> Result<Head, u16> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => return Err(431),
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        _ => return Err(400),
    }
    let (method, target) = (parsed.method.unwrap_or(""), parsed.path.unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut head = Head {
        request: Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            body: Vec::new(),
        },
        length: 0,
        keep: parsed.version == Some(1),
        expects_continue: false,
    };
    for field in parsed.headers.iter() {
        let value = std::str::from_utf8(field.value).map_err(|_| 400u16)?.trim();
        match field.name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().map_err(|_| 400u16)?,
            "transfer-encoding" => return Err(411),
            "expect" => head.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            "connection" if value.eq_ignore_ascii_case("close") => head.keep = false,
            _ => {}
        }
    }
    if head.length > MAX_BODY {
        return Err(413);
    }
    Ok(head)
}

fn write_response(
    mut stream: &TcpStream,
    response: &Response,
    head_only: bool,
    keep: bool,
) -> io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        507 => "Insufficient Storage",
        _ => "Unknown",
    };
    let mut out = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Length: {}\r\nConnection: {}\r\n",
        response.status,
        response.body.len(),
        if keep { "keep-alive" } else { "close" },
    );
    for (name, value) in &response.fields {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    if !head_only {
        out.extend_from_slice(&response.body);
    }
    stream.write_all(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, |request| {
            Response::text(
                200,
                format!(
                    "{} {} {} {}",
                    request.method,
                    request.path,
                    request.query,
                    request.body.len()
                ),
            )
        });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn answers_kept_and_closed_connections() {
        let answer = exchange(
            b"PUT /a?b HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyzGET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        assert!(answer.contains("keep-alive\r\n"), "{answer}");
        assert!(
            answer.contains("\r\n\r\nPUT /a b 3HTTP/1.1 200 OK"),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\nGET /  0"), "{answer}");
    }

    #[test]
    fn head_has_no_body_and_expect_is_answered() {
        let answer = exchange(b"HEAD / HTTP/1.1\r\n\r\n");
        assert!(answer.contains("Content-Length: 9\r\n") && answer.ends_with("\r\n\r\n"));
        let answer =
            exchange(b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
        assert!(
            answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"),
            "{answer}"
        );
    }

    #[test]
    fn refuses_what_it_cannot_frame() {
        for (request, status) in [
            (
                "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(),
                "400",
            ),
            (
                "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                "411",
            ),
            (
                format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1),
                "413",
            ),
            (
                format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD)),
                "431",
            ),
            ("\0\r\n\r\n".to_owned(), "400"),
        ] {
            let answer = exchange(request.as_bytes());
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
    }
}
