//! What the proxy reads from and writes to: a byte stream that never blocks.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketType};
use weir_shm::Address;

use crate::buffer::Buffer;
use crate::socket;

/// A byte stream that never blocks: where it would, it answers [`io::ErrorKind::WouldBlock`].
pub trait Transport {
    /// Reads what is there; 0 is the end of the stream.
    ///
    /// # Errors
    /// As `recv(2)`.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes the parts in order, as far as there is room.
    ///
    /// # Errors
    /// As `writev(2)`; on a connection that is being made, why that failed.
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes `count` bytes of a file from `offset` on, as far as there is room.
    ///
    /// # Errors
    /// As `sendfile(2)`; `UnexpectedEof` where the file is shorter.
    fn send_file(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize>;

    /// Ends our direction of the stream.
    ///
    /// # Errors
    /// As `shutdown(2)`.
    fn shutdown(&mut self) -> io::Result<()>;

    /// Makes of the close that follows a reset: the other side learns that it does not have all.
    fn abort(&mut self);
}

/// What the event loop has told of a connection, until a read or write finds it used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read may find something.
    pub readable: bool,
    /// A write may find room.
    pub writable: bool,
    /// The other side has ended its direction, or the connection broke.
    pub closed: bool,
}

impl Readiness {
    /// A fresh connection: worth trying both.
    pub const FRESH: Self = Self {
        readable: true,
        writable: true,
        closed: false,
    };

    /// Adds what an event told.
    pub fn add(&mut self, event: Self) {
        self.readable |= event.readable | event.closed;
        self.writable |= event.writable;
        self.closed |= event.closed;
    }
}

/// How a connection to a server is made. One made in one way is not taken for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address that it comes from (`proxy_bind`), on which port 0 is any; `None` is as the
    /// system chooses. A unix socket has none.
    pub local: Option<SocketAddr>,
    /// `proxy_socket_keepalive`
    pub keepalive: bool,
}

/// Why no connection was begun.
#[derive(Debug)]
pub enum Unconnected {
    /// Its own address could not be taken.
    Bind(io::Error),
    /// Anything else.
    Connect(io::Error),
}

impl<E: Into<io::Error>> From<E> for Unconnected {
    fn from(error: E) -> Self {
        Self::Connect(error.into())
    }
}

