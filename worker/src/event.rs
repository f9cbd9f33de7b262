//! The event queue: each descriptor is registered once, for both directions, edge-triggered, and
//! leaves it by being closed. There is no system call a request here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry};

use crate::connection::Key;
use crate::transport::Readiness;

/// Events taken from the kernel in one turn, as nginx's `epoll_events`.
const EVENTS_A_TURN: usize = 512;

/// Whom an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A client's connection.
    Client(Key),
    /// A connection to an upstream server.
    Peer(Key),
    /// A listening socket, by its number.
    Listener(u32),
    /// A socket on which a name server answers.
    Resolver(Key),
    /// The eventfd that is written after a publish.
    Wake,
    /// The control channel.
    Channel,
    /// Signals.
    Signals,
}

const KIND_SHIFT: u32 = 60;

impl From<Token> for mio::Token {
    fn from(token: Token) -> Self {
        let (kind, value) = match token {
            Token::Client(key) => (0, key.to_bits()),
            Token::Peer(key) => (1, key.to_bits()),
            Token::Listener(number) => (2, u64::from(number)),
            Token::Wake => (3, 0),
            Token::Channel => (4, 0),
            Token::Signals => (5, 0),
            Token::Resolver(key) => (6, key.to_bits()),
        };
        Self((kind << KIND_SHIFT | value) as usize)
    }
}

impl From<mio::Token> for Token {
    fn from(token: mio::Token) -> Self {
        let bits = token.0 as u64;
        let value = bits & ((1 << KIND_SHIFT) - 1);
        match bits >> KIND_SHIFT {
            0 => Self::Client(Key::from_bits(value)),
            1 => Self::Peer(Key::from_bits(value)),
            2 => Self::Listener(value as u32),
            3 => Self::Wake,
            4 => Self::Channel,
            6 => Self::Resolver(Key::from_bits(value)),
            _ => Self::Signals,
        }
    }
}

/// The queue and the events of the current turn.
#[derive(Debug)]
pub struct Queue {
    poll: Poll,
    events: Events,
}

impl Queue {
    /// An empty queue.
    ///
    /// # Errors
    /// As `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_A_TURN),
        })
    }

    /// A handle by which descriptors are registered.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub fn watcher(&self) -> io::Result<Watcher> {
        Ok(Watcher(self.poll.registry().try_clone()?))
    }

    /// Waits for events, at most `timeout`; a signal ends the wait as an event would.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// The events of the last wait.
    pub fn events(&self) -> impl Iterator<Item = (Token, Readiness)> + '_ {
        self.events.iter().map(|event| {
            let readiness = Readiness {
                readable: event.is_readable(),
                writable: event.is_writable(),
                closed: event.is_read_closed() || event.is_error(),
            };
            (Token::from(event.token()), readiness)
        })
    }
}

/// Registers descriptors with a [`Queue`].
#[derive(Debug)]
pub struct Watcher(Registry);

impl Watcher {
    /// Watches both directions of a connection until it is closed.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn watch(&self, descriptor: RawFd, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.0
            .register(&mut SourceFd(&descriptor), token.into(), both)
    }

    /// Watches for something to read or accept.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn watch_readable(&self, descriptor: &impl AsFd, token: Token) -> io::Result<()> {
        let descriptor = descriptor.as_fd().as_raw_fd();
        self.0
            .register(&mut SourceFd(&descriptor), token.into(), Interest::READABLE)
    }

    /// Stops watching. Needed where another process holds the descriptor too: closing ours would
    /// leave it registered.
    pub fn forget(&self, descriptor: &impl AsFd) {
        let _ = self
            .0
            .deregister(&mut SourceFd(&descriptor.as_fd().as_raw_fd()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Slab;

    #[test]
    fn a_token_survives_the_way_through_the_kernel() {
        let mut slab = Slab::default();
        slab.insert(());
        let key = slab.insert(());
        slab.remove(key);
        let key = slab.insert(());
        for token in [
            Token::Client(key),
            Token::Peer(key),
            Token::Listener(7),
            Token::Resolver(key),
            Token::Wake,
            Token::Channel,
            Token::Signals,
        ] {
            assert_eq!(Token::from(mio::Token::from(token)), token);
        }
    }

    #[test]
    fn the_end_of_a_stream_is_told() {
        let mut queue = Queue::new().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let watcher = queue.watcher().unwrap();
        watcher.watch(ours.as_raw_fd(), Token::Listener(1)).unwrap();
        queue.wait(None).unwrap();
        let first: Vec<_> = queue.events().collect();
        assert_eq!(first.len(), 1);
        assert!(first[0].1.writable && !first[0].1.readable);
        drop(theirs);
        queue.wait(None).unwrap();
        let (token, readiness) = queue.events().next().unwrap();
        assert_eq!(token, Token::Listener(1));
        assert!(readiness.closed);
    }
}
