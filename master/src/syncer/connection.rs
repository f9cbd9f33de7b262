//! A connection to a source: TCP or a unix socket, plain or with TLS. Everything that blocks has a
//! deadline and ends when the watch is stopped.

use std::io::{self, Read as _, Write as _};
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, SockAddr, Socket, Type};

use super::client::{Fault, is_timeout};
use super::stop::Stop;
use super::tls;
use crate::settings::{Endpoint, SourceAddress};
use crate::socket;

/// No system call waits for less, as 0 would be for ever.
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);

/// How TLS is spoken with an address.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificates, and whom to trust.
    pub config: Arc<rustls::ClientConfig>,
    /// Whose certificate is expected.
    pub name: ServerName<'static>,
    /// Which file says whom to trust, and where it stands, for errors.
    pub trusted: Arc<str>,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    socket: Arc<Socket>,
    tls: Option<Box<Session>>,
}

#[derive(Debug)]
struct Session {
    tls: ClientConnection,
    how: Tls,
}

impl Connection {
    /// Connects within `limit` for each address that the name has, and as much again for TLS.
    ///
    /// # Errors
    /// The name does not resolve, no address takes the connection, or TLS does not come about.
    pub fn open(
        address: &SourceAddress,
        limit: Duration,
        stop: &Stop,
        tls: Option<&Tls>,
    ) -> Result<Connection, Fault> {
        stop.forget();
        let socket = Arc::new(match &address.endpoint {
            Endpoint::Unix(path) => {
                let address = SockAddr::unix(path).map_err(Fault::Connect)?;
                connect(Domain::UNIX, &address, limit)?
            }
            Endpoint::Tcp { name, port } => tcp(name, *port, limit, stop)?,
        });
        let mut connection = Connection { socket, tls: None };
        if let Some(how) = tls {
            if !stop.watch(&connection.socket) {
                return Err(Fault::Stopped);
            }
            let agreed = connection.agree(how, Instant::now() + limit);
            if agreed.is_err() {
                stop.forget();
            }
            agreed?;
        }
        Ok(connection)
    }

    /// What [`Stop`] shuts down.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    fn agree(&mut self, how: &Tls, until: Instant) -> Result<(), Fault> {
        let tls = ClientConnection::new(Arc::clone(&how.config), how.name.clone());
        let tls = tls.map_err(|error| Fault::Tls(tls::told(&error, how)))?;
        let how = how.clone();
        self.tls = Some(Box::new(Session { tls, how }));
        while self
            .tls
            .as_ref()
            .is_some_and(|session| session.tls.is_handshaking())
        {
            match self.turn(until) {
                Ok(true) => {}
                Ok(false) => {
                    return Err(Fault::Tls(
                        "upstream closed the connection in the SSL handshake".to_owned(),
                    ));
                }
                Err(error) if is_timeout(&error) => return Err(Fault::TimedOut("SSL handshaking")),
                Err(error) => return Err(self.broken(error, false)),
            }
        }
        Ok(())
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// The connection broke, or it took longer than `until`.
    pub fn send(&mut self, bytes: &[u8], until: Instant) -> Result<(), Fault> {
        let sent = match &mut self.tls {
            None => write_all(&self.socket, bytes, until),
            Some(session) => session
                .tls
                .writer()
                .write_all(bytes)
                .and_then(|()| flush(&mut session.tls, &self.socket, until)),
        };
        sent.map_err(|error| match is_timeout(&error) {
            true => Fault::TimedOut("sending the request"),
            false => Fault::Send(error),
        })
    }

    /// Reads what is there, at least a byte; 0 at the end.
    ///
    /// # Errors
    /// As `recv`; [`is_timeout`] when nothing has come by `until`.
    pub fn receive(&mut self, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
        loop {
            let Some(session) = &mut self.tls else {
                return read(&self.socket, buffer, until);
            };
            match session.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            // What came may be no data yet; the reader tells of an end.
            self.turn(until)?;
        }
    }

    /// Sends what TLS has to say, then reads once; whether the connection goes on.
    fn turn(&mut self, until: Instant) -> io::Result<bool> {
        let Some(session) = &mut self.tls else {
            return Ok(false);
        };
        flush(&mut session.tls, &self.socket, until)?;
        if !session.tls.wants_read() {
            return Ok(true);
        }
        let mut timed = Timed {
            socket: &self.socket,
            until,
        };
        let count = session.tls.read_tls(&mut timed)?;
        if let Err(error) = session.tls.process_new_packets() {
            // The other end is told why, if it still listens.
            let _ = flush(&mut session.tls, &self.socket, until);
            return Err(io::Error::other(error));
        }
        Ok(count > 0)
    }

    /// What it means that a read failed; `begun`: a byte of the answer had come.
    pub fn broken(&self, error: io::Error, begun: bool) -> Fault {
        let session = self.tls.as_ref();
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref());
        match (session, cause) {
            (Some(session), Some(cause)) => Fault::Tls(tls::told(cause, &session.how)),
            _ => Fault::Receive(error, begun),
        }
    }

    /// A connection on which the server said something, or that it closed, is not used again.
    pub fn is_idle(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&*self.socket, &mut [0u8; 1], flags);
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }
}

fn tcp(name: &str, port: u16, limit: Duration, stop: &Stop) -> Result<Socket, Fault> {
    let addresses = (name, port).to_socket_addrs().map_err(Fault::Resolve)?;
    let mut last = Fault::Resolve(io::ErrorKind::NotFound.into());
    for address in addresses {
        if stop.is_cut() {
            return Err(Fault::Stopped);
        }
        match connect(Domain::for_address(address), &address.into(), limit) {
            Ok(socket) => {
                // Without it a request could wait for the acknowledgement of the last.
                socket.set_tcp_nodelay(true).map_err(Fault::Connect)?;
                return Ok(socket);
            }
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

fn connect(domain: Domain, address: &SockAddr, limit: Duration) -> Result<Socket, Fault> {
    let socket = socket::open(domain, Type::STREAM).map_err(Fault::Connect)?;
    socket::connect(&socket, address, limit.max(LEAST_TIMEOUT)).map_err(Fault::Connect)?;
    Ok(socket)
}

/// What is left until then, an error if that is nothing.
fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left.max(LEAST_TIMEOUT)),
    }
}

fn read(mut socket: &Socket, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
    loop {
        socket.set_read_timeout(Some(left(until)?))?;
        match socket.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn write_all(mut socket: &Socket, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.set_write_timeout(Some(left(until)?))?;
        match socket.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn flush(tls: &mut ClientConnection, socket: &Socket, until: Instant) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut Timed { socket, until })?;
    }
    Ok(())
}

/// A socket on which nothing takes longer than `until`.
struct Timed<'s> {
    socket: &'s Socket,
    until: Instant,
}

impl io::Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read(self.socket, buffer, self.until)
    }
}

impl io::Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_all(self.socket, bytes, self.until)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
