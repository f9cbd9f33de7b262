//! The proxy: clients' connections, the requests on them, and the connections to servers.
//!
//! It knows no socket and no clock: a [`Network`] gives it byte streams, the loop tells it what
//! they are ready for and what time it is.

pub mod client;
pub mod exchange;
pub mod numbers;
pub mod pace;
pub mod relay;
pub mod shared;
pub mod spool;

mod access_log;
mod added;
mod answer;
mod attempt;
mod body;
mod deadlines;
mod describe;
mod drain;
mod ending;
mod error_page;
mod failed;
mod finish;
mod forward;
mod instead;
mod passing;
mod phases;
mod receive;
mod redirect;
mod reply;
mod request;
mod resolving;
mod retry;
mod rewrite;
mod send;
mod session;
mod slow;
mod switch;
#[cfg(test)]
mod tests;
mod trailing;
mod unchunk;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use weir_shm::{Address, CounterId};

use crate::conf::Conf;
use crate::connection::{Key, Slab};
use crate::event::Token;
use crate::resolver::Outcome;
use crate::settings::Level;
use crate::transport::{Origin, Readiness, Transport, Unconnected};
use crate::upstream::build::Built;
use crate::upstream::plan::Plan;
pub(crate) use describe::errno;

use client::{Client, Event, State};
use numbers::Phase;
use session::Session;
use shared::Shared;

/// Where connections come from.
pub trait Network {
    /// A byte stream.
    type Stream: Transport;

    /// Begins a connection to a server; true if it is there already.
    ///
    /// # Errors
    /// As `bind(2)` and `connect(2)`.
    fn connect(
        &mut self,
        address: &Address,
        origin: &Origin,
    ) -> Result<(Self::Stream, bool), Unconnected>;

    /// Tells of the stream's readiness from now on, under this token.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    fn watch(&mut self, stream: &Self::Stream, token: Token) -> io::Result<()>;

    /// Sends what is written at once, or does not (`tcp_nodelay`).
    fn set_nodelay(&mut self, stream: &Self::Stream, on: bool);
}

/// A connection to a server.
#[derive(Debug)]
pub struct Peer<S> {
    /// Its socket.
    pub stream: S,
    /// What the event loop told of it.
    pub ready: Readiness,
    /// Whose request it works for; `None` is idle.
    pub client: Option<Key>,
    /// How it was made.
    pub origin: Origin,
    /// The server's counter.
    pub counter: CounterId,
    /// It has been seen to be connected.
    pub connected: bool,
    /// It sends what is written at once (`tcp_nodelay`).
    pub nodelay: bool,
    /// Requests that were sent on it.
    pub requests: u64,
    /// When it was made, in milliseconds.
    pub since_ms: u64,
}

/// Where a client comes from.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Its address; `None` on a unix socket.
    pub address: Option<SocketAddr>,
    /// The address that it connected to; `None` on a unix socket.
    pub local: Option<SocketAddr>,
    /// The number of the listening socket.
    pub listener: u32,
    /// It sends what is written at once (`tcp_nodelay`).
    pub nodelay: bool,
}

/// Which connections are due.
#[derive(Debug, Default)]
struct Due {
    clients: Vec<u32>,
    peers: Vec<u32>,
}

/// For so long who came in counts as about to ask, in milliseconds: it is not closed to make room.
const FIRST_REQUEST_MS: u64 = 1000;

/// All connections of a worker and what they share.
pub struct Proxy<N: Network> {
    /// Clients.
    pub clients: Slab<Client<N::Stream>>,
    /// Connections to servers.
    pub peers: Slab<Peer<N::Stream>>,
    /// The rest.
    pub shared: Shared<N>,
    due: Due,
    connections: u64,
}

impl<N: Network> Proxy<N> {
    /// Without any connection.
    pub fn new(shared: Shared<N>) -> Self {
        Self {
            clients: Slab::default(),
            peers: Slab::default(),
            shared,
            due: Due::default(),
            connections: 0,
        }
    }

