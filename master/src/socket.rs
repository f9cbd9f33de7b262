//! The sockets of the master and the syncer: made, connected and accepted here.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use weir_shm::fault::{self, Call};

/// A new socket.
///
/// # Errors
/// As `socket(2)`.
pub(crate) fn open(domain: Domain, kind: Type) -> io::Result<Socket> {
    fault::check(Call::Socket)?;
    Socket::new(domain, kind, None)
}

/// Connects within `limit`.
///
/// # Errors
/// As `connect(2)`, and `TimedOut`.
pub(crate) fn connect(socket: &Socket, address: &SockAddr, limit: Duration) -> io::Result<()> {
    fault::check(Call::Connect)?;
    socket.connect_timeout(address, limit)
}

/// The next who waits.
///
/// # Errors
/// As `accept4(2)`.
pub(crate) fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    fault::check(Call::Accept)?;
    listener.accept().map(|(stream, _)| stream)
}
