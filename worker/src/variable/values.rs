//! What a request's variables are.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::NGINX_VERSION;
use crate::http::RequestHead;
use crate::http::answer::decimal;
use crate::http::fields::{Fields, Known, trim};
use crate::log::Clock;
use crate::settings::Variable;

/// Clients write credentials with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One try at an upstream server.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// `$upstream_addr`'s form of the server, or the upstream's name when no server was free.
    pub address: Arc<str>,
    /// 0: no answer came.
    pub status: u16,
    /// Until its answer was read whole, in milliseconds; `None`: it never was connected.
    pub millis: Option<u64>,
}

/// Fields of an answer and the bytes that they lie in.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The fields.
    pub fields: &'a Fields,
    /// The head's bytes.
    pub head: &'a [u8],
}

/// Everything that a request's variables come from. What is not known yet is left at its default.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The request's head.
    pub request: &'a RequestHead,
    /// Its bytes.
    pub head: &'a [u8],
    /// The time.
    pub clock: &'a Clock,
    /// `$connection`: its number.
    pub connection: u64,
    /// `$connection_requests`: with this one.
    pub connection_requests: u64,
    /// The client; `None` on a unix socket.
    pub client: Option<SocketAddr>,
    /// The address that the client connected to; `None` on a unix socket.
    pub local: Option<SocketAddr>,
    /// `$server_name`.
    pub server_name: &'a [u8],
    /// `$hostname`.
    pub hostname: &'a [u8],
    /// `$proxy_host`; empty where nothing is proxied.
    pub proxy_host: &'a [u8],
    /// When the request began, Unix time in milliseconds.
    pub started: u64,
    /// `$request_length`: request line, fields and what came of the body.
    pub request_length: u64,
    /// `$status`; 0 before there is one.
    pub status: u16,
    /// `$bytes_sent`.
    pub bytes_sent: u64,
    /// `$body_bytes_sent`.
    pub body_bytes_sent: u64,
    /// For `$upstream_addr` and its like, in order.
    pub attempts: &'a [Attempt],
    /// The upstream's answer, for `$upstream_http_…`.
    pub upstream: Option<Answered<'a>>,
    /// The fields of the answer as text: all lines of the head that was sent, for `$sent_http_…`.
    pub sent: &'a [u8],
}

impl<'a> Values<'a> {
    /// For a request of which nothing but its head and the time is known.
    pub fn new(request: &'a RequestHead, head: &'a [u8], clock: &'a Clock) -> Values<'a> {
        Values {
            request,
            head,
            clock,
            connection: 0,
            connection_requests: 0,
            client: None,
            local: None,
            server_name: b"",
            hostname: b"",
            proxy_host: b"",
            started: clock.millis(),
            request_length: 0,
            status: 0,
            bytes_sent: 0,
            body_bytes_sent: 0,
            attempts: &[],
            upstream: None,
            sent: b"",
        }
    }

    /// Appends a variable's value; `false` if it has none, which a log shows as `-`.
    pub fn write(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.append(variable, out).is_some() && out.len() > start
    }

    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> Option<()> {
        let request = self.request;
        match variable {
            Variable::Arg(name) => put(out, argument(request.target.args(self.head), name)?),
            Variable::Cookie(name) => put(out, self.cookie(name)?),
            Variable::Http(name) => join(out, request.fields.all(name, self.head), name)?,
            Variable::SentHttp(name) => join(out, sent(self.sent, name), name)?,
            Variable::UpstreamHttp(name) => {
                let answer = self.upstream?;
                join(out, answer.fields.all(name, answer.head), name)?;
            }
            Variable::Args | Variable::QueryString => put(out, request.target.args(self.head)),
            Variable::BinaryRemoteAddr => match self.client?.ip() {
                IpAddr::V4(address) => put(out, &address.octets()),
                IpAddr::V6(address) => put(out, &address.octets()),
            },
            Variable::BodyBytesSent => decimal(out, self.body_bytes_sent),
            Variable::BytesSent => decimal(out, self.bytes_sent),
            Variable::Connection => decimal(out, self.connection),
            Variable::ConnectionRequests => decimal(out, self.connection_requests),
            Variable::ContentLength => put(out, self.field(Known::ContentLength)?),
            Variable::ContentType => put(out, self.field(Known::ContentType)?),
            Variable::Uri | Variable::DocumentUri => put(out, request.target.normalized(self.head)),
            // nginx falls back to the server's name when the client named no host.
            Variable::Host if request.host().is_empty() => put(out, self.server_name),
            Variable::Host => put(out, request.host()),
            Variable::Hostname => put(out, self.hostname),
            Variable::Https => return None,
            Variable::IsArgs => {
                if !request.target.args(self.head).is_empty() {
                    out.push(b'?');
                }
            }
            Variable::Msec => seconds(out, self.clock.millis()),
            Variable::NginxVersion => put(out, NGINX_VERSION.as_bytes()),
            Variable::Pid => decimal(out, u64::from(std::process::id())),
            Variable::ProxyAddXForwardedFor => self.forwarded_for(out),
            Variable::ProxyHost => put(out, self.proxy_host),
            Variable::ProxyPort => self.proxy_port(out)?,
            Variable::RemoteAddr => address(out, self.client),
            Variable::RemotePort => decimal(out, u64::from(self.client?.port())),
            Variable::RemoteUser => self.user(out)?,
            Variable::Request => put(out, request.line.of(self.head)),
            Variable::RequestLength => decimal(out, self.request_length),
            Variable::RequestMethod => put(out, request.method_name.of(self.head)),
            Variable::RequestTime => {
                seconds(out, self.clock.millis().saturating_sub(self.started));
            }
            Variable::RequestUri => put(out, request.target.uri.of(self.head)),
            Variable::Scheme => put(out, b"http"),
            Variable::ServerAddr => address(out, self.local),
            Variable::ServerName => put(out, self.server_name),
            Variable::ServerPort => decimal(out, u64::from(self.local?.port())),
            Variable::ServerProtocol => {
                put(
                    out,
                    if request.minor == 0 {
                        b"HTTP/1.0"
                    } else {
                        b"HTTP/1.1"
                    },
                );
            }
            Variable::Status => {
                // nginx's own kinds of 400 are logged as what the client saw.
                let status = if matches!(self.status, 494..=497) {
                    400
                } else {
                    self.status
                };
                let _ = write!(out, "{status:03}");
            }
            Variable::TimeIso8601 => put(out, self.clock.iso8601()),
            Variable::TimeLocal => put(out, self.clock.local()),
            Variable::UpstreamAddr => self.each_attempt(out, |out, attempt| {
                put(out, attempt.address.as_bytes());
            }),
            Variable::UpstreamStatus => {
                self.each_attempt(out, |out, attempt| match attempt.status {
                    0 => out.push(b'-'),
                    status => decimal(out, u64::from(status)),
                })
            }
            Variable::UpstreamResponseTime => {
                self.each_attempt(out, |out, attempt| match attempt.millis {
                    None => out.push(b'-'),
                    Some(millis) => seconds(out, millis),
                })
            }
        }
        Some(())
    }

    fn field(&self, known: Known) -> Option<&'a [u8]> {
        self.request.fields.known(known, self.head)
    }

