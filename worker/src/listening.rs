//! Listening sockets: accepting, and holding it back.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use weir_shm::Address;

use crate::event::{Token, Watcher};
use crate::proxy::Accepted;
use crate::transport::Socket;

/// Connections accepted from one socket in one turn of the loop without `multi_accept`.
pub(crate) const ACCEPTS_A_TURN: usize = 8;
/// With it: all that wait, but one socket must not keep the others waiting for ever.
pub(crate) const MULTI_ACCEPTS_A_TURN: usize = 512;
/// How long accepting pauses when the system is short of descriptors or memory, in milliseconds,
/// as nginx's `accept_mutex_delay`.
pub(crate) const PAUSE_MS: u64 = 500;

#[derive(Debug)]
struct Listening {
    address: Address,
    socket: OwnedFd,
    /// Someone may be waiting.
    ready: bool,
    /// Its connections send what is written at once.
    nodelay: bool,
}

/// The worker's listening sockets by number.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    sockets: Vec<Option<Listening>>,
    /// No accepting before this time, in milliseconds.
    paused_until_ms: u64,
}

/// What came of accepting.
#[derive(Debug)]
pub(crate) enum Accept {
    /// A client.
    Client(Socket, Accepted),
    /// Nobody waits.
    Empty,
    /// The system cannot give a connection just now; accepting pauses.
    Short(Errno),
}

impl Listeners {
    /// Begins to accept from a socket; its number.
    ///
    /// # Errors
    /// As `ioctl(2)` and `epoll_ctl(2)`.
    pub fn add(
        &mut self,
        address: Address,
        socket: OwnedFd,
        nodelay: bool,
        watcher: &Watcher,
    ) -> io::Result<u32> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        if matches!(address, Address::Ip(_)) {
            // Inherited by every connection, which saves a system call on each.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, nodelay);
        }
        let free = self.sockets.iter().position(Option::is_none);
        let number = free.unwrap_or(self.sockets.len());
        watcher.watch_readable(&socket, Token::Listener(number as u32))?;
        let listening = Some(Listening {
            address,
            socket,
            ready: true,
            nodelay,
        });
        match free {
            Some(_) => self.sockets[number] = listening,
            None => self.sockets.push(listening),
        }
        Ok(number as u32)
    }

    /// The sockets' addresses by number.
    pub fn addresses(&self) -> Vec<Option<Address>> {
        let address = |socket: &Option<Listening>| Some(socket.as_ref()?.address.clone());
        self.sockets.iter().map(address).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    /// Someone is waiting at a socket.
    pub fn ready(&mut self, number: u32) {
        if let Some(Some(listening)) = self.sockets.get_mut(number as usize) {
            listening.ready = true;
        }
    }

    /// Whether someone may be waiting, and may be let in.
    pub fn wants_turn(&self, now_ms: u64) -> bool {
        now_ms >= self.paused_until_ms && self.sockets.iter().flatten().any(|one| one.ready)
    }

    /// When a pause ends, in milliseconds.
    pub fn pause_end_ms(&self, now_ms: u64) -> Option<u64> {
        (self.paused_until_ms > now_ms).then_some(self.paused_until_ms)
    }

    /// Nobody is let in until then.
    pub fn pause(&mut self, now_ms: u64) {
        self.paused_until_ms = now_ms + PAUSE_MS;
    }

    /// One past the highest number of a socket.
    pub fn numbers(&self) -> u32 {
        self.sockets.len() as u32
    }

    /// Whether someone may be waiting at this socket.
    pub fn is_ready(&self, number: u32) -> bool {
        let socket = self.sockets.get(number as usize);
        matches!(socket, Some(Some(listening)) if listening.ready)
    }

    /// Accepts one client.
    pub fn accept(&mut self, number: u32, local: impl Fn(&Socket) -> Option<SocketAddr>) -> Accept {
        let Some(Some(listening)) = self.sockets.get_mut(number as usize) else {
            return Accept::Empty;
        };
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(&listening.socket, flags) {
                Ok((socket, from)) => {
                    let socket = Socket::new(socket);
                    let accepted = Accepted {
                        address: from.and_then(|from| SocketAddr::try_from(from).ok()),
                        local: match &listening.address {
                            Address::Ip(ip) => Some(local(&socket).unwrap_or(*ip)),
                            Address::Unix(_) => None,
                        },
                        listener: number,
                        nodelay: listening.nodelay,
                    };
                    return Accept::Client(socket, accepted);
                }
                Err(Errno::AGAIN) => {
                    listening.ready = false;
                    return Accept::Empty;
                }
                // A client that left while it was waiting.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(error) => return Accept::Short(error),
            }
        }
    }

    /// Stops listening at one socket.
    pub fn remove(&mut self, number: u32, watcher: &Watcher) {
        if let Some(Some(listening)) = self.sockets.get_mut(number as usize).map(Option::take) {
            watcher.forget(&listening.socket);
        }
    }
}
