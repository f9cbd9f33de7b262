//! HTTP/1.1 as the tests read it: to the letter, with no leniency that could hide a fault.

use std::io::{self, Read};
use std::net::TcpStream;

/// Name and value.
pub type Field = (Vec<u8>, Vec<u8>);

/// A start line and the fields, bytes as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub line: Vec<u8>,
    pub fields: Vec<Field>,
}

impl Head {
    /// The values of every field of this name.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_slice())
            .collect()
    }

    pub fn has(&self, name: &str, value: &str) -> bool {
        self.all(name)
            .iter()
            .any(|field| field.eq_ignore_ascii_case(value.as_bytes()))
    }
}

/// How a stream of bytes ended before a message was whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// In order, with so many bytes of an unfinished message.
    End(usize),
    /// By a reset.
    Reset,
    /// Nothing came for long.
    Silence,
    /// What came is not HTTP/1.1.
    Bad(String),
}

/// What an answer's or request's body was delimited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length,
    Chunked,
    UntilClose,
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub head: Head,
    pub body: Vec<u8>,
    pub framing: Framing,
    /// Trailer fields, as lines.
    pub trailers: Vec<u8>,
}

/// A connection that is read message by message.
pub struct Wire {
    pub stream: TcpStream,
    pub rest: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Wire {
        Wire {
            stream,
            rest: Vec::new(),
        }
    }

    fn fill(&mut self) -> Result<(), Stop> {
        let mut piece = [0; 16_384];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(Stop::End(self.rest.len())),
            Ok(count) => {
                self.rest.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(Stop::Silence),
                _ => Err(Stop::Reset),
            },
        }
    }

    /// Reads to the end of the stream, and says how it ended.
    pub fn drain(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.fill() {
                return stop;
            }
        }
    }

    pub fn take(&mut self, length: usize) -> Result<Vec<u8>, Stop> {
        while self.rest.len() < length {
            self.fill()?;
        }
        Ok(self.rest.drain(..length).collect())
    }

    fn line(&mut self) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(lf) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=lf).collect();
                line.pop();
                if line.pop() != Some(b'\r') || line.contains(&b'\r') {
                    return Err(bad("line end", &line));
                }
                return Ok(line);
            }
            self.fill()?;
        }
    }

    pub fn head(&mut self) -> Result<Head, Stop> {
        let line = self.line()?;
        if line.iter().any(|byte| *byte < b' ' || *byte == 0x7f) || line.is_empty() {
            return Err(bad("start line", &line));
        }
        let fields = self.fields()?;
        Ok(Head { line, fields })
    }

    fn fields(&mut self) -> Result<Vec<Field>, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let (name, value) = line.split_at(colon.ok_or_else(|| bad("field", &line))?);
            let value = value[1..].trim_ascii();
            let control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
            if name.is_empty() || !name.iter().all(is_token) || value.iter().any(control) {
                return Err(bad("field", &line));
            }
            fields.push((name.to_vec(), value.to_vec()));
        }
    }

    fn chunks(&mut self) -> Result<(Vec<u8>, Vec<u8>), Stop> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let text = String::from_utf8_lossy(&line).into_owned();
            let size = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = size
                .then(|| usize::from_str_radix(&text, 16).ok())
                .flatten();
            match size.ok_or_else(|| bad("chunk size", &line))? {
                0 => {
                    let mut trailers = Vec::new();
                    for (name, value) in self.fields()? {
                        trailers.extend([&name[..], b": ", &value, b"\r\n"].concat());
                    }
                    return Ok((body, trailers));
                }
                size => {
                    body.extend(self.take(size)?);
                    if self.take(2)? != b"\r\n" {
                        return Err(bad("chunk end", b""));
                    }
                }
            }
        }
    }

    /// A body whose framing the fields tell; `else_until_close` for answers.
    fn body(&mut self, head: Head, else_until_close: bool) -> Result<Message, Stop> {
        let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
        let (body, framing, trailers) = match (&lengths[..], &codings[..]) {
            ([], []) if else_until_close => match self.drain() {
                Stop::End(_) => (std::mem::take(&mut self.rest), Framing::UntilClose, vec![]),
                stop => return Err(stop),
            },
            ([], []) => (Vec::new(), Framing::None, Vec::new()),
            ([length], []) => {
                let text = String::from_utf8_lossy(length).into_owned();
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                let length = digits.then(|| text.parse().ok()).flatten();
                let length = length.ok_or_else(|| bad("length", text.as_bytes()))?;
                (self.take(length)?, Framing::Length, Vec::new())
            }
            ([], [coding]) if coding == b"chunked" => {
                let (body, trailers) = self.chunks()?;
                (body, Framing::Chunked, trailers)
            }
            _ => {
                return Err(bad(
                    "framing",
                    format!("{lengths:?} {codings:?}").as_bytes(),
                ));
            }
        };
        Ok(Message {
            head,
            body,
            framing,
            trailers,
        })
    }

    /// A request as a strict server takes it.
    pub fn request(&mut self) -> Result<Message, Stop> {
        let head = self.head()?;
        let parts: Vec<&[u8]> = head.line.split(|byte| *byte == b' ').collect();
        let good = matches!(&parts[..], [method, target, b"HTTP/1.1"]
            if method.iter().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(byte))
                && target.first() == Some(&b'/')
                && target.iter().all(u8::is_ascii_graphic));
        if !good || head.all("host").len() != 1 {
            return Err(bad("request", &head.line));
        }
        self.body(head, false)
    }

    /// An answer as a strict client takes it; `method` is the request's.
    pub fn answer(&mut self, method: &str) -> Result<Message, Stop> {
        let head = self.head()?;
        let Some(status) = status(&head) else {
            return Err(bad("status line", &head.line));
        };
        let empty = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
        if !empty {
            return self.body(head, true);
        }
        let framed = !head.all("content-length").is_empty();
        if (framed && matches!(status, 100..=199 | 204))
            || !head.all("transfer-encoding").is_empty()
        {
            return Err(bad("framing of an answer without a body", &head.line));
        }
        Ok(Message {
            head,
            body: Vec::new(),
            framing: Framing::None,
            trailers: Vec::new(),
        })
    }
}

/// `HTTP/1.1 200 …`
pub fn status(head: &Head) -> Option<u16> {
    let text = std::str::from_utf8(head.line.get(..13)?).ok()?;
    let code = text.strip_prefix("HTTP/1.1 ")?.strip_suffix(' ')?;
    let code: u16 = code.parse().ok()?;
    (100..600).contains(&code).then_some(code)
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn bad(what: &str, bytes: &[u8]) -> Stop {
    let shown = &bytes[..bytes.len().min(80)];
    Stop::Bad(format!("{what}: {:?}", shown.escape_ascii().to_string()))
}
