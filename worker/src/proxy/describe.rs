//! What is said of a request: the values of its variables, and lines in the logs.

use std::fmt::{self, Write};
use std::io;

use rustix::io::Errno;
use weir_shm::Address;

use super::Network;
use super::client::Client;
use super::exchange::Exchange;
use super::session::Session;
use super::shared::Shared;
use crate::http::{Body, target};
use crate::log::ErrorLog;
use crate::settings::{Level, Template};
use crate::variable::{Answered, RequestId, Values};

impl<N: Network> Session<'_, N> {
    /// Everything that a template may ask for.
    pub(super) fn values<'a>(&'a self, exchange: &'a Exchange) -> Values<'a> {
        values(self.shared, self.client, exchange)
    }

    /// Appends a template's text.
    pub(super) fn render(&self, exchange: &Exchange, template: &Template, out: &mut Vec<u8>) {
        template.write(&self.values(exchange), out);
    }

    /// A line about a request in the error log of its location, with all that nginx says of it.
    pub(super) fn log_request(&self, exchange: &Exchange, level: Level, what: fmt::Arguments<'_>) {
        let Some(location) = &exchange.location else {
            return self.log_client(level, what);
        };
        if !location.error_logs.iter().any(|log| level <= log.level) {
            return;
        }
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        let log = ErrorLog::new(conf.files.clone(), location.error_logs.clone());
        log.connection(
            level,
            self.client.number,
            format_args!(
                "{what}, client: {}, server: {}{}",
                self.client_name(),
                conf.server_name(exchange.server),
                self.request_name(exchange),
            ),
        );
    }

    fn client_name(&self) -> String {
        match self.client.address {
            Some(address) => address.ip().to_string(),
            None => "unix:".to_owned(),
        }
    }

    fn request_name(&self, exchange: &Exchange) -> String {
        let mut name = String::new();
        // Writing to a String does not fail.
        let _ = self.write_request(exchange, &mut name);
        name
    }

    fn write_request(&self, exchange: &Exchange, f: &mut String) -> fmt::Result {
        let head = exchange.input.head();
        let line = exchange.head.line.of(head);
        if !line.is_empty() {
            write!(f, ", request: \"{}\"", String::from_utf8_lossy(line))?;
        }
        let known = |known| exchange.head.fields.known(known, head);
        let server = exchange.tries.last();
        if let Some(address) = server.and_then(|server| server.address.as_deref())
            && exchange.upstream.is_some()
        {
            let mut uri = Vec::new();
            upstream_uri(exchange, &mut uri);
            let uri = String::from_utf8_lossy(&uri);
            let colon = if address.starts_with("unix:") {
                ":"
            } else {
                ""
            };
            write!(f, ", upstream: \"http://{address}{colon}{uri}\"")?;
        }
        if let Some(host) = known(crate::http::Known::Host) {
            write!(f, ", host: \"{}\"", String::from_utf8_lossy(host))?;
        }
        if let Some(referer) = known(crate::http::Known::Referer) {
            write!(f, ", referrer: \"{}\"", String::from_utf8_lossy(referer))?;
        }
        Ok(())
    }

    /// A line about a client without a request.
    pub(super) fn log_client(&self, level: Level, what: fmt::Arguments<'_>) {
        let log = self.connection_log();
        if !log.enabled(level) {
            return;
        }
        let listener = self.shared.conf.listener_address(self.client.listener);
        let listener = listener.map(ToString::to_string).unwrap_or_default();
        log.connection(
            level,
            self.client.number,
            format_args!("{what}, client: {}, server: {listener}", self.client_name()),
        );
    }

    /// The error log of the default server, which a connection without a request belongs to.
    fn connection_log(&self) -> ErrorLog {
        let conf = &self.shared.conf;
        match conf.default_route(self.client.listener) {
            Some((_, location)) => ErrorLog::new(conf.files.clone(), location.error_logs.clone()),
            None => conf.log.clone(),
        }
    }

    /// A client closed its connection, or lost it, between two requests or before the first.
    pub(super) fn log_left(&self, error: Option<&io::Error>) {
        let log = self.connection_log();
        if !log.enabled(Level::Info) {
            return;
        }
        let is_new = self.client.requests == 0;
        let doing = if is_new {
            "waiting for request"
        } else {
            "keepalive"
        };
        match error {
            None if is_new => self.log_client(
                Level::Info,
                format_args!("client closed connection while {doing}"),
            ),
            None => {
                let name = self.client_name();
                let number = self.client.number;
                let line = format_args!("client {name} closed keepalive connection");
                log.connection(Level::Info, number, line);
            }
            // Some browsers end a kept connection so.
            Some(error) if !is_new && error.kind() == io::ErrorKind::ConnectionReset => {}
            Some(error) => self.log_client(
                Level::Info,
                format_args!("recv() failed ({}) while {doing}", errno(error)),
            ),
        }
    }

    /// What an attempt was about, in nginx's words.
    pub(super) fn doing(&self, exchange: &Exchange) -> &'static str {
        let Some(attempt) = &exchange.attempt else {
            return "connecting to upstream";
        };
        match self.peers.get(attempt.peer) {
            Some(peer) if !peer.connected => "connecting to upstream",
            _ if exchange.switched => "proxying upgraded connection",
            _ if exchange.answered => "reading upstream",
            _ if exchange.upload.is_pending() => "sending request to upstream",
            _ => "reading response header from upstream",
        }
    }

    /// The client went while a server had its request: nginx knows that it reads an answer only
    /// from its first byte on.
    pub(super) fn log_client_gone(&self, exchange: &Exchange) {
        let attempt = exchange.attempt.as_ref();
        let doing = match self.doing(exchange) {
            "reading response header from upstream"
                if attempt.is_some_and(|attempt| attempt.received == 0) =>
            {
                "sending request to upstream"
            }
            doing => doing,
        };
        self.log_request(
            exchange,
            Level::Info,
            format_args!(
                "epoll_wait() reported that client prematurely closed connection, \
                 so upstream connection is closed too while {doing}"
            ),
        );
    }

    /// A server is out for a while.
    pub(super) fn log_disabled(&self, exchange: &Exchange, doing: &str) {
        self.log_request(
            exchange,
            Level::Warn,
            format_args!("upstream server temporarily disabled while {doing}"),
        );
    }

    /// More came than an answer said it has.
    pub(super) fn log_surplus(&self, exchange: &Exchange) {
        let what = match exchange.response.body {
            Body::Chunked => "upstream sent data after final chunk",
            _ => "upstream sent more data than specified in \"Content-Length\" header",
        };
        self.log_request(
            exchange,
            Level::Warn,
            format_args!("{what} while reading upstream"),
        );
    }

    /// A server closed the connection instead of answering.
    pub(super) fn log_upstream_end(&self, exchange: &Exchange) {
        // That a kept connection was closed while it was idle is everyday: it is asked again.
        let stale = exchange
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.reused && attempt.received == 0);
        let level = if stale { Level::Info } else { Level::Error };
        self.log_request(
            exchange,
            level,
            format_args!(
                "upstream prematurely closed connection while reading response header from upstream"
            ),
        );
    }
}

