//! Attempts at servers: picks one, takes or makes a connection, and draws the consequences.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use weir_shm::CounterId;

use super::client::{Next, State};
use super::describe::errno;
use super::exchange::{Attempt, Exchange, Wait};
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

/// Why no attempt was begun.
enum Unable {
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
                Err(Unable::Server) => {}
                Err(Unable::Ourselves) => return self.answer_error(exchange, 500),
            }
        }
    }

    fn no_server(&mut self, mut exchange: Box<Exchange>) -> Next {
        if exchange.tried.is_empty() {
            if let Some(upstream) = &exchange.upstream {
                exchange.tries.push(variable::Attempt {
                    address: upstream.name.as_str().into(),
                    status: 502,
                    millis: Some(0),
                });
            }
            self.log_request(
                &exchange,
                Level::Error,
                format_args!("no live upstreams while connecting to upstream"),
            );
        }
        let status = exchange.tries.last().map_or(502, |last| last.status);
        self.answer_error(exchange, status)
    }

    /// Begins an attempt at this server, on a kept connection if there is one and `reuse` allows
    /// it.
    fn attempt(
        &mut self,
        exchange: &mut Exchange,
        server: usize,
        reuse: bool,
    ) -> Result<(), Unable> {
        let upstream = exchange.upstream.clone().ok_or(Unable::Ourselves)?;
        let counter = upstream.servers[server].counter;
        exchange.tries.push(variable::Attempt {
            address: Arc::clone(&upstream.addresses[server]),
            status: 0,
            millis: None,
        });
        let kept = if reuse { self.kept(counter) } else { None };
        let reused = kept.is_some();
        let peer = match kept {
            Some(peer) => peer,
            None => match self.connect(server, &upstream) {
                Ok(peer) => peer,
                Err(error) => return Err(self.connect_failed(exchange, &upstream, server, &error)),
            },
        };
        self.shared.region.counters().begin(counter);
        exchange.attempt = Some(Attempt {
            peer,
            server,
            started_ms: self.shared.now_ms,
            reused,
            sent: false,
            deaf: false,
            received: 0,
            interims: 0,
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
        error: &io::Error,
    ) -> Unable {
        if error.kind() == io::ErrorKind::QuotaExceeded {
            let limit = self.shared.conf.settings.worker_connections;
            self.log_request(
                exchange,
                Level::Alert,
                format_args!(
                    "{limit} worker_connections are not enough while connecting to upstream"
                ),
            );
            return Unable::Ourselves;
        }
        let own = matches!(
            Errno::from_io_error(error),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
        );
        if own {
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
            Level::Error,
            format_args!(
                "connect() failed ({}) while connecting to upstream",
                errno(error)
            ),
        );
        self.count_failure(exchange, upstream, server, Failure::Error);
        Unable::Server
    }

    /// An idle connection to the server, if one is still good. The event loop has told already
    /// if its other side has closed it.
    fn kept(&mut self, counter: CounterId) -> Option<Key> {
        while let Some(index) = self.shared.idle.take(counter) {
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
        None
    }

    fn connect(&mut self, server: usize, upstream: &UpstreamPlan) -> io::Result<Key> {
        self.make_room(upstream)?;
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
            nodelay: false,
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

    /// Sees that one more connection is within `worker_connections`.
    fn make_room(&mut self, upstream: &UpstreamPlan) -> io::Result<()> {
        let clients = usize::try_from(self.shared.numbers.active()).unwrap_or(usize::MAX);
        if clients + self.peers.len() < self.shared.conf.settings.worker_connections {
            return Ok(());
        }
        let idle = self.shared.idle.oldest(upstream.number);
        match idle.and_then(|index| self.peers.key_of(index)) {
            Some(key) => {
                close_peer(self.peers, self.shared, key);
                Ok(())
            }
            None => Err(io::ErrorKind::QuotaExceeded.into()),
        }
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
                if verdict == Verdict::Again && self.attempt(&mut exchange, server, false).is_ok() {
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
