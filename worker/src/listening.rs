//! Listening sockets: accepting, and holding it back.

mod help;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use weir_shm::Address;

use crate::event::{Token, Watcher};
use crate::proxy::Accepted;
use crate::socket;
use crate::transport::Socket;

use help::Helping;

/// How long is waited for someone to come.
const NOT_AT_ALL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// What is wrong with one connection, and not with accepting.
const NETWORK: [Errno; 8] = [
    Errno::NETDOWN,
    Errno::NOPROTOOPT,
    Errno::HOSTDOWN,
    Errno::NONET,
    Errno::HOSTUNREACH,
    Errno::OPNOTSUPP,
    Errno::NETUNREACH,
    Errno::PERM,
];

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
    helping: Option<Helping>,
}

/// What came of accepting.
#[derive(Debug)]
pub(crate) enum Accept {
    /// A client.
    Client(Socket, Accepted),
    /// Nobody waits.
    Empty,
    /// Someone was waiting whose connection has broken meanwhile.
    Lost(Errno),
    /// The system cannot give a connection just now.
    Short(Errno),
}

impl Listeners {
    /// Begins to accept from a socket, which is watched if `is_open`; its number.
    ///
    /// # Errors
    /// As `ioctl(2)` and `epoll_ctl(2)`.
    pub fn add(
        &mut self,
        address: Address,
        socket: OwnedFd,
        nodelay: bool,
        is_open: bool,
        watcher: &Watcher,
    ) -> io::Result<u32> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        if matches!(address, Address::Ip(_)) {
            // Inherited by every connection, which saves a system call on each.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, nodelay);
        }
        let free = self.sockets.iter().position(Option::is_none);
        let number = free.unwrap_or(self.sockets.len());
        if is_open {
            watcher.watch_readable(&socket, Token::Listener(number as u32))?;
        }
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

    /// Whether someone may be waiting at any of them.
    pub fn is_any_ready(&self) -> bool {
        self.sockets.iter().flatten().any(|one| one.ready)
    }

    /// Nothing is told of any socket from now on.
    pub fn unwatch(&self, watcher: &Watcher) {
        for listening in self.sockets.iter().flatten() {
            watcher.forget(&listening.socket);
        }
    }

    /// The opposite; someone may have come meanwhile.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`; some may be watched then.
    pub fn watch(&mut self, watcher: &Watcher) -> io::Result<()> {
        for (number, listening) in self.sockets.iter_mut().enumerate() {
            if let Some(listening) = listening {
                watcher.watch_readable(&listening.socket, Token::Listener(number as u32))?;
                listening.ready = true;
            }
        }
        Ok(())
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

    /// Asks whether someone is waiting at a socket, which accepting would tell too late.
    pub fn is_waited_at(&mut self, number: u32) -> bool {
        let Some(Some(listening)) = self.sockets.get_mut(number as usize) else {
            return false;
        };
        let mut asked = [PollFd::new(&listening.socket, PollFlags::IN)];
        // What goes wrong here goes wrong when accepting, too.
        listening.ready = poll(&mut asked, Some(&NOT_AT_ALL)).map_or(true, |count| count > 0);
        listening.ready
    }

    /// Accepts one client.
    pub fn accept(&mut self, number: u32, local: impl Fn(&Socket) -> Option<SocketAddr>) -> Accept {
        let Some(Some(listening)) = self.sockets.get_mut(number as usize) else {
            return Accept::Empty;
        };
        let accept = listening.accept(&listening.socket, number, local);
        listening.ready &= !matches!(accept, Accept::Empty);
        accept
    }

    /// Stops listening at one socket.
    pub fn remove(&mut self, number: u32, watcher: &Watcher) {
        if let Some(Some(listening)) = self.sockets.get_mut(number as usize).map(Option::take) {
            watcher.forget(&listening.socket);
        }
    }
}

impl Listening {
    /// Accepts one client from `socket`, which listens at this one's address.
    fn accept(
        &self,
        socket: &OwnedFd,
        number: u32,
        local: impl Fn(&Socket) -> Option<SocketAddr>,
    ) -> Accept {
        loop {
            match socket::accept(socket) {
                Ok((socket, from)) => {
                    let socket = Socket::new(socket);
                    let accepted = Accepted {
                        address: from.and_then(|from| SocketAddr::try_from(from).ok()),
                        local: match &self.address {
                            Address::Ip(ip) => Some(local(&socket).unwrap_or(*ip)),
                            Address::Unix(_) => None,
                        },
                        listener: number,
                        nodelay: self.nodelay,
                    };
                    return Accept::Client(socket, accepted);
                }
                Err(Errno::AGAIN) => return Accept::Empty,
                // A client that left while it was waiting.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                // accept(2) passes on what has happened to the connection in the network.
                Err(error) if NETWORK.contains(&error) => return Accept::Lost(error),
                Err(error) => return Accept::Short(error),
            }
        }
    }
}
