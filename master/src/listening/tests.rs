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

fn bound(configured: &[ListenSocket], sets: usize) -> Result<Listening, String> {
    let mut all = Listening::take(configured, sets, Vec::new(), Vec::new());
    all.complete(configured)?;
    Ok(all)
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
    let all = bound(&[listen(address.clone())], 3).unwrap();
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
    let first = bound(&[listen(address.clone())], 2).unwrap();
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
    let mut all = bound(&old, 2).unwrap();
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
    let mut all = bound(&[listen(one.clone())], 1).unwrap();
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
    let mut all = bound(&[listen(address.clone())], 4).unwrap();
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
    let error = bound(&both, 1).unwrap_err();
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

/// What a new binary gets of another's sockets.
fn handed(all: &Listening) -> Vec<(Address, Socket)> {
    let sets = all.sets.iter().chain([&all.shared]).flatten();
    sets.map(|(address, socket)| (address.clone(), socket.try_clone().unwrap()))
        .collect()
}

#[test]
fn inherited_sockets_are_shared_whatever_the_number_of_workers() {
    let address = free();
    let configured = [listen(address.clone())];
    for workers in [1, 3, 8] {
        let mut old = bound(&configured, 3).unwrap();
        old.listen().unwrap();
        let mut new = Listening::take(&configured, workers, handed(&old), Vec::new());
        assert!(new.missing(&configured).is_empty());
        new.complete(&configured).unwrap();
        assert_eq!(new.sets(), 3);
        new.listen().unwrap();
        let waiting: Vec<TcpStream> = (0..30).map(|_| connect(&address).unwrap()).collect();
        old.share();
        old.close();
        let mut served = 0;
        for socket in new.own_sockets() {
            while socket.accept().is_ok() {
                served += 1;
            }
        }
        assert_eq!(served, waiting.len());
    }
}

#[test]
fn every_set_has_a_worker_and_every_worker_a_set() {
    let address = free();
    let all = bound(&[listen(address)], 3).unwrap();
    for count in 1..=7 {
        let shares: Vec<Vec<usize>> = (0..count).map(|index| all.share_of(index, count)).collect();
        assert!(shares.iter().all(|share| !share.is_empty()), "{shares:?}");
        let mut served = shares.concat();
        served.sort_unstable();
        served.dedup();
        assert_eq!(served, [0, 1, 2], "{shares:?}");
    }
}

#[test]
fn files_of_inherited_unix_sockets_stay_until_the_other_master_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let [kept, dropped, added] =
        ["kept", "dropped", "added"].map(|name| Address::Unix(folder.path().join(name)));
    let there = |address: &Address| match address {
        Address::Unix(path) => path.exists(),
        Address::Ip(_) => false,
    };
    let before = [listen(kept.clone()), listen(dropped.clone())];
    let after = [listen(kept.clone()), listen(added.clone())];
    let mut old = bound(&before, 2).unwrap();
    old.listen().unwrap();
    let mut new = Listening::take(&after, 2, handed(&old), Vec::new());
    new.complete(&after).unwrap();
    new.listen().unwrap();
    assert!(there(&dropped) && there(&added));
    new.close();
    assert!(there(&kept) && there(&dropped) && !there(&added));

    let mut new = Listening::take(&after, 2, handed(&old), Vec::new());
    new.complete(&after).unwrap();
    new.listen().unwrap();
    old.share();
    old.close();
    assert!(there(&kept) && there(&dropped));
    remove_dead(&dropped);
    remove_dead(&kept);
    assert!(there(&kept) && !there(&dropped));
    new.own();
    new.close();
    assert!(!there(&kept) && !there(&added));
}

#[test]
fn an_address_beside_the_wildcard_of_another_master_is_not_in_use() {
    let Address::Ip(one) = free() else {
        panic!("a TCP address")
    };
    let wildcard = Address::Ip(([0, 0, 0, 0], one.port()).into());
    let old = bound(&[listen(wildcard)], 2).unwrap();
    old.listen().unwrap();
    let configured = [listen(Address::Ip(one))];
    let mut new = Listening::take(&configured, 2, handed(&old), Vec::new());
    let missing = new.missing(&configured);
    assert_eq!(missing.len(), 1);
    assert!(new.to_probe(&missing).is_empty());
    new.complete(&configured).unwrap();
    new.listen().unwrap();
}
