//! Heads of answers from upstream servers (RFC 9112, section 4).

use std::borrow::Cow;
use std::mem::MaybeUninit;

use super::chunked::is_control;
use super::fields::{Fields, Known, MAX_NAMED, Span, is_token, trim};
use super::framing::{self, Ambiguous, Body};
use super::head::MAX_FIELDS;
use super::limits::{Limits, MAX_HEAD};
use super::lines::{Lines, Scan};
use super::method::Method;

/// Answers with no more fields than this are parsed without the large scratch.
const USUAL_FIELDS: usize = 64;

/// What came of parsing the bytes at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseParsed {
    /// More bytes are needed.
    Partial,
    /// The head is complete and ends before this index. An interim answer (1xx but 101) is
    /// followed by another head.
    Head(usize),
    /// The answer cannot be used; the client gets a 502.
    Malformed(Malformed),
}

/// Why an answer cannot be used; [`Malformed::told`] puts it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// As it says.
    Because(&'static str),
    /// This part of the head begins a line that is no field; its last byte is the first one that
    /// does not belong there.
    Line(Span),
}

impl Malformed {
    /// In nginx's words for the error log, `head` being what was parsed; `while reading response
    /// header from upstream` is for the caller to add.
    pub fn told(self, head: &[u8]) -> Cow<'static, str> {
        let line = match self {
            Malformed::Because(why) => return why.into(),
            Malformed::Line(line) => line.of(head),
        };
        let (last, before) = line.split_last().unwrap_or((&0, &[]));
        let before = String::from_utf8_lossy(before);
        format!("upstream sent invalid header: \"{before}\\x{last:02x}...\"").into()
    }
}

/// One answer's head. Reuse it: its buffers keep their room.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase as sent; may be empty.
    pub reason: Span,
    /// The minor version, 0 or 1.
    pub minor: u8,
    /// The fields.
    pub fields: Fields,
    /// How the body ends.
    pub body: Body,
    /// `Content-Length` as sent, which an answer without a body has too.
    pub content_length: Option<u64>,
    /// The connection can take another request when this answer has been read whole.
    pub keep_alive: bool,
    lines: Lines,
}

impl ResponseHead {
    /// An empty one.
    pub fn new() -> ResponseHead {
        ResponseHead::default()
    }

    /// Ready for the next answer, keeping the room.
    pub fn clear(&mut self) {
        self.status = 0;
        self.reason = Span::default();
        self.minor = 0;
        self.fields.clear();
        self.body = Body::None;
        self.content_length = None;
        self.keep_alive = false;
        self.lines = Lines::default();
    }

    /// 1xx, but not 101, after which the connection speaks another protocol.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Looks at `buffer`, all that has come of this head so far; `method` is the request's, and
    /// `longest` how many bytes a head may have. After `Partial`, call again with the same bytes
    /// and more.
    pub fn parse(&mut self, buffer: &[u8], method: Method, longest: usize) -> ResponseParsed {
        let longest = longest.min(MAX_HEAD);
        let end = match self.lines.scan(buffer, &Limits::one_buffer(longest)) {
            Scan::End(end) if end <= longest => end,
            Scan::Partial if buffer.len() < longest => {
                return match self.check_early(buffer) {
                    Ok(()) => ResponseParsed::Partial,
                    Err(malformed) => ResponseParsed::Malformed(malformed),
                };
            }
            Scan::BareLf => {
                return ResponseParsed::Malformed(Malformed::Because(
                    "upstream sent a header line that ends with LF alone",
                ));
            }
            Scan::Blank => return ResponseParsed::Malformed(NO_HEADER),
            Scan::End(_) | Scan::Partial | Scan::TooLong(_) => {
                return ResponseParsed::Malformed(Malformed::Because(
                    "upstream sent too big header",
                ));
            }
        };
        match self.complete(&buffer[..end], method) {
            Ok(()) => ResponseParsed::Head(end),
            Err(malformed) => ResponseParsed::Malformed(malformed),
        }
    }

    /// Whatever is not HTTP is not waited for.
    fn check_early(&self, buffer: &[u8]) -> Result<(), Malformed> {
        const START: &[u8] = b"HTTP/1.";
        let there = buffer.len().min(START.len());
        if buffer[..there] == START[..there] {
            Ok(())
        } else {
            Err(NO_HEADER)
        }
    }

