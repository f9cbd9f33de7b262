//! A worker between real clients and servers of the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::Worker;
use common::backend::Backend;
use common::settings::{edit_proxy, text};

#[test]
fn kept_connections_carry_request_after_request() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    let mut client = worker.connect();
    client.send("GET /0 HTTP/1.1\r\nHost: test\r\nX-A: b\r\n\r\n");
    let mut server = backend.accept();
    let request = server.message();
    assert_eq!(
        request.head,
        "GET /0 HTTP/1.1\r\nHost: backend\r\nX-A: b\r\n"
    );
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.message().text(), "ok");
    for number in 1..50 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let request = server.message();
        assert!(request.head.starts_with(&format!("GET /{number} ")));
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let answer = client.message();
        assert_eq!((answer.status(), answer.text()), (200, "ok"));
        assert_eq!(answer.field("Connection"), Some("keep-alive"));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let worker = Worker::start(&[Backend::echo()]);
    let mut client = worker.connect();
    let requests: String = (0..100)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .collect();
    client.send(requests);
    for number in 0..100 {
        assert_eq!(client.message().text(), format!("/{number}"));
    }
}

#[test]
fn a_request_may_come_a_byte_at_a_time() {
    let worker = Worker::start(&[Backend::echo()]);
    let mut client = worker.connect();
    for byte in b"GET /slow HTTP/1.1\r\nHost: test\r\nX-Long: abcdefgh\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.message().text(), "/slow");
}

#[test]
fn a_body_with_length_is_passed_on_and_the_connection_kept() {
    let backend = Backend::start();
    let worker = Worker::streaming(&[backend.address]);
    let mut client = worker.connect();
    client.send("POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234");
    let mut server = backend.accept();
    let head = server.head();
    assert!(head.contains("Content-Length: 10\r\n"), "{head}");
    assert_eq!(server.take(5), b"01234");
    client.send("56789GET /b HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(server.take(5), b"56789");
    server.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.message().status(), 201);
    assert!(server.head().starts_with("GET /b "));
    server.send("HTTP/1.1 204 No Content\r\n\r\n");
    let answer = client.message();
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.field("Content-Length"), None);
}

#[test]
fn chunks_are_framed_anew_in_both_directions() {
    let backend = Backend::start();
    let worker = Worker::streaming(&[backend.address]);
    let mut client = worker.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x=y\r\nabc\r\n0004\r\ndefg\r\n",
    );
    let mut server = backend.accept();
    let head = server.head();
    assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
    assert_eq!(server.take(12), b"7\r\nabcdefg\r\n");
    client.send("1\r\nh\r\n0\r\nTrailer: gone\r\n\r\n");
    assert_eq!(server.chunks(), b"h");
    server.send(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         2;ext\r\nab\r\n00001\r\nc\r\n0\r\nTrailer: gone\r\n\r\n",
    );
    let answer = client.head();
    assert!(answer.contains("Transfer-Encoding: chunked\r\n"));
    assert_eq!(client.chunks(), b"abc");
    assert_eq!(client.unread, b"");
    client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(server.head().starts_with("GET /next "));
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.message().status(), 200);
}

#[test]
fn an_answer_until_close_gets_an_end_that_the_client_can_see() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    server.send("HTTP/1.1 200 OK\r\n\r\nwhole");
    drop(server);
    assert!(client.head().contains("Transfer-Encoding: chunked\r\n"));
    assert_eq!(client.chunks(), b"whole");
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    server.send("HTTP/1.0 200 OK\r\n\r\nwhole");
    drop(server);
    let head = client.head();
    assert!(
        head.contains("Connection: close\r\n") && !head.contains("Transfer-"),
        "{head}"
    );
    assert_eq!(client.rest(), b"whole");
}

