mod limits;
mod properties;
mod refused;

use super::*;
use crate::http::limits::LargeBuffers;

/// nginx's, but for buffers: so many more after the first, and of so many bytes each.
fn limits(number: usize, size: usize) -> Limits {
    let large = LargeBuffers { number, size };
    Limits {
        first: size,
        line: large,
        field: large,
        ..Limits::default()
    }
}

fn parse(text: &[u8]) -> (RequestHead, Parsed) {
    parse_with(text, &Limits::default())
}

fn parse_with(text: &[u8], limits: &Limits) -> (RequestHead, Parsed) {
    let mut head = RequestHead::new();
    let parsed = head.parse(text, limits);
    (head, parsed)
}

/// The status with which a request is refused; 200 if it is taken, 0 if more is awaited.
fn status(text: &str) -> u16 {
    match parse(text.as_bytes()).1 {
        Parsed::Partial => 0,
        Parsed::Head(_) => 200,
        Parsed::Refused(refusal) => refusal.status,
    }
}

#[test]
fn a_usual_request_is_taken_apart() {
    let text = b"POST /p?q HTTP/1.1\r\nHost: A.b:8080\r\nContent-Length: 5\r\n\
        Connection: x-mine, Keep-Alive\r\nX-Mine: 1\r\nX-Other:\t two words \t\r\nX_Bad: 3\r\n\r\nhello";
    let (head, parsed) = parse(text);
    assert_eq!(parsed, Parsed::Head(text.len() - 5));
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.line.of(text), b"POST /p?q HTTP/1.1");
    assert_eq!(head.target.normalized(text), b"/p");
    assert_eq!(head.target.args(text), b"q");
    assert_eq!(head.host(), b"a.b");
    assert_eq!(head.body, Body::Length(5));
    assert!(head.keep_alive && !head.expect_continue && !head.upgrade);
    assert_eq!(head.fields.get(b"x-other", text), Some(&b"two words"[..]));
    let sent_on: Vec<_> = head
        .fields
        .iter()
        .filter(|field| !field.is_hop_by_hop())
        .map(|field| field.name.of(text))
        .collect();
    assert_eq!(sent_on, [&b"Host"[..], b"Content-Length", b"X-Other"]);
    assert_eq!(head.ignored.unwrap().of(text), b"X_Bad: 3");
}

#[test]
fn unusual_but_right_heads_are_taken() {
    let many = "x: y\r\n".repeat(MAX_FIELDS - 1);
    for text in [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET http://h/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "M-SEARCH /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:a\r\nEmpty:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked \r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\ttab\r\n\r\n",
        &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
    ] {
        assert_eq!(status(text), 200, "{:?}", text.get(..90).unwrap_or(text));
    }
}

#[test]
fn what_nginx_takes_and_httparse_does_not_is_taken() {
    let text = b"GET /a?b HTTP/1.7\r\nHost: a\r\nX_y: 1\r\nContent-Length: 3\r\n\r\n";
    let (head, parsed) = parse(text);
    assert_eq!(parsed, Parsed::Head(text.len()));
    assert_eq!((head.minor, head.body), (1, Body::Length(3)));
    assert_eq!(head.target.normalized(text), b"/a");
    assert_eq!(head.ignored.unwrap().of(text), b"X_y: 1");
    assert_eq!(head.method_name(text), b"GET");
}

#[test]
fn only_options_has_hops_to_count() {
    let hops = |method: &str, fields: &str| {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, parsed) = parse(text.as_bytes());
        matches!(parsed, Parsed::Head(_)).then_some(head.max_forwards)
    };
    assert_eq!(hops("OPTIONS", ""), Some(None));
    assert_eq!(hops("OPTIONS", "max-forwards: 0\r\n"), Some(Some(0)));
    assert_eq!(hops("OPTIONS", "Max-Forwards: 12\r\n"), Some(Some(12)));
    assert_eq!(hops("GET", "Max-Forwards: x\r\n"), Some(None));
    for bad in ["x", "-1", "", "1, 2", "99999999999999999999"] {
        assert_eq!(
            hops("OPTIONS", &format!("Max-Forwards: {bad}\r\n")),
            None,
            "{bad}"
        );
    }
    assert_eq!(
        hops("OPTIONS", "Max-Forwards: 1\r\nMax-Forwards: 1\r\n"),
        None
    );
}

