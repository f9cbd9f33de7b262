//! A complete request head: which location serves it, and who answers.

use std::rc::Rc;
use std::sync::Arc;

use super::Network;
use super::client::{Next, State};
use super::exchange::Exchange;
use super::numbers::Phase;
use super::receive::LEAST_ROOM;
use super::redirect::Prepared;
use super::relay::Framing;
use super::resolving::Unserved;
use super::session::Session;
use crate::buffer::BUFFER_SIZE;
use crate::http::fields::is_token;
use crate::http::{Body, Method};
use crate::settings::{Level, Proxy};
use crate::upstream::plan::UpstreamPlan;
use crate::variable::Attempt;

impl<N: Network> Session<'_, N> {
    /// The head ends at `end` of the input.
    pub(super) fn begin(&mut self, mut exchange: Box<Exchange>, end: usize) -> Next {
        exchange.head_length = end as u64;
        exchange.input.keep_head(end);
        let mut grown = Ok(());
        if exchange.input.capacity() - end < LEAST_ROOM {
            grown = exchange.input.grow(end + BUFFER_SIZE);
        }
        self.shared.client_timers.clear(self.key.index);
        self.count_request();
        let conf = Rc::clone(&self.shared.conf);
        let server = conf.server(self.client.listener, exchange.head.host());
        exchange.server = server.unwrap_or_default();
        exchange.conf = Some(conf);
        self.count_for_variables(&exchange);
        exchange.persist = exchange.head.keep_alive;
        exchange.upload.begin(exchange.head.body, Framing::Plain);
        if let Some(field) = exchange.head.ignored {
            let field = String::from_utf8_lossy(field.of(exchange.input.head())).into_owned();
            self.log_request(
                &exchange,
                Level::Info,
                format_args!("client sent invalid header line: \"{field}\""),
            );
        }
        if let Err(error) = grown {
            self.log_request(&exchange, Level::Emerg, format_args!("{error}"));
            self.adopt_default(&mut exchange);
            return self.answer_error(exchange, 500);
        }
        self.serve(exchange)
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

    /// For a request whose head could not be taken: the listener's default server.
    pub(super) fn adopt_default(&mut self, exchange: &mut Exchange) {
        let conf = Rc::clone(&self.shared.conf);
        if let Some((server, location)) = conf.default_route(self.client.listener) {
            exchange.location = Some(Arc::clone(location));
            exchange.server = server;
        }
        exchange.conf = Some(conf);
    }

    /// `proxy_pass`.
    pub(super) fn begin_proxying(&mut self, mut exchange: Box<Exchange>) -> Next {
        match exchange.prepare_body() {
            Prepared::Fresh => {}
            Prepared::Whole => return self.ask_upstream(exchange),
            Prepared::Lost => {
                self.log_request(
                    &exchange,
                    Level::Error,
                    format_args!("request body cannot be sent again after an internal redirect"),
                );
                return self.answer_error(exchange, 500);
            }
        }
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
        match self.find_upstream(&mut exchange) {
            Ok(upstream) => self.ask(exchange, upstream),
            Err(Unserved::Answer(status)) => self.answer_error(exchange, status),
            Err(Unserved::Waiting) => Next::Wait(State::Resolving(exchange)),
        }
    }

    /// The servers of this upstream are asked.
    pub(super) fn ask(&mut self, mut exchange: Box<Exchange>, upstream: Rc<UpstreamPlan>) -> Next {
        self.allow_tries(&mut exchange, &upstream);
        exchange.upstream = Some(upstream);
        if !exchange.tries.is_empty() {
            // It comes from another location that had asked servers.
            exchange.tries.push(Attempt::default());
        }
        exchange.origin = self.origin(&exchange);
        if !self.choose_method(&mut exchange) {
            return self.answer_error(exchange, 500);
        }
        self.next_attempt(exchange)
    }

    /// `proxy_method`; false if it gives none.
    fn choose_method(&mut self, exchange: &mut Exchange) -> bool {
        exchange.asked = exchange.head.method;
        let mut name = std::mem::take(&mut exchange.asked_name);
        name.clear();
        let Some(template) = exchange.proxy().and_then(|proxy| proxy.method.as_ref()) else {
            exchange.asked_name = name;
            return true;
        };
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

/// Whether a body is beyond `client_max_body_size`, of which 0 is none.
pub(super) fn too_large(length: u64, limit: u64) -> bool {
    limit != 0 && length > limit
}

/// A new answer of our own.
pub(super) fn answering(exchange: Box<Exchange>) -> Next {
    Next::Go(State::Answering(exchange))
}
