//! HTTP/1.1 towards clients and servers: framing, keep-alive, fields.

use std::io::Write;

use crate::support::backend::{Backend, Then, answer, ok};
use crate::support::weir::{Setup, in_server};

/// One worker that forwards everything to one server, with more directives for the location.
pub fn forwarding(backend: &Backend, directives: &str) -> Setup {
    let body = format!(
        "upstream back {{ server {}; }}\n{}",
        backend.address(),
        in_server(&format!(
            "location / {{ proxy_pass http://back; {directives} }}"
        ))
    );
    Setup::http(&body).workers(1)
}

/// Answers with the request's body.
fn echo() -> Backend {
    Backend::answering(|request, out| {
        let _ = out.write_all(&answer("200 OK", "", &request.body));
        Then::Keep
    })
}

#[test]
fn connections_are_kept_on_both_sides() {
    let backend = Backend::named("a");
    let weir = forwarding(&backend, "").start();
    let mut client = weir.connect();
    for _ in 0..50 {
        let response = client.get("/path?query").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "a\n"));
        assert_eq!(response.field("connection"), Some("keep-alive"));
        assert!(response.field("date").is_some());
    }
    assert_eq!(backend.connections(), 1, "an idle connection is used again");
    let seen = &backend.requests()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/path?query")
    );
    assert!(
        seen.head.starts_with("GET /path?query HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    let closing = client
        .request("GET", "/", "Connection: close\r\n", b"")
        .unwrap();
    assert_eq!(closing.field("connection"), Some("close"));
    assert!(client.closed().unwrap());
    let old = {
        let mut client = weir.connect();
        client.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        client.response("GET").unwrap()
    };
    assert_eq!(old.field("connection"), Some("close"));
}

#[test]
fn weirs_own_answers_name_it() {
    let weir = Setup::server("location = /x { return 200 text; }").start();
    let response = weir.get("/x");
    assert_eq!(
        response.field("server"),
        Some(concat!("weir/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(response.text(), "text");
    let missing = weir.get("/nothing");
    assert_eq!(missing.status, 404);
    assert!(
        missing.text().contains("404 Not Found"),
        "{}",
        missing.text()
    );
}

#[test]
fn keepalive_requests_and_timeout_limit_a_connection() {
    let weir = Setup::server(
        "location = /few { keepalive_requests 3; return 200 x; }
         location = /none { keepalive_timeout 0; return 200 x; }
         location = /short { keepalive_timeout 100ms; return 200 x; }",
    )
    .start();
    let mut client = weir.connect();
    let kept: Vec<bool> = (0..3)
        .map(|_| client.get("/few").unwrap().keeps())
        .collect();
    assert_eq!(kept, [true, true, false]);
    assert!(!weir.get("/none").keeps());
    let mut client = weir.connect();
    assert!(client.get("/short").unwrap().keeps());
    assert!(
        client.closed().unwrap(),
        "closed after 100 ms without a request"
    );
}

#[test]
fn bodies_with_a_length_pass_both_ways() {
    let backend = echo();
    let weir = forwarding(&backend, "client_max_body_size 0;").start();
    let mut client = weir.connect();
    for size in [
        0,
        1,
        4095,
        4096,
        8191,
        8192,
        16_384,
        65_537,
        1 << 20,
        5 << 20,
    ] {
        let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let response = client.request("POST", "/", "", &body).unwrap();
        assert_eq!(response.status, 200);
        assert!(response.body == body, "{size} bytes come back as they went");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn chunked_bodies_pass_both_ways() {
    let backend = Backend::answering(|request, out| {
        let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for part in request.body.chunks(1000) {
            text.extend(format!("{:X}\r\n", part.len()).into_bytes());
            text.extend(part);
            text.extend(b"\r\n");
        }
        text.extend(b"0\r\n\r\n");
        let _ = out.write_all(&text);
        Then::Keep
    });
    let weir = forwarding(&backend, "client_max_body_size 0;").start();
    let mut client = weir.connect();
    for size in [0_usize, 1, 999, 1000, 1001, 300_000] {
        let body: Vec<u8> = (0..size).map(|i| (i % 253) as u8).collect();
        let mut request =
            b"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for part in body.chunks(777) {
            request.extend(format!("{:x};name=value\r\n", part.len()).into_bytes());
            request.extend(part);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\nTrailer: gone\r\n\r\n");
        client.send(&request).unwrap();
        let response = client.response("PUT").unwrap();
        assert_eq!(response.status, 200);
        assert!(response.body == body, "{size} bytes");
        assert_eq!(response.field("transfer-encoding"), Some("chunked"));
    }
    // A client of HTTP/1.0 does not know chunks.
    let mut old = weir.connect();
    old.send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
        .unwrap();
    let response = old.response("POST").unwrap();
    assert_eq!(
        (
            response.text().as_str(),
            response.field("transfer-encoding")
        ),
        ("hello", None)
    );
}

#[test]
fn a_body_up_to_the_end_of_the_connection_passes() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
        Then::Close
    });
    let weir = forwarding(&backend, "").start();
    let mut client = weir.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().text(), "until the end");
    }
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let backend = Backend::answering(|request, out| {
        let text: &[u8] = match request.target.as_str() {
            "/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
        };
        let _ = out.write_all(text);
        match request.method.as_str() {
            "HEAD" => Then::Keep,
            _ if request.target == "/" => out
                .write_all(b"twelve bytes")
                .map_or(Then::Close, |()| Then::Keep),
            _ => Then::Keep,
        }
    });
    let weir = forwarding(&backend, "").start();
    let mut client = weir.connect();
    for _ in 0..3 {
        let head = client.request("HEAD", "/", "", b"").unwrap();
        assert_eq!(
            (head.status, head.field("content-length")),
            (200, Some("12"))
        );
        assert_eq!(client.get("/204").unwrap().status, 204);
        let not_modified = client.get("/304").unwrap();
        assert_eq!(
            (not_modified.status, not_modified.field("etag")),
            (304, Some("\"x\""))
        );
        assert_eq!(client.get("/").unwrap().text(), "twelve bytes");
    }
    assert_eq!(backend.connections(), 1);
    assert!(client.rest().is_empty());
}

#[test]
fn interim_answers_are_handled() {
    let backend = Backend::answering(|request, out| {
        let _ = out.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        let _ = out.write_all(&ok(&request.body.len().to_string()));
        Then::Keep
    });
    let weir = forwarding(&backend, "").start();
    let mut client = weir.connect();
    client
        .send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let go_on = client.head().unwrap();
    assert_eq!(go_on.status, 100);
    client.send(b"hello").unwrap();
    let response = client.response("POST").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "5"));
    assert_eq!(client.get("/").unwrap().text(), "0");
    assert!(
        backend
            .requests()
            .iter()
            .all(|seen| seen.field("expect").is_none())
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::answering(|request, out| {
        let _ = out.write_all(&ok(&format!("{}:{}", request.target, request.body.len())));
        Then::Keep
    });
    let weir = forwarding(&backend, "").start();
    let mut client = weir.connect();
    let mut all = Vec::new();
    for number in 0..20 {
        all.extend(
            format!("POST /{number} HTTP/1.1\r\nHost: h\r\nContent-Length: {number}\r\n\r\n")
                .into_bytes(),
        );
        all.extend(vec![b'x'; number]);
    }
    client.send(&all).unwrap();
    for number in 0..20 {
        assert_eq!(
            client.response("POST").unwrap().text(),
            format!("/{number}:{number}")
        );
    }
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let backend = Backend::answering(|_, out| {
        let fields = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
                      X-End: 2\r\nServer: origin\r\n";
        let _ = out.write_all(&answer("200 OK", fields, b"x"));
        Then::Keep
    });
    let weir = forwarding(&backend, "").start();
    let fields = "Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: 300\r\nTE: trailers\r\n\
                  Upgrade: other\r\nProxy-Connection: keep-alive\r\nX-Through: yes\r\nTrailer: T\r\n";
    let response = weir.connect().request("GET", "/", fields, b"").unwrap();
    let seen = &backend.requests()[0];
    for gone in [
        "x-mine",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-connection",
        "connection",
    ] {
        assert_eq!(
            seen.field(gone),
            None,
            "{gone} is not forwarded: {}",
            seen.head
        );
    }
    assert_eq!(seen.field("x-through"), Some("yes"));
    assert_eq!(
        (response.field("x-hop"), response.field("keep-alive")),
        (None, None)
    );
    assert_eq!(response.field("x-end"), Some("2"));
    assert_eq!(response.fields_named("connection"), ["keep-alive"]);
    assert_eq!(
        response.fields_named("server"),
        [concat!("weir/", env!("CARGO_PKG_VERSION"))]
    );
}

