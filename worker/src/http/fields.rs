//! Header fields as ranges into the buffer that they were read from.

use std::ops::Range;

/// A range of the buffer that a head was parsed from. It stays good when the bytes move, as long
/// as it is used with a slice that starts where the head starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes; empty when the range does not lie within `buffer`.
    #[inline]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.range()).unwrap_or_default()
    }

    /// As a range of indices.
    #[inline]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// In bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Nothing in it.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Where `part`, a slice of `whole`, lies in it.
    pub(crate) fn within(whole: &[u8], part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Span::new(start, start + part.len())
    }

    /// Heads are far shorter than 4 GiB: [`super::head::Limits`] and the parser's own bound see to it.
    pub(crate) fn new(start: usize, end: usize) -> Span {
        Span {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            end: u32::try_from(end).unwrap_or(u32::MAX),
        }
    }
}

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Which field it is, if weir treats it in some way.
    pub known: Known,
    /// Its name as sent.
    pub name: Span,
    /// Its value without blanks at either end.
    pub value: Span,
    /// Named in `Connection`, so it ends at this hop (RFC 9110, section 7.6.1).
    pub connection_option: bool,
}

impl Field {
    /// Whether the field ends here and is not sent on: the hop-by-hop fields of RFC 9110, section
    /// 7.6.1, and those named in `Connection`.
    #[inline]
    pub fn is_hop_by_hop(&self) -> bool {
        self.connection_option || self.known.is_hop_by_hop()
    }
}

/// Fields that weir looks at. Everything else is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the field of the same name")]
pub enum Known {
    AcceptRanges,
    Authorization,
    CacheControl,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Expect,
    Host,
    KeepAlive,
    LastModified,
    Location,
    MaxForwards,
    ProxyConnection,
    Referer,
    Refresh,
    Server,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    XAccelBuffering,
    XAccelCharset,
    XAccelExpires,
    XAccelLimitRate,
    XAccelRedirect,
    XForwardedFor,
    XPad,
    Other,
}

impl Known {
    /// By name, in any case.
    pub fn of(name: &[u8]) -> Known {
        let is = |text: &[u8], known: Known| {
            if name.eq_ignore_ascii_case(text) {
                known
            } else {
                Known::Other
            }
        };
        // The length tells most names apart, so that at most three are compared.
        match name.len() {
            2 => is(b"te", Known::Te),
            4 => match name[0] | 0x20 {
                b'h' => is(b"host", Known::Host),
                b'd' => is(b"date", Known::Date),
                _ => is(b"x-pad", Known::XPad),
            },
            5 => is(b"x-pad", Known::XPad),
            6 => match name[0] | 0x20 {
                b'c' => is(b"cookie", Known::Cookie),
                b'e' => is(b"expect", Known::Expect),
                _ => is(b"server", Known::Server),
            },
            7 => match name[0] | 0x20 {
                b'r' if name[5] | 0x20 == b's' => is(b"refresh", Known::Refresh),
                b'r' => is(b"referer", Known::Referer),
                b't' => is(b"trailer", Known::Trailer),
                _ => is(b"upgrade", Known::Upgrade),
            },
            8 => is(b"location", Known::Location),
            10 => match name[0] | 0x20 {
                b'c' => is(b"connection", Known::Connection),
                b'k' => is(b"keep-alive", Known::KeepAlive),
                b's' => is(b"set-cookie", Known::SetCookie),
                _ => is(b"user-agent", Known::UserAgent),
            },
            12 => match name[0] | 0x20 {
                b'm' => is(b"max-forwards", Known::MaxForwards),
                _ => is(b"content-type", Known::ContentType),
            },
            13 => match name[0] | 0x20 {
                b'a' if name[1] | 0x20 == b'u' => is(b"authorization", Known::Authorization),
                b'a' => is(b"accept-ranges", Known::AcceptRanges),
                b'l' => is(b"last-modified", Known::LastModified),
                _ => is(b"cache-control", Known::CacheControl),
            },
            14 => is(b"content-length", Known::ContentLength),
            15 => match name[2] | 0x20 {
                b'f' => is(b"x-forwarded-for", Known::XForwardedFor),
                b'a' if name[8] | 0x20 == b'c' => is(b"x-accel-charset", Known::XAccelCharset),
                _ => is(b"x-accel-expires", Known::XAccelExpires),
            },
            16 => match name[0] | 0x20 {
                b'p' => is(b"proxy-connection", Known::ProxyConnection),
                _ => is(b"x-accel-redirect", Known::XAccelRedirect),
            },
            17 => match name[0] | 0x20 {
                b't' => is(b"transfer-encoding", Known::TransferEncoding),
                _ => is(b"x-accel-buffering", Known::XAccelBuffering),
            },
            18 => is(b"x-accel-limit-rate", Known::XAccelLimitRate),
            _ => Known::Other,
        }
    }

