//! What a request's variables are.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use weir_shm::{Status, WorkerRegion};

use super::NGINX_VERSION;
use super::lookup::{argument, cookie, join, join_lines, set_cookie, split_once};
use super::request_id::RequestId;
use super::upstream::{self, Attempt, millis};
use crate::http::RequestHead;
use crate::http::answer::decimal;
use crate::http::fields::{Fields, Known, trim};
use crate::log::Clock;
use crate::settings::{Captures, Variable};

/// Clients write credentials with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
    /// `$connection_time`, in milliseconds.
    pub connection_ms: u64,
    /// Where `$connections_…` are counted.
    pub region: Option<&'a WorkerRegion>,
    /// The client; `None` on a unix socket.
    pub client: Option<SocketAddr>,
    /// The address that the client connected to; `None` on a unix socket.
    pub local: Option<SocketAddr>,
    /// The path of the unix socket that the client connected to.
    pub local_path: &'a [u8],
    /// `$server_name`.
    pub server_name: &'a [u8],
    /// `$hostname`.
    pub hostname: &'a [u8],
    /// `$proxy_host`; empty where nothing is proxied.
    pub proxy_host: &'a [u8],
    /// `$proxy_port`; 0 for a unix socket.
    pub proxy_port: u16,
    /// What the groups of a pattern have matched, where one is at work.
    pub captures: Option<&'a Captures<'a>>,
    /// When the request began, Unix time in milliseconds.
    pub started: u64,
    /// `$request_length`: request line, fields and what came of the body.
    pub request_length: u64,
    /// `$request_body`, where all of it is in memory.
    pub request_body: Option<&'a [u8]>,
    /// `$request_body_file`, where the body is in a file.
    pub request_body_file: Option<&'a [u8]>,
    /// `$request_id`.
    pub request_id: Option<RequestId<'a>>,
    /// `$pipe`: it came behind another request.
    pub pipelined: bool,
    /// `$request_completion`: the client has all of its answer.
    pub completed: bool,
    /// `$limit_rate`, in bytes a second; 0 is none.
    pub limit_rate: u64,
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
    /// The lines of the upstream's trailer section, for `$upstream_trailer_…`.
    pub upstream_trailers: &'a [u8],
    /// The fields of the answer as text: all lines of the head that was sent, for `$sent_http_…`.
    pub sent: &'a [u8],
    /// The lines of the trailer section that was sent, for `$sent_trailer_…`.
    pub sent_trailers: &'a [u8],
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
            connection_ms: 0,
            region: None,
            client: None,
            local: None,
            local_path: b"",
            server_name: b"",
            hostname: b"",
            proxy_host: b"",
            proxy_port: 0,
            captures: None,
            started: clock.millis(),
            request_length: 0,
            request_body: None,
            request_body_file: None,
            request_id: None,
            pipelined: false,
            completed: false,
            limit_rate: 0,
            status: 0,
            bytes_sent: 0,
            body_bytes_sent: 0,
            attempts: &[],
            upstream: None,
            upstream_trailers: b"",
            sent: b"",
            sent_trailers: b"",
        }
    }

    /// Appends a variable's value; `false` if there is none, which a log shows as `-`. A value may
    /// be empty, which a log shows as it is.
    pub fn write(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let found = self.append(variable, out).is_some();
        if !found {
            out.truncate(start);
        }
        found
    }

    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> Option<()> {
        match variable {
            Variable::Arg(name) => put(out, argument(self.args(), name)?),
            Variable::Cookie(name) => put(out, self.cookie(name)?),
            Variable::Http(name) => join(out, &self.request.fields, self.head, name)?,
            // nginx decides on the connection apart from the fields.
            Variable::SentHttp(name) if self.sent.is_empty() && name == b"connection" => {
                put(out, b"close");
            }
            Variable::SentHttp(name) => join_lines(out, self.sent, name)?,
            Variable::SentTrailer(name) => join_lines(out, self.sent_trailers, name)?,
            Variable::UpstreamCookie(name) => put(out, self.upstream_cookie(name)?),
            Variable::UpstreamHttp(name) => {
                let answer = self.upstream?;
                join(out, answer.fields, answer.head, name)?;
            }
            Variable::UpstreamTrailer(name) => join_lines(out, self.upstream_trailers, name)?,
            Variable::Args | Variable::QueryString => put(out, some(self.args())?),
            Variable::BinaryRemoteAddr => match self.client.map(|client| client.ip()) {
                Some(IpAddr::V4(address)) => put(out, &address.octets()),
                Some(IpAddr::V6(address)) => put(out, &address.octets()),
                None => put(out, b"unix:"),
            },
            Variable::Capture(number) => put(out, self.captures?.group(*number)),
            Variable::BodyBytesSent => decimal(out, self.body_bytes_sent),
            Variable::BytesSent => decimal(out, self.bytes_sent),
            Variable::Connection => decimal(out, self.connection),
            Variable::ConnectionRequests => decimal(out, self.connection_requests),
            Variable::ConnectionTime => millis(out, self.connection_ms),
            Variable::ConnectionsActive => decimal(out, self.connections()?.active),
            Variable::ConnectionsReading => decimal(out, self.connections()?.reading),
            Variable::ConnectionsWaiting => decimal(out, self.connections()?.waiting),
            Variable::ConnectionsWriting => decimal(out, self.connections()?.writing),
            Variable::Hostname => put(out, self.hostname),
            Variable::Https => {}
            Variable::IsArgs => {
                if !self.args().is_empty() {
                    out.push(b'?');
                }
            }
            Variable::LimitRate => decimal(out, self.limit_rate),
            Variable::Msec => millis(out, self.clock.millis()),
            Variable::NginxVersion => put(out, NGINX_VERSION.as_bytes()),
            Variable::Pid => decimal(out, u64::from(std::process::id())),
            Variable::Pipe => out.push(if self.pipelined { b'p' } else { b'.' }),
            Variable::ProxyAddXForwardedFor => self.forwarded_for(out),
            Variable::ProxyHost => put(out, some(self.proxy_host)?),
            Variable::ProxyPort => self.proxy_port(out)?,
            Variable::RemoteAddr => address(out, self.client, b""),
            Variable::RemotePort => port(out, self.client),
            Variable::RemoteUser => self.user(out)?,
            Variable::Scheme => put(out, b"http"),
            Variable::ServerAddr => address(out, self.local, self.local_path),
            Variable::ServerName => put(out, self.server_name),
            Variable::ServerPort => port(out, self.local),
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
            Variable::UpstreamAddr
            | Variable::UpstreamBytesReceived
            | Variable::UpstreamBytesSent
            | Variable::UpstreamConnectTime
            | Variable::UpstreamHeaderTime
            | Variable::UpstreamResponseLength
            | Variable::UpstreamResponseTime
            | Variable::UpstreamStatus => upstream::list(variable, self.attempts, out)?,
            _ => self.append_of_request(variable, out)?,
        }
        Some(())
    }

    /// What the request itself says.
    fn append_of_request(&self, variable: &Variable, out: &mut Vec<u8>) -> Option<()> {
        let request = self.request;
        match variable {
            Variable::ContentLength => put(out, self.field(Known::ContentLength)?),
            Variable::ContentType => put(out, self.field(Known::ContentType)?),
            Variable::Uri | Variable::DocumentUri => {
                put(out, some(request.target.normalized(self.head))?);
            }
            // nginx falls back to the server's name when the client named no host.
            Variable::Host if request.host().is_empty() => put(out, self.server_name),
            Variable::Host => put(out, request.host()),
            Variable::IsRequestPort => {
                if self.request_port().is_some() {
                    out.push(b':');
                }
            }
            Variable::Request => put(out, self.request_line()?),
            Variable::RequestBody => put(out, self.request_body?),
            Variable::RequestBodyFile => put(out, self.request_body_file?),
            Variable::RequestCompletion => {
                if self.completed {
                    put(out, b"OK");
                }
            }
            Variable::RequestId => self.request_id?.write(out)?,
            Variable::RequestLength => decimal(out, self.request_length),
            Variable::RequestMethod => put(out, some(request.method_name(self.head))?),
            Variable::RequestPort => {
                if let Some(port) = self.request_port() {
                    decimal(out, u64::from(port));
                }
            }
            Variable::RequestTime => {
                millis(out, self.clock.millis().saturating_sub(self.started));
            }
            Variable::RequestUri => put(out, some(request.target.uri.of(self.head))?),
            Variable::ServerProtocol => {
                some(request.line.of(self.head))?;
                put(
                    out,
                    if request.minor == 0 {
                        b"HTTP/1.0"
                    } else {
                        b"HTTP/1.1"
                    },
                );
            }
            _ => return None,
        }
        Some(())
    }

    fn field(&self, known: Known) -> Option<&'a [u8]> {
        self.request.fields.known(known, self.head)
    }

    fn args(&self) -> &'a [u8] {
        self.request.target.args(self.head)
    }

    /// The request line, or what has come of it.
    fn request_line(&self) -> Option<&'a [u8]> {
        let line = self.request.line.of(self.head);
        if !line.is_empty() {
            return Some(line);
        }
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let start = self.head.iter().position(|byte| !is_end(byte))?;
        let rest = &self.head[start..];
        Some(&rest[..rest.iter().position(is_end).unwrap_or(rest.len())])
    }

    fn connections(&self) -> Option<Status> {
        Some(self.region?.status())
    }

    fn cookie(&self, name: &[u8]) -> Option<&'a [u8]> {
        let (fields, head) = (self.request.fields.iter(), self.head);
        let mut cookies = fields.filter(|field| field.known == Known::Cookie);
        cookies.find_map(|field| cookie(field.value.of(head), name))
    }

    fn upstream_cookie(&self, name: &[u8]) -> Option<&'a [u8]> {
        let Answered { fields, head } = self.upstream?;
        let mut cookies = fields
            .iter()
            .filter(|field| field.known == Known::SetCookie);
        cookies.find_map(|field| set_cookie(field.value.of(head), name))
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
        address(out, self.client, b"");
    }

    fn proxy_port(&self, out: &mut Vec<u8>) -> Option<()> {
        some(self.proxy_host)?;
        if self.proxy_port > 0 {
            decimal(out, u64::from(self.proxy_port));
        }
        Some(())
    }

    /// The port that the client named with the host.
    fn request_port(&self) -> Option<u16> {
        let host = match self.request.target.authority {
            Some(authority) => authority.of(self.head),
            None => self.field(Known::Host)?,
        };
        let port: u16 = std::str::from_utf8(port_of(host)?).ok()?.parse().ok()?;
        (port > 0).then_some(port)
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
        BASE64.decode_vec(trim(credentials), out).ok()?;
        let colon = out[start..].iter().position(|&byte| byte == b':');
        let name = colon.filter(|&length| length > 0)?;
        out.truncate(start + name);
        Some(())
    }
}

fn put(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value);
}

/// Nothing is no value.
fn some(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

fn address(out: &mut Vec<u8>, address: Option<SocketAddr>, path: &[u8]) {
    match address {
        Some(address) => {
            let _ = write!(out, "{}", address.ip());
        }
        None => {
            put(out, b"unix:");
            put(out, path);
        }
    }
}

/// Empty on a unix socket.
fn port(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    if let Some(address) = address {
        decimal(out, u64::from(address.port()));
    }
}

/// What follows the colon of `host:port`, of which the host may be an IPv6 address in brackets.
fn port_of(host: &[u8]) -> Option<&[u8]> {
    let at = host.iter().rposition(|&byte| matches!(byte, b':' | b']'))?;
    host[at..].strip_prefix(b":")
}
