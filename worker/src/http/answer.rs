//! Heads of answers to clients, in nginx's order of fields.

use std::io::Write;
use std::net::IpAddr;

use super::status;

/// What nginx writes of every answer before the other fields.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status; 494 to 497 are shown as 400.
    pub status: u16,
    /// The upstream's reason phrase; `None` takes nginx's own for the status.
    pub reason: Option<&'a [u8]>,
    /// The time in the form of [`crate::log::Clock::http`]; empty is no `Date`.
    pub date: &'a [u8],
    /// weir's own `Server`.
    pub server: bool,
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// `Location`, of a path on this server. That of another server goes after these fields, as in
    /// nginx.
    pub location: Option<OwnUrl<'a>>,
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// What becomes of the connection.
    pub persist: Persist,
    /// The version is shown (`server_tokens`).
    pub tokens: bool,
}

/// The absolute URL of a path on this server.
#[derive(Clone, Copy, Debug)]
pub struct OwnUrl<'a> {
    /// `https://` and not `http://`.
    pub https: bool,
    /// Where the server is.
    pub host: Host<'a>,
    /// The port, left out when it is the scheme's own.
    pub port: Option<u16>,
    /// What follows it.
    pub path: &'a [u8],
}

/// A host in an [`OwnUrl`].
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// A name, or an address as the client wrote it.
    Name(&'a [u8]),
    /// The address that the client connected to.
    Address(IpAddr),
}

impl OwnUrl<'_> {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.https { b"https://" } else { b"http://" });
        // Writing to a Vec does not fail.
        let _ = match self.host {
            Host::Name(name) => out.write_all(name),
            Host::Address(IpAddr::V4(address)) => write!(out, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(out, "[{address}]"),
        };
        let own = if self.https { 443 } else { 80 };
        if let Some(port) = self.port.filter(|&port| port != own) {
            out.push(b':');
            decimal(out, u64::from(port));
        }
        out.extend_from_slice(self.path);
    }
}