fn values<'a, N: Network>(
    shared: &'a Shared<N>,
    client: &'a Client<N::Stream>,
    exchange: &'a Exchange,
) -> Values<'a> {
    let conf = exchange.conf.as_deref().unwrap_or(&shared.conf);
    let head = match exchange.input.head() {
        // Part of a head is all that has come.
        [] => exchange.input.data(),
        head => head,
    };
    let mut values = Values::new(&exchange.head, head, &shared.clock);
    values.connection = client.number;
    values.connection_requests = client.requests;
    values.connection_ms = shared.now_ms.saturating_sub(client.since_ms);
    if conf.uses_connections {
        shared.publish_numbers();
        values.region = Some(&shared.region);
    }
    values.client = client.address;
    values.local = client.local;
    if let Some(Address::Unix(path)) = conf.listener_address(client.listener) {
        values.local_path = path.as_os_str().as_encoded_bytes();
    }
    values.server_name = conf.server_name(exchange.server).as_bytes();
    values.hostname = &conf.hostname;
    if let Some(proxy) = exchange.proxy() {
        (values.proxy_host, values.proxy_port) = if exchange.named_host.is_empty() {
            (&proxy.host[..], proxy.port)
        } else {
            (exchange.named_host.as_bytes(), exchange.named_port)
        };
    }
    values.started = exchange.started;
    values.request_length = exchange.request_length();
    values.limit_rate = exchange.rate.unwrap_or_default();
    values.request_body = exchange.body_in_memory();
    values.request_body_file = exchange.body_in_file();
    values.request_id = Some(RequestId {
        known: &exchange.request_id,
        source: &shared.request_ids,
    });
    values.pipelined = exchange.pipelined;
    values.completed = exchange.completed;
    values.status = exchange.status;
    values.bytes_sent = exchange.download.sent();
    values.body_bytes_sent = exchange.body_bytes_sent();
    values.attempts = &exchange.tries;
    if exchange.response.status != 0 {
        values.upstream = Some(Answered {
            fields: &exchange.response.fields,
            head: exchange.output.head(),
        });
    }
    values.upstream_trailers = exchange.download.trailers();
    values.sent = &exchange.sent_head;
    values.sent_trailers = &exchange.sent_trailers;
    values
}

/// The target for the server: that of the request, or what `proxy_pass` makes of it.
pub(super) fn upstream_uri(exchange: &Exchange, out: &mut Vec<u8>) {
    let head = exchange.input.head();
    if !exchange.named_uri.is_empty() {
        out.extend_from_slice(&exchange.named_uri);
        return;
    }
    let uri = exchange.proxy().and_then(|proxy| proxy.uri.as_deref());
    let matched = exchange.matched;
    target::upstream_uri(&exchange.head.target, head, uri, matched, out);
}

/// Whether answers show the version (`server_tokens`).
pub(super) fn shows_version(exchange: &Exchange) -> bool {
    let location = exchange.location.as_deref();
    location.is_none_or(|location| location.server_tokens)
}

/// nginx's level of what the system says of a connection: what its other side may cause has the
/// `usual` one, anything else is our own trouble.
pub(super) fn connection_level(error: &io::Error, usual: Level) -> Level {
    match Errno::from_io_error(error) {
        None
        | Some(
            Errno::CONNRESET
            | Errno::PIPE
            | Errno::NOTCONN
            | Errno::TIMEDOUT
            | Errno::CONNREFUSED
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH,
        ) => usual,
        Some(_) => Level::Alert,
    }
}

/// nginx's level of a connection that the system did not even begin to make.
pub(super) fn connect_level(error: &io::Error) -> Level {
    match Errno::from_io_error(error) {
        None
        | Some(
            Errno::CONNREFUSED
            | Errno::AGAIN
            | Errno::CONNRESET
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH,
        ) => Level::Error,
        Some(_) => Level::Crit,
    }
}

/// `111: Connection refused`, as nginx writes errors of the system.
pub(crate) fn errno(error: &io::Error) -> String {
    let text = error.to_string();
    let code = error.raw_os_error().unwrap_or_default();
    let end = text.find(" (os error").unwrap_or(text.len());
    format!("{code}: {}", &text[..end])
}