/// A TCP or unix stream socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// A socket that was accepted; it must not block.
    #[must_use]
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// As [`Socket::connect_from`], in the plain way.
    ///
    /// # Errors
    /// As `socket(2)` and `connect(2)`.
    pub fn connect(address: &Address) -> io::Result<(Self, bool)> {
        Self::connect_from(address, &Origin::default()).map_err(|error| match error {
            Unconnected::Bind(error) | Unconnected::Connect(error) => error,
        })
    }

    /// Begins to connect; true if it is connected already, else the first write tells how that
    /// went.
    ///
    /// # Errors
    /// As `socket(2)`, `bind(2)` and `connect(2)`.
    pub fn connect_from(address: &Address, origin: &Origin) -> Result<(Self, bool), Unconnected> {
        let open = |family| socket::open(family, SocketType::STREAM);
        let (socket, begun) = match address {
            Address::Ip(ip) => {
                let family = match ip {
                    SocketAddr::V4(_) => AddressFamily::INET,
                    SocketAddr::V6(_) => AddressFamily::INET6,
                };
                let socket = open(family)?;
                if origin.keepalive {
                    rustix::net::sockopt::set_socket_keepalive(&socket, true)?;
                }
                if let Some(local) = origin.local {
                    bind(&socket, local)?;
                }
                let begun = socket::connect(&socket, ip);
                (socket, begun)
            }
            Address::Unix(path) => {
                let socket = open(AddressFamily::UNIX)?;
                let begun = socket::connect(&socket, &SocketAddrUnix::new(path)?);
                (socket, begun)
            }
        };
        match begun {
            Ok(()) => Ok((Self(socket), true)),
            Err(rustix::io::Errno::INPROGRESS) => Ok((Self(socket), false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Our end's address.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        let name = rustix::net::getsockname(&self.0).ok()?;
        SocketAddr::try_from(name).ok()
    }

    /// `tcp_nodelay`; a unix socket has no such option and needs none.
    pub fn set_nodelay(&self, on: bool) {
        let _ = rustix::net::sockopt::set_tcp_nodelay(&self.0, on);
    }
}

fn bind(socket: &OwnedFd, local: SocketAddr) -> Result<(), Unconnected> {
    if local.port() == 0 {
        // Only the whole connection has to be unlike others: a port can serve many servers.
        let _ = setsockopt(socket, IpBindAddressNoPort, &true);
    }
    rustix::net::bind(socket, &local).map_err(|error| Unconnected::Bind(error.into()))
}

impl Transport for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (read, _) = rustix::net::recv(&self.0, into, RecvFlags::empty())?;
        Ok(read)
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match parts {
            [one] => Ok(rustix::net::send(&self.0, one, SendFlags::NOSIGNAL)?),
            // The process ignores SIGPIPE: writev has no flag for it.
            _ => Ok(rustix::io::writev(&self.0, parts)?),
        }
    }

    fn send_file(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        let mut offset = offset;
        match rustix::fs::sendfile(&self.0, file, Some(&mut offset), count)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        }
    }

    fn shutdown(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    fn abort(&mut self) {
        // A unix socket knows no reset.
        let _ = rustix::net::sockopt::set_socket_linger(&self.0, Some(Duration::ZERO));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Some(usize),
    /// The stream ended.
    End,
    /// Nothing now.
    Blocked,
}

/// Reads once into the free room of a buffer, which must have some. A short read leaves nothing
/// behind it, which saves the second read that would only say so.
///
/// # Errors
/// As [`Transport::read`], save `WouldBlock`.
pub fn read<T: Transport>(
    input: &mut Buffer,
    from: &mut T,
    ready: &mut Readiness,
) -> io::Result<Read> {
    read_at_most(input, from, ready, usize::MAX)
}

/// As [`read`], but no more than `limit` bytes, of which there must be some.
///
/// # Errors
/// As [`read`].
pub fn read_at_most<T: Transport>(
    input: &mut Buffer,
    from: &mut T,
    ready: &mut Readiness,
    limit: usize,
) -> io::Result<Read> {
    loop {
        let space = input.space();
        let room = space.len().min(limit);
        let space = &mut space[..room];
        debug_assert!(room > 0, "a read needs room");
        match from.read(space) {
            Ok(0) => {
                ready.closed = true;
                ready.readable = false;
                return Ok(Read::End);
            }
            Ok(read) => {
                // The end of the stream comes with no further event once it was told.
                ready.readable = read == room || ready.closed;
                input.filled(read);
                return Ok(Read::Some(read));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.readable = false;
                return Ok(Read::Blocked);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                ready.closed = true;
                ready.readable = false;
                return Err(error);
            }
        }
    }
}

/// Whether there is more to be read; what it is does not matter.
pub fn has_more<T: Transport>(from: &mut T, ready: &mut Readiness) -> bool {
    let mut byte = [0];
    loop {
        match from.read(&mut byte) {
            Ok(0) => ready.closed = true,
            Ok(_) => return true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => ready.closed = true,
        }
        ready.readable = false;
        return false;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_is_made_as_its_origin_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Ip(listener.local_addr().unwrap());
        let kept = |origin: &Origin| {
            let (socket, _) = Socket::connect_from(&address, origin).unwrap();
            let keepalive = rustix::net::sockopt::socket_keepalive(&socket).unwrap();
            (socket.local().unwrap().ip().to_string(), keepalive)
        };
        assert_eq!(kept(&Origin::default()), ("127.0.0.1".into(), false));
        let origin = Origin {
            local: Some(([127, 0, 0, 9], 0).into()),
            keepalive: true,
        };
        assert_eq!(kept(&origin), ("127.0.0.9".into(), true));
        // Of a network that is for documentation.
        let foreign = Origin {
            local: Some(([192, 0, 2, 1], 0).into()),
            keepalive: false,
        };
        let failed = Socket::connect_from(&address, &foreign);
        assert!(matches!(failed, Err(Unconnected::Bind(_))));
    }
}