#[test]
fn an_absolute_target_outweighs_the_host_field() {
    let text = b"GET http://Real.example:81/p HTTP/1.1\r\nHost: other\r\n\r\n";
    let (head, _) = parse(text);
    assert_eq!(head.host(), b"real.example");
    let field = head.fields.known(Known::Host, text);
    assert_eq!(field, Some(&b"Real.example:81"[..]));
    assert_eq!(head.target.uri.of(text), b"/p");
}

#[test]
fn connections_persist_as_the_versions_have_it() {
    let keeps = |version: &str, connection: &str| {
        parse(format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n").as_bytes())
            .0
            .keep_alive
    };
    assert!(keeps("1.1", ""));
    assert!(!keeps("1.1", "Connection: close\r\n"));
    assert!(!keeps(
        "1.1",
        "Connection: keep-alive\r\nConnection: x, Close\r\n"
    ));
    assert!(!keeps("1.0", ""));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
}

#[test]
fn expectations_and_upgrades_are_for_http_1_1() {
    let fields = "Host: a\r\nExpect: 100-Continue\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let (head, _) = parse(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
    assert!(head.expect_continue && head.upgrade);
    let (head, _) = parse(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes());
    assert!(!head.expect_continue && !head.upgrade);
    let (head, _) = parse(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nExpect: x\r\n\r\n");
    assert!(!head.expect_continue && !head.upgrade);
}

#[test]
fn slashes_are_merged_or_kept() {
    for (path, merged, kept) in [
        ("//a///b//", "/a/b/", "//a///b//"),
        ("/a//../b", "/b", "/a/b"),
        ("/a%2f%2Fb", "/a/b", "/a//b"),
        ("/a//./b", "/a/b", "/a//b"),
        ("/a//..", "/", "/a/"),
    ] {
        let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        for (merge_slashes, expected) in [(true, merged), (false, kept)] {
            let limits = Limits {
                merge_slashes,
                ..Limits::default()
            };
            let (head, _) = parse_with(text.as_bytes(), &limits);
            let path = head.target.normalized(text.as_bytes());
            assert_eq!(String::from_utf8_lossy(path), expected, "{text}");
        }
    }
}

#[test]
fn the_host_is_known_before_the_head_is_whole() {
    for (text, host) in [
        (
            "GET / HTTP/1.1\r\nX: host: b\r\nhOst: A.b:80\r\nx",
            Some("a.b"),
        ),
        ("GET http://A.c/x HTTP/1.1\r\nHost: b\r\n", Some("a.c")),
        ("\r\nGET / HTTP/1.1\r\nHost: b\r\n", Some("b")),
        ("GET / HTTP/1.1\r\nHost: b", None),
        ("GET / HTTP/1.1\r\nHost: b\r", None),
        ("GET / HTTP/1.1\r\nX: 1\r\n\r\nHost: b\r\n", None),
        ("GET / HTTP/1.1\r\nHost: b/c\r\n", None),
        ("GET http://h", None),
        ("", None),
    ] {
        let found = host_in(text.as_bytes());
        assert_eq!(found.as_deref(), host.map(str::as_bytes), "{text:?}");
    }
}

#[test]
fn a_cleared_head_is_as_new() {
    let mut head = RequestHead::new();
    let first = b"POST http://h/a%20b?c HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\
        X_y: z\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(
        head.parse(first, &Limits::default()),
        Parsed::Head(first.len())
    );
    let second = b"GET / HTTP/1.1\r\nHost: b\r\n\r\n";
    head.clear();
    assert_eq!(
        head.parse(second, &Limits::default()),
        Parsed::Head(second.len())
    );
    assert_eq!(format!("{head:?}"), format!("{:?}", parse(second).0));
}
