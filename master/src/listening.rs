//! The listening sockets. The master owns every one for as long as its address is configured:
//! Linux resets what waits in the queue of a SO_REUSEPORT socket that is closed for good.
//!
//! A TCP address has one socket in each *set*, and a running worker serves one set or more; a unix
//! address has one socket that all workers share.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use weir_shm::Address;

use crate::errno::describe;
use crate::settings::ListenSocket;

/// How often a start tries an address that is in use, as nginx.
const BIND_TRIES: u32 = 5;
/// The pause between two tries, as nginx.
const BIND_PAUSE: Duration = Duration::from_millis(500);

/// One set of TCP sockets, or all unix sockets: an address and its socket.
pub(crate) type Set = Vec<(Address, Socket)>;

/// All listening sockets.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    configured: Vec<ListenSocket>,
    sets: Vec<Set>,
    shared: Set,
}

/// Sockets for addresses that a reload adds; bound, not listening yet.
#[derive(Debug, Default)]
pub(crate) struct Added {
    sets: Vec<Set>,
    shared: Set,
}

impl Listening {
    /// Binds every address in `sets` sets; none listens yet.
    ///
    /// # Errors
    /// nginx's `bind() to ADDRESS failed (…)`.
    pub(crate) fn bind(configured: &[ListenSocket], sets: usize) -> Result<Listening, String> {
        let mut all = Listening::default();
        all.sets.resize_with(sets, Vec::new);
        let added = all.add(configured).map_err(|error| error.text)?;
        all.commit(configured, added);
        Ok(all)
    }

    /// Binds the addresses of `next` that are not configured yet.
    ///
    /// # Errors
    /// nginx's `bind() to ADDRESS failed (…)`.
    pub(crate) fn prepare(&self, next: &[ListenSocket]) -> Result<Added, String> {
        let new: Vec<ListenSocket> = next
            .iter()
            .filter(|socket| !self.has(&socket.address))
            .cloned()
            .collect();
        new.iter()
            // An address beside a wildcard of ours, or the wildcard beside it, only looks in use.
            .filter(|socket| !self.configured.iter().any(|ours| overlap(ours, socket)))
            .try_for_each(probe)
            .and_then(|()| self.add(&new))
            .map_err(|error| error.text)
    }

    fn add(&self, new: &[ListenSocket]) -> Result<Added, BindError> {
        let (unix, tcp): (Vec<_>, Vec<_>) = new
            .iter()
            .partition(|socket| matches!(socket.address, Address::Unix(_)));
        let bind_one = |socket: &ListenSocket| Ok((socket.address.clone(), bind(socket, true)?));
        let bind_tcp = |_| tcp.iter().copied().map(bind_one).collect();
        let mut added = Added {
            sets: (0..self.sets.len())
                .map(bind_tcp)
                .collect::<Result<_, _>>()?,
            shared: Vec::new(),
        };
        for socket in unix {
            match bind_one(socket) {
                Ok(bound) => added.shared.push(bound),
                Err(error) => {
                    added.abandon();
                    return Err(error);
                }
            }
        }
        Ok(added)
    }

    /// Takes the sockets of `added` in, and closes those whose address `next` has no more.
    pub(crate) fn commit(&mut self, next: &[ListenSocket], added: Added) {
        for (set, new) in self.sets.iter_mut().zip(added.sets) {
            set.extend(new);
        }
        self.shared.extend(added.shared);
        self.configured = next.to_vec();
        let configured = &self.configured;
        let stays = |address: &Address| configured.iter().any(|socket| socket.address == *address);
        for set in &mut self.sets {
            set.retain(|(address, _)| stays(address));
        }
        for (address, _) in self.shared.extract_if(.., |(address, _)| !stays(address)) {
            remove_unix(&address);
        }
    }

    /// Lets every socket listen, those that do so already with the backlog of now.
    ///
    /// # Errors
    /// nginx's `listen() to ADDRESS, backlog N failed (…)`.
    pub(crate) fn listen(&self) -> Result<(), String> {
        self.sets
            .iter()
            .chain([&self.shared])
            .try_for_each(|set| self.listen_on(set, &self.configured))
    }

    /// Lets sockets listen that are not in force yet.
    ///
    /// # Errors
    /// As [`Listening::listen`].
    pub(crate) fn listen_added(&self, added: &Added, next: &[ListenSocket]) -> Result<(), String> {
        added
            .sets
            .iter()
            .chain([&added.shared])
            .try_for_each(|set| self.listen_on(set, next))
    }

    fn listen_on(&self, set: &Set, configured: &[ListenSocket]) -> Result<(), String> {
        set.iter().try_for_each(|(address, socket)| {
            let backlog = configured
                .iter()
                .find(|socket| socket.address == *address)
                .map_or(DEFAULT_BACKLOG, |socket| socket.backlog);
            socket.listen(backlog).map_err(|error| {
                let error = describe(&error);
                format!("listen() to {address}, backlog {backlog} failed {error}")
            })
        })
    }

