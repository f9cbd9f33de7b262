//! An HTTP/1.1 response, put together from bytes as they come (RFC 9112): no socket in here.

/// The largest head, in bytes.
pub const HEAD_MAX: usize = 1 << 20;
/// The most header fields.
pub const FIELDS_MAX: usize = 256;
/// The largest body, in bytes.
pub const BODY_MAX: usize = 64 << 20;
/// The longest line of a chunk's size, extensions included, in bytes.
const CHUNK_LINE_MAX: usize = 4096;

/// A complete response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code, never an interim one.
    pub status: u16,
    /// Fields by lower-case name, in order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, chunks put together.
    pub body: Vec<u8>,
    /// The connection may carry another request.
    pub keep: bool,
}

impl Response {
    /// The first field named `name` (lower case).
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(field, _)| field == name)?;
        Some(&found.1)
    }
}

/// Takes bytes in, gives a response out.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes not yet understood.
    input: Vec<u8>,
    state: State,
    response: Response,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// This many bytes of the body are to come.
    Length(usize),
    Chunked(Chunk),
    /// The body ends with the connection.
    ToEnd,
    Done,
}

#[derive(Debug)]
enum Chunk {
    /// The line with a chunk's size.
    Size,
    /// This many bytes of a chunk, then its line end.
    Data(usize),
    /// Fields after the last chunk, up to an empty line.
    Trailer,
}

impl Parser {
    /// One that puts the body together in this buffer.
    pub fn with_room(body: Vec<u8>) -> Parser {
        let response = Response {
            body,
            ..Response::default()
        };
        Parser {
            response,
            ..Parser::default()
        }
    }

    /// Whether not a byte has come.
    pub fn is_untouched(&self) -> bool {
        self.input.is_empty() && matches!(self.state, State::Head)
    }

