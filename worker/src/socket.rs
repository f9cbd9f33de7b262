//! Sockets come from here: made, accepted and connected, none of which blocks.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType};
use weir_shm::fault::{self, Call};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A new socket.
///
/// # Errors
/// As `socket(2)`.
pub fn open(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, Errno> {
    check(Call::Socket)?;
    rustix::net::socket_with(family, kind, FLAGS, None)
}

/// The next who waits at a listening socket.
///
/// # Errors
/// As `accept4(2)`.
pub fn accept(listening: impl AsFd) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
    check(Call::Accept)?;
    rustix::net::acceptfrom_with(listening, FLAGS)
}

/// Begins to connect.
///
/// # Errors
/// As `connect(2)`, `EINPROGRESS` among them.
pub fn connect(socket: impl AsFd, address: &impl SocketAddrArg) -> Result<(), Errno> {
    check(Call::Connect)?;
    rustix::net::connect(socket, address)
}

#[inline(always)]
fn check(call: Call) -> Result<(), Errno> {
    fault::check(call).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Whether the system has no more descriptors or no memory for one: what is closed makes room.
#[must_use]
pub fn is_shortage(error: Errno) -> bool {
    matches!(
        error,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM
    )
}
