//! Heads of answers to clients, in nginx's order of fields.

use std::io::Write;

use super::framing::has_body;
use super::method::Method;
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
    /// `Location`. nginx has it here for a path on this server, which it makes absolute; the URL of
    /// a `return` that names another server goes after these fields.
    pub location: Option<&'a [u8]>,
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// What becomes of the connection.
    pub persist: Persist,
    /// The version is shown (`server_tokens`).
    pub tokens: bool,
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
        if let Some(location) = self.location {
            field(out, b"Location", location);
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

/// Appends a whole answer of weir's own: nginx's page for the status, or no body where none belongs.
/// `fields` is appended before the head ends.
pub fn write_page(
    out: &mut Vec<u8>,
    answer: &Answer<'_>,
    method: Method,
    fields: impl FnOnce(&mut Vec<u8>),
) {
    let page = super::page::of(answer.status);
    let tail = if page.is_empty() {
        b""
    } else {
        super::page::tail(answer.tokens)
    };
    let with_body = !matches!(answer.status, 100..=199 | 204 | 304);
    let head = Answer {
        content_type: (!page.is_empty()).then_some(super::page::CONTENT_TYPE),
        length: with_body.then_some((page.len() + tail.len()) as u64),
        chunked: false,
        ..*answer
    };
    head.write(out);
    fields(out);
    end(out);
    if has_body(method, answer.status) {
        out.extend_from_slice(page);
        out.extend_from_slice(tail);
    }
}

/// Appends the absolute URL of a redirect to a path on this server, as nginx does by default
/// (`absolute_redirect on`, `port_in_redirect on`): the port is that of the listener, left out when
/// it is the scheme's own.
pub fn absolute_url(out: &mut Vec<u8>, https: bool, host: &[u8], port: Option<u16>, path: &[u8]) {
    out.extend_from_slice(if https { b"https://" } else { b"http://" });
    out.extend_from_slice(host);
    if let Some(port) = port.filter(|&port| port != if https { 443 } else { 80 }) {
        out.push(b':');
        decimal(out, u64::from(port));
    }
    out.extend_from_slice(path);
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
            location: Some(b"/x"),
            chunked: true,
            persist: Persist::KeepAlive(Some(20)),
            ..answer(200)
        };
        assert_eq!(
            text(|out| full.write(out)),
            format!(
                "HTTP/1.1 200 OK\r\nServer: {}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 Content-Type: text/plain\r\nContent-Length: 12\r\nLocation: /x\r\n\
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
    fn a_page_has_a_body_only_where_one_belongs() {
        let page = |status, method| text(|out| write_page(out, &answer(status), method, |_| ()));
        assert!(page(404, Method::Get).ends_with("</html>\r\n"));
        let head = page(404, Method::Head);
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: 1"));
        assert!(!page(204, Method::Get).contains("Content-"));
        assert!(page(200, Method::Get).contains("Content-Length: 0\r\n"));
    }

    #[test]
    fn no_value_ends_its_line() {
        let kept = |value: &[u8]| {
            let mut out = [b"a\r\nX: ", value].concat();
            keep_to_one_line(&mut out, 6);
            out.split_off(6)
        };
        assert_eq!(kept(b""), b"");
        assert_eq!(kept(b"plain \xff\t"), b"plain \xff\t");
        assert_eq!(kept(b"1\r\nB: 2\0"), b"1%0D%0AB: 2%00");
    }

    #[test]
    fn decimals_are_right_at_both_ends() {
        for number in [0, 9, 10, 99, 100, u64::MAX - 1, u64::MAX] {
            assert_eq!(text(|out| decimal(out, number)), number.to_string());
        }
    }

    #[test]
    fn a_redirect_names_the_port_unless_it_is_the_schemes_own() {
        let url = |https, port| text(|out| absolute_url(out, https, b"h", port, b"/x/"));
        assert_eq!(url(false, Some(80)), "http://h/x/");
        assert_eq!(url(false, Some(8080)), "http://h:8080/x/");
        assert_eq!(url(true, Some(443)), "https://h/x/");
        assert_eq!(url(false, None), "http://h/x/");
    }
}
