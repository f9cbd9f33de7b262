//! What is sent to a server: method, fields, body.

use std::io::Write;

use crate::support::backend::{Backend, Request, Then, answer, ok};
use crate::support::weir::Setup;

use super::weir;

fn recording() -> Backend {
    Backend::answering(|_, out| {
        let _ = out.write_all(&ok("hello"));
        Then::Keep
    })
}

/// The names of the fields in order, in lower case.
fn names(request: &Request) -> Vec<String> {
    let lines = request.head.split("\r\n").skip(1);
    lines
        .filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
        .collect()
}

#[test]
fn fields_are_nginxs_and_in_its_order() {
    let backend = recording();
    let weir = weir(
        &backend,
        "proxy_set_header X-Outer outer;
         location / { proxy_pass http://back; }
         location /set { proxy_pass http://back; proxy_set_header X-A a$arg_a; proxy_set_header X-B $arg_b;
            proxy_set_header Accept ''; proxy_set_header host h.example; proxy_set_header Connection close; }
         location /nohost { proxy_pass http://back; proxy_set_header Host $arg_h; }
         location /old { proxy_pass http://back; proxy_set_header Host ''; proxy_http_version 1.0; }",
    );
    let mut client = weir.connect();
    let fields =
        "Host: c\r\nAccept: x\r\nX-Outer: client\r\nX-C: c\r\nTE: trailers\r\nKeep-Alive: 1\r\n";
    for target in ["/", "/set?a=1", "/nohost", "/old"] {
        let response = client.request("GET", target, fields, b"").unwrap();
        assert_eq!(response.status, 200);
    }
    let asked = backend.requests();
    assert_eq!(names(&asked[0]), ["host", "x-outer", "accept", "x-c"]);
    assert_eq!(asked[0].field("host"), Some("back"));
    assert_eq!(asked[0].field("x-outer"), Some("outer"));
    assert_eq!(
        names(&asked[1]),
        ["host", "x-a", "connection", "x-outer", "x-c"]
    );
    assert_eq!(asked[1].field("host"), Some("h.example"));
    assert_eq!(asked[1].field("x-a"), Some("a1"));
    assert_eq!(asked[1].field("x-outer"), Some("client"));
    assert_eq!(
        asked[2].field("host"),
        Some("back"),
        "HTTP/1.1 is never without"
    );
    assert_eq!(asked[3].field("host"), None);
    assert!(asked[3].head.starts_with("GET /old HTTP/1.0\r\n"));
}

#[test]
fn the_clients_fields_can_be_left_out() {
    let backend = recording();
    let weir = weir(
        &backend,
        "location / { proxy_pass http://back; proxy_pass_request_headers off; proxy_set_header X-A a; }",
    );
    let response = weir
        .connect()
        .request("POST", "/", "Host: c\r\nX-C: c\r\n", b"body")
        .unwrap();
    assert_eq!(response.text(), "hello");
    let asked = &backend.requests()[0];
    assert_eq!(names(asked), ["host", "x-a", "content-length"]);
    assert_eq!(asked.body, b"body");
}

#[test]
fn a_body_is_left_out_or_replaced_and_the_connection_stays_in_step() {
    let backend = recording();
    let weir = weir(
        &backend,
        "location /off { proxy_pass http://back; proxy_pass_request_body off; }
         location /none { proxy_pass http://back; proxy_pass_request_body off; proxy_set_header Content-Length ''; }
         location /set { proxy_pass http://back; proxy_set_body \"[$request_method $arg_a]\"; }
         location /empty { proxy_pass http://back; proxy_set_body \"$arg_a\"; }",
    );
    let mut client = weir.connect();
    for target in ["/off", "/none", "/set?a=b", "/empty"] {
        let plain = client.request("POST", target, "", b"client").unwrap();
        assert_eq!((plain.status, plain.keeps()), (200, true), "{target}");
        let chunks = format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nclient\r\n0\r\n\r\n"
        );
        client.send(chunks.as_bytes()).unwrap();
        assert_eq!(client.response("POST").unwrap().text(), "hello", "{target}");
    }
    client.get("/set?a=c").unwrap();
    let asked = backend.requests();
    let seen: Vec<_> = asked
        .iter()
        .map(|request| {
            let body = std::str::from_utf8(&request.body).unwrap();
            (body, request.field("content-length").unwrap_or("-"))
        })
        .collect();
    let expected = [
        ("", "0"),
        ("", "-"),
        ("", "-"),
        ("", "-"),
        ("[POST b]", "8"),
        ("[POST b]", "8"),
        ("", "0"),
        ("", "0"),
        ("[GET c]", "7"),
    ];
    assert_eq!(seen, expected);
    let chunked = |request: &Request| request.field("transfer-encoding").is_some();
    assert!(!asked.iter().any(chunked));
    assert_eq!(backend.connections(), 1, "each was read to its end");
}

#[test]
fn a_body_that_is_not_passed_on_still_has_its_limit() {
    let backend = recording();
    let weir = weir(
        &backend,
        "client_max_body_size 3; location / { proxy_pass http://back; proxy_set_body x; }",
    );
    let response = weir.connect().request("POST", "/", "", b"four").unwrap();
    assert_eq!((response.status, backend.count()), (413, 0));
}

#[test]
fn a_replaced_body_is_sent_again_to_the_next_server() {
    let eater = Backend::answering(|_, _| Then::Close);
    let good = recording();
    let weir = Setup::http(&format!(
        "upstream back {{ server {} max_fails=0; server {}; }}
         server {{ listen 127.0.0.1:@PORT@; location / {{ proxy_pass http://back; proxy_set_body own;
            proxy_next_upstream error non_idempotent; }} }}",
        eater.address(),
        good.address()
    ))
    .workers(1)
    .start();
    let response = weir.connect().request("POST", "/", "", b"client").unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(eater.requests()[0].body, b"own");
    assert_eq!(good.requests()[0].body, b"own");
}

#[test]
fn the_method_decides_how_the_answer_ends() {
    let backend = Backend::answering(|request, out| {
        let mut whole = answer("200 OK", "", b"hello");
        if request.method == "HEAD" {
            whole.truncate(whole.len() - b"hello".len());
        }
        let _ = out.write_all(&whole);
        Then::Keep
    });
    let weir = weir(
        &backend,
        "location /post { proxy_pass http://back; proxy_method POST; }
         location /head { proxy_pass http://back; proxy_method HEAD; }
         location /get { proxy_pass http://back; proxy_method GET; }
         location /var { proxy_pass http://back; proxy_method $arg_m; }",
    );
    let mut client = weir.connect();
    assert_eq!(client.get("/post").unwrap().text(), "hello");
    let headless = client.get("/head").unwrap();
    assert_eq!((headless.status, headless.text().as_str()), (200, ""));
    let head = client.request("HEAD", "/get", "", b"").unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(client.get("/var?m=DELETE").unwrap().text(), "hello");
    assert_eq!(weir.get("/var?m=CONNECT").status, 500);
    assert_eq!(weir.get("/var").status, 500);
    weir.wait_log("invalid method \"CONNECT\" in \"proxy_method\"");
    let asked = backend.requests();
    let methods: Vec<_> = asked.iter().map(|request| &request.method).collect();
    assert_eq!(methods, ["POST", "HEAD", "GET", "DELETE"]);
}
