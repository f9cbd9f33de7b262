//! A worker between real clients and servers of the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Backend, Worker};

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
