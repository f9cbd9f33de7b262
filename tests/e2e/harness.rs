//! The tests' own tools bite.

use std::io::Write;
use std::time::Duration;

use crate::support::backend::{Backend, Then, ok};
use crate::support::client::{Client, Failure, get};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Ending, Fault, FaultProxy, Upto};
use crate::support::process::{Leash, Process, alive, guarded, send};
use crate::support::weir::Setup;
use crate::support::{PATIENCE, free_port, wait_until};

#[test]
fn a_process_dies_with_the_thread_that_started_it() {
    let pid = std::thread::spawn(|| {
        let process = Process::spawn(guarded("sleep").arg("600"));
        let pid = process.pid();
        wait_until(PATIENCE, "it is sleep", || {
            crate::support::process::title(pid).starts_with("sleep")
        });
        // No destructor runs, as when the tests are killed.
        std::mem::forget(process);
        pid
    })
    .join()
    .unwrap();
    wait_until(PATIENCE, "it is killed", || !alive(pid));
}

#[test]
fn a_leash_kills_when_its_holder_is_gone() {
    let mut process = Process::spawn(guarded("sleep").arg("600"));
    let pid = process.pid();
    let leash = Leash::new(pid).unwrap();
    assert!(alive(pid));
    drop(leash);
    process.wait(PATIENCE);
    send(pid, nix::sys::signal::Signal::SIGKILL);
}

#[test]
fn client_sees_how_a_connection_ends() {
    let backend = Backend::answering(|request, out| {
        let sent = match request.target.as_str() {
            "/whole" => out.write_all(&ok("whole")),
            "/half" => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
            "/chunks" => out.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            ),
            _ => Ok(()),
        };
        match (sent, request.target.as_str()) {
            (Ok(()), "/whole" | "/chunks") => Then::Keep,
            (_, "/reset") => Then::Reset,
            _ => Then::Close,
        }
    });
    let mut client = Client::connect(backend.address());
    assert_eq!(client.get("/whole").unwrap().text(), "whole");
    assert_eq!(client.get("/chunks").unwrap().text(), "abcde");
    assert!(matches!(client.get("/half"), Err(Failure::Truncated(_))));
    assert!(matches!(
        Client::connect(backend.address()).get("/close"),
        Err(Failure::Closed)
    ));
    wait_until(PATIENCE, "a reset is seen", || {
        matches!(
            Client::connect(backend.address()).get("/reset"),
            Err(Failure::Io(_))
        )
    });
    assert!(backend.connections() >= 3);
    assert_eq!(backend.requests()[0].target, "/whole");
    assert!(Client::try_connect(format!("127.0.0.1:{}", free_port())).is_err());
}

#[test]
fn fault_proxy_breaks_consul_answers() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/a"), ENTRY);
    let target = format!("/v1/kv/{folder}?recurse");
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let mut client = Client::connect(proxy.address());
    let whole = client.get(&target).unwrap();
    assert!(whole.text().contains("CreateIndex"), "{}", whole.text());
    assert!(consul.index(&folder) > 0);

    proxy.set(Fault::ResetAfterAnswer);
    assert_eq!(client.get(&target).unwrap().body, whole.body);
    assert!(
        matches!(client.closed(), Err(Failure::Io(_))),
        "a reset follows"
    );
    proxy.set(Fault::ResetOnReuse);
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get(&target).unwrap().body, whole.body);
    assert!(matches!(client.get(&target), Err(Failure::Io(_))));
    proxy.set(Fault::Cut(Upto::Missing(3), Ending::Fin));
    assert!(matches!(
        Client::connect(proxy.address()).get(&target),
        Err(Failure::Truncated(_))
    ));
    proxy.set(Fault::Body("[]".to_owned()));
    assert_eq!(get(proxy.address(), &target).text(), "[]");
    proxy.set(Fault::Mute);
    let mut client = Client::connect(proxy.address());
    client.set_timeout(Duration::from_millis(100));
    assert!(matches!(client.get(&target), Err(Failure::Io(_))));
    proxy.reset_open();
    proxy.set(Fault::ResetAtOnce);
    assert!(
        Client::try_connect(proxy.address())
            .map(|mut client| client.get(&target).is_err())
            .unwrap_or(true)
    );
    assert!(
        proxy.requests().iter().all(|asked| *asked == target),
        "{:?}",
        proxy.requests()
    );
    assert!(proxy.accepted() >= 6);
}

#[test]
fn consul_of_ones_own_stops_and_starts() {
    let consul = Consul::start();
    let address = consul.address();
    consul.put_many(
        "many",
        &[
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
        ],
    );
    assert!(
        get(&address, "/v1/kv/many?recurse")
            .text()
            .contains("many/b")
    );
    consul.delete("many/a");
    consul.delete_folder("many");
    assert_eq!(get(&address, "/v1/kv/many?recurse").status, 404);
    drop(consul);
    assert!(Client::try_connect(address).is_err());
}

#[test]
fn an_alert_that_nobody_expects_fails_its_test() {
    let weir = Setup::server("").workers(1).start();
    send(weir.workers()[0], nix::sys::signal::Signal::SIGKILL);
    weir.wait_log("exited on signal 9");
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(weir)));
    assert!(ended.is_err());
}