    /// Never sent on, whatever `Connection` says.
    #[inline]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Te
                | Known::Trailer
                | Known::TransferEncoding
                | Known::Upgrade
        )
    }

    /// Of an upstream's answer: not sent to the client because nginx writes its own or acts on it
    /// (`proxy_pass_header`'s list: Date, Server, X-Pad and X-Accel-…).
    #[inline]
    pub fn is_hidden_from_client(self) -> bool {
        matches!(
            self,
            Known::Date
                | Known::Server
                | Known::XPad
                | Known::XAccelBuffering
                | Known::XAccelCharset
                | Known::XAccelExpires
                | Known::XAccelLimitRate
                | Known::XAccelRedirect
        )
    }

    /// May be taken out of a message because `Connection` names it. Naming a field on which the
    /// meaning or the framing of the message rests must not take it away from the next hop.
    fn is_droppable(self) -> bool {
        !matches!(
            self,
            Known::Host
                | Known::ContentLength
                | Known::ContentType
                | Known::Authorization
                | Known::Cookie
                | Known::SetCookie
                | Known::Location
                | Known::Date
                | Known::CacheControl
                | Known::MaxForwards
                | Known::XForwardedFor
        )
    }
}

/// The fields of one head, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    list: Vec<Field>,
}

impl Fields {
    /// In order.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.list.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The value of the first field of this kind.
    #[inline]
    pub fn known<'b>(&self, known: Known, buffer: &'b [u8]) -> Option<&'b [u8]> {
        let field = self.list.iter().find(|field| field.known == known)?;
        Some(field.value.of(buffer))
    }

    /// The value of the first field of this name, in any case.
    pub fn get<'b>(&self, name: &[u8], buffer: &'b [u8]) -> Option<&'b [u8]> {
        self.all(name, buffer).next()
    }

    /// The values of every field of this name, in any case.
    pub fn all<'a, 'b: 'a>(
        &'a self,
        name: &'a [u8],
        buffer: &'b [u8],
    ) -> impl Iterator<Item = &'b [u8]> + 'a {
        self.list
            .iter()
            .filter(move |field| field.name.of(buffer).eq_ignore_ascii_case(name))
            .map(move |field| field.value.of(buffer))
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn push(&mut self, name: Span, value: Span, buffer: &[u8]) -> Known {
        let known = Known::of(name.of(buffer));
        self.list.push(Field {
            known,
            name,
            value,
            connection_option: false,
        });
        known
    }

    /// Gives the fields of this kind another value.
    pub(crate) fn replace(&mut self, known: Known, value: Span) {
        for field in &mut self.list {
            if field.known == known {
                field.value = value;
            }
        }
    }

    /// Marks the fields that `Connection` names, and says what else it asks for.
    pub(crate) fn connection(&mut self, buffer: &[u8]) -> ConnectionOptions {
        let mut options = ConnectionOptions::default();
        for at in 0..self.list.len() {
            if self.list[at].known != Known::Connection {
                continue;
            }
            let value = self.list[at].value.of(buffer);
            for option in tokens(value) {
                if option.eq_ignore_ascii_case(b"close") {
                    options.close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    options.keep_alive = true;
                } else if option.eq_ignore_ascii_case(b"upgrade") {
                    options.upgrade = true;
                } else {
                    options.named = options.named.saturating_add(1);
                    // Each option is a pass over the fields; a head full of both is bounded here.
                    if options.named <= MAX_NAMED {
                        self.mark(option, buffer);
                    }
                }
            }
        }
        options
    }

    fn mark(&mut self, name: &[u8], buffer: &[u8]) {
        if tells_of_the_client(name) {
            return;
        }
        for field in &mut self.list {
            if field.known.is_droppable() && field.name.of(buffer).eq_ignore_ascii_case(name) {
                field.connection_option = true;
            }
        }
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

/// Fields by which a proxy in front tells of the client, for which nginx has no treatment: a client
/// must not be able to have them taken out between that proxy and the server that believes them.
fn tells_of_the_client(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    name.eq_ignore_ascii_case(b"forwarded")
        || name.eq_ignore_ascii_case(b"x-real-ip")
        || name
            .get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// At most this many fields can be named in `Connection`; a head with more is refused.
pub const MAX_NAMED: u32 = 32;

/// What the `Connection` fields of a head say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionOptions {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    pub(crate) named: u32,
}

/// The members of a comma-separated list, empty ones left out (RFC 9110, section 5.6.1).
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(trim)
        .filter(|token| !token.is_empty())
}

/// A byte of a field's name (RFC 9110, section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Without blanks and tabs at either end.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_no_other() {
        let names: &[(&str, Known)] = &[
            ("Accept-Ranges", Known::AcceptRanges),
            ("Authorization", Known::Authorization),
            ("Cache-Control", Known::CacheControl),
            ("Connection", Known::Connection),
            ("Content-Length", Known::ContentLength),
            ("Content-Type", Known::ContentType),
            ("Cookie", Known::Cookie),
            ("Date", Known::Date),
            ("Expect", Known::Expect),
            ("Host", Known::Host),
            ("Keep-Alive", Known::KeepAlive),
            ("Last-Modified", Known::LastModified),
            ("Location", Known::Location),
            ("Max-Forwards", Known::MaxForwards),
            ("Proxy-Connection", Known::ProxyConnection),
            ("Referer", Known::Referer),
            ("Server", Known::Server),
            ("Set-Cookie", Known::SetCookie),
            ("TE", Known::Te),
            ("Trailer", Known::Trailer),
            ("Transfer-Encoding", Known::TransferEncoding),
            ("Upgrade", Known::Upgrade),
            ("User-Agent", Known::UserAgent),
            ("X-Accel-Buffering", Known::XAccelBuffering),
            ("X-Accel-Charset", Known::XAccelCharset),
            ("X-Accel-Expires", Known::XAccelExpires),
            ("X-Accel-Limit-Rate", Known::XAccelLimitRate),
            ("X-Accel-Redirect", Known::XAccelRedirect),
            ("X-Forwarded-For", Known::XForwardedFor),
            ("X-Pad", Known::XPad),
        ];
        for (name, known) in names {
            assert_eq!(Known::of(name.as_bytes()), *known, "{name}");
            assert_eq!(Known::of(name.to_uppercase().as_bytes()), *known, "{name}");
            assert_eq!(Known::of(name.to_lowercase().as_bytes()), *known, "{name}");
            let mut other = name.as_bytes().to_vec();
            for at in 0..other.len() {
                let byte = std::mem::replace(&mut other[at], b'!');
                assert_eq!(Known::of(&other), Known::Other, "{name} at {at}");
                other[at] = byte;
            }
        }
        for length in 0..40 {
            assert_eq!(Known::of(&vec![b'q'; length]), Known::Other);
        }
    }

    #[test]
    fn a_connection_field_names_others_but_never_the_framing() {
        let buffer = b"connectionx-a, Content-Length ,,hostx-A1content-length5host";
        let mut fields = Fields::default();
        for (name, value, end) in [(0, 10, 36), (36, 39, 40), (40, 54, 55), (55, 59, 59)] {
            fields.push(Span::new(name, value), Span::new(value, end), buffer);
        }
        let options = fields.connection(buffer);
        assert_eq!(options.named, 3);
        let dropped: Vec<bool> = fields.iter().map(Field::is_hop_by_hop).collect();
        assert_eq!(dropped, [true, true, false, false]);
    }

    #[test]
    fn a_span_outside_its_buffer_is_empty() {
        assert_eq!(Span::new(3, 9).of(b"abc"), b"");
        assert_eq!(Span { start: 5, end: 2 }.of(b"abcdefgh"), b"");
        assert!(Span { start: 5, end: 2 }.is_empty());
    }
}
