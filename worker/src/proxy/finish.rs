//! The end of a request: its log line, and what becomes of the two connections.

use std::rc::Rc;

use super::client::{Next, State};
use super::exchange::{Attempt, Exchange, Wait};
use super::session::Session;
use super::{Network, close_peer};
use crate::http::Method;
use crate::transport;

impl<N: Network> Session<'_, N> {
    /// The client has all of a server's answer.
    pub(super) fn finish_proxied(&mut self, mut exchange: Box<Exchange>) -> Next {
        if let Some(attempt) = exchange.attempt.take() {
            self.count_end(&mut exchange, &attempt);
            // nginx does not look at what follows the answer to HEAD.
            let looked_at = !exchange.switched && exchange.head.method != Method::Head;
            if looked_at && !exchange.output.is_empty() {
                self.log_surplus(&exchange);
            }
            self.release(&mut exchange, &attempt);
        }
        self.finish(exchange)
    }

    /// The request is answered: logs it and turns to the next one, or to the end.
    pub(super) fn finish(&mut self, mut exchange: Box<Exchange>) -> Next {
        exchange.completed = true;
        self.log_access(&exchange);
        if !exchange.persist || !exchange.upload.is_ended() {
            return self.close_after(exchange);
        }
        if !exchange.input.is_empty() {
            exchange.next_request();
            exchange.pipelined = true;
            exchange.started = self.shared.clock.millis();
            return Next::Go(State::Reading(exchange));
        }
        let location = exchange.location.take();
        self.shared.give_back(exchange);
        match location {
            Some(location) => self.keep(&location),
            None => Next::Close,
        }
    }

    /// The server is done with the request before the client is.
    pub(super) fn end_attempt(&mut self, exchange: &mut Exchange) {
        if let Some(attempt) = exchange.attempt.take() {
            self.count_end(exchange, &attempt);
            self.release(exchange, &attempt);
            exchange.peer_wait = Wait::default();
        }
    }

    /// Keeps the connection to the server for another request, or closes it.
    fn release(&mut self, exchange: &mut Exchange, attempt: &Attempt) {
        let Some(peer) = self.peers.get_mut(attempt.peer) else {
            return;
        };
        let counter = peer.counter;
        // Of a whole answer there may be what the client has not taken yet, and nothing else.
        let mut is_all = exchange.output.len() == exchange.download.owed();
        if peer.ready.readable && !peer.ready.closed && is_all {
            // The last read filled its buffer: only another one can say whether that was all.
            is_all = !transport::has_more(&mut peer.stream, &mut peer.ready);
        }
        let plan = Rc::clone(&self.shared.plan);
        let present = plan.find(counter);
        if let Some((upstream, server)) = present {
            upstream.succeeded(server);
        }
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        let settings = exchange
            .upstream_id
            .and_then(|id| conf.settings.upstreams.get(id));
        let keep = settings.filter(|settings| {
            let age = self.shared.now_ms.saturating_sub(peer.since_ms);
            settings.keepalive > 0
                && exchange.response.keep_alive
                && exchange.upload.is_done()
                && is_all
                && !attempt.deaf
                && !peer.ready.readable
                && !peer.ready.closed
                && peer.requests < settings.keepalive_requests
                && u128::from(age) < settings.keepalive_time.as_millis()
                && !self.shared.quitting
        });
        let Some((settings, (upstream, _))) = keep.zip(present) else {
            close_peer(self.peers, self.shared, attempt.peer);
            return;
        };
        peer.client = None;
        let (limit, timeout) = (settings.keepalive, settings.keepalive_timeout);
        self.shared.arm_peer(attempt.peer, timeout);
        let evicted = self
            .shared
            .idle
            .put(attempt.peer.index, counter, upstream.number, limit);
        if let Some(key) = evicted.and_then(|index| self.peers.key_of(index)) {
            close_peer(self.peers, self.shared, key);
        }
    }
}
