//! Binding an address, and finding out whether it is free.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use weir_shm::Address;

use crate::errno::describe;
use crate::settings::ListenSocket;
use crate::socket;

/// How often a start tries an address that is in use, as nginx.
const BIND_TRIES: u32 = 5;
/// The pause between two tries, as nginx.
const BIND_PAUSE: Duration = Duration::from_millis(500);
/// Every socket is nonblocking, and closed on exec.
const KIND: Type = Type::STREAM.nonblocking().cloexec();

/// Why an address cannot be bound.
#[derive(Debug)]
pub(super) struct BindError {
    kind: io::ErrorKind,
    pub(super) text: String,
}

/// Waits for addresses that are in use, for as long as nginx does; `report` gets nginx's line for
/// each failed try.
///
/// # Errors
/// nginx's `still could not bind()`, or what cannot be mended by another try.
pub(crate) fn wait_until_free(
    configured: &[ListenSocket],
    report: impl Fn(&str),
) -> Result<(), String> {
    let mut tries = 1;
    while let Err(error) = configured.iter().try_for_each(probe) {
        if error.kind != io::ErrorKind::AddrInUse {
            return Err(error.text);
        }
        report(&error.text);
        if tries == BIND_TRIES {
            return Err("still could not bind()".into());
        }
        tries += 1;
        std::thread::sleep(BIND_PAUSE);
    }
    Ok(())
}

/// Tries every address without keeping it, as `nginx -t` does: one that is in use is none of
/// a test's business.
///
/// # Errors
/// nginx's `bind() to ADDRESS failed (…)`.
pub(crate) fn test(configured: &[ListenSocket]) -> Result<(), String> {
    configured
        .iter()
        .try_for_each(|socket| match probe(socket) {
            Err(error) if error.kind != io::ErrorKind::AddrInUse => Err(error.text),
            _ => Ok(()),
        })
}

/// Whether a socket of ours makes `other` look in use: same port, and one is the other's wildcard.
pub(super) fn overlap(ours: &Address, other: &Address) -> bool {
    let (Address::Ip(ours), Address::Ip(other)) = (ours, other) else {
        return false;
    };
    ours.port() == other.port() && (ours.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Binds a TCP address for a moment without SO_REUSEPORT, which fails when another process has
/// it; with SO_REUSEPORT alone, that process and we would share its connections. A unix address is
/// only looked at.
pub(super) fn probe(socket: &ListenSocket) -> Result<(), BindError> {
    match &socket.address {
        Address::Ip(_) => bind(socket, false).map(drop),
        Address::Unix(path) if fs::symlink_metadata(path).is_err() || is_dead(path) => Ok(()),
        Address::Unix(_) => Err(BindError::new(
            &socket.address,
            &io::Error::from_raw_os_error(Errno::EADDRINUSE as i32),
        )),
    }
}

pub(super) fn bind(listen: &ListenSocket, reuse_port: bool) -> Result<Socket, BindError> {
    let result = match &listen.address {
        Address::Ip(address) => bind_tcp(*address, listen.ipv6only, reuse_port),
        Address::Unix(path) => bind_unix(path),
    };
    result.map_err(|error| BindError::new(&listen.address, &error))
}

impl BindError {
    pub(super) fn new(address: &Address, error: &io::Error) -> BindError {
        BindError {
            kind: error.kind(),
            text: format!("bind() to {address} failed {}", describe(error)),
        }
    }
}

fn bind_tcp(address: SocketAddr, ipv6only: bool, reuse_port: bool) -> io::Result<Socket> {
    let socket = socket::open(Domain::for_address(address), KIND)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(ipv6only)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    let socket = socket::open(Domain::UNIX, KIND)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        other => other?,
    }
    // As nginx: whoever may reach the folder may connect.
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o666)) {
        fs::remove_file(path)?;
        return Err(error);
    }
    Ok(socket)
}

/// Whether `path` is a socket that nobody listens on.
fn is_dead(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && matches!(socket::is_listened_on(path), Ok(false))
}

/// Removes the file of a unix socket that nobody listens on any more.
pub(crate) fn remove_dead(address: &Address) {
    if let Address::Unix(path) = address
        && is_dead(path)
    {
        remove_unix(address);
    }
}

pub(super) fn remove_unix(address: &Address) {
    if let Address::Unix(path) = address {
        // Whoever removed it before wanted the same.
        let _ = fs::remove_file(path);
    }
}
