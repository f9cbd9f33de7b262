//! Request heads (RFC 9112, sections 2 to 5), over httparse and stricter than it where a proxy has
//! to be: what two parsers could read in two ways is refused.

use std::mem::MaybeUninit;

use super::fields::{Fields, Known, MAX_NAMED, Span, trim};
use super::framing::{self, Body};
use super::limits::{Limits, MAX_HEAD};
use super::lines::{Lines, Scan};
use super::method::Method;
use super::refusal::{
    BARE_LF, BLANK_LINES, INVALID_HEADER, INVALID_LINE_HOST, INVALID_METHOD, INVALID_REQUEST,
    INVALID_VERSION, Refusal, TOO_LONG_LINE, TOO_MANY_FIELDS, refuse,
};
use super::target::{Target, TargetError, host_of};

/// At most this many fields in one head: nginx's default of `max_headers`, and the bound for answers.
pub const MAX_FIELDS: usize = 1000;
/// Heads with no more fields than this are parsed without the large scratch.
const USUAL_FIELDS: usize = 64;

/// What came of parsing the bytes at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The head is complete and ends before this index; the body follows.
    Head(usize),
    /// The head cannot be taken. The connection is closed after the answer.
    Refused(Refusal),
}

/// As much of a field is told that is too long, in bytes, as nginx's `NGX_MAX_ERROR_STR` less 300.
const LONGEST_TOLD: usize = 1748;

/// One request's head. Reuse it: its buffers keep their room.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Its name as sent; see [`RequestHead::method_name`].
    pub method_span: Span,
    /// `$request`: the request line without CRLF. Set even when the head is refused, if the line is complete.
    pub line: Span,
    /// What is asked for.
    pub target: Target,
    /// The minor version, 0 or 1.
    pub minor: u8,
    /// The fields, without those that nginx ignores (`ignore_invalid_headers`, `underscores_in_headers`).
    pub fields: Fields,
    /// How the body ends.
    pub body: Body,
    /// The client would send another request on this connection.
    pub keep_alive: bool,
    /// `Expect: 100-continue`: the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// `Connection: upgrade` with an `Upgrade` field.
    pub upgrade: bool,
    /// The first field that was ignored because of its name, for the log (info, `client sent invalid header line`).
    pub ignored: Option<Span>,
    /// `Max-Forwards` of an OPTIONS request: how many more hops it may take (RFC 9110, section 7.6.2).
    pub max_forwards: Option<u64>,
    became_get: bool,
    host: Vec<u8>,
    lines_of_fields: usize,
    lines: Lines,
    line_checked: bool,
}

impl RequestHead {
    /// An empty one.
    pub fn new() -> RequestHead {
        RequestHead::default()
    }

    /// Ready for the next request, keeping the room.
    pub fn clear(&mut self) {
        self.method = Method::Get;
        self.method_span = Span::default();
        self.became_get = false;
        self.line = Span::default();
        self.target.clear();
        self.minor = 0;
        self.fields.clear();
        self.body = Body::None;
        self.keep_alive = false;
        self.expect_continue = false;
        self.upgrade = false;
        self.ignored = None;
        self.max_forwards = None;
        self.lines_of_fields = 0;
        self.host.clear();
        self.lines = Lines::default();
        self.line_checked = false;
    }