    /// How many sets there are.
    pub(crate) fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Makes one more set, listening.
    ///
    /// # Errors
    /// As binding and listening.
    pub(crate) fn grow(&mut self) -> Result<usize, String> {
        let tcp = self
            .configured
            .iter()
            .filter(|socket| matches!(socket.address, Address::Ip(_)));
        let set: Set = tcp
            .map(|socket| Ok((socket.address.clone(), bind(socket, true)?)))
            .collect::<Result<_, BindError>>()
            .map_err(|error| error.text)?;
        self.listen_on(&set, &self.configured)?;
        self.sets.push(set);
        Ok(self.sets.len() - 1)
    }

    /// The sockets of one set.
    pub(crate) fn set(&self, index: usize) -> &Set {
        &self.sets[index]
    }

    /// Descriptors of their own for a worker that serves `sets`.
    ///
    /// # Errors
    /// As `dup`.
    pub(crate) fn duplicate(&self, sets: &[usize]) -> io::Result<Vec<(Address, OwnedFd)>> {
        sets.iter()
            .flat_map(|&index| &self.sets[index])
            .chain(&self.shared)
            .map(|(address, socket)| Ok((address.clone(), socket.as_fd().try_clone_to_owned()?)))
            .collect()
    }

    /// Closes everything, and removes the files of unix sockets.
    pub(crate) fn close(&mut self) {
        for (address, _) in &self.shared {
            remove_unix(address);
        }
        *self = Listening::default();
    }

    fn has(&self, address: &Address) -> bool {
        self.configured
            .iter()
            .any(|socket| socket.address == *address)
    }
}

impl Added {
    /// What a worker that serves `sets` has to be given.
    pub(crate) fn of_sets(&self, sets: &[usize]) -> Vec<&(Address, Socket)> {
        let sets = sets.iter().filter_map(|&index| self.sets.get(index));
        sets.flatten().chain(&self.shared).collect()
    }

    /// Undoes what binding left in the file system.
    pub(crate) fn abandon(self) {
        for (address, _) in &self.shared {
            remove_unix(address);
        }
    }
}

/// nginx's NGX_LISTEN_BACKLOG on Linux.
const DEFAULT_BACKLOG: i32 = 511;

