//! The way to a server: picks one, connects, and sends the request.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::client::{Next, State};
use super::describe::errno;
use super::exchange::{Attempt, Exchange};
use super::receive::Stop;
use super::relay::{self, Read};
use super::request::too_large;
use super::retry::{self, Attempted, Failure, Verdict};
use super::session::Session;
use super::{Network, Peer, close_peer};
use crate::balance::Failed;
use crate::connection::Key;
use crate::event::Token;
use crate::settings::Level;
use crate::transport::Readiness;
use crate::upstream::plan::UpstreamPlan;
use crate::variable;

impl<N: Network> Session<'_, N> {
    /// Asks the next server.
    pub(super) fn next_attempt(&mut self, mut exchange: Box<Exchange>) -> Next {
        let Some(upstream) = exchange.upstream.clone() else {
            return self.answer_error(exchange, 502);
        };
        loop {
            let Some(server) = upstream.pick(self.shared.now_ms, &exchange.tried) else {
                return self.no_server(exchange);
            };
            exchange.tried.insert(server);
            if self.attempt(&mut exchange, server, true) {
                return Next::Go(State::Proxying(exchange));
            }
        }
    }

    fn no_server(&mut self, mut exchange: Box<Exchange>) -> Next {
        if exchange.tried.is_empty() {
            self.log_request(
                &exchange,
                Level::Error,
                format_args!("no live upstreams while connecting to upstream"),
            );
            if let Some(upstream) = &exchange.upstream {
                exchange.tries.push(variable::Attempt {
                    address: upstream.name.as_str().into(),
                    status: 502,
                    millis: Some(0),
                });
            }
        }
        let status = exchange.tries.last().map_or(502, |last| last.status);
        self.answer_error(exchange, status)
    }

    /// Begins an attempt at this server, on a kept connection if there is one and `reuse` allows
    /// it. False when the connection failed at once.
    fn attempt(&mut self, exchange: &mut Exchange, server: usize, reuse: bool) -> bool {
        let Some(upstream) = exchange.upstream.clone() else {
            return false;
        };
        let counter = upstream.servers[server].counter;
        self.shared.region.counters().begin(counter);
        exchange.tries.push(variable::Attempt {
            address: Arc::clone(&upstream.addresses[server]),
            status: 0,
            millis: None,
        });
        let kept = if reuse {
            self.kept(server, &upstream)
        } else {
            None
        };
        let reused = kept.is_some();
        let peer = match kept.map_or_else(|| self.connect(server, &upstream), Ok) {
            Ok(peer) => peer,
            Err(error) => {
                self.shared.region.counters().end(counter, 0, 0);
                self.log_request(
                    exchange,
                    Level::Error,
                    format_args!(
                        "connect() failed ({}) while connecting to upstream",
                        errno(&error)
                    ),
                );
                self.count_failure(exchange, &upstream, server, Failure::Error);
                return false;
            }
        };
        exchange.attempt = Some(Attempt {
            peer,
            server,
            started_ms: self.shared.now_ms,
            reused,
            sent: false,
            deaf: false,
            received: 0,
        });
        self.write_upstream_head(exchange);
        if !reused {
            let timeout = exchange.proxy().map(|proxy| proxy.connect_timeout);
            self.shared.arm_peer(peer, timeout.unwrap_or_default());
        }
        true
    }

    /// An idle connection to the server, if one is still good. The event loop has told already
    /// if its other side has closed it.
    fn kept(&mut self, server: usize, upstream: &UpstreamPlan) -> Option<Key> {
        let counter = upstream.servers[server].counter;
        while let Some(index) = self.shared.idle.take(counter) {
            let key = self.peers.key_of(index)?;
            let Some(peer) = self.peers.get_mut(key) else {
                continue;
            };
            if peer.ready.readable || peer.ready.closed {
                close_peer(self.peers, self.shared, key);
                continue;
            }
            peer.client = Some(self.key);
            peer.requests += 1;
            return Some(key);
        }
        None
    }

    fn connect(&mut self, server: usize, upstream: &UpstreamPlan) -> io::Result<Key> {
        let target = &upstream.servers[server];
        let (stream, connected) = self.shared.net.connect(&target.address)?;
        let key = self.peers.insert(Peer {
            stream,
            ready: Readiness {
                readable: false,
                writable: connected,
                closed: false,
            },
            client: Some(self.key),
            counter: target.counter,
            upstream: upstream.number,
            connected,
            requests: 1,
            since_ms: self.shared.now_ms,
        });
        if let Some(peer) = self.peers.get(key)
            && let Err(error) = self.shared.net.watch(&peer.stream, Token::Peer(key))
        {
            close_peer(self.peers, self.shared, key);
            return Err(error);
        }
        Ok(key)
    }

    /// Sends what there is of the request: head and the body's beginning in one write.
    pub(super) fn send(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        let Exchange {
            attempt: Some(attempt),
            upload,
            input,
            location: Some(location),
            ..
        } = exchange
        else {
            return Ok(());
        };
        let Some(peer) = self.peers.get_mut(attempt.peer) else {
            return Ok(());
        };
        while !attempt.deaf {
            if upload.take(input, true).is_err() {
                return Err(self.client_broke_chunks(exchange));
            }
            if too_large(upload.received(), location.client_max_body_size) {
                return Err(self.client_sent_too_much(exchange));
            }
            match upload.flush(input, &mut peer.stream, &mut peer.ready) {
                Ok(0) => {}
                Ok(_) => {
                    attempt.sent = true;
                    peer.connected = true;
                }
                Err(error) => return self.send_failed(exchange, &error),
            }
            // The body is read only once somebody takes it: until then all of it can be repeated.
            if upload.is_pending() || upload.is_ended() || !peer.connected {
                break;
            }
            if !self.client.ready.readable {
                break;
            }
            match relay::read(input, &mut self.client.stream, &mut self.client.ready) {
                Ok(Read::Some(_)) => {}
                Ok(Read::Blocked) => break,
                Ok(Read::End) => return Err(self.client_left(exchange, None)),
                Err(error) => return Err(self.client_left(exchange, Some(&error))),
            }
        }
        Ok(())
    }

    /// The server does not take the request. If it was reached, it may have answered already.
    fn send_failed(&mut self, exchange: &mut Exchange, error: &io::Error) -> Result<(), Stop> {
        let peer = exchange.attempt.as_mut().and_then(|attempt| {
            attempt.deaf = true;
            self.peers.get_mut(attempt.peer)
        });
        let Some(peer) = peer else {
            return Err(Stop::Upstream(Failure::Error));
        };
        if peer.connected {
            peer.ready.readable = true;
            return Ok(());
        }
        self.log_request(
            exchange,
            Level::Error,
            format_args!(
                "connect() failed ({}) while connecting to upstream",
                errno(error)
            ),
        );
        Err(Stop::Upstream(Failure::Error))
    }

    fn client_broke_chunks(&mut self, exchange: &mut Exchange) -> Stop {
        self.log_request(
            exchange,
            Level::Error,
            format_args!("client sent invalid chunked body"),
        );
        Stop::Client(400)
    }

    fn client_sent_too_much(&mut self, exchange: &mut Exchange) -> Stop {
        let length = exchange.upload.received();
        self.log_request(
            exchange,
            Level::Error,
            format_args!("client intended to send too large chunked body: {length} bytes"),
        );
        Stop::Client(413)
    }

    fn client_left(&mut self, exchange: &mut Exchange, error: Option<&io::Error>) -> Stop {
        match error {
            Some(error) => self.log_request(
                exchange,
                Level::Info,
                format_args!(
                    "recv() failed ({}) while sending request to upstream",
                    errno(error)
                ),
            ),
            None => self.log_request(
                exchange,
                Level::Info,
                format_args!(
                    "client prematurely closed connection while sending request to upstream"
                ),
            ),
        }
        if !exchange.answered {
            exchange.status = 400;
        }
        Stop::Abandon
    }

    /// The attempt failed: notes it, and asks the same server, the next one, or nobody.
    pub(super) fn attempt_failed(&mut self, mut exchange: Box<Exchange>, failure: Failure) -> Next {
        let Some(attempt) = exchange.attempt.as_ref() else {
            return self.answer_error(exchange, failure.status());
        };
        let (server, stale) = (attempt.server, attempt.reused && attempt.received == 0);
        let verdict = retry::decide(
            failure,
            Attempted {
                method: exchange.head.method,
                sent: attempt.sent,
                repeatable: exchange.input.can_rewind(),
                stale,
            },
        );
        let took_ms = self.shared.now_ms.saturating_sub(attempt.started_ms);
        if let Some(last) = exchange.tries.last_mut() {
            last.millis = Some(took_ms);
        }
        let upstream = exchange.upstream.clone();
        self.drop_attempt(&mut exchange);
        if verdict == Verdict::Again {
            exchange.tries.pop();
        } else if let Some(upstream) = &upstream {
            self.count_failure(&mut exchange, upstream, server, failure);
        }
        match verdict {
            Verdict::GiveUp => self.answer_error(exchange, failure.status()),
            verdict => {
                exchange.upload.restart(&mut exchange.input);
                exchange.output.clear();
                exchange.response.clear();
                if verdict == Verdict::Again && self.attempt(&mut exchange, server, false) {
                    return Next::Go(State::Proxying(exchange));
                }
                self.next_attempt(exchange)
            }
        }
    }

    /// A server failed: it may be out for a while, in every worker.
    fn count_failure(
        &mut self,
        exchange: &mut Exchange,
        upstream: &Rc<UpstreamPlan>,
        server: usize,
        failure: Failure,
    ) {
        if let Some(last) = exchange.tries.last_mut() {
            last.status = failure.status();
            last.millis.get_or_insert(0);
        }
        let counter = upstream.servers[server].counter;
        self.shared.note_failure(counter);
        let plan = Rc::clone(&self.shared.plan);
        let Some((upstream, server)) = plan.find(counter) else {
            return;
        };
        if upstream.failed(server, self.shared.now_ms) == Failed::Disabled {
            self.log_request(
                exchange,
                Level::Warn,
                format_args!(
                    "upstream server temporarily disabled while {}",
                    self.doing(exchange)
                ),
            );
        }
    }

    /// Ends the attempt that is under way, with its connection.
    pub(super) fn drop_attempt(&mut self, exchange: &mut Exchange) {
        if let Some(attempt) = exchange.attempt.take() {
            self.count_end(exchange, &attempt);
            close_peer(self.peers, self.shared, attempt.peer);
        }
    }

    /// The request is no longer in flight at its server.
    pub(super) fn count_end(&mut self, exchange: &Exchange, attempt: &Attempt) {
        if let Some(peer) = self.peers.get(attempt.peer) {
            let counters = self.shared.region.counters();
            counters.end(peer.counter, attempt.received, exchange.upload.sent());
        }
    }
}
