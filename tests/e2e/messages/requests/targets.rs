//! Request targets.

use super::super::row::{Request, gets, own, refused, taken};

fn of(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

pub fn rows() -> Vec<Request> {
    let mut rows = Vec::new();
    // Without a URI in proxy_pass the target goes on as it came.
    for target in [
        "/",
        "/a?",
        "/a?b=c&d",
        "/a?b?c",
        "/a??",
        "/a//b",
        "//a",
        "/a/../b",
        "/a/./b",
        "/a/.",
        "/...",
        "/a%20b",
        "/a%2Fb",
        "/a%2fb",
        "/%41",
        "/a%0d%0aX:%20y",
        "/a?%00",
        "/a?%zz",
        "/a;b=c",
        "/a:b@c",
        "/a\\b",
        "/a|b",
        "/a'b(c)*!",
        "/~a",
        "/a=b&c",
        "/http://other/",
        "/a%c3%a9",
    ] {
        rows.push(taken(
            &format!("target {target}"),
            of(target),
            &[gets(format!("GET {target}"))],
        ));
    }
    for target in [
        "*",
        "a",
        "?x",
        "#x",
        "%2f",
        "./a",
        "../a",
        "h:80",
        "h",
        "/..",
        "/../a",
        "/a/../..",
        "/a/../../b",
        "/%2e%2e",
        "/%2e%2e/a",
        "/.%2e/a",
        "/a/..%2f..%2fb",
        "/a%00",
        "/%00",
        "/%",
        "/%2",
        "/a%zz",
        "/a%2",
        "/a%u0041",
        "/\u{e9}",
        "/a?\u{e9}",
        "/\u{2028}",
        "/\u{ff0f}a",
        "/a\u{a0}HTTP/1.1",
        "http:/h/a",
        "http:h/a",
        "http//h/a",
        "http://",
        "http:///a",
        "http://?a",
        "http://u@h/a",
        "http://u:p@h/a",
        "http://h:x/a",
        "http://h:123456/a",
        "http://h h/a",
        "http://h\\@other/a",
        "http://[::1/a",
        "http://[]/a",
        "http://\u{e9}/a",
        "ftp://h/a",
        "file:///a",
        "javascript:alert(1)",
        "urn:a:b",
        "ws://h/a",
    ] {
        rows.push(refused(&format!("target {target}"), of(target), 400));
    }
    let raw: [(&str, &[u8]); 3] = [
        (
            "Latin-1 in the path",
            b"GET /\xe9 HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        (
            "an overlong slash",
            b"GET /a/..\xc0\xaf HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        (
            "0xff in the query",
            b"GET /?\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
    ];
    for (name, bytes) in raw {
        rows.push(refused(name, bytes, 400));
    }
    rows.push(refused(
        "OPTIONS *",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    ));
    rows.push(own(
        "a location of weir's own by a crooked path",
        of("/x/..//./%6fwn"),
        200,
    ));
    rows.push(own("the same in absolute form", of("http://h/own"), 200));
    let long = format!("/{}", "x".repeat(7000));
    rows.push(taken(
        "a long target",
        of(&long),
        &[gets(format!("GET {long}"))],
    ));
    rows.push(refused(
        "a target beyond its buffer",
        of(&format!("/{}", "x".repeat(9000))),
        414,
    ));
    for (target, sent, host) in [
        ("http://h/a", "/a", "h"),
        ("HTTP://h/a", "/a", "h"),
        ("http://H/a", "/a", "h"),
        ("http://h:8080/a?b", "/a?b", "h"),
        ("http://h", "/", "h"),
        ("http://h?a", "/?a", "h"),
        ("http://h/", "/", "h"),
        ("https://h/a", "/a", "h"),
        ("http://h./a", "/a", "h"),
        ("http://[::1]:80/a", "/a", "[::1]"),
    ] {
        let intended = gets(format!("GET {sent}")).host(host);
        rows.push(taken(
            &format!("absolute {target}"),
            of(target),
            &[intended],
        ));
    }
    rows
}
