//! Listening sockets that a service manager has opened and passed in: systemd's protocol,
//! `sd_listen_fds(3)`.
//!
//! The manager keeps such a socket while weir is restarted, and clients wait in its queue. So it is
//! shared by all workers, as a unix socket is: one beside it with a queue of its own, which
//! SO_REUSEPORT would allow, would be closed at the end of weir with all that waits in it.

use std::os::fd::RawFd;

use socket2::{Domain, Socket, Type};
use weir_shm::Address;

use super::Set;
use crate::process::{self, take_variable};
use crate::settings::ListenSocket;

/// Which process the sockets are for.
const PID: &str = "LISTEN_PID";
/// How many there are.
const COUNT: &str = "LISTEN_FDS";
/// What the manager calls them, with `:` between two.
const NAMES: &str = "LISTEN_FDNAMES";
/// The number of the first.
const FIRST: RawFd = 3;
/// More are not looked at.
const COUNT_MAX: usize = 1024;

/// A descriptor of the manager's.
#[derive(Debug)]
pub(crate) struct Passed {
    number: RawFd,
    name: String,
    /// What it is, unless it is none to accept connections from.
    socket: Option<(Address, Socket)>,
}

/// Takes over what was passed to this process, and the variables that say so. To be called before
/// anything is opened and kept, and before a daemon detaches.
pub(crate) fn claim() -> Vec<Passed> {
    let [pid, count, names] = [PID, COUNT, NAMES].map(take_variable);
    let text = |value: Option<std::ffi::OsString>| value.and_then(|value| value.into_string().ok());
    let number = |value| text(value).and_then(|text| text.parse::<usize>().ok());
    if number(pid) != Some(std::process::id() as usize) {
        return Vec::new();
    }
    let names = text(names).unwrap_or_default();
    let mut names = names.split(':');
    (FIRST..)
        .take(number(count).unwrap_or(0).min(COUNT_MAX))
        .map(|number| Passed {
            number,
            name: names.next().unwrap_or_default().to_owned(),
            socket: socket(number),
        })
        .collect()
}

/// The sockets for addresses of `configured`; the others are closed, and `warn` is told.
pub(crate) fn for_addresses(
    passed: Vec<Passed>,
    configured: &[ListenSocket],
    warn: impl Fn(&str),
) -> Set {
    let mut used = Vec::new();
    for Passed {
        number,
        name,
        socket,
    } in passed
    {
        let about = format!("descriptor {number} (\"{name}\") of the service manager");
        let Some((address, socket)) = socket else {
            warn(&format!("{about} is no listening stream socket, closed"));
            continue;
        };
        let mut all = configured.iter();
        let Some(listen) = all.find(|listen| listen.address == address) else {
            warn(&format!(
                "{about} listens on {address}, which no \"listen\" names, closed"
            ));
            continue;
        };
        if is_wider(&socket, listen) {
            warn(&format!(
                "{about} listens on {address} for IPv4 too, which \"ipv6only\" cannot change"
            ));
        }
        used.push((address, socket));
    }
    used
}

/// Whether it takes what a `listen` of IPv6 alone does not.
fn is_wider(socket: &Socket, listen: &ListenSocket) -> bool {
    let is_wildcard =
        matches!(&listen.address, Address::Ip(at) if at.is_ipv6() && at.ip().is_unspecified());
    is_wildcard && listen.ipv6only && socket.only_v6().is_ok_and(|only| !only)
}

fn socket(number: RawFd) -> Option<(Address, Socket)> {
    let socket = Socket::from(process::own_inherited(number).ok()?);
    let is_fit = socket.is_listener().ok()? && socket.r#type().ok()? == Type::STREAM;
    let domain = socket.domain().ok()?;
    let is_known = [Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&domain);
    let address = address_of(&socket)?;
    socket.set_nonblocking(true).ok()?;
    (is_fit && is_known).then_some((address, socket))
}

/// Where a socket listens, if weir can say so.
pub(crate) fn address_of(socket: &Socket) -> Option<Address> {
    let name = socket.local_addr().ok()?;
    match name.as_socket() {
        Some(address) => Some(Address::Ip(address)),
        None => name.as_pathname().map(|path| Address::Unix(path.into())),
    }
}