    /// Takes the next bytes in; the response is there once it is complete.
    ///
    /// # Errors
    /// The bytes are no HTTP/1 response, or one beyond a limit.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Response>, String> {
        let rest = &bytes[self.take_straight(bytes)..];
        self.input.extend_from_slice(rest);
        while self.step()? {}
        Ok(self.take(false))
    }

    /// Takes what is surely of the body past the input: how much.
    fn take_straight(&mut self, bytes: &[u8]) -> usize {
        let left = match &mut self.state {
            State::Length(left) | State::Chunked(Chunk::Data(left)) if self.input.is_empty() => {
                left
            }
            _ => return 0,
        };
        let take = (*left).min(bytes.len());
        *left -= take;
        self.response.body.extend_from_slice(&bytes[..take]);
        take
    }

    /// Takes the part of the body out that has come, of a response that may never be complete and is
    /// good as far as it goes: its status is 200.
    pub fn take_body(&mut self) -> Vec<u8> {
        match self.response.status {
            200 => std::mem::take(&mut self.response.body),
            _ => Vec::new(),
        }
    }

    /// The connection ended: the response, if this is how it says that it is complete.
    pub fn end(&mut self) -> Option<Response> {
        if matches!(self.state, State::ToEnd) {
            self.state = State::Done;
        }
        self.take(true)
    }

    fn take(&mut self, ended: bool) -> Option<Response> {
        if !matches!(self.state, State::Done) {
            return None;
        }
        // Bytes that nobody asked for: the connection is out of step.
        self.response.keep &= !ended && self.input.is_empty();
        self.input.clear();
        self.state = State::Head;
        Some(std::mem::take(&mut self.response))
    }

    /// One step forward; `false` when more bytes are needed.
    fn step(&mut self) -> Result<bool, String> {
        match &mut self.state {
            State::Head => self.head(),
            State::Length(left) => {
                let take = (*left).min(self.input.len());
                *left -= take;
                let done = *left == 0;
                self.response.body.extend(self.input.drain(..take));
                if done {
                    self.state = State::Done;
                }
                Ok(false)
            }
            State::Chunked(_) => self.chunk(),
            State::ToEnd => {
                room(self.response.body.len(), self.input.len())?;
                self.response.body.append(&mut self.input);
                Ok(false)
            }
            State::Done => Ok(false),
        }
    }

    fn head(&mut self) -> Result<bool, String> {
        // httparse starts from the first byte each time: it is asked only once the head is whole.
        let Some(end) = find(&self.input, b"\r\n\r\n") else {
            return match self.input.len() {
                0..=HEAD_MAX if looks_like_http(&self.input) => Ok(false),
                0..=HEAD_MAX => Err("not an HTTP/1 response".to_owned()),
                _ => Err(format!("response head of more than {HEAD_MAX} bytes")),
            };
        };
        let head: Vec<u8> = self.input.drain(..end + 4).collect();
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        match parsed.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err("response head is cut".to_owned()),
            Err(error) => return Err(format!("invalid response head: {error}")),
        }
        self.response.status = parsed.code.unwrap_or_default();
        self.response.fields = parsed
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
            .collect();
        if self.response.status == 101 {
            return Err("response switches protocols".to_owned());
        }
        if self.response.status < 200 {
            return Ok(true);
        }
        self.response.keep = keeps(parsed.version == Some(1), &self.response);
        self.state = framing(&self.response)?;
        if let State::ToEnd = self.state {
            self.response.keep = false;
        }
        Ok(true)
    }

    fn chunk(&mut self) -> Result<bool, String> {
        let State::Chunked(chunk) = &mut self.state else {
            return Ok(false);
        };
        if let Chunk::Data(left) = chunk {
            let take = (*left).min(self.input.len());
            self.response.body.extend(self.input.drain(..take));
            *left -= take;
            if *left > 0 || self.input.len() < 2 {
                return Ok(false);
            }
            if !self.input.starts_with(b"\r\n") {
                return Err("chunk without its line end".to_owned());
            }
            self.input.drain(..2);
            *chunk = Chunk::Size;
            return Ok(true);
        }
        let Some(end) = find(&self.input, b"\r\n") else {
            return match self.input.len() {
                0..=CHUNK_LINE_MAX => Ok(false),
                _ => Err(format!("chunk line of more than {CHUNK_LINE_MAX} bytes")),
            };
        };
        let line: Vec<u8> = self.input.drain(..end + 2).take(end).collect();
        match chunk {
            Chunk::Trailer if line.is_empty() => self.state = State::Done,
            Chunk::Trailer => {}
            _ => match chunk_size(&line)? {
                0 => *chunk = Chunk::Trailer,
                size => {
                    room(self.response.body.len(), size)?;
                    *chunk = Chunk::Data(size);
                }
            },
        }
        Ok(true)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Garbage is told at once rather than after a deadline.
fn looks_like_http(input: &[u8]) -> bool {
    let start = b"HTTP/1.";
    let shared = start.len().min(input.len());
    input[..shared] == start[..shared]
}

fn room(has: usize, more: usize) -> Result<(), String> {
    if has.saturating_add(more) > BODY_MAX {
        return Err(format!("response body of more than {BODY_MAX} bytes"));
    }
    Ok(())
}

fn keeps(minor_is_1: bool, response: &Response) -> bool {
    let says = |option: &str| {
        response
            .fields
            .iter()
            .filter(|(name, _)| name == "connection")
            .flat_map(|(_, value)| value.split(|byte| *byte == b','))
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    };
    !says("close") && (minor_is_1 || says("keep-alive"))
}

/// RFC 9112, section 6.3, for the answer to a GET.
fn framing(response: &Response) -> Result<State, String> {
    if matches!(response.status, 204 | 304) {
        return Ok(State::Done);
    }
    let values = |name: &'static str| {
        let fields = response.fields.iter();
        fields
            .filter(move |(field, _)| field == name)
            .map(|(_, value)| value.as_slice())
    };
    let mut codings = values("transfer-encoding");
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
            return Err("unknown Transfer-Encoding".to_owned());
        }
        if values("content-length").next().is_some() {
            return Err("both Transfer-Encoding and Content-Length".to_owned());
        }
        return Ok(State::Chunked(Chunk::Size));
    }
    let mut lengths = values("content-length");
    let Some(length) = lengths.next() else {
        return Ok(State::ToEnd);
    };
    if lengths.any(|other| other != length) {
        return Err("different Content-Length fields".to_owned());
    }
    let length = digits(length, 10).ok_or("invalid Content-Length")?;
    room(0, length)?;
    Ok(State::Length(length))
}

fn chunk_size(line: &[u8]) -> Result<usize, String> {
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    digits(size.trim_ascii_end(), 16).ok_or_else(|| "invalid chunk size".to_owned())
}

