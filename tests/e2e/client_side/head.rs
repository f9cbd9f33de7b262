//! How the head of a request is read: in which time, into which buffers, and which fields it may have.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::client::{Failure, Response};
use crate::support::weir::{Setup, Weir, in_server};
use crate::support::{PATIENCE, wait_until};

use super::one;

const ECHO: &str = "location / { return 200 $uri; }";

/// The answer to bytes sent on a connection of their own.
#[track_caller]
fn raw(weir: &Weir, bytes: &str) -> Response {
    let mut client = weir.connect();
    client.send(bytes.as_bytes()).unwrap();
    client.response("GET").unwrap()
}

/// A request with a field of so many bytes, its CRLF included.
fn with_field(host: &str, length: usize) -> String {
    let value = "v".repeat(length - "X: \r\n".len());
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {value}\r\n\r\n")
}

#[test]
fn a_request_that_does_not_come_is_ended_without_an_answer() {
    let weir = one("client_header_timeout 200ms;", ECHO);
    let mut silent = weir.connect();
    assert!(silent.closed().unwrap());
    weir.wait_log("client timed out (110: Connection timed out) while waiting for request, client: 127.0.0.1, server: 127.0.0.1:");
    assert_eq!(weir.access_log(), "", "there was no request");

    for (begun, doing, line) in [
        ("GET /half", "line", "GET /half"),
        (
            "GET /head HTTP/1.1\r\nHost: a\r\n",
            "headers",
            "GET /head HTTP/1.1",
        ),
    ] {
        let mut slow = weir.connect();
        slow.send(begun.as_bytes()).unwrap();
        assert!(slow.closed().unwrap());
        weir.wait_log(&format!(
            "client timed out (110: Connection timed out) while reading client request {doing}, \
             client: 127.0.0.1, server: , request: \"{line}\""
        ));
        wait_until(PATIENCE, "it is logged as 408", || {
            weir.access_log().contains(&format!("\"{line}\" 408 0 "))
        });
    }
}

#[test]
fn the_time_for_a_head_is_not_prolonged_by_its_bytes() {
    let weir = one("client_header_timeout 300ms;", ECHO);
    let mut client = weir.connect();
    client.send(b"GET / HTTP/1.1\r\n").unwrap();
    let begun = Instant::now();
    client.set_timeout(Duration::from_millis(20));
    loop {
        // One byte after the other, well within the time of each.
        match client.send(b"X").and_then(|()| client.fill()) {
            Ok(0) => break,
            Err(Failure::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) => panic!("{:?}", client.rest()),
            Err(_) => break,
        }
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(begun.elapsed() >= Duration::from_millis(250));
}

#[test]
fn a_client_that_leaves_is_logged_by_how_far_it_came() {
    let weir = one("", ECHO);
    for (begun, doing) in [("GE", "line"), ("GET / HTTP/1.1\r\nHo", "headers")] {
        weir.connect().send(begun.as_bytes()).unwrap();
        weir.wait_log(&format!(
            "client prematurely closed connection while reading client request {doing}, client: 127.0.0.1, server: , request: \"GE"
        ));
    }
}

#[test]
fn header_buffers_are_filled_as_nginx_fills_them() {
    let weir = one(
        "client_header_buffer_size 64; large_client_header_buffers 2 1k;",
        ECHO,
    );
    let line = |length: usize| {
        let path = "a".repeat(length - "GET / HTTP/1.1\r\n".len());
        raw(&weir, &format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")).status
    };
    assert_eq!((line(1024), line(1025)), (200, 414));
    weir.wait_log("client sent too long URI while reading client request line");
    let field = |length: usize| raw(&weir, &with_field("a", length));
    assert_eq!(field(1024).status, 200);
    let refused = field(1025);
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .text()
            .contains("<center>Request Header Or Cookie Too Large</center>")
    );
    assert!(!refused.keeps());
    weir.wait_log("client sent too long header line");
    // Two lines take the large buffers, and the second leaves no room for the empty one.
    let two = |second: usize| {
        let first = "x".repeat(600);
        let second = "y".repeat(second - "Y: \r\n".len());
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {first}\r\nY: {second}\r\n\r\n");
        raw(&weir, &text).status
    };
    assert_eq!((two(1022), two(1023)), (200, 400));
    wait_until(PATIENCE, "it is logged as 400", || {
        weir.access_log().contains("\" 400 ") && !weir.access_log().contains("\" 494 ")
    });
}

#[test]
fn the_named_server_says_what_is_taken_of_fields() {
    let server = |name: &str, directives: &str| {
        format!(
            "server {{ listen 127.0.0.1:@PORT@; server_name {name}; {directives}
             location / {{ return 200 $http_x_y; }} }}"
        )
    };
    let weir = Setup::http(&format!(
        "client_header_buffer_size 64; large_client_header_buffers 4 1k;\n{}{}",
        server("small", ""),
        server(
            "large",
            "large_client_header_buffers 4 4k; underscores_in_headers on; max_headers 3;"
        ),
    ))
    .workers(1)
    .start();
    let status = |host: &str| raw(&weir, &with_field(host, 4000)).status;
    assert_eq!((status("small"), status("large")), (400, 200));
    let text = |host: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX_Y: 1\r\n\r\n");
        raw(&weir, &text).text()
    };
    assert_eq!((text("small").as_str(), text("large").as_str()), ("", "1"));
    let fields = |target: &str| {
        let more = "A: b\r\n".repeat(3);
        let text = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
        raw(&weir, &text).status
    };
    assert_eq!((fields("/"), fields("http://large/")), (200, 400));
    weir.wait_log("client sent too many header lines while reading client request headers");
}

#[test]
fn odd_names_are_passed_on_when_they_are_wanted() {
    let backend = Backend::named("a");
    let ask = |directives: &str| {
        let weir = Setup::http(&format!(
            "{directives}\n{}",
            in_server(&format!(
                "location / {{ proxy_pass http://{}; }}",
                backend.address()
            ))
        ))
        .workers(1)
        .start();
        let before = backend.count();
        let answered = weir
            .connect()
            .request("GET", "/", "A_b: 1\r\nC.d: 2\r\nE-f: 3\r\n", b"")
            .unwrap();
        assert_eq!(answered.status, 200);
        let bad = weir
            .connect()
            .request("GET", "/", "A@b: 1\r\n", b"")
            .unwrap();
        assert_eq!(bad.status, 400);
        let request = &backend.requests()[before];
        let named = ["A_b", "C.d", "E-f"].map(|name| request.field(name).is_some());
        (
            named,
            weir.error_log()
                .contains("client sent invalid header line: \"A_b: 1\""),
        )
    };
    assert_eq!(ask(""), ([false, false, true], true));
    assert_eq!(
        ask("underscores_in_headers on;"),
        ([true, false, true], false)
    );
    assert_eq!(
        ask("ignore_invalid_headers off;"),
        ([true, true, true], false)
    );
}

#[test]
fn slashes_stay_where_they_are_to() {
    let ask = |directives: &str| {
        let weir = one(
            directives,
            "location /a/ { return 200 $uri; } location //a { return 200 two; }",
        );
        weir.get("//a//b").text()
    };
    assert_eq!(ask(""), "/a/b");
    assert_eq!(ask("merge_slashes off;"), "two");
}