#[test]
fn a_truncated_answer_is_never_passed_as_a_whole_one() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    for (sent, passed) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            &b"half"[..],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            b"4\r\nhalf\r\n",
        ),
    ] {
        let mut client = worker.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut server = backend.accept();
        server.head();
        server.send(sent);
        client.head();
        assert_eq!(client.take(4.min(passed.len())), &passed[..4]);
        drop(server);
        assert_eq!(client.rest(), &passed[4..]);
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    server.send(chunked);
    client.head();
    assert_eq!(client.take(9), b"4\r\nhalf\r\n");
    server.send("zz\r\n");
    assert_eq!(client.rest(), b"");
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    server.send(format!("{chunked}zz\r\n"));
    assert_eq!(client.message().status(), 502);
    let log = worker.error_log();
    assert!(
        log.contains("upstream prematurely closed connection while reading upstream"),
        "{log}"
    );
    assert!(log.contains("upstream sent invalid chunked response while reading upstream"));
}

#[test]
fn answers_without_a_body_have_none() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    let mut client = worker.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    for (request, answer, kept) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            Some("1000"),
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            None,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
            Some("1000"),
        ),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            None,
        ),
        // Last: a server that says so much of no body is not asked again on this connection.
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 1000\r\n\r\n",
            None,
        ),
    ] {
        if request == "GET" {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        } else if server.unread.is_empty() && answer.contains("chunked") {
            client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        server.head();
        server.send(answer);
        let head = client.head();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        assert_eq!(length, kept, "{answer}");
        assert!(!head.contains("Transfer-Encoding"));
        assert_eq!(client.unread, b"");
    }
}

#[test]
fn a_client_that_waits_for_our_word_gets_it() {
    let backend = Backend::start();
    let worker = Worker::streaming(&[backend.address]);
    let mut client = worker.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n");
    let mut server = backend.accept();
    let head = server.head();
    assert!(!head.contains("Expect"), "{head}");
    client.send("body");
    assert_eq!(server.take(4), b"body");
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.message().status(), 200);
}

#[test]
fn a_server_may_answer_before_it_has_the_whole_request() {
    let backend = Backend::start();
    let worker = Worker::streaming(&[backend.address]);
    let mut client = worker.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nabc");
    let mut server = backend.accept();
    server.head();
    server.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    let answer = client.message();
    assert_eq!((answer.status(), answer.text()), (413, "no"));
    assert_eq!(answer.field("Connection"), Some("close"));
    // What the client still sends does not reset the connection.
    client.send(vec![b'x'; 50_000]);
    assert_eq!(client.rest(), b"");
}

#[test]
fn hop_by_hop_fields_end_here() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    let mut client = worker.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: 1\r\n\
         X-Hop: 1\r\nTE: trailers\r\nUpgrade: x\r\nProxy-Connection: y\r\nX-End: 2\r\n\r\n",
    );
    let mut server = backend.accept();
    assert_eq!(
        server.head(),
        "GET / HTTP/1.1\r\nHost: backend\r\nX-End: 2\r\n"
    );
    server.send(
        "HTTP/1.1 200 OK\r\nServer: other\r\nDate: never\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: 5\r\nContent-Type: a/b\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n",
    );
    let head = client.head();
    let names: Vec<&str> = head
        .lines()
        .skip(1)
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "Server",
            "Date",
            "Content-Type",
            "Content-Length",
            "Connection",
            "X-End"
        ]
    );
    assert!(head.contains("Server: weir/") && !head.contains("never"));
}

#[test]
fn a_switched_protocol_is_passed_both_ways() {
    let backend = Backend::start();
    let worker = Worker::with(&[backend.address], |settings| {
        edit_proxy(settings, |proxy| {
            proxy.set_headers.push((b"Upgrade".to_vec(), text("chat")));
            proxy
                .set_headers
                .push((b"Connection".to_vec(), text("upgrade")));
        });
    });
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    let mut server = backend.accept();
    assert!(server.head().contains("Upgrade: chat\r\n"));
    server
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhi");
    let head = client.head();
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("Upgrade: chat\r\n"),
        "{head}"
    );
    assert!(head.contains("Connection: upgrade\r\n"), "{head}");
    assert_eq!(client.take(2), b"hi");
    client.send("ping");
    assert_eq!(server.take(4), b"ping");
    server.send("pong");
    assert_eq!(client.take(4), b"pong");
    drop(server);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_protocol_that_nobody_asked_for_is_refused() {
    let backend = Backend::start();
    let worker = Worker::start(&[backend.address]);
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    server.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.message().status(), 502);
}