/// The `Connection` field of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// `keep-alive`, and with seconds `Keep-Alive: timeout=…`.
    KeepAlive(Option<u64>),
    /// `close`
    Close,
    /// `upgrade`, with 101.
    Upgrade,
}

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const SERVER_ALONE: &[u8] = b"Server: weir\r\n";
const SERVER: &[u8] = concat!("Server: weir/", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes();

impl Answer<'_> {
    /// Appends the status line and these fields. Further fields follow through [`field`], then [`end`].
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_line(out);
        if self.server {
            out.extend_from_slice(if self.tokens { SERVER } else { SERVER_ALONE });
        }
        if !self.date.is_empty() {
            field(out, b"Date", self.date);
        }
        if let Some(value) = self.content_type.filter(|value| !value.is_empty()) {
            field(out, b"Content-Type", value);
        }
        if let Some(length) = self.length {
            out.extend_from_slice(b"Content-Length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(location) = &self.location {
            out.extend_from_slice(b"Location: ");
            location.write(out);
            out.extend_from_slice(b"\r\n");
        }
        if self.chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        match self.persist {
            Persist::Close => out.extend_from_slice(b"Connection: close\r\n"),
            Persist::Upgrade => out.extend_from_slice(b"Connection: upgrade\r\n"),
            Persist::KeepAlive(timeout) => {
                out.extend_from_slice(b"Connection: keep-alive\r\n");
                if let Some(seconds) = timeout {
                    out.extend_from_slice(b"Keep-Alive: timeout=");
                    decimal(out, seconds);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
    }

    fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        match (self.reason, status::line(self.status)) {
            (None, Some(line)) => out.extend_from_slice(line.as_bytes()),
            (reason, _) => {
                // Writing to a Vec does not fail.
                let _ = write!(out, "{:03} ", self.status);
                out.extend_from_slice(reason.unwrap_or_default());
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one field.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Leaves nothing in `out` from `start` on that could end a line: CR, LF and NUL, which a decoded
/// path may hold, are percent-encoded again.
#[inline]
pub fn keep_to_one_line(out: &mut Vec<u8>, start: usize) {
    let value = out.get(start..).unwrap_or_default();
    if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
        encode_line_ends(out, start);
    }
}

#[cold]
fn encode_line_ends(out: &mut Vec<u8>, start: usize) {
    let value = out.split_off(start);
    for byte in value {
        match byte {
            b'\r' => out.extend_from_slice(b"%0D"),
            b'\n' => out.extend_from_slice(b"%0A"),
            0 => out.extend_from_slice(b"%00"),
            byte => out.push(byte),
        }
    }
}

/// Ends the head.
#[inline]
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends a number.
pub fn decimal(out: &mut Vec<u8>, number: u64) {
    let mut text = [0; 20];
    let mut start = text.len();
    let mut left = number;
    loop {
        start -= 1;
        text[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// Whether `add_header` without `always` applies to this status.
pub fn takes_added_fields(status: u16) -> bool {
    matches!(
        status,
        200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn answer(status: u16) -> Answer<'static> {
        Answer {
            status,
            reason: None,
            date: DATE,
            server: true,
            content_type: None,
            length: None,
            location: None,
            chunked: false,
            persist: Persist::Close,
            tokens: true,
        }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_come_in_nginx_order() {
        let full = Answer {
            content_type: Some(b"text/plain"),
            length: Some(12),
            location: Some(OwnUrl {
                https: false,
                host: Host::Name(b"h"),
                port: Some(80),
                path: b"/x",
            }),
            chunked: true,
            persist: Persist::KeepAlive(Some(20)),
            ..answer(200)
        };
        assert_eq!(
            text(|out| full.write(out)),
            format!(
                "HTTP/1.1 200 OK\r\nServer: {}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 Content-Type: text/plain\r\nContent-Length: 12\r\nLocation: http://h/x\r\n\
                 Transfer-Encoding: chunked\r\nConnection: keep-alive\r\nKeep-Alive: timeout=20\r\n",
                crate::http::PRODUCT
            )
        );
    }

    #[test]
    fn the_status_line_is_nginx_or_the_upstreams() {
        let line = |answer: Answer<'_>| {
            let text = text(|out| answer.write(out));
            text.split("\r\n").next().unwrap().to_owned()
        };
        assert_eq!(line(answer(302)), "HTTP/1.1 302 Moved Temporarily");
        assert_eq!(line(answer(299)), "HTTP/1.1 299 ");
        assert_eq!(line(answer(494)), "HTTP/1.1 400 Bad Request");
        assert_eq!(
            line(Answer {
                reason: Some(b"Fine"),
                ..answer(200)
            }),
            "HTTP/1.1 200 Fine"
        );
        assert_eq!(
            line(Answer {
                reason: Some(b""),
                ..answer(200)
            }),
            "HTTP/1.1 200 "
        );
    }

    #[test]
    fn decimals_are_right_at_both_ends() {
        for number in [0, 9, 10, 99, 100, u64::MAX - 1, u64::MAX] {
            assert_eq!(text(|out| decimal(out, number)), number.to_string());
        }
    }

    #[test]
    fn a_redirect_names_the_port_unless_it_is_the_schemes_own() {
        let url = |https, host, port| {
            let path = b"/x/";
            let url = OwnUrl {
                https,
                host,
                port,
                path,
            };
            text(|out| url.write(out))
        };
        let name = Host::Name(b"h");
        assert_eq!(url(false, name, Some(80)), "http://h/x/");
        assert_eq!(url(false, name, Some(8080)), "http://h:8080/x/");
        assert_eq!(url(false, name, Some(443)), "http://h:443/x/");
        assert_eq!(url(true, name, Some(443)), "https://h/x/");
        assert_eq!(url(true, name, Some(80)), "https://h:80/x/");
        assert_eq!(url(false, name, None), "http://h/x/");
        let address = |text: &str| Host::Address(text.parse().unwrap());
        assert_eq!(
            url(false, address("10.0.0.1"), Some(81)),
            "http://10.0.0.1:81/x/"
        );
        assert_eq!(url(false, address("::1"), Some(80)), "http://[::1]/x/");
    }
}
