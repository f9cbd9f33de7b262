//! Servers that fail, and what becomes of the request.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use common::backend::Backend;
use common::settings::{edit_proxy, server};
use common::{Worker, listener, table};

/// An address at which nobody listens.
fn nobody() -> std::net::SocketAddr {
    listener().1
}

#[test]
fn a_refused_connection_goes_to_the_next_server() {
    let good = Backend::echo();
    let worker = Worker::start(&[nobody(), good]);
    let mut client = worker.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/x").text(), "/x");
    }
    let log = worker.error_log();
    let lines =
        log.matches("connect() failed (111: Connection refused) while connecting to upstream");
    assert_eq!(lines.count(), 1, "after max_fails it is left alone: {log}");
    assert!(
        log.contains("upstream server temporarily disabled while connecting to upstream"),
        "{log}"
    );
}

#[test]
fn nobody_left_is_a_502_in_nginx_words() {
    let address = nobody();
    let worker = Worker::start(&[address]);
    let mut client = worker.connect();
    let answer = client.get("/");
    assert_eq!(answer.status(), 502);
    assert!(
        answer
            .text()
            .contains("<center><h1>502 Bad Gateway</h1></center>")
    );
    let log = worker.error_log();
    let line = format!(
        "*1 connect() failed (111: Connection refused) while connecting to upstream, \
         client: 127.0.0.1, server: , request: \"GET / HTTP/1.1\", \
         upstream: \"http://{address}/\", host: \"test\"\n"
    );
    assert!(log.contains(&line), "{log}");
    let worker = Worker::start(&[]);
    let mut client = worker.connect();
    assert_eq!(client.get("/").status(), 502);
    let log = worker.error_log();
    let line = "no live upstreams while connecting to upstream, client: 127.0.0.1, server: , \
                request: \"GET / HTTP/1.1\", upstream: \"http://backend/\", host: \"test\"\n";
    assert!(log.contains(line), "{log}");
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced_at_once() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    let mut client = worker.connect();
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut server = backend.accept();
        server.head();
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.message().status(), 200);
        drop(server);
    }
}

#[test]
fn a_kept_connection_that_is_closed_under_the_request_is_tried_once_more() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    let mut client = worker.connect();
    client.send("GET /first HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.message();
    client.send("PUT /second HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(server.message().text(), "body");
    drop(server);
    let mut server = backend.accept();
    let request = server.message();
    assert!(request.head.starts_with("PUT /second "));
    assert_eq!(request.text(), "body");
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.message().status(), 200);
    assert!(
        !worker.error_log().contains("[error]"),
        "{}",
        worker.error_log()
    );
}

#[test]
fn a_request_that_must_not_be_repeated_is_not() {
    let (one, two) = (Backend::start(), Backend::start());
    let worker = Worker::start(&[one.address, two.address]);
    let mut client = worker.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    let mut server = one.accept();
    assert_eq!(server.message().text(), "body");
    drop(server);
    assert_eq!(client.message().status(), 502);
    assert!(
        two.connections.try_recv().is_err(),
        "it went to another server"
    );
    let log = worker.error_log();
    assert!(
        log.contains(
            "upstream prematurely closed connection while reading response header from upstream"
        ),
        "{log}"
    );
}

#[test]
fn a_repeatable_request_goes_to_the_next_server() {
    let (one, two) = (Backend::start(), Backend::start());
    let worker = Worker::start(&[one.address, two.address]);
    let mut client = worker.connect();
    client.send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n");
    let mut server = one.accept();
    assert_eq!(server.message().text(), "abcd");
    drop(server);
    let mut server = two.accept();
    assert_eq!(server.message().text(), "abcd");
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.message().status(), 200);
}

#[test]
fn a_silent_server_is_a_504_and_not_for_ever() {
    let (one, two) = (Backend::start(), Backend::start());
    let worker = Worker::with(&[one.address, two.address], |settings| {
        edit_proxy(settings, |proxy| {
            proxy.read_timeout = Duration::from_millis(100)
        });
    });
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let (_one, _two) = (one.accept(), two.accept());
    assert_eq!(client.message().status(), 504);
    let log = worker.error_log();
    let line = "upstream timed out (110: Connection timed out) while reading response header from upstream";
    assert_eq!(log.matches(line).count(), 2, "{log}");
}

#[test]
fn what_is_no_answer_is_a_502() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    for nonsense in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 99 OK\r\n\r\n",
    ] {
        let mut client = worker.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut server = backend.accept();
        server.head();
        server.send(nonsense);
        assert_eq!(client.message().status(), 502, "{nonsense}");
        assert!(server.is_closed());
    }
}

#[test]
fn a_backup_serves_when_the_others_do_not() {
    let good = Backend::echo();
    let mut worker = Worker::start(&[]);
    let mut servers = table(&[nobody(), good]);
    servers[0].servers[1].backup = true;
    worker.publish_table(servers);
    let mut client = worker.connect();
    assert_eq!(client.get("/backup").text(), "/backup");
}

#[test]
fn failures_in_another_worker_count() {
    let good = Backend::echo();
    let bad = nobody();
    let worker = Worker::start(&[bad, good]);
    let other = worker.region.worker(1).unwrap();
    let counter = worker.publisher.table().upstreams[0].servers[0].counter;
    assert_eq!(
        worker.publisher.table().upstreams[0].servers[0].address,
        server(bad).address
    );
    let mut client = worker.connect();
    other.failures().note(counter);
    for _ in 0..4 {
        assert_eq!(client.get("/x").status(), 200);
    }
    assert!(
        !worker.error_log().contains("connect() failed"),
        "{}",
        worker.error_log()
    );
}

#[test]
fn nothing_stays_in_flight() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address, nobody()]);
    let mut client = worker.connect();
    for number in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        if number == 0 {
            let mut server = backend.accept();
            server.head();
            drop(server);
            assert_eq!(client.message().status(), 502);
        } else {
            assert_eq!(client.message().status(), 502);
        }
    }
    let reader = weir_shm::Reader::open(worker.region.path()).unwrap();
    for counters in reader.counters(worker.publisher.table()).unwrap() {
        assert_eq!(counters.total.in_flight, 0);
    }
}