#[derive(Debug)]
struct BindError {
    kind: io::ErrorKind,
    text: String,
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
fn overlap(ours: &ListenSocket, other: &ListenSocket) -> bool {
    let (Address::Ip(ours), Address::Ip(other)) = (&ours.address, &other.address) else {
        return false;
    };
    ours.port() == other.port() && (ours.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Binds a TCP address for a moment without SO_REUSEPORT, which fails when another process has
/// it; with SO_REUSEPORT alone, that process and we would share its connections. A unix address is
/// only looked at.
fn probe(socket: &ListenSocket) -> Result<(), BindError> {
    match &socket.address {
        Address::Ip(_) => bind(socket, false).map(drop),
        Address::Unix(path) if fs::symlink_metadata(path).is_err() || is_dead(path) => Ok(()),
        Address::Unix(_) => Err(BindError::new(
            &socket.address,
            &io::Error::from_raw_os_error(Errno::EADDRINUSE as i32),
        )),
    }
}

fn bind(listen: &ListenSocket, reuse_port: bool) -> Result<Socket, BindError> {
    let result = match &listen.address {
        Address::Ip(address) => bind_tcp(*address, listen.ipv6only, reuse_port),
        Address::Unix(path) => bind_unix(path),
    };
    result.map_err(|error| BindError::new(&listen.address, &error))
}

impl BindError {
    fn new(address: &Address, error: &io::Error) -> BindError {
        BindError {
            kind: error.kind(),
            text: format!("bind() to {address} failed {}", describe(error)),
        }
    }
}

fn bind_tcp(address: SocketAddr, ipv6only: bool, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        None,
    )?;
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
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
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
    // Nonblocking: the queue of one that hangs may be full.
    let connect = || {
        let kind = Type::STREAM.nonblocking().cloexec();
        Socket::new(Domain::UNIX, kind, None)?.connect(&SockAddr::unix(path)?)
    };
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn remove_unix(address: &Address) {
    if let Address::Unix(path) = address {
        // Whoever removed it before wanted the same.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Place;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn listen(address: Address) -> ListenSocket {
        ListenSocket {
            address,
            backlog: 16,
            ipv6only: true,
            place: Place::default(),
        }
    }

    fn free() -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Address::Ip(listener.local_addr().unwrap())
    }

    fn connect(address: &Address) -> io::Result<TcpStream> {
        let Address::Ip(address) = address else {
            panic!("a TCP address")
        };
        TcpStream::connect(address)
    }

    #[test]
    fn a_set_for_each_worker_and_none_listens_before_its_time() {
        let address = free();
        let all = Listening::bind(&[listen(address.clone())], 3).unwrap();
        assert_eq!(all.sets(), 3);
        assert!(connect(&address).is_err());
        all.listen().unwrap();
        let _held: Vec<TcpStream> = (0..30).map(|_| connect(&address).unwrap()).collect();
        let mut served = 0;
        for index in 0..3 {
            let (_, socket) = &all.set(index)[0];
            while socket.accept().is_ok() {
                served += 1;
            }
        }
        assert_eq!(served, 30);
    }

    #[test]
    fn an_address_in_use_is_tried_five_times() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Ip(other.local_addr().unwrap());
        let lines = std::cell::RefCell::new(Vec::new());
        let error = wait_until_free(&[listen(address.clone())], |line| {
            lines.borrow_mut().push(line.to_owned());
        });
        assert_eq!(error.unwrap_err(), "still could not bind()");
        let expected = format!("bind() to {address} failed (98: Address already in use)");
        assert_eq!(lines.into_inner(), vec![expected; 5]);
    }

    #[test]
    fn a_unix_address_is_waited_for_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        let address = Address::Unix(path.clone());
        let other = std::cell::RefCell::new(Some(UnixListener::bind(&path).unwrap()));
        // Whoever hangs with a full queue is there all the same.
        rustix::net::listen(other.borrow().as_ref().unwrap(), 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        wait_until_free(&[listen(address.clone())], |line| {
            let expected = format!("bind() to {address} failed (98: Address already in use)");
            assert_eq!(line, expected);
            other.borrow_mut().take();
        })
        .unwrap();
        assert!(other.into_inner().is_none(), "it was reported");
    }

    #[test]
    fn another_instance_is_not_shared_with() {
        let address = free();
        let first = Listening::bind(&[listen(address.clone())], 2).unwrap();
        first.listen().unwrap();
        // As a reload would find it: one try, and the error is final.
        let error = Listening::default().prepare(&[listen(address.clone())]);
        let expected = format!("bind() to {address} failed (98: Address already in use)");
        assert_eq!(error.unwrap_err(), expected);
    }

    #[test]
    fn what_cannot_be_bound_at_all_is_told_at_once() {
        let address = Address::Ip("192.0.2.1:80".parse().unwrap());
        let error = wait_until_free(&[listen(address)], |_| panic!("no second try"));
        let expected = "bind() to 192.0.2.1:80 failed (99: Cannot assign requested address)";
        assert_eq!(error.unwrap_err(), expected);
    }

    #[test]
    fn a_reload_adds_and_closes_and_keeps_what_waits() {
        let (stays, gone, comes) = (free(), free(), free());
        let old = [listen(stays.clone()), listen(gone.clone())];
        let next = [listen(stays.clone()), listen(comes.clone())];
        let mut all = Listening::bind(&old, 2).unwrap();
        all.listen().unwrap();
        let waiting = connect(&stays).unwrap();
        let added = all.prepare(&next).unwrap();
        assert_eq!(added.of_sets(&[0]).len(), 1);
        assert!(connect(&comes).is_err());
        all.listen_added(&added, &next).unwrap();
        all.commit(&next, added);
        all.listen().unwrap();
        connect(&comes).unwrap();
        assert!(connect(&gone).is_err());
        let accepted = (0..2).any(|set| {
            let (_, socket) = all
                .set(set)
                .iter()
                .find(|(address, _)| *address == stays)
                .unwrap();
            socket.accept().is_ok()
        });
        assert!(accepted);
        drop(waiting);
        assert_eq!(all.duplicate(&[0, 1]).unwrap().len(), 4);
        assert_eq!(all.grow().unwrap(), 2);
    }

    #[test]
    fn a_wildcard_comes_beside_an_address_of_ours() {
        let one = free();
        let Address::Ip(ip) = one else { panic!() };
        let all_addresses = Address::Ip(SocketAddr::from(([0, 0, 0, 0], ip.port())));
        let mut all = Listening::bind(&[listen(one.clone())], 1).unwrap();
        all.listen().unwrap();
        let next = [listen(one), listen(all_addresses)];
        let added = all.prepare(&next).unwrap();
        all.commit(&next, added);
        all.listen().unwrap();
        assert_eq!(all.set(0).len(), 2);
    }

    #[test]
    fn unix_sockets_are_shared_and_only_dead_ones_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let mut all = Listening::bind(&[listen(address.clone())], 4).unwrap();
        all.listen().unwrap();
        assert_eq!(all.shared.len(), 1);
        UnixStream::connect(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);

        let error = Listening::default()
            .prepare(&[listen(address)])
            .unwrap_err();
        assert!(
            error.ends_with("failed (98: Address already in use)"),
            "{error}"
        );
        all.close();
        assert!(!path.exists());

        let missing = listen(Address::Unix(folder.path().join("missing/weir.sock")));
        let both = [listen(Address::Unix(path.clone())), missing];
        let error = Listening::bind(&both, 1).unwrap_err();
        assert!(
            error.ends_with("failed (2: No such file or directory)"),
            "{error}"
        );
        assert!(!path.exists(), "what was bound before is taken away again");

        fs::write(&path, "no socket").unwrap();
        let error = Listening::default().prepare(&[listen(Address::Unix(path.clone()))]);
        assert!(error.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "no socket");
    }
}
