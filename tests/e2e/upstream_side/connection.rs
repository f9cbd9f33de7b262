//! How connections to servers are made.

use std::collections::HashMap;
use std::io::Write;

use crate::support::backend::{Backend, Stream, Then, ok};
use crate::support::weir::Setup;
use crate::support::{PATIENCE, wait_until};

/// Answers with the address that the connection comes from.
fn telling() -> Backend {
    Backend::answering(|_, out| {
        let from = match out {
            Stream::Tcp(stream) => stream.peer_addr().unwrap().ip().to_string(),
            Stream::Unix(_) => "unix".to_owned(),
        };
        let _ = out.write_all(&ok(&from));
        Then::Keep
    })
}

#[test]
fn a_connection_comes_from_the_address_that_is_said_and_is_not_taken_for_another() {
    let backend = telling();
    let weir = Setup::http(&format!(
        "upstream back {{ server {}; }}
         proxy_bind 127.0.0.2;
         server {{ listen 127.0.0.1:@PORT@;
            location / {{ proxy_pass http://back; }}
            location /again {{ proxy_pass http://back; }}
            location /off {{ proxy_pass http://back; proxy_bind off; }}
            location /var {{ proxy_pass http://back; proxy_bind $arg_from; }}
            location /foreign {{ proxy_pass http://back; proxy_bind 192.0.2.1; }} }}",
        backend.address()
    ))
    .workers(1)
    .start();
    let mut client = weir.connect();
    let mut from = |target: &str| client.get(target).unwrap().text();
    for _ in 0..2 {
        for (target, address) in [
            ("/", "127.0.0.2"),
            ("/again", "127.0.0.2"),
            ("/off", "127.0.0.1"),
            ("/var?from=127.0.0.3", "127.0.0.3"),
            ("/var?from=", "127.0.0.1"),
            ("/var?from=127.0.0.4:x", "127.0.0.1"),
        ] {
            assert_eq!(from(target), address, "{target}");
        }
    }
    assert_eq!(backend.connections(), 3, "one for each origin");
    weir.wait_log("invalid local address \"127.0.0.4:x\"");
    assert_eq!(weir.get("/foreign").status, 500);
    weir.wait_log("[crit]");
    weir.wait_log("bind(192.0.2.1) failed (99: Cannot assign requested address) while connecting to upstream, client: ");
}

/// The kind of timer that the kernel has on weir's end of each connection to the port: 2 is
/// keepalive, 0 none. By the port of that end.
fn timers(port: u16) -> HashMap<u16, String> {
    const ESTABLISHED: &str = "01";
    let port_of = |column: &str| u16::from_str_radix(&column[9..], 16).unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let ours = port_of(columns[2]) == port && columns[3] == ESTABLISHED;
        ours.then(|| (port_of(columns[1]), columns[5][..2].to_owned()))
    });
    rows.collect()
}

#[test]
fn the_system_watches_a_connection_where_that_is_said() {
    let backend = Backend::answering(|_, out| {
        let Stream::Tcp(stream) = out else {
            panic!("a connection over TCP");
        };
        let from = stream.peer_addr().unwrap().port().to_string();
        let _ = out.write_all(&ok(&from));
        Then::Keep
    });
    let weir = Setup::http(&format!(
        "upstream back {{ server {}; }}
         server {{ listen 127.0.0.1:@PORT@;
            location / {{ proxy_pass http://back; }}
            location /watched {{ proxy_pass http://back; proxy_socket_keepalive on; }} }}",
        backend.address()
    ))
    .workers(1)
    .start();
    let port = backend.address().rsplit(':').next().unwrap().parse();
    let port = port.unwrap();
    let mut client = weir.connect();
    let mut from = |target: &str| -> u16 { client.get(target).unwrap().text().parse().unwrap() };
    let (plain, watched) = (from("/"), from("/watched"));
    assert_ne!(plain, watched, "one is not taken for the other");
    assert_eq!((from("/"), from("/watched")), (plain, watched));
    wait_until(
        PATIENCE,
        "each end has the timer that it is to have",
        || {
            let timers = timers(port);
            timers[&plain] == "00" && timers[&watched] == "02"
        },
    );
}

#[test]
fn a_connection_that_cannot_be_made_is_logged_once() {
    let weir = Setup::http(
        "upstream back { server unix:@DIR@/nobody.sock; }
         server { listen 127.0.0.1:@PORT@; location / { proxy_pass http://back; } }",
    )
    .workers(1)
    .start();
    assert_eq!(weir.get("/").status, 502);
    let name = weir.path("nobody.sock").display().to_string();
    weir.wait_log(&format!(
        "connect() to unix:{name} failed (2: No such file or directory) while connecting to upstream, client: 127.0.0.1, server: "
    ));
    assert_eq!(weir.error_log().matches("connect()").count(), 1);
}