#[test]
fn proxy_set_header_and_add_header() {
    let backend = Backend::named("a");
    let weir = forwarding(
        &backend,
        "proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
         proxy_set_header Accept-Encoding \"\"; proxy_set_header X-Uri \"<$request_uri>\";
         add_header X-Upstream $proxy_host; add_header X-Bad no always;",
    )
    .start();
    let fields = "Host: Example.com:80\r\nX-Forwarded-For: 10.1.2.3\r\nAccept-Encoding: gzip\r\n";
    let response = weir
        .connect()
        .request("GET", "/a?b=c", fields, b"")
        .unwrap();
    let seen = &backend.requests()[0];
    assert_eq!(seen.fields_named("host"), ["example.com"]);
    assert_eq!(seen.field("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(
        seen.fields_named("x-forwarded-for"),
        ["10.1.2.3, 127.0.0.1"]
    );
    assert_eq!(seen.field("accept-encoding"), None);
    assert_eq!(seen.field("x-uri"), Some("</a?b=c>"));
    assert_eq!(response.field("x-upstream"), Some("back"));
    assert_eq!(response.field("x-bad"), Some("no"));
}

#[test]
fn without_proxy_set_header_the_upstream_is_the_host() {
    let backend = Backend::named("a");
    let weir = forwarding(&backend, "").start();
    let response = weir
        .connect()
        .request("GET", "/", "Host: client.example\r\n", b"")
        .unwrap();
    assert_eq!(response.status, 200);
    let seen = &backend.requests()[0];
    assert_eq!(seen.fields_named("host"), ["back"]);
    assert_eq!(seen.field("connection"), None);
}

#[test]
fn proxy_http_version_1_0_closes() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&ok("x"));
        Then::Close
    });
    let weir = forwarding(&backend, "proxy_http_version 1.0;").start();
    let mut client = weir.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().text(), "x");
    }
    assert_eq!(backend.connections(), 3);
    assert!(backend.requests()[0].head.starts_with("GET / HTTP/1.0\r\n"));
}

#[test]
fn damaged_requests_are_refused_and_never_forwarded() {
    let backend = Backend::named("a");
    let weir = forwarding(&backend, "").start();
    let cases: [(&str, &[u8]); 9] = [
        ("no host", b"GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("no version number", b"GET / HTTP/x\r\nHost: a\r\n\r\n"),
        ("two framings", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("two lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
        ("length with a sign", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc"),
        ("space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ("no name", b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ];
    for (what, bytes) in cases {
        let mut client = weir.connect();
        client.send(bytes).unwrap();
        let response = client
            .response("GET")
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(response.status, 400, "{what}");
        assert!(!response.keeps(), "{what}");
    }
    let mut client = weir.connect();
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        .unwrap();
    assert_eq!(
        client.response("POST").unwrap().status,
        400,
        "a chunk size that is none"
    );
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());

    let long = format!("/{}", "x".repeat(20_000));
    assert_eq!(weir.connect().get(&long).unwrap().status, 414);
    let field = format!("X-Long: {}\r\n", "x".repeat(20_000));
    assert_eq!(
        weir.connect()
            .request("GET", "/", &field, b"")
            .unwrap()
            .status,
        400
    );
    assert_eq!(weir.get("/fine").status, 200);
}
