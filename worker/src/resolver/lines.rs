//! The sockets of DNS clients. A question goes out on a socket of its own, connected to its server:
//! the kernel gives it a port that is hard to guess, and lets no one else answer.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};
use weir_shm::Address;

use super::{Clients, Order, Protocol};
use crate::connection::{Key, Slab};
use crate::event::{Token, Watcher};
use crate::log::ErrorLog;
use crate::settings::Level;
use crate::socket;
use crate::transport::{Socket, Transport};

/// Sockets that wait for the answers of one lookup at most: the server of an earlier question may
/// still answer. The oldest makes room.
const LINES_A_LOOKUP: usize = 4;
/// The largest datagram that is read (nginx's `NGX_RESOLVER_UDP_SIZE`), and bytes that are read from
/// a connection at once.
const DATAGRAM: usize = 4096;
/// Messages of one socket in one turn of the loop: what sends more is not answering questions.
const MESSAGES_A_TURN: usize = 64;
/// A connection's messages have their length in so many bytes before them (RFC 1035, section 4.2.2).
const LENGTH: usize = 2;

/// A socket to a name server.
#[derive(Debug)]
pub struct Line {
    /// The client's place.
    client: usize,
    lookup: Key,
    /// The server's place in the client's settings, and its address.
    server: usize,
    address: SocketAddr,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Udp(OwnedFd),
    Tcp {
        socket: Socket,
        /// What is still to be sent.
        output: Vec<u8>,
        /// What has come of the next message.
        input: Vec<u8>,
    },
}

/// Why a socket is of no more use.
struct Broken {
    call: &'static str,
    error: io::Error,
}

fn broken(call: &'static str) -> impl Fn(io::Error) -> Broken {
    move |error| Broken { call, error }
}

/// The sockets of all clients.
#[derive(Debug, Default)]
pub struct Lines {
    lines: Slab<Line>,
    /// By client and lookup, the oldest first.
    of: HashMap<(usize, Key), Vec<Key>>,
}

impl Lines {
    /// Carries out what the clients have ordered, and logs what they found wrong.
    pub fn carry_out<W: Copy + PartialEq>(
        &mut self,
        clients: &mut Clients<W>,
        watcher: &Watcher,
        log: &ErrorLog,
    ) {
        for (at, client) in clients.each() {
            while let Some(fault) = client.next_fault() {
                log.log(Level::Error, format_args!("{fault}"));
            }
            // A server that cannot be asked leads to an order for the next.
            while let Some(order) = client.next_order() {
                let (lookup, server, over, messages) = match order {
                    Order::Close { lookup } => {
                        self.close(at, lookup);
                        continue;
                    }
                    Order::Ask {
                        lookup,
                        server,
                        over,
                        messages,
                    } => (lookup, server, over, messages),
                };
                let Some(&address) = client.settings().servers.get(server) else {
                    continue;
                };
                let opened = open(address, over, &messages);
                let opened =
                    opened.and_then(|way| self.add(watcher, (at, lookup), server, address, way));
                if let Err(broken) = opened {
                    tell(log, &broken, address);
                    client.lost(lookup, server);
                }
            }
        }
    }

    fn add(
        &mut self,
        watcher: &Watcher,
        (client, lookup): (usize, Key),
        server: usize,
        address: SocketAddr,
        way: Way,
    ) -> Result<(), Broken> {
        let descriptor = match &way {
            Way::Udp(socket) => socket.as_raw_fd(),
            Way::Tcp { socket, .. } => socket.as_raw_fd(),
        };
        let token = Token::Resolver(self.lines.next_key());
        watcher
            .watch(descriptor, token)
            .map_err(broken("epoll_ctl"))?;
        let key = self.lines.insert(Line {
            client,
            lookup,
            server,
            address,
            way,
        });
        let lines = self.of.entry((client, lookup)).or_default();
        lines.push(key);
        if lines.len() > LINES_A_LOOKUP {
            let oldest = lines.remove(0);
            self.lines.remove(oldest);
        }
        Ok(())
    }

    fn close(&mut self, client: usize, lookup: Key) {
        for key in self.of.remove(&(client, lookup)).unwrap_or_default() {
            self.lines.remove(key);
        }
    }