    /// `$request_method`, of which `buffer` holds what was sent.
    pub fn method_name<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        if self.became_get {
            return b"GET";
        }
        self.method_span.of(buffer)
    }

    /// It asks for an error page from now on, which is to be got whatever was asked for.
    pub fn become_get(&mut self) {
        if self.method != Method::Head {
            self.method = Method::Get;
            self.became_get = true;
        }
    }

    /// `$host`: from the target if it is absolute, else from the `Host` field; lower case, without
    /// port and final dot. Empty when the client named none.
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// Looks at `buffer`, all that has come of this head so far. After `Partial`, call again with
    /// the same bytes and more; every byte is looked at once.
    pub fn parse(&mut self, buffer: &[u8], limits: &Limits) -> Parsed {
        let scan = self.lines.scan(buffer, limits);
        if let Some(line) = self.lines.first_line(buffer) {
            self.line = Span::within(buffer, line);
        }
        let end = match scan {
            Scan::End(end) if end <= MAX_HEAD => end,
            Scan::Partial if buffer.len() <= MAX_HEAD => {
                return match self.check_early(buffer) {
                    Ok(()) => Parsed::Partial,
                    Err(refusal) => Parsed::Refused(refusal),
                };
            }
            Scan::BareLf => return Parsed::Refused(BARE_LF),
            Scan::Blank => return Parsed::Refused(BLANK_LINES),
            Scan::TooLong(true) => {
                return Parsed::Refused(TOO_LONG_LINE);
            }
            Scan::TooLong(false) => {
                return Parsed::Refused(self.too_long_field(buffer));
            }
            Scan::End(_) | Scan::Partial => {
                return Parsed::Refused(Refusal::new(494, "client sent too large request"));
            }
        };
        match self.complete(&buffer[..end], limits) {
            Ok(()) => Parsed::Head(end),
            Err(refusal) => Parsed::Refused(refusal),
        }
    }

    /// The request line has come whole.
    pub fn has_line(&self) -> bool {
        self.lines.has_first_line()
    }

    /// Of a head that stays incomplete, takes what has come of the request line for what is shown of
    /// it; all its parts if it is there and good.
    pub fn take_line(&mut self, buffer: &[u8]) {
        if !self.has_line() {
            let begun = buffer.get(self.lines.first()..).unwrap_or_default();
            let end = begun.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            self.line = Span::within(buffer, &begun[..end.unwrap_or(begun.len())]);
            return;
        }
        if !self.target.raw.is_empty() {
            return;
        }
        let Ok(line) = RequestLine::read(self.line.of(buffer)) else {
            return;
        };
        self.method = Method::of(line.method);
        self.method_span = Span::within(buffer, line.method);
        self.minor = line.minor;
        self.target.set_raw(Span::within(buffer, line.target));
        if self.target.parse(buffer, true).is_err() {
            self.target.clear();
        }
    }

    /// Whether the head of a request has begun to arrive: something other than empty lines.
    pub fn is_begun(&self, buffer: &[u8]) -> bool {
        buffer
            .get(self.lines.first()..)
            .is_some_and(|rest| !rest.is_empty())
    }

    /// There is no room for a field.
    #[cold]
    fn too_long_field(&self, buffer: &[u8]) -> Refusal {
        let begun = buffer.get(self.lines.last()..).unwrap_or_default();
        let mut refusal = Refusal::new(494, "client sent too long header line");
        let told = &begun[..begun.len().min(LONGEST_TOLD)];
        let end = memchr::memchr(b'\r', told).unwrap_or(told.len());
        refusal.reason.about = Some(Span::within(buffer, &told[..end]));
        refusal.reason.cut = true;
        refusal
    }

    /// A request line that cannot become good is refused before the rest has come.
    fn check_early(&mut self, buffer: &[u8]) -> Result<(), Refusal> {
        if self.line_checked {
            return Ok(());
        }
        if let Some(line) = self.lines.first_line(buffer) {
            self.line_checked = true;
            return RequestLine::read(line).map(|_| ());
        }
        let start = buffer.get(self.lines.first()..).unwrap_or_default();
        let method = start.split(|&byte| byte == b' ').next().unwrap_or_default();
        // A few bytes tell a foreign protocol; looking at them again costs nothing. A CR may be the
        // start of an empty line.
        let method = &method[..method.len().min(EARLY_METHOD)];
        match method {
            [] if start.is_empty() => Ok(()),
            b"\r" => Ok(()),
            _ if is_method(method) => Ok(()),
            _ => Err(INVALID_METHOD),
        }
    }

    fn complete(&mut self, head: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let text = &head[self.lines.first()..];
        let mut scratch = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        if self.take(head, text, limits, &mut scratch).is_err() {
            self.complete_unusual(head, limits)?;
        }
        if self.lines_of_fields > limits.fields {
            return Err(TOO_MANY_FIELDS);
        }
        self.decide(head, limits.merge_slashes)
    }

    /// What httparse does not take as a whole: many fields or a minor version above 1, both of which
    /// nginx takes; or a fault, which is named here. Apart, for its room comes from the heap.
    #[cold]
    #[inline(never)]
    fn complete_unusual(&mut self, head: &[u8], limits: &Limits) -> Result<(), Refusal> {
        self.fields.clear();
        self.ignored = None;
        let line = RequestLine::read(self.line.of(head))?;
        self.method = Method::of(line.method);
        self.method_span = Span::within(head, line.method);
        self.minor = line.minor;
        self.target.set_raw(Span::within(head, line.target));
        let fields = head.get(self.line.end as usize + 2..).unwrap_or_default();
        let lines = memchr::memchr_iter(b'\n', fields).count();
        // The empty line at the end is none.
        if lines > limits.fields.saturating_add(1) {
            return Err(TOO_MANY_FIELDS);
        }
        let mut scratch = vec![httparse::EMPTY_HEADER; lines];
        match httparse::parse_headers(fields, &mut scratch) {
            Ok(httparse::Status::Complete((_, headers))) => {
                self.take_fields(head, headers, limits);
                Ok(())
            }
            Ok(httparse::Status::Partial) | Err(_) => Err(INVALID_HEADER),
        }
    }

    fn take<'b>(
        &mut self,
        head: &'b [u8],
        text: &'b [u8],
        limits: &Limits,
        scratch: &mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Result<(), httparse::Error> {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(text, scratch)? {
            httparse::Status::Complete(_) => {}
            // The empty line is there, so an unfinished head is a line that httparse cannot read.
            httparse::Status::Partial => return Err(httparse::Error::NewLine),
        }
        let method = request.method.unwrap_or_default().as_bytes();
        self.method = Method::of(method);
        self.method_span = Span::within(head, method);
        self.minor = request.version.unwrap_or_default();
        self.target.set_raw(Span::within(
            head,
            request.path.unwrap_or_default().as_bytes(),
        ));
        self.take_fields(head, request.headers, limits);
        Ok(())
    }

    fn take_fields(&mut self, head: &[u8], headers: &[httparse::Header<'_>], limits: &Limits) {
        self.lines_of_fields = headers.len();
        for header in headers {
            let name = header.name.as_bytes();
            let span = Span::within(head, name);
            let usual = |byte: u8| NAME[byte as usize] || (byte == b'_' && limits.underscores);
            if !limits.ignore_invalid || name.iter().all(|&byte| usual(byte)) {
                let value = Span::within(head, trim(header.value));
                self.fields.push(span, value, head);
            } else if self.ignored.is_none() {
                let end = Span::within(head, header.value).end;
                self.ignored = Some(Span { end, ..span });
            }
        }
    }

    /// What the parsed parts mean together.
    fn decide(&mut self, head: &[u8], merge_slashes: bool) -> Result<(), Refusal> {
        match self.method {
            Method::Other if !is_method(self.method_span.of(head)) => return Err(INVALID_METHOD),
            Method::Trace => return Err(Refusal::new(405, "client sent TRACE method")),
            Method::Connect => return Err(Refusal::new(405, "client sent CONNECT method")),
            _ => {}
        }
        self.target
            .parse(head, merge_slashes)
            .map_err(|error| match error {
                TargetError::Invalid => INVALID_REQUEST,
                TargetError::Host => INVALID_LINE_HOST,
            })?;
        self.take_host(head)?;
        let declared = framing::declared(&self.fields, self.minor, head)
            .map_err(|why| refuse(why, &self.fields))?;
        self.body = declared.of_request();
        let options = self.fields.connection(head);
        if options.named > MAX_NAMED {
            return Err(Refusal::new(
                400,
                "client sent \"Connection\" header with too many names",
            ));
        }
        if self.method == Method::Options {
            self.max_forwards = self.hops(head)?;
        }
        self.keep_alive = !options.close && (self.minor > 0 || options.keep_alive);
        self.upgrade =
            self.minor > 0 && options.upgrade && self.fields.known(Known::Upgrade, head).is_some();
        self.expect_continue = self.minor > 0
            && self
                .fields
                .known(Known::Expect, head)
                .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        Ok(())
    }

    /// `Max-Forwards`; TRACE, the other method that it is for, is refused.
    #[cold]
    fn hops(&self, head: &[u8]) -> Result<Option<u64>, Refusal> {
        let mut named = self
            .fields
            .iter()
            .filter(|field| field.known == Known::MaxForwards);
        let Some(field) = named.next() else {
            return Ok(None);
        };
        match framing::content_length(field.value.of(head)) {
            Some(hops) if named.next().is_none() => Ok(Some(hops)),
            _ => {
                let mut refusal = Refusal::new(400, "client sent invalid \"Max-Forwards\" header");
                refusal.reason.about = Some(field.value);
                Err(refusal)
            }
        }
    }

    fn take_host(&mut self, head: &[u8]) -> Result<(), Refusal> {
        let mut named = self
            .fields
            .iter()
            .filter(|field| field.known == Known::Host);
        let field = named.next();
        if let Some(second) = named.next() {
            let mut refusal = Refusal::new(400, "client sent duplicate host header");
            refusal.reason.about = Some(second.value);
            return Err(refusal);
        }
        if field.is_none() && self.minor > 0 {
            return Err(Refusal::new(
                400,
                "client sent HTTP/1.1 request without \"Host\" header",
            ));
        }
        if let Some(field) = field {
            let host = host_of(field.value.of(head))
                .ok_or(Refusal::new(400, "client sent invalid host header"))?;
            self.host.extend(host.iter().map(u8::to_ascii_lowercase));
        }
        // RFC 9112, section 3.2.2: the host of an absolute target takes the place of the Host field,
        // so that what `$http_host` passes on is what this server was chosen by.
        if let Some(authority) = self.target.authority {
            let host = host_of(authority.of(head)).ok_or(INVALID_LINE_HOST)?;
            self.fields.replace(Known::Host, authority);
            self.host.clear();
            self.host.extend(host.iter().map(u8::to_ascii_lowercase));
        }
        Ok(())
    }
}

