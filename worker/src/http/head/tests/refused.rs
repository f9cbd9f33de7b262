//! Heads that are refused, and with which status.

use super::*;

#[track_caller]
fn refused(cases: &[(&str, u16)]) {
    for (text, expected) in cases {
        assert_eq!(
            status(text),
            *expected,
            "{:?}",
            text.get(..90).unwrap_or(text)
        );
    }
}

#[test]
fn line_ends_and_control_bytes() {
    refused(&[
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x07\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\0: 1\r\n\r\n", 400),
        ("\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ]);
}

#[test]
fn names() {
    refused(&[
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n", 400),
    ]);
}

#[test]
fn request_lines() {
    refused(&[
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G!T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /?\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /?\u{e9} HTTP/1.7\r\nHost: a\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /.. HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://u@h/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ]);
}

#[test]
fn versions() {
    refused(&[
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\n\r\n", 400),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / SPDY\r\nHost: a\r\n\r\n", 400),
    ]);
}

#[test]
fn hosts() {
    refused(&[
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400),
    ]);
}

#[test]
fn framing() {
    refused(&[
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
            501,
        ),
    ]);
}

#[test]
fn sizes() {
    let long = "a".repeat(9000);
    let many = "x: y\r\n".repeat(MAX_FIELDS);
    let large = format!("x: {}\r\n", "a".repeat(8000)).repeat(5);
    let named = "Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,0,1,2,3,4,5,6\r\n";
    refused(&[
        (&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (
            &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            494,
        ),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{large}\r\n"), 494),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 494),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{named}\r\n"), 400),
    ]);
}

#[test]
fn what_cannot_become_a_request_is_not_waited_for() {
    for text in [
        "\x16\x03\x01",
        "get",
        "GET / HTTP/2.0\r\n",
        "GET /\r\n",
        "GET\0",
    ] {
        assert_ne!(status(text), 0, "{text:?}");
    }
    for text in [
        "",
        "\r",
        "\r\n",
        "\r\n\r",
        "\r\nG",
        "G",
        "GET",
        "GET ",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHo",
    ] {
        assert_eq!(status(text), 0, "{text:?}");
    }
}

#[test]
fn reasons_are_safe_to_log() {
    let text = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \xff\"x\r\n\r\n";
    let Parsed::Refused(refusal) = parse(text).1 else {
        panic!("taken")
    };
    assert_eq!(
        refusal.describe(text).to_string(),
        "client sent unknown \"Transfer-Encoding\": \"\\xff\\\"x\""
    );
}