    /// Something happened on a socket: gives the client what has come.
    pub fn ready<W: Copy + PartialEq>(
        &mut self,
        key: Key,
        clients: &mut Clients<W>,
        now_ms: u64,
        log: &ErrorLog,
    ) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        let (at, lookup, server, address) = (line.client, line.lookup, line.server, line.address);
        let mut messages = 0;
        let mut give = |over, message: &[u8]| {
            messages += 1;
            clients.receive(at, lookup, over, message, now_ms);
            messages < MESSAGES_A_TURN
        };
        let moved = match &mut line.way {
            Way::Udp(socket) => receive(socket, |message| give(Protocol::Udp, message)),
            Way::Tcp {
                socket,
                output,
                input,
            } => send_on(socket, output)
                .and_then(|()| read_on(socket, input, |message| give(Protocol::Tcp, message))),
        };
        let Err(broken) = moved else {
            return;
        };
        tell(log, &broken, address);
        self.lines.remove(key);
        if let Some(lines) = self.of.get_mut(&(at, lookup)) {
            lines.retain(|other| *other != key);
        }
        if let Some(client) = clients.at(at) {
            client.lost(lookup, server);
        }
    }
}

fn tell(log: &ErrorLog, broken: &Broken, address: SocketAddr) {
    struct Why<'a>(&'a Broken);
    impl fmt::Display for Why<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Broken { call, error } = self.0;
            match error.kind() {
                io::ErrorKind::UnexpectedEof => write!(f, "name server closed connection"),
                io::ErrorKind::InvalidData => write!(f, "name server sent too many messages"),
                _ => write!(f, "{call}() failed ({})", crate::proxy::errno(error)),
            }
        }
    }
    log.log(
        Level::Error,
        format_args!("{} while resolving, resolver: {address}", Why(broken)),
    );
}

/// Sends the questions, or begins to.
fn open(address: SocketAddr, over: Protocol, messages: &[Vec<u8>]) -> Result<Way, Broken> {
    match over {
        Protocol::Udp => {
            let family = match address {
                SocketAddr::V4(_) => AddressFamily::INET,
                SocketAddr::V6(_) => AddressFamily::INET6,
            };
            let socket = socket::open(family, SocketType::DGRAM)
                .map_err(|error| broken("socket")(error.into()))?;
            socket::connect(&socket, &address).map_err(|error| broken("connect")(error.into()))?;
            for message in messages {
                rustix::net::send(&socket, message, SendFlags::NOSIGNAL)
                    .map_err(|error| broken("send")(error.into()))?;
            }
            Ok(Way::Udp(socket))
        }
        Protocol::Tcp => {
            let (socket, _) = Socket::connect(&Address::Ip(address)).map_err(broken("connect"))?;
            let mut output = Vec::new();
            for message in messages {
                let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
                output.extend_from_slice(&length.to_be_bytes());
                output.extend_from_slice(message);
            }
            Ok(Way::Tcp {
                socket,
                output,
                input: Vec::new(),
            })
        }
    }
}

/// Reads every datagram that is there, for as long as `give` takes more.
fn receive(socket: &OwnedFd, mut give: impl FnMut(&[u8]) -> bool) -> Result<(), Broken> {
    let mut datagram = [0; DATAGRAM];
    loop {
        match rustix::net::recv(socket, &mut datagram[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                if !give(&datagram[..length]) {
                    return Err(broken("recv")(io::ErrorKind::InvalidData.into()));
                }
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(broken("recv")(error.into())),
        }
    }
}

/// Sends on; a connection that is not there yet takes nothing.
fn send_on(socket: &mut Socket, output: &mut Vec<u8>) -> Result<(), Broken> {
    while !output.is_empty() {
        match socket.write(&[IoSlice::new(output)]) {
            Ok(count) => drop(output.drain(..count)),
            Err(error) if is_for_later(&error) => return Ok(()),
            Err(error) => return Err(broken("send")(error)),
        }
    }
    Ok(())
}

/// Reads what is there and gives each whole message, for as long as `give` takes more.
fn read_on(
    socket: &mut Socket,
    input: &mut Vec<u8>,
    mut give: impl FnMut(&[u8]) -> bool,
) -> Result<(), Broken> {
    let mut chunk = [0; DATAGRAM];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return Err(broken("recv")(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if is_for_later(&error) => return Ok(()),
            Err(error) => return Err(broken("recv")(error)),
        }
        while let Some((head, rest)) = input.split_first_chunk::<LENGTH>() {
            let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*head))) else {
                break;
            };
            let end = LENGTH + message.len();
            if !give(message) {
                return Err(broken("recv")(io::ErrorKind::InvalidData.into()));
            }
            input.drain(..end);
        }
    }
}

/// Nothing more can be moved now: the connection is not there yet, or has nothing, or is full.
fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected
    )
}
