//! What a request goes through before somebody answers it, in the order of nginx's phases.

use std::rc::Rc;
use std::sync::Arc;

use super::Network;
use super::client::Next;
use super::exchange::Exchange;
use super::request::too_large;
use super::session::Session;
use crate::access;
use crate::http::{Body, target};
use crate::settings::{Handler, Level, LocationSettings};

impl<N: Network> Session<'_, N> {
    /// Finds the location of the request's path within its server, and lets it answer.
    pub(super) fn serve(&mut self, mut exchange: Box<Exchange>) -> Next {
        let conf = Rc::clone(exchange.conf.as_ref().unwrap_or(&self.shared.conf));
        let path = exchange.head.target.normalized(exchange.input.head());
        let Some(route) = conf.route(exchange.server, path) else {
            return self.answer_error(exchange, 500);
        };
        let location = route.location;
        self.enter(&mut exchange, location);
        // nginx has the server's `return` before it finds a location, whose limits are not asked then.
        if route.is_server && location.ret.is_some() {
            return self.serve_by(exchange, location);
        }
        if location.internal && !exchange.course.internal {
            return self.answer_error(exchange, 404);
        }
        if let Body::Length(length) = exchange.head.body
            && too_large(length, location.client_max_body_size)
            && !exchange.has_given_up_body()
        {
            self.log_request(
                &exchange,
                Level::Error,
                format_args!("client intended to send too large body: {length} bytes"),
            );
            exchange.give_up_body();
            return self.answer_error(exchange, 413);
        }
        if route.redirect {
            return self.redirect_to_slash(exchange, location);
        }
        self.serve_by(exchange, location)
    }

    /// The location is the request's from now on.
    pub(super) fn enter(&mut self, exchange: &mut Exchange, location: &Arc<LocationSettings>) {
        exchange.matched = location.name.len();
        exchange.location = Some(Arc::clone(location));
        exchange.persist &= self.is_to_be_kept(exchange, location);
        if self.client.nodelay != location.tcp_nodelay {
            self.client.nodelay = location.tcp_nodelay;
            self.shared
                .net
                .set_nodelay(&self.client.stream, location.tcp_nodelay);
        }
    }

    /// The location answers: by `return`, else if the client may come in by its handler.
    pub(super) fn serve_by(
        &mut self,
        exchange: Box<Exchange>,
        location: &Arc<LocationSettings>,
    ) -> Next {
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

    /// A 301 to the location's own path, which ends in a slash, and the query.
    fn redirect_to_slash(
        &mut self,
        mut exchange: Box<Exchange>,
        location: &LocationSettings,
    ) -> Next {
        let mut url = std::mem::take(&mut exchange.moved_to);
        url.clear();
        target::escape(&location.name, &mut url);
        let args = exchange.head.target.args(exchange.input.head());
        if !args.is_empty() {
            url.push(b'?');
            url.extend_from_slice(args);
        }
        self.answer_moved(exchange, 301, url)
    }
}
