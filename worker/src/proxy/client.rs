//! A client's connection and the states that it goes through.

use std::net::SocketAddr;

use super::exchange::Exchange;
use super::numbers::Phase;
use crate::transport::Readiness;

/// A client's connection.
#[derive(Debug)]
pub struct Client<S> {
    /// Its socket.
    pub stream: S,
    /// What the event loop told of it.
    pub ready: Readiness,
    /// Where it is in its life.
    pub state: State,
    /// `$connection`: the number in the logs.
    pub number: u64,
    /// Who it is; `None` came through a unix socket.
    pub address: Option<SocketAddr>,
    /// The address that it connected to; `None` is a unix socket.
    pub local: Option<SocketAddr>,
    /// The number of the listening socket that it came in by.
    pub listener: u32,
    /// It sends what is written at once (`tcp_nodelay`).
    pub nodelay: bool,
    /// `$connection_requests`.
    pub requests: u64,
    /// When it was accepted, in milliseconds.
    pub since_ms: u64,
    /// It has more to do and waits for the next turn of the loop.
    pub goes_on: bool,
    /// It closes when what is in flight has been answered: its listener is gone.
    pub closing: bool,
}

/// The coarse states of a client's connection. A transition takes the old state and gives the new
/// one, so that nothing of the old one is left behind.
#[derive(Debug, Default)]
pub enum State {
    /// No request is there: the connection is new, or kept alive. It holds no buffer.
    Idle,
    /// Kept alive within its `keepalive_min_timeout`: nobody closes it to make room or to end.
    Kept {
        /// For how long it is kept after that as any other, in milliseconds.
        then_ms: u64,
    },
    /// A request's head is arriving.
    Reading(Box<Exchange>),
    /// A request's body is read before a server is asked.
    Receiving(Box<Exchange>),
    /// The name of the upstream server is being resolved.
    Resolving(Box<Exchange>),
    /// An upstream server has the request.
    Proxying(Box<Exchange>),
    /// An answer of our own is on its way; the rest of the request's body is read and dropped.
    Answering(Box<Exchange>),
    /// Answered, our direction ended: what the client still sends is read and dropped, because a
    /// close with bytes unread would reset the connection and take the answer with it.
    Lingering(Lingering),
    /// Nothing is left to do.
    #[default]
    Closed,
}

/// For how long a client may go on sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lingering {
    /// When reading stops whatever comes, in milliseconds (`lingering_time`).
    pub until_ms: u64,
    /// Something has to come within so many milliseconds (`lingering_timeout`).
    pub timeout_ms: u64,
}

impl State {
    /// What `stub_status` counts it as.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        match self {
            State::Idle => Some(Phase::Waiting),
            State::Kept { .. } => Some(Phase::Kept),
            State::Reading(_) => Some(Phase::Reading),
            State::Receiving(_)
            | State::Resolving(_)
            | State::Proxying(_)
            | State::Answering(_)
            | State::Lingering(_) => Some(Phase::Writing),
            State::Closed => None,
        }
    }

    /// Its name, for tests and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Kept { .. } => "kept",
            State::Reading(_) => "reading",
            State::Receiving(_) => "receiving",
            State::Resolving(_) => "resolving",
            State::Proxying(_) => "proxying",
            State::Answering(_) => "answering",
            State::Lingering(_) => "lingering",
            State::Closed => "closed",
        }
    }
}

/// What can happen to a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The readiness of one of its two connections has changed.
    Ready,
    /// The client's deadline has passed.
    ClientTimeout,
    /// The deadline of the upstream connection has passed.
    PeerTimeout,
    /// The server was removed, and `upsync_drain_timeout` has passed.
    Drained,
    /// The worker ends gracefully, or the listener is gone: no further request is taken.
    Quit,
}

/// What a state leads to.
#[derive(Debug)]
pub(super) enum Next {
    /// Go on with this state at once.
    Go(State),
    /// Nothing more can be done before an event.
    Wait(State),
    /// Close the connection.
    Close,
}