    fn cookie(&self, name: &[u8]) -> Option<&'a [u8]> {
        let cookies = self
            .request
            .fields
            .iter()
            .filter(|field| field.known == Known::Cookie);
        cookies
            .flat_map(|field| field.value.of(self.head).split(|&byte| byte == b';'))
            .find_map(|pair| {
                let pair = trim(pair);
                let (key, value) = split_once(pair, b'=')?;
                key.eq_ignore_ascii_case(name).then_some(value)
            })
    }

    fn forwarded_for(&self, out: &mut Vec<u8>) {
        let before = self
            .request
            .fields
            .iter()
            .filter(|field| field.known == Known::XForwardedFor);
        for field in before {
            put(out, field.value.of(self.head));
            put(out, b", ");
        }
        address(out, self.client);
    }

    fn proxy_port(&self, out: &mut Vec<u8>) -> Option<()> {
        if self.proxy_host.is_empty() {
            return None;
        }
        let colon = self
            .proxy_host
            .iter()
            .rposition(|&byte| matches!(byte, b':' | b']'));
        match colon.and_then(|at| self.proxy_host[at..].strip_prefix(b":")) {
            Some(port) => put(out, port),
            None => put(out, b"80"),
        }
        Some(())
    }

    /// The name of `Authorization: Basic …`, as far as it can be decoded.
    fn user(&self, out: &mut Vec<u8>) -> Option<()> {
        let value = self.field(Known::Authorization)?;
        let (scheme, credentials) = split_once(value, b' ')?;
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let start = out.len();
        // What was decoded before an error counts for nothing.
        let decoded = BASE64.decode_vec(trim(credentials), out);
        let colon = out[start..].iter().position(|&byte| byte == b':');
        let name = colon.filter(|_| decoded.is_ok());
        out.truncate(start + name.unwrap_or_default());
        name.map(|_| ())
    }

    fn each_attempt(&self, out: &mut Vec<u8>, write: impl Fn(&mut Vec<u8>, &Attempt)) {
        for (at, attempt) in self.attempts.iter().enumerate() {
            if at > 0 {
                put(out, b", ");
            }
            write(out, attempt);
        }
    }
}

fn put(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value);
}

/// Seconds with three digits after the point.
fn seconds(out: &mut Vec<u8>, millis: u64) {
    let _ = write!(out, "{}.{:03}", millis / 1000, millis % 1000);
}

fn address(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    match address {
        Some(address) => {
            let _ = write!(out, "{}", address.ip());
        }
        None => put(out, b"unix:"),
    }
}

/// Several fields of one name make a list, those of Cookie with `; `.
fn join<'b>(out: &mut Vec<u8>, values: impl Iterator<Item = &'b [u8]>, name: &[u8]) -> Option<()> {
    let separator: &[u8] = if name == b"cookie" { b"; " } else { b", " };
    let mut found = None;
    for value in values {
        if found.is_some() {
            put(out, separator);
        }
        put(out, value);
        found = Some(());
    }
    found
}

/// The values of one field in the lines of a head that weir wrote.
fn sent<'b>(head: &'b [u8], name: &[u8]) -> impl Iterator<Item = &'b [u8]> {
    head.split(|&byte| byte == b'\n')
        .skip(1)
        .filter_map(move |line| {
            let (field, value) = split_once(line, b':')?;
            let value = value.strip_suffix(b"\r").unwrap_or(value);
            field.eq_ignore_ascii_case(name).then(|| trim(value))
        })
}

/// `$arg_name`: the first argument of this name, as it was sent.
fn argument<'b>(args: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    args.split(|&byte| byte == b'&').find_map(|pair| {
        let (key, value) = split_once(pair, b'=')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == at)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
