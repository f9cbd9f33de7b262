//! Sockets that are bound, listen, stay and go.

use super::*;
use crate::settings::{Place, SocketOptions};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

fn listen(address: Address) -> ListenSocket {
    ListenSocket {
        address,
        backlog: 16,
        ipv6only: true,
        options: SocketOptions::default(),
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
    let all = Listening::bind(&[listen(address.clone())], 3, Vec::new()).unwrap();
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
    let first = Listening::bind(&[listen(address.clone())], 2, Vec::new()).unwrap();
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
    let mut all = Listening::bind(&old, 2, Vec::new()).unwrap();
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
    let mut all = Listening::bind(&[listen(one.clone())], 1, Vec::new()).unwrap();
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
    let mut all = Listening::bind(&[listen(address.clone())], 4, Vec::new()).unwrap();
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
    let error = Listening::bind(&both, 1, Vec::new()).unwrap_err();
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