    /// How many connections there are, both kinds.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.clients.len() + self.peers.len()
    }

    /// A client connected through the listening socket `listener`. Tries to read at once: most
    /// clients have sent their request by now.
    pub fn accept(&mut self, stream: N::Stream, accepted: Accepted) {
        let Accepted {
            address,
            local,
            listener,
            nodelay,
        } = accepted;
        self.connections += 1;
        self.shared.numbers.accepted += 1;
        self.shared.numbers.handled += 1;
        let key = self.clients.insert(Client {
            stream,
            ready: Readiness::FRESH,
            state: State::Idle,
            number: self.connections,
            address,
            local,
            listener,
            nodelay,
            requests: 0,
            since_ms: self.shared.now_ms,
            goes_on: false,
            closing: false,
        });
        self.shared.move_client(key, None, Some(Phase::Waiting));
        let timeout = self.shared.conf.header_timeout(listener);
        self.shared.arm_client(key, timeout);
        self.client(key, Event::Ready);
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if let Err(error) = self.shared.net.watch(&client.stream, Token::Client(key)) {
            self.shared.numbers.handled -= 1;
            self.shared.log().log(
                Level::Alert,
                format_args!("epoll_ctl() failed ({})", errno(&error)),
            );
            self.close_client(key);
        }
    }

    /// A connection is ready for something.
    pub fn ready(&mut self, token: Token, readiness: Readiness) {
        match token {
            Token::Client(key) => {
                let Some(client) = self.clients.get_mut(key) else {
                    return;
                };
                client.ready.add(readiness);
                self.client(key, Event::Ready);
            }
            Token::Peer(key) => {
                let Some(peer) = self.peers.get_mut(key) else {
                    return;
                };
                peer.ready.add(readiness);
                match peer.client {
                    Some(client) => self.client(client, Event::Ready),
                    // Nothing is to come on an idle connection but its end.
                    None if peer.ready.readable => self.close_peer(key),
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// Lets everyone go on who had more to do than one turn of the loop allowed.
    pub fn go_on(&mut self) {
        for _ in 0..self.shared.again.len() {
            let Some(key) = self.shared.again.pop_front() else {
                return;
            };
            if let Some(client) = self.clients.get_mut(key) {
                client.goes_on = false;
                self.client(key, Event::Ready);
            }
        }
    }

    /// Whether someone has more to do without any event.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.shared.again.is_empty()
    }

    /// Lets everyone know whose deadline has passed.
    pub fn expire(&mut self) {
        let now_ms = self.shared.now_ms;
        let mut due = std::mem::take(&mut self.due);
        self.shared.client_timers.expire(now_ms, &mut due.clients);
        for index in due.clients.drain(..) {
            if let Some(key) = self.clients.key_of(index) {
                self.client(key, Event::ClientTimeout);
            }
        }
        self.shared.peer_timers.expire(now_ms, &mut due.peers);
        // The idle ones first: a request whose server is late would take one of them, or its place,
        // for the next attempt, which is not late.
        due.peers.retain(|&index| {
            let key = self.peers.key_of(index);
            let peer = key.and_then(|key| self.peers.get(key));
            let is_busy = peer.is_some_and(|peer| peer.client.is_some());
            if !is_busy {
                self.close_peer_at(index);
            }
            is_busy
        });
        for index in due.peers.drain(..) {
            let key = self.peers.key_of(index);
            let peer = key.and_then(|key| self.peers.get(key));
            if let Some(client) = peer.and_then(|peer| peer.client) {
                self.client(client, Event::PeerTimeout);
            }
        }
        self.due = due;
        self.drain();
    }

    /// When [`Proxy::expire`] has something to do next, in milliseconds.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let client = self.shared.client_timers.next_ms();
        let peer = self.shared.peer_timers.next_ms();
        let drained = self.shared.drains.next_ms();
        [client, peer, drained].into_iter().flatten().min()
    }

    /// New requests are routed by this plan; idle connections to servers that it does not have
    /// are closed. Returns the one before.
    pub fn set_plan(&mut self, built: Built) -> Rc<Plan> {
        let old = std::mem::replace(&mut self.shared.plan, built.plan);
        let mut last = None;
        for (upstream, counter) in built.dropped {
            if last
                .as_ref()
                .is_none_or(|last| !Rc::ptr_eq(last, &upstream))
            {
                self.shared.part_with(&upstream);
            }
            self.dropped(&upstream, counter);
            last = Some(upstream);
        }
        old
    }

    /// A name that a client waited for is known, or known not to be.
    pub fn resolved(&mut self, outcome: Outcome<Key>) {
        let Some(client) = self.clients.get_mut(outcome.who) else {
            return;
        };
        if let State::Resolving(exchange) = &mut client.state {
            exchange.resolved = Some(outcome.found);
            self.client(outcome.who, Event::Ready);
        }
    }

    /// New requests are served by this configuration.
    pub fn set_conf(&mut self, conf: Rc<Conf>) {
        self.shared.names.renew();
        self.shared.set_conf(conf);
    }

    /// The clients of a listening socket that is gone end with the request that they have.
    pub fn close_listener(&mut self, listener: u32) {
        self.quit_where(|client| client.listener == listener);
    }

    /// No further request is taken on any connection.
    pub fn quit(&mut self) {
        self.shared.quitting = true;
        self.quit_where(|_| true);
    }

    fn quit_where(&mut self, which: impl Fn(&Client<N::Stream>) -> bool) {
        let keys: Vec<Key> = self.clients.keys().collect();
        for key in keys {
            if self.clients.get(key).is_some_and(&which) {
                self.client(key, Event::Quit);
            }
        }
    }

    /// Closes every connection, whatever it is doing.
    pub fn close_all(&mut self) {
        let keys: Vec<Key> = self.clients.keys().collect();
        for key in keys {
            self.close_client(key);
        }
        let keys: Vec<Key> = self.peers.keys().collect();
        for key in keys {
            self.close_peer(key);
        }
    }

    /// Whether there is a connection that nobody needs just now.
    #[must_use]
    pub fn has_idle(&self) -> bool {
        matches!(self.idle_client(), Some((_, due_ms)) if due_ms <= self.shared.now_ms)
            || !self.shared.idle.is_empty()
    }

    /// When the client that is idle the longest may be closed, if that lies ahead.
    #[must_use]
    pub fn next_idle_ms(&self) -> Option<u64> {
        let (_, due_ms) = self.idle_client()?;
        (due_ms > self.shared.now_ms).then_some(due_ms)
    }

    /// The client that is idle the longest, and from when on it may be closed: one that has just come
    /// is about to ask.
    fn idle_client(&self) -> Option<(Key, u64)> {
        let oldest = self.shared.resting.oldest()?;
        let key = self.clients.key_of(oldest)?;
        let client = self.clients.get(key)?;
        let is_new = client.requests == 0;
        let due_ms = client.since_ms.saturating_add(FIRST_REQUEST_MS);
        Some((key, if is_new { due_ms } else { 0 }))
    }

    /// Closes a connection that nobody needs just now: the client's that is idle the longest, and
    /// without one a server's. False if there is none.
    pub fn close_an_idle_one(&mut self) -> bool {
        if let Some((key, due_ms)) = self.idle_client()
            && due_ms <= self.shared.now_ms
        {
            self.close_client(key);
            return true;
        }
        close_idle_peer(&mut self.peers, &mut self.shared, None)
    }

    fn client(&mut self, key: Key, event: Event) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let open = Session {
            key,
            client,
            counted: None,
            peers: &mut self.peers,
            shared: &mut self.shared,
        }
        .handle(event);
        if !open {
            self.close_client(key);
        }
        while self.shared.owed > 0 {
            self.shared.owed -= 1;
            self.close_an_idle_one();
        }
    }

    /// Closes a client's connection and ends what it was doing.
    fn close_client(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let state = std::mem::take(&mut client.state);
        let mut session = Session {
            key,
            client,
            counted: None,
            peers: &mut self.peers,
            shared: &mut self.shared,
        };
        session.end(state);
        self.shared.client_timers.remove(key.index);
        self.clients.remove(key);
    }

    fn close_peer_at(&mut self, index: u32) {
        if let Some(key) = self.peers.key_of(index) {
            self.close_peer(key);
        }
    }

    fn close_peer(&mut self, key: Key) {
        close_peer(&mut self.peers, &mut self.shared, key);
    }
}

fn close_peer<N: Network>(peers: &mut Slab<Peer<N::Stream>>, shared: &mut Shared<N>, key: Key) {
    if peers.remove(key).is_some() {
        shared.idle.remove(key.index);
        shared.peer_timers.remove(key.index);
    }
}

/// Closes the connection to a server that is idle the longest, of `upstream` if that has one; false
/// if none is idle.
fn close_idle_peer<N: Network>(
    peers: &mut Slab<Peer<N::Stream>>,
    shared: &mut Shared<N>,
    upstream: Option<usize>,
) -> bool {
    let own = upstream.and_then(|upstream| shared.idle.oldest(upstream));
    let Some(index) = own.or_else(|| shared.idle.oldest_of_most()) else {
        return false;
    };
    match peers.key_of(index) {
        Some(key) => close_peer(peers, shared, key),
        // Listed without being there: cannot be, and must not be found again.
        None => drop(shared.idle.remove(index)),
    }
    true
}