/// The host that a head names as far as it has come, in lower case; as [`RequestHead::host`] if the
/// head turns out to be good.
pub fn host_in(head: &[u8]) -> Option<Vec<u8>> {
    let mut lines = head.split_inclusive(|&byte| byte == b'\n');
    let mut next = || lines.next()?.strip_suffix(b"\r\n");
    let line = next()?;
    let line = if line.is_empty() { next()? } else { line };
    let target = line.split(|&byte| byte == b' ').nth(1)?;
    let named = match target.first() {
        Some(b'/') => loop {
            let field = next().filter(|line| !line.is_empty())?;
            let (name, value) = field.split_at(field.iter().position(|&byte| byte == b':')?);
            if name.eq_ignore_ascii_case(b"host") {
                break trim(&value[1..]);
            }
        },
        _ => {
            let from = memchr::memmem::find(target, b"://")? + 3;
            let authority = target[from..].split(|byte| matches!(byte, b'/' | b'?' | b'#'));
            authority.into_iter().next()?
        }
    };
    host_of(named).map(<[u8]>::to_ascii_lowercase)
}

/// So many bytes of a method are looked at before the request line is complete.
const EARLY_METHOD: usize = 32;

/// nginx takes capital letters, `_` and `-`.
fn is_method(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|&byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-'))
}