    fn complete(&mut self, head: &[u8], method: Method) -> Result<(), Malformed> {
        self.check_early(head)?;
        let mut scratch = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        match self.take(head, &mut scratch) {
            Err(httparse::Error::TooManyHeaders) => self.complete_large(head)?,
            result => result.map_err(|error| blame(error, head))?,
        }
        let declared = framing::declared(&self.fields, self.minor, head).map_err(ambiguous)?;
        self.content_length = declared.length;
        self.body = declared.of_response(method, self.status);
        let options = self.fields.connection(head);
        if options.named > MAX_NAMED {
            return Err(Malformed::Because(
                "upstream sent \"Connection\" header with too many names",
            ));
        }
        // RFC 9110, section 8.6, and RFC 9112, section 6.1: 204 has no body and so says nothing of
        // one. A server that does may well send it, where the next answer is awaited.
        let overtold = self.status == 204 && (declared.chunked || declared.length > Some(0));
        self.keep_alive = !options.close
            && (self.minor > 0 || options.keep_alive)
            && self.body != Body::UntilClose
            && self.status != 101
            && !overtold;
        Ok(())
    }

    /// Apart, so that the usual answer does not touch so much stack.
    #[cold]
    #[inline(never)]
    fn complete_large(&mut self, head: &[u8]) -> Result<(), Malformed> {
        self.fields.clear();
        let mut scratch = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        self.take(head, &mut scratch)
            .map_err(|error| blame(error, head))
    }

    fn take<'b>(
        &mut self,
        head: &'b [u8],
        scratch: &mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Result<(), httparse::Error> {
        let mut response = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            head,
            scratch,
        )?;
        if status.is_partial() {
            return Err(httparse::Error::NewLine);
        }
        self.status = response.code.unwrap_or_default();
        // RFC 9110, section 15: there are no others.
        if !(100..=599).contains(&self.status) {
            return Err(httparse::Error::Status);
        }
        self.minor = response.version.unwrap_or_default();
        // httparse gives no text for a reason with bytes above 0x7f; the line itself has it.
        const REASON: usize = "HTTP/1.1 200 ".len();
        let line = self.lines.first_line(head).unwrap_or_default();
        self.reason = Span::new(REASON.min(line.len()), line.len());
        for header in response.headers.iter() {
            self.fields.push(
                Span::within(head, header.name.as_bytes()),
                Span::within(head, trim(header.value)),
                head,
            );
        }
        Ok(())
    }

    /// The fields that go on to the client if they are not hidden from it: not the hop-by-hop ones, nor
    /// `Content-Length` and `Content-Type`, which weir writes itself.
    pub fn forwarded(&self) -> impl Iterator<Item = &super::fields::Field> {
        self.fields.iter().filter(|field| {
            !field.is_hop_by_hop()
                && !matches!(field.known, Known::ContentLength | Known::ContentType)
        })
    }
}

const NO_HEADER: Malformed = Malformed::Because("upstream sent no valid HTTP/1.0 header");

fn blame(error: httparse::Error, head: &[u8]) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => {
            Malformed::Because("upstream sent too many header lines")
        }
        httparse::Error::Version | httparse::Error::Status | httparse::Error::Token => NO_HEADER,
        _ => no_field(head).map_or(Malformed::Because("upstream sent invalid header"), |line| {
            Malformed::Line(line)
        }),
    }
}

/// The first line behind the status line that is no field, up to the byte that shows it.
fn no_field(head: &[u8]) -> Option<Span> {
    let mut start = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let wrong = match memchr::memchr(b':', line) {
            _ if start == 0 || line == b"\r\n" => None,
            Some(0) => Some(0),
            colon => {
                let (name, value) = line.split_at(colon.unwrap_or(line.len()));
                let in_name = name.iter().position(|byte| !is_token(*byte));
                let value = value.strip_suffix(b"\r\n").unwrap_or(value);
                let in_value = || value.iter().position(|byte| is_control(*byte));
                in_name.or_else(|| Some(name.len() + in_value()?))
            }
        };
        if let Some(wrong) = wrong {
            return Some(Span::new(start, start + wrong + 1));
        }
        start += line.len();
    }
    None
}

fn ambiguous(why: Ambiguous) -> Malformed {
    Malformed::Because(match why {
        Ambiguous::DuplicateLength => "upstream sent duplicate header line: \"Content-Length\"",
        Ambiguous::DuplicateEncoding => {
            "upstream sent duplicate header line: \"Transfer-Encoding\""
        }
        Ambiguous::InvalidLength => "upstream sent invalid \"Content-Length\" header",
        Ambiguous::LengthAndEncoding => {
            "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"
        }
        Ambiguous::EncodingInHttp10 => {
            "upstream sent HTTP/1.0 response with \"Transfer-Encoding\" header"
        }
        Ambiguous::UnknownEncoding => "upstream sent unknown \"Transfer-Encoding\"",
    })
}

#[cfg(test)]
mod tests;
