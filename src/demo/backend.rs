//! The sample backends: whatever is asked, they answer who they are.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::http::{self, Response};

/// Takes `preferred` on the loopback, or a free port when that is taken.
pub fn bind(preferred: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", preferred))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Starts one backend on a thread of its own.
pub fn start(preferred: u16) -> io::Result<SocketAddr> {
    let (listener, address) = bind(preferred)?;
    http::serve(listener, move |request| {
        Response::text(
            200,
            format!("backend {address}: {} {}\n", request.method, request.path),
        )
    });
    Ok(address)
}