/// The parts of a request line (RFC 9112, section 3), one blank between each.
struct RequestLine<'b> {
    method: &'b [u8],
    target: &'b [u8],
    minor: u8,
}

impl<'b> RequestLine<'b> {
    /// The parts, or why the line is bad.
    fn read(line: &'b [u8]) -> Result<RequestLine<'b>, Refusal> {
        let mut parts = line.splitn(2, |&byte| byte == b' ');
        let method = parts.next().unwrap_or_default();
        if !is_method(method) {
            return Err(INVALID_METHOD);
        }
        let rest = parts.next().ok_or(INVALID_REQUEST)?;
        let space = rest
            .iter()
            .rposition(|&byte| byte == b' ')
            .ok_or(INVALID_REQUEST)?;
        let (target, version) = (&rest[..space], &rest[space + 1..]);
        if target.is_empty() || target.iter().any(|byte| !byte.is_ascii_graphic()) {
            return Err(INVALID_REQUEST);
        }
        let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] = *version else {
            return Err(INVALID_REQUEST);
        };
        match (major, minor) {
            // RFC 9110, section 2.5: a higher minor version is read as the highest known one.
            (b'1', b'0'..=b'9') => Ok(RequestLine {
                method,
                target,
                minor: (minor - b'0').min(1),
            }),
            (b'2'..=b'9', b'0'..=b'9') => Err(INVALID_VERSION),
            _ => Err(INVALID_REQUEST),
        }
    }
}

/// The bytes of names that nginx takes as they are; a field with another byte in its name is
/// ignored, so that `X_Real_IP` cannot pass for `X-Real-IP` behind a gateway that maps both to one.
static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'-';
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
