//! The options of a listening socket, which the connections that it accepts inherit.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{getsockopt, setsockopt};
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use rustix::net::sockopt;
use socket2::Socket;

use crate::errno::describe;
use crate::settings::ListenSocket;

/// Seconds for which the kernel waits for a request before it hands a connection over all the
/// same, as nginx.
const DEFERRED_SECONDS: i32 = 1;

sockopt_impl!(
    /// Connections are accepted when something has come on them.
    DeferAccept,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    i32
);
sockopt_impl!(
    /// How many connections may wait that have sent something with their first packet.
    FastOpen,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    i32
);

/// Sets what is configured, and tells what could not be set.
pub(super) fn set(socket: &Socket, listen: &ListenSocket, ignored: &mut Vec<String>) {
    let mut tell = |option: &str, value: i64, result: io::Result<()>| {
        if let Err(error) = result {
            let (address, error) = (&listen.address, describe(&error));
            ignored.push(format!(
                "setsockopt({option}, {value}) {address} failed, ignored {error}"
            ));
        }
    };
    let fd = socket.as_fd();
    let options = &listen.options;
    if let Some(bytes) = options.rcvbuf {
        let result = sockopt::set_socket_recv_buffer_size(fd, bytes as usize);
        tell("SO_RCVBUF", bytes.into(), result.map_err(Into::into));
    }
    if let Some(bytes) = options.sndbuf {
        let result = sockopt::set_socket_send_buffer_size(fd, bytes as usize);
        tell("SO_SNDBUF", bytes.into(), result.map_err(Into::into));
    }
    if let Some(on) = options.keepalive {
        let result = sockopt::set_socket_keepalive(fd, on);
        tell("SO_KEEPALIVE", on.into(), result.map_err(Into::into));
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    if let Some(idle) = options.keepidle {
        let result = sockopt::set_tcp_keepidle(fd, seconds(idle));
        tell("TCP_KEEPIDLE", idle.into(), result.map_err(Into::into));
    }
    if let Some(interval) = options.keepintvl {
        let result = sockopt::set_tcp_keepintvl(fd, seconds(interval));
        tell("TCP_KEEPINTVL", interval.into(), result.map_err(Into::into));
    }
    if let Some(count) = options.keepcnt {
        let result = sockopt::set_tcp_keepcnt(fd, count);
        tell("TCP_KEEPCNT", count.into(), result.map_err(Into::into));
    }
    if let Some(queue) = options.fastopen {
        let result = setsockopt(socket, FastOpen, &queue);
        tell("TCP_FASTOPEN", queue.into(), result.map_err(Into::into));
    }
    let is_deferred = || getsockopt(socket, DeferAccept).is_ok_and(|seconds| seconds > 0);
    if options.deferred || is_deferred() {
        let seconds = if options.deferred {
            DEFERRED_SECONDS
        } else {
            0
        };
        let result = setsockopt(socket, DeferAccept, &seconds);
        tell(
            "TCP_DEFER_ACCEPT",
            seconds.into(),
            result.map_err(Into::into),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use weir_shm::Address;

    use super::*;
    use crate::settings::{Place, SocketOptions};

    fn listen(address: Address, options: SocketOptions) -> ListenSocket {
        ListenSocket {
            address,
            backlog: 16,
            ipv6only: true,
            options,
            place: Place::default(),
        }
    }

    #[test]
    fn what_is_set_can_be_read_back_and_set_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Ip(listener.local_addr().unwrap());
        let socket = Socket::from(listener);
        let apply = |options| {
            let mut ignored = Vec::new();
            set(&socket, &listen(address.clone(), options), &mut ignored);
            assert_eq!(ignored, Vec::<String>::new());
        };
        let read = || {
            (
                // The kernel doubles what it is told.
                socket.recv_buffer_size().unwrap() / 2,
                socket.send_buffer_size().unwrap() / 2,
                socket.keepalive().unwrap(),
                socket.tcp_keepalive_time().unwrap().as_secs(),
                socket.tcp_keepalive_interval().unwrap().as_secs(),
                socket.tcp_keepalive_retries().unwrap(),
                getsockopt(&socket, FastOpen).unwrap(),
                getsockopt(&socket, DeferAccept).unwrap() > 0,
            )
        };
        let first = SocketOptions {
            rcvbuf: Some(32_768),
            sndbuf: Some(65_536),
            keepalive: Some(true),
            keepidle: Some(70),
            keepintvl: Some(11),
            keepcnt: Some(5),
            fastopen: Some(7),
            deferred: true,
        };
        let before = read();
        assert!(!before.2 && !before.7);
        apply(SocketOptions::default());
        assert_eq!(read(), before, "nothing is set that was not asked for");
        apply(first);
        assert_eq!(read(), (32_768, 65_536, true, 70, 11, 5, 7, true));
        apply(SocketOptions {
            rcvbuf: Some(40_000),
            keepalive: Some(false),
            ..SocketOptions::default()
        });
        // As in nginx, what is not said any more stays, but for `deferred`.
        assert_eq!(read(), (40_000, 65_536, false, 70, 11, 5, 7, false));
    }

    #[test]
    fn what_a_socket_cannot_have_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let options = SocketOptions {
            keepalive: Some(true),
            keepidle: Some(70),
            deferred: true,
            ..SocketOptions::default()
        };
        let mut ignored = Vec::new();
        let listen = listen(Address::Unix(path.clone()), options);
        set(&Socket::from(listener), &listen, &mut ignored);
        let path = path.display();
        let not = "failed, ignored (95: Operation not supported)";
        assert_eq!(
            ignored,
            [
                format!("setsockopt(TCP_KEEPIDLE, 70) unix:{path} {not}"),
                format!("setsockopt(TCP_DEFER_ACCEPT, 1) unix:{path} {not}"),
            ]
        );
    }
}
