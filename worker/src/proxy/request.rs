//! A complete request head: which location serves it, and who answers.

use std::rc::Rc;
use std::sync::Arc;

use super::Network;
use super::client::{Next, State};
use super::exchange::Exchange;
use super::numbers::Phase;
use super::relay::Framing;
use super::session::Session;
use crate::access;
use crate::http::fields::is_token;
use crate::http::{Body, Method};
use crate::settings::{Handler, Level, Proxy};
use crate::upstream::plan::UpstreamPlan;
use crate::variable::Attempt;

impl<N: Network> Session<'_, N> {
    /// The head ends at `end` of the input.
    pub(super) fn begin(&mut self, mut exchange: Box<Exchange>, end: usize) -> Next {
        exchange.head_length = end as u64;
        exchange.input.keep_head(end);
        self.shared.client_timers.clear(self.key.index);
        self.count_request();
        let redirect = self.route(&mut exchange);
        self.count_for_variables(&exchange);
        let Some(location) = exchange.location.clone() else {
            return self.answer_error(exchange, 500);
        };
        exchange.persist = self.is_to_be_kept(&exchange, &location);
        if self.client.nodelay != location.tcp_nodelay {
            self.client.nodelay = location.tcp_nodelay;
            self.shared
                .net
                .set_nodelay(&self.client.stream, location.tcp_nodelay);
        }
        exchange.upload.begin(exchange.head.body, Framing::Plain);
        if let Some(field) = exchange.head.ignored {
            let field = String::from_utf8_lossy(field.of(exchange.input.head())).into_owned();
            self.log_request(
                &exchange,
                Level::Info,
                format_args!("client sent invalid header line: \"{field}\""),
            );
        }
        if let Body::Length(length) = exchange.head.body
            && too_large(length, location.client_max_body_size)
        {
            self.log_request(
                &exchange,
                Level::Error,
                format_args!("client intended to send too large body: {length} bytes"),
            );
            return self.answer_error(exchange, 413);
        }
        if redirect {
            let path = with_slash(&exchange);
            return self.answer_redirect(exchange, 301, &path);
        }
        if let Some(ret) = &location.ret {
            return self.answer_return(exchange, ret);
        }
        if !access::is_allowed(
            &location.access,
            self.client.address.map(|address| address.ip()),
        ) {
            self.log_request(
                &exchange,
                Level::Error,
                format_args!("access forbidden by rule"),
            );
            return self.answer_error(exchange, 403);
        }
        match &location.handler {
            Handler::None => self.answer_error(exchange, 404),
            Handler::Proxy(_) if exchange.head.max_forwards == Some(0) => {
                self.answer_options(exchange)
            }
            Handler::Proxy(_) => self.begin_proxying(exchange),
            Handler::UpstreamShow => self.answer_upstream_show(exchange),
            Handler::StubStatus => self.answer_stub_status(exchange),
        }
    }

    /// One more request.
    pub(super) fn count_request(&mut self) {
        self.client.requests += 1;
        self.shared.numbers.requests += 1;
    }

    /// Where somebody may ask for `$connections_…`, they are true at any moment of a request.
    fn count_for_variables(&mut self, exchange: &Exchange) {
        if exchange
            .conf
            .as_ref()
            .is_some_and(|conf| conf.uses_connections)
        {
            self.count_as(Some(Phase::Writing));
        }
    }

    /// Finds the location; whether the client is to ask for the path with a slash at its end.
    fn route(&mut self, exchange: &mut Exchange) -> bool {
        let conf = Rc::clone(&self.shared.conf);
        let path = exchange.head.target.normalized(exchange.input.head());
        let route = conf.route(self.client.listener, exchange.head.host(), path);
        let redirect = route.is_some_and(|route| route.redirect);
        if let Some(route) = route {
            exchange.matched = route.location.name.len();
            exchange.location = Some(Arc::clone(route.location));
            exchange.server = route.server;
        }
        exchange.conf = Some(conf);
        redirect
    }

    /// For a request whose head could not be taken: the listener's default server.
    pub(super) fn adopt_default(&mut self, exchange: &mut Exchange) {
        let conf = Rc::clone(&self.shared.conf);
        if let Some(route) = conf.default_route(self.client.listener) {
            exchange.location = Some(Arc::clone(route.location));
            exchange.server = route.server;
        }
        exchange.conf = Some(conf);
    }

    fn begin_proxying(&mut self, mut exchange: Box<Exchange>) -> Next {
        exchange.expects_continue = exchange.head.expect_continue
            && exchange.head.body != Body::None
            && exchange.input.is_empty();
        let awaited = Self::is_body_awaited(&exchange);
        let in_file = exchange.is_body_for_file();
        if exchange.proxy().is_some_and(Proxy::drops_body) && !in_file {
            exchange.upload.begin(exchange.head.body, Framing::Dropped);
        } else if exchange.head.body == Body::Chunked && !awaited {
            exchange.upload.begin(Body::Chunked, Framing::Chunked);
        }
        if awaited {
            return Next::Go(State::Receiving(exchange));
        }
        self.ask_upstream(exchange)
    }

    /// The body is there, or is to be passed on as it comes.
    pub(super) fn ask_upstream(&mut self, mut exchange: Box<Exchange>) -> Next {
        let upstream = match self.find_upstream(&mut exchange) {
            Ok(upstream) => upstream,
            Err(status) => return self.answer_error(exchange, status),
        };
        self.allow_tries(&mut exchange, &upstream);
        exchange.upstream = Some(upstream);
        if !exchange.tries.is_empty() {
            // It comes from another location that had asked servers.
            exchange.tries.push(Attempt::default());
        }
        if !self.choose_method(&mut exchange) {
            return self.answer_error(exchange, 500);
        }
        self.next_attempt(exchange)
    }

    /// `proxy_method`; false if it gives none.
    fn choose_method(&mut self, exchange: &mut Exchange) -> bool {
        exchange.asked = exchange.head.method;
        let location = exchange.location.clone();
        let Some(Handler::Proxy(proxy)) = location.as_deref().map(|location| &location.handler)
        else {
            return true;
        };
        let Some(template) = &proxy.method else {
            return true;
        };
        let mut name = std::mem::take(&mut exchange.asked_name);
        self.render(exchange, template, &mut name);
        exchange.asked = Method::of(&name);
        // CONNECT asks for a tunnel, which has no answer to be passed on.
        let is_one = !name.is_empty()
            && name.iter().copied().all(is_token)
            && exchange.asked != Method::Connect;
        if !is_one {
            let shown = name.escape_ascii();
            self.log_request(
                exchange,
                Level::Error,
                format_args!("invalid method \"{shown}\" in \"proxy_method\""),
            );
        }
        exchange.asked_name = name;
        is_one
    }

    /// From now on servers are asked, so many at most.
    fn allow_tries(&self, exchange: &mut Exchange, upstream: &UpstreamPlan) {
        let limit = exchange
            .proxy()
            .map_or(0, |proxy| proxy.next_upstream_tries);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        exchange.tries_left = match limit {
            0 => upstream.up,
            limit => upstream.up.min(limit),
        };
        exchange.asked_since_ms = self.shared.now_ms;
    }
}

/// The path that was asked for with a slash at its end, and the query.
fn with_slash(exchange: &Exchange) -> Vec<u8> {
    let head = exchange.input.head();
    let mut path = exchange.head.target.path.of(head).to_vec();
    path.push(b'/');
    let args = exchange.head.target.args(head);
    if !args.is_empty() {
        path.push(b'?');
        path.extend_from_slice(args);
    }
    path
}

/// Whether a body is beyond `client_max_body_size`, of which 0 is none.
pub(super) fn too_large(length: u64, limit: u64) -> bool {
    limit != 0 && length > limit
}

/// A new answer of our own.
pub(super) fn answering(exchange: Box<Exchange>) -> Next {
    Next::Go(State::Answering(exchange))
}