/// Digits alone, no sign; at most what a `usize` holds.
fn digits(text: &[u8], radix: u32) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty() || !text.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    usize::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 2\r\n\r\n[]";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";

    fn whole(bytes: &[u8]) -> Result<Option<Response>, String> {
        let mut parser = Parser::default();
        match parser.feed(bytes)? {
            Some(response) => Ok(Some(response)),
            None => Ok(parser.end()),
        }
    }

    #[test]
    fn a_length_or_chunks_or_the_end_delimit_a_body() {
        let plain = whole(PLAIN).unwrap().unwrap();
        assert_eq!(
            (plain.status, plain.body.as_slice(), plain.keep),
            (200, &b"[]"[..], true)
        );
        assert_eq!(plain.field("x-consul-index"), Some(&b"7"[..]));
        let chunked = whole(CHUNKED).unwrap().unwrap();
        assert_eq!(
            (chunked.body.as_slice(), chunked.keep),
            (&b"abc0123456789"[..], true)
        );
        let to_end = whole(b"HTTP/1.1 500 Oops\r\n\r\nno leader")
            .unwrap()
            .unwrap();
        assert_eq!(
            (to_end.status, to_end.body.as_slice(), to_end.keep),
            (500, &b"no leader"[..], false)
        );
        let none = whole(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert!(none.keep && none.body.is_empty());
        let interim = whole(&[b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\n", PLAIN].concat()).unwrap();
        assert_eq!(interim.unwrap(), plain);
    }

    #[test]
    fn what_is_cut_is_not_complete() {
        for cut in 0..PLAIN.len() {
            assert_eq!(whole(&PLAIN[..cut]), Ok(None), "{cut}");
        }
        for cut in 0..CHUNKED.len() {
            assert_eq!(whole(&CHUNKED[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn keep_alive_follows_version_connection_and_stray_bytes() {
        let keep = |head: &str, rest: &str| {
            let text = format!("{head}\r\nContent-Length: 0\r\n\r\n{rest}");
            whole(text.as_bytes()).unwrap().unwrap().keep
        };
        assert!(keep("HTTP/1.1 200 OK", ""));
        assert!(!keep("HTTP/1.1 200 OK", "x"));
        assert!(!keep("HTTP/1.1 200 OK\r\nConnection: x, Close", ""));
        assert!(!keep("HTTP/1.0 200 OK", ""));
        assert!(keep("HTTP/1.0 200 OK\r\nConnection: keep-alive", ""));
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        let huge = format!("Content-Length: {}", BODY_MAX + 1);
        for fields in [
            "Content-Length: +1",
            "Content-Length: ",
            "Content-Length: 1, 1",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 99999999999999999999",
            huge.as_str(),
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "no colon",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert!(whole(text.as_bytes()).is_err(), "{fields}");
        }
        for chunks in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "1\r\nabc\r\n",
            "ffffffffffffffffff\r\n",
            "4000001\r\n",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert!(whole(text.as_bytes()).is_err(), "{chunks:?}");
        }
        assert!(whole(b"SSH-2.0-OpenSSH").is_err());
        assert!(whole(b"HTTP/2 200").is_err());
        assert!(whole(b"HTTP/1.1 101 Switching\r\n\r\n").is_err());
    }

    #[test]
    fn a_head_up_to_the_limits_is_read() {
        let field = format!("X-Long: {}\r\n", "v".repeat(8000));
        let head = |count: usize| {
            format!(
                "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
                field.repeat(count)
            )
        };
        assert_eq!(
            whole(head(64).as_bytes()).unwrap().unwrap().fields.len(),
            65
        );
        let many = |count| format!("HTTP/1.1 204 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(whole(many(FIELDS_MAX).as_bytes()).unwrap().is_some());
        assert!(whole(many(FIELDS_MAX + 1).as_bytes()).is_err());
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_MAX));
        assert!(whole(endless.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(cuts in proptest::collection::vec(1usize..20, 1..60)) {
            for text in [PLAIN, CHUNKED] {
                let mut parser = Parser::default();
                let mut rest = text;
                let mut got = None;
                for cut in cuts.iter().cycle() {
                    let (now, later) = rest.split_at((*cut).min(rest.len()));
                    got = parser.feed(now).unwrap();
                    rest = later;
                    if rest.is_empty() { break; }
                    prop_assert!(got.is_none());
                }
                prop_assert_eq!(got, whole(text).unwrap());
            }
        }

        #[test]
        fn any_bytes_end_in_a_response_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..60) {
            let mut text = CHUNKED.to_vec();
            text.splice(at.min(text.len()).., bytes);
            let _ = whole(&text);
        }
    }
}
