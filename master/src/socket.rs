//! The sockets of the master and the syncer: made, connected and accepted here.

use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
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

/// Whether somebody listens on the unix socket of this path.
///
/// # Errors
/// As `socket(2)`, and what `connect(2)` says other than that nobody does.
pub(crate) fn is_listened_on(path: &Path) -> io::Result<bool> {
    // Nonblocking: the queue of one that hangs may be full.
    let socket = open(Domain::UNIX, Type::STREAM.nonblocking().cloexec())?;
    let connect = || {
        fault::check(Call::Connect)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connect().map_err(|error| (error.kind(), error)) {
        Ok(()) | Err((ErrorKind::WouldBlock, _)) => Ok(true),
        Err((ErrorKind::ConnectionRefused | ErrorKind::NotFound, _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
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
