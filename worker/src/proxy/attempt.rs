//! Attempts at servers: picks one, takes or makes a connection, and draws the consequences.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use weir_shm::CounterId;

use super::client::{Next, State};
use super::describe::{connect_level, errno};
use super::exchange::{Attempt, Exchange, Wait};
use super::numbers::Phase;
use super::retry::Failure;
use super::session::Session;
use super::{Network, Peer, close_idle_peer, close_peer};
use crate::connection::Key;
use crate::event::Token;
use crate::settings::Level;
use crate::socket::is_shortage;
use crate::transport::{Origin, Readiness, Unconnected};
use crate::upstream::plan::UpstreamPlan;
use crate::variable;

/// Why no attempt was begun.
pub(super) enum Unable {
    /// Because of the server.
    Server,
    /// For want of our own.
    Ourselves,
}

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
            match self.attempt(&mut exchange, server, true) {
                Ok(()) => return Next::Go(State::Proxying(exchange)),
                Err(unable) => {
                    if let Some(status) = self.ends_with(&exchange, unable) {
                        return self.answer_error(exchange, status);
                    }
                    exchange.tries_left -= 1;
                }
            }
        }
    }

    /// Begins an attempt at this server, on a kept connection if there is one and `reuse` allows
    /// it.
    pub(super) fn attempt(
        &mut self,
        exchange: &mut Exchange,
        server: usize,
        reuse: bool,
    ) -> Result<(), Unable> {
        let upstream = exchange.upstream.clone().ok_or(Unable::Ourselves)?;
        let counter = upstream.servers[server].counter;
        let address = Arc::clone(&upstream.addresses[server]);
        exchange.tries.push(variable::Attempt::at(address));
        let kept = if reuse {
            self.kept(counter, exchange.origin)
        } else {
            None
        };
        let reused = kept.is_some();
        let peer = match kept {
            Some(peer) => peer,
            None => match self.connect(server, &upstream, exchange.origin) {
                Ok(peer) => peer,
                Err(error) => return Err(self.connect_failed(exchange, &upstream, server, &error)),
            },
        };
        self.shared.region.counters().begin(counter);
        self.drain_late(exchange, counter);
        exchange.attempt = Some(Attempt {
            peer,
            server,
            started_ms: self.shared.now_ms,
            reused,
            sent: false,
            deaf: false,
            received: 0,
            interims: 0,
            head_length: None,
        });
        self.write_upstream_head(exchange);
        self.shared.peer_timers.clear(peer.index);
        exchange.peer_wait = Wait::default();
        Ok(())
    }

    /// The system did not even begin to connect: because of the server, or for want of its own.
    fn connect_failed(
        &mut self,
        exchange: &mut Exchange,
        upstream: &Rc<UpstreamPlan>,
        server: usize,
        error: &Unconnected,
    ) -> Unable {
        let error = match error {
            Unconnected::Connect(error) => error,
            Unconnected::Bind(error) => {
                let local = exchange.origin.local.map(|local| match local.port() {
                    0 => local.ip().to_string(),
                    _ => local.to_string(),
                });
                self.log_request(
                    exchange,
                    Level::Crit,
                    format_args!(
                        "bind({}) failed ({}) while connecting to upstream",
                        local.unwrap_or_default(),
                        errno(error)
                    ),
                );
                return Unable::Ourselves;
            }
        };
        if error.kind() == io::ErrorKind::QuotaExceeded {
            let limited = self.shared.limited();
            self.log_request(
                exchange,
                Level::Alert,
                format_args!("{limited} while connecting to upstream"),
            );
            return Unable::Ourselves;
        }
        if Errno::from_io_error(error).is_some_and(is_shortage) {
            self.log_request(
                exchange,
                Level::Alert,
                format_args!(
                    "socket() failed ({}) while connecting to upstream",
                    errno(error)
                ),
            );
            return Unable::Ourselves;
        }
        self.log_request(
            exchange,
            connect_level(error),
            format_args!(
                "connect() to {} failed ({}) while connecting to upstream",
                upstream.addresses[server],
                errno(error)
            ),
        );
        if self.count_failure(exchange, upstream, server, Failure::Error) {
            self.log_disabled(exchange, "connecting to upstream");
        }
        Unable::Server
    }

    /// An idle connection to the server, if one is still good. The event loop has told already
    /// if its other side has closed it.
    fn kept(&mut self, counter: CounterId, origin: Origin) -> Option<Key> {
        loop {
            let peers = &*self.peers;
            let is_fit = |index| {
                let key = peers.key_of(index);
                let peer = key.and_then(|key| peers.get(key));
                peer.is_none_or(|peer| peer.origin == origin)
            };
            let index = self.shared.idle.take_fit(counter, is_fit)?;
            let Some(key) = self.peers.key_of(index) else {
                continue;
            };
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
    }

    fn connect(
        &mut self,
        server: usize,
        upstream: &UpstreamPlan,
        origin: Origin,
    ) -> Result<Key, Unconnected> {
        self.make_room(upstream.number)?;
        let target = &upstream.servers[server];
        let mut made = self.shared.net.connect(&target.address, &origin);
        if let Err(Unconnected::Connect(error)) = &made
            && Errno::from_io_error(error).is_some_and(is_shortage)
            && self.free_descriptor(Some(upstream.number))
        {
            made = self.shared.net.connect(&target.address, &origin);
        }
        let (stream, connected) = made?;
        let key = self.peers.insert(Peer {
            stream,
            ready: Readiness {
                readable: false,
                writable: connected,
                closed: false,
            },
            client: Some(self.key),
            origin,
            counter: target.counter,
            connected,
            nodelay: false,
            requests: 1,
            since_ms: self.shared.now_ms,
        });
        if let Some(peer) = self.peers.get(key)
            && let Err(error) = self.shared.net.watch(&peer.stream, Token::Peer(key))
        {
            close_peer(self.peers, self.shared, key);
            return Err(error.into());
        }
        Ok(key)
    }

    /// Sees that one more connection is within the limit.
    fn make_room(&mut self, upstream: usize) -> io::Result<()> {
        let clients = usize::try_from(self.shared.numbers.active()).unwrap_or(usize::MAX);
        if clients + self.peers.len() < self.shared.limit
            || close_idle_peer(self.peers, self.shared, Some(upstream))
            || self.owe_an_idle_client()
        {
            return Ok(());
        }
        Err(io::ErrorKind::QuotaExceeded.into())
    }

    /// Has an idle client closed as soon as this one has had its turn; false if there is none.
    fn owe_an_idle_client(&mut self) -> bool {
        // It may still count as idle itself.
        self.count_as(Some(Phase::Writing));
        let is_there = self.shared.resting.len() > self.shared.owed;
        self.shared.owed += usize::from(is_there);
        is_there
    }

    /// The system has no descriptor for a request in flight: sees that there is one, at once. False
    /// if there is nothing left that could be closed.
    pub(super) fn free_descriptor(&mut self, upstream: Option<usize>) -> bool {
        if close_idle_peer(self.peers, self.shared, upstream) {
            return true;
        }
        self.owe_an_idle_client();
        self.shared.reserve.release()
    }

    /// Ends the attempt that is under way, with its connection.
    pub(super) fn drop_attempt(&mut self, exchange: &mut Exchange) {
        if let Some(attempt) = exchange.attempt.take() {
            self.count_end(exchange, &attempt);
            close_peer(self.peers, self.shared, attempt.peer);
        }
    }

    /// The request is no longer in flight at its server.
    pub(super) fn count_end(&mut self, exchange: &mut Exchange, attempt: &Attempt) {
        note_end(exchange, attempt, self.shared.now_ms);
        if let Some(peer) = self.peers.get(attempt.peer) {
            let counters = self.shared.region.counters();
            counters.end(peer.counter, attempt.received, exchange.upload.sent());
        }
    }
}

/// Keeps what variables say of an attempt that has come to its end.
pub(super) fn note_end(exchange: &mut Exchange, attempt: &Attempt, now_ms: u64) {
    if let Some(last) = exchange.tries.last_mut() {
        last.response_ms = Some(now_ms.saturating_sub(attempt.started_ms));
        last.bytes_received = attempt.received;
        last.bytes_sent = exchange.upload.sent();
        let head = attempt.head_length.unwrap_or(attempt.received);
        last.response_length = attempt.received.saturating_sub(head);
    }
}
