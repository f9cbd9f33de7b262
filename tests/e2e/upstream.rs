//! Choosing a server: weights, failures, retries, backup, idle connections, addresses.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Barrier;

use crate::support::backend::{Backend, Then, ok};
use crate::support::client::Client;
use crate::support::weir::{Setup, Weir, in_server};
use crate::support::{PATIENCE, wait_until};

const LOCATION: &str = "location / { proxy_pass http://back; }";

/// An upstream `back` with these lines in it.
fn balanced(lines: &str) -> Setup {
    Setup::http(&format!(
        "upstream back {{ {lines} }}\n{}",
        in_server(LOCATION)
    ))
}

/// The answers' texts of so many requests on one connection.
fn ask(client: &mut Client, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            let response = client.get("/").unwrap();
            assert_eq!(response.status, 200, "{}", response.text());
            response.text().trim().to_owned()
        })
        .collect()
}

fn tally(names: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}

/// A port that refuses connections for as long as the value lives: bound, not listening.
fn refusing() -> (socket2::Socket, String) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket
        .local_addr()
        .unwrap()
        .as_socket()
        .unwrap()
        .to_string();
    (socket, address)
}

#[test]
fn weights_are_smooth() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::named);
    let lines = format!(
        "server {} weight=5; server {}; server {};",
        a.address(),
        b.address(),
        c.address()
    );
    let weir = balanced(&lines).workers(1).start();
    let answers = ask(&mut weir.connect(), 70);
    assert_eq!(
        answers[..7],
        ["a", "a", "b", "a", "c", "a", "a"],
        "nginx's smooth order"
    );
    assert_eq!(
        tally(&answers),
        BTreeMap::from([("a", 50), ("b", 10), ("c", 10)])
    );
}

#[test]
fn a_server_that_is_down_gets_nothing() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let weir = balanced(&format!(
        "server {} down; server {};",
        a.address(),
        b.address()
    ))
    .start();
    assert_eq!(
        tally(&ask(&mut weir.connect(), 20)),
        BTreeMap::from([("b", 20)])
    );
    assert_eq!(a.connections(), 0);
}

#[test]
fn backup_serves_when_the_others_fail() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let lines = format!(
        "server {} max_fails=1 fail_timeout=300s; server {} backup;",
        a.address(),
        b.address()
    );
    let weir = balanced(&lines).workers(1).start();
    assert_eq!(
        tally(&ask(&mut weir.connect(), 10)),
        BTreeMap::from([("a", 10)])
    );
    drop(a);
    assert_eq!(
        tally(&ask(&mut weir.connect(), 10)),
        BTreeMap::from([("b", 10)])
    );
}

#[test]
fn a_refused_connection_goes_to_the_next_server() {
    let (_socket, refused) = refusing();
    let live = Backend::named("live");
    let weir = balanced(&format!(
        "server {refused} max_fails=0; server {};",
        live.address()
    ))
    .start();
    let mut client = weir.connect();
    for number in 0..20 {
        let body = format!("body {number}");
        let response = client.request("POST", "/", "", body.as_bytes()).unwrap();
        assert_eq!(
            response.status, 200,
            "nothing was sent to the first, so a POST is retried too"
        );
        assert_eq!(live.requests()[number].body, body.as_bytes());
    }
    assert!(
        weir.error_log()
            .contains("connect() failed (111: Connection refused) while connecting to upstream")
    );
}

#[test]
fn a_request_that_was_sent_is_resent_only_if_idempotent() {
    let eater = Backend::answering(|_, _| Then::Close);
    let live = Backend::named("live");
    let lines = format!(
        "server {} max_fails=0; server {} max_fails=0;",
        eater.address(),
        live.address()
    );
    let weir = balanced(&lines).workers(1).start();
    let mut client = weir.connect();
    assert_eq!(client.get("/").unwrap().text(), "live\n");
    assert_eq!(eater.count(), 1);
    let mut statuses = Vec::new();
    for number in 0..10 {
        statuses.push(
            client
                .request("POST", &format!("/{number}"), "", b"x")
                .unwrap()
                .status,
        );
    }
    assert!(
        statuses.contains(&502) && statuses.contains(&200),
        "{statuses:?}"
    );
    let mut targets: Vec<_> = [eater.requests(), live.requests()].concat();
    targets.retain(|request| request.method == "POST");
    let mut targets: Vec<_> = targets
        .iter()
        .map(|request| request.target.clone())
        .collect();
    targets.sort();
    let expected: Vec<_> = (0..10).map(|number| format!("/{number}")).collect();
    assert_eq!(targets, expected, "each POST went to one server once");
}

#[test]
fn max_fails_counts_across_workers() {
    const WORKERS: usize = 4;
    let eater = Backend::answering(|_, _| Then::Close);
    let live = Backend::named("live");
    let lines = format!(
        "server {} max_fails=4 fail_timeout=300s; server {};",
        eater.address(),
        live.address()
    );
    let weir = balanced(&lines).workers(WORKERS).start();
    let mut workers = weir.each_worker(WORKERS);
    for _ in 0..10 {
        for client in workers.values_mut() {
            assert_eq!(ask(client, 1), ["live"]);
        }
    }
    assert_eq!(
        eater.count(),
        4,
        "four failures in all, whichever worker met them"
    );
}

#[test]
fn fail_timeout_gives_another_chance() {
    let eater = Backend::answering(|_, _| Then::Close);
    let live = Backend::named("live");
    let lines = format!(
        "server {} max_fails=1 fail_timeout=1s; server {};",
        eater.address(),
        live.address()
    );
    let weir = balanced(&lines).workers(1).start();
    let mut client = weir.connect();
    wait_until(PATIENCE, "it is tried again after fail_timeout", || {
        assert_eq!(ask(&mut client, 1), ["live"]);
        eater.count() >= 3
    });
}

#[test]
fn all_servers_failed_is_502_and_the_only_server_is_never_given_up() {
    let (_one, first) = refusing();
    let (_two, second) = refusing();
    let weir = balanced(&format!("server {first}; server {second};"))
        .workers(1)
        .start();
    let mut client = weir.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").unwrap().status, 502);
    }
    weir.wait_log("no live upstreams while connecting to upstream");
    drop(weir);

    let (socket, only) = refusing();
    let weir = balanced(&format!("server {only};")).workers(1).start();
    let mut client = weir.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").unwrap().status, 502);
    }
    socket.listen(16).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        let _ = stream.write_all(&ok("back"));
        // Held until weir has read it.
        let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
    });
    assert_eq!(
        client.get("/").unwrap().text(),
        "back",
        "max_fails does not count for a lone server"
    );
    server.join().unwrap();
}

#[test]
fn idle_connections_are_bounded_by_keepalive() {
    const CLIENTS: usize = 8;
    // Nobody is answered before all are there: that takes a connection for each.
    let all = Barrier::new(CLIENTS);
    let backend = Backend::answering(move |_, out| {
        all.wait();
        let _ = out.write_all(&ok("x"));
        Then::Keep
    });
    let weir = balanced(&format!("server {}; keepalive 2;", backend.address()))
        .workers(1)
        .start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| weir.connect()).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
    assert_eq!(backend.connections(), CLIENTS);
    wait_until(PATIENCE, "two idle connections are left", || {
        backend.open() == 2
    });
}

#[test]
fn an_idle_connection_that_its_server_closed_is_not_used() {
    let backend = Backend::named("a");
    let weir = balanced(&format!("server {};", backend.address()))
        .workers(1)
        .start();
    let mut client = weir.connect();
    for round in 1..=20 {
        // A POST would not be retried once sent: it succeeds only on a live connection.
        let response = client.request("POST", "/", "", b"x").unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(backend.connections(), round);
        backend.close_connections();
        wait_until(PATIENCE, "they are closed", || backend.open() == 0);
    }
    assert!(
        !weir.error_log().contains("prematurely"),
        "{}",
        weir.error_log()
    );
}

#[test]
fn unix_sockets_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let path = folder.path().join("backend.sock");
    let backend = Backend::answering_unix(&path, |request, out| {
        let _ = out.write_all(&ok(request.field("host").unwrap_or("none")));
        Then::Keep
    });
    let body = format!(
        "upstream back {{ server {}; }}
         server {{ listen unix:@DIR@/weir.sock; listen 127.0.0.1:@PORT@;
                   location / {{ proxy_pass http://back; }}
                   location = /direct {{ proxy_pass http://{}:/x; }} }}",
        backend.address(),
        backend.address()
    );
    let weir = Setup::http(&body).start();
    let mut client = Client::connect_unix(&weir.path("weir.sock"));
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().text(), "back");
    }
    assert_eq!(weir.get("/").text(), "back");
    assert_eq!(weir.get("/direct").text(), "localhost");
    assert_eq!(backend.requests().last().unwrap().target, "/x");
}

#[test]
fn ipv6_on_both_sides() {
    let backend = Backend::answering_at("[::1]:0", |_, out| {
        let _ = out.write_all(&ok("six"));
        Then::Keep
    });
    let body = format!(
        "upstream back {{ server {}; }}
         server {{ listen [::1]:@PORT@; location / {{ add_header X-Who $remote_addr; proxy_pass http://back; }} }}",
        backend.address()
    );
    let weir = Setup::http(&body).start();
    let response = crate::support::client::get(format!("[::1]:{}", weir.port("PORT")), "/");
    assert_eq!(
        (response.text().as_str(), response.field("x-who")),
        ("six", Some("::1"))
    );
    assert!(Client::try_connect(weir.address()).is_err(), "not on IPv4");
}

#[test]
fn a_variable_names_the_upstream() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let body = format!(
        "upstream one.example {{ server {}; }} upstream Two.Example {{ server {}; }}\n{}",
        a.address(),
        b.address(),
        in_server("location / { proxy_pass http://$host; }")
    );
    let weir = Setup::http(&body).start();
    let mut client = weir.connect();
    let mut host = |name: &str| {
        client
            .request("GET", "/t", &format!("Host: {name}\r\n"), b"")
            .unwrap()
    };
    assert_eq!(host("one.example").text(), "a\n");
    assert_eq!(host("Two.Example:81").text(), "b\n");
    assert_eq!(host("other.example").status, 502);
    weir.wait_log("no resolver defined to resolve other.example");
}

#[test]
fn proxy_pass_with_an_address_and_a_path() {
    let backend = Backend::answering(|request, out| {
        let text = format!(
            "{} {}",
            request.target,
            request.field("host").unwrap_or_default()
        );
        let _ = out.write_all(&ok(&text));
        Then::Keep
    });
    let address = backend.address();
    let weir: Weir = Setup::server(&format!(
        "location /a/ {{ proxy_pass http://{address}/b/; }}
         location /keep/ {{ proxy_pass http://{address}; }}
         location = /one {{ proxy_pass http://{address}/other?x=1; }}"
    ))
    .start();
    assert_eq!(weir.get("/a/c?d=e").text(), format!("/b/c?d=e {address}"));
    assert_eq!(
        weir.get("/keep/%41?q").text(),
        format!("/keep/%41?q {address}")
    );
    assert!(weir.get("/one").text().starts_with("/other?x=1 "));
}
