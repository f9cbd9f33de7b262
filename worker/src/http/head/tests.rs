use proptest::prelude::*;

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
fn hostile_heads_are_refused() {
    let long = "a".repeat(9000);
    let many = "x: y\r\n".repeat(MAX_FIELDS);
    let large = format!("x: {}\r\n", "a".repeat(8000)).repeat(5);
    let named = "Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,0,1,2,3,4,5,6\r\n";
    for (text, expected) in [
        // Line ends and control bytes.
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
        // Names.
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n", 400),
        // Request lines.
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
        // Versions.
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\n\r\n", 400),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / SPDY\r\nHost: a\r\n\r\n", 400),
        // Host.
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400),
        // Framing.
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
        // Sizes.
        (&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (
            &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            494,
        ),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{large}\r\n"), 494),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 494),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{named}\r\n"), 400),
    ] {
        assert_eq!(
            status(text),
            expected,
            "{:?}",
            text.get(..90).unwrap_or(text)
        );
    }
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
fn the_number_of_fields_is_bounded_exactly() {
    for fields in [3, 63, 64, 65, 100, 2000] {
        let limits = Limits {
            fields,
            ..limits(1000, 100)
        };
        let status = |extra: usize, name: &str| {
            let more = format!("{name}: y\r\n").repeat(fields - 1 + extra);
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n");
            match RequestHead::new().parse(text.as_bytes(), &limits) {
                Parsed::Head(_) => 200,
                Parsed::Partial => 0,
                Parsed::Refused(refusal) => refusal.status,
            }
        };
        assert_eq!((status(0, "x"), status(1, "x")), (200, 494), "{fields}");
        // Those that are ignored count too.
        assert_eq!((status(0, "x_"), status(1, "x_")), (200, 494), "{fields}");
    }
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
fn the_limits_are_exact() {
    // Lines of 21, 9 and 2 bytes.
    let text = b"GET /12345 HTTP/1.1\r\nHost: a\r\n\r\n";
    let status = |number: usize, size: usize| match parse_with(text, &limits(number, size)).1 {
        Parsed::Head(end) => {
            assert_eq!(end, text.len());
            200
        }
        Parsed::Partial => 0,
        Parsed::Refused(refusal) => refusal.status,
    };
    assert_eq!(status(1, 21), 200);
    assert_eq!(status(9, 20), 414);
    assert_eq!(status(1, 32), 200);
    assert_eq!(status(0, 32), 200);
    assert_eq!(status(0, 31), 494);
    assert_eq!(status(0, 21), 494);
}

#[test]
fn another_server_may_take_other_fields() {
    let text = b"GET /12345 HTTP/1.1\r\nHost: abcdef\r\nx_y: 1\r\nx.z: 2\r\n\r\n";
    let names = |limits: &Limits| {
        let (head, parsed) = parse_with(text, limits);
        assert_eq!(parsed, Parsed::Head(text.len()));
        let names = head.fields.iter().map(|field| field.name.of(text));
        let names: Vec<_> = names.map(String::from_utf8_lossy).collect();
        (names.join(" "), head.ignored.is_some())
    };
    let nginx = Limits::default();
    let underscores = Limits {
        underscores: true,
        ..nginx
    };
    let all = Limits {
        ignore_invalid: false,
        ..nginx
    };
    assert_eq!(names(&nginx), ("Host".into(), true));
    assert_eq!(names(&underscores), ("Host x_y".into(), true));
    assert_eq!(names(&all), ("Host x_y x.z".into(), false));

    let small = LargeBuffers {
        number: 1,
        size: 13,
    };
    let of_fields = Limits {
        field: small,
        ..limits(1, 21)
    };
    let refused = parse_with(text, &of_fields).1;
    assert!(matches!(
        refused,
        Parsed::Refused(Refusal { status: 494, .. })
    ));
    let of_line = Limits {
        line: small,
        ..limits(9, 20)
    };
    let refused = parse_with(text, &of_line).1;
    assert!(matches!(
        refused,
        Parsed::Refused(Refusal { status: 414, .. })
    ));
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

/// Pieces that make heads, good and bad.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("GET / HTTP/1.1\r\n".to_owned()),
        Just("Host: a\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("Content-Length: 5\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        "[A-Za-z_-]{1,6}: ?[ -~]{0,12}\r\n",
        "[ -~\r\n\0]{0,6}",
    ]
}

fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(piece(), 0..8).prop_map(|pieces| pieces.concat());
    let starts = prop_oneof![
        4 => Just("GET /a?b HTTP/1.1\r\nHost: a\r\n".to_owned()),
        1 => Just(String::new()),
        1 => Just("\r\nPOST /%41 HTTP/1.0\r\n".to_owned()),
    ];
    (starts, pieces).prop_map(|(start, pieces)| format!("{start}{pieces}\r\n").into_bytes())
}

/// Every length of prefix in turn, as if each byte came alone.
fn parse_bytewise(text: &[u8], limits: &Limits) -> (RequestHead, Parsed) {
    let mut head = RequestHead::new();
    for end in 0..text.len() {
        match head.parse(&text[..end], limits) {
            Parsed::Partial => {}
            parsed => return (head, parsed),
        }
    }
    let parsed = head.parse(text, limits);
    (head, parsed)
}

proptest! {
    #![proptest_config(crate::testing::cases(512))]

    #[test]
    fn any_split_gives_what_the_whole_gives(text in any_head()) {
        let limits = Limits { fields: 8, ..limits(3, 64) };
        let mut whole = RequestHead::new();
        let at_once = whole.parse(&text, &limits);
        let (pieces, bytewise) = parse_bytewise(&text, &limits);
        match at_once {
            // Which of several faults is seen first may differ.
            Parsed::Refused(_) => prop_assert!(matches!(bytewise, Parsed::Refused(_))),
            Parsed::Head(_) => {
                prop_assert_eq!(&at_once, &bytewise);
                whole.line_checked = pieces.line_checked;
                whole.lines = pieces.lines.clone();
                prop_assert_eq!(format!("{:?}", whole), format!("{:?}", pieces));
            }
            Parsed::Partial => prop_assert_eq!(at_once, bytewise),
        }
    }

    #[test]
    fn a_head_that_is_taken_is_unambiguous(text in any_head()) {
        let (head, parsed) = parse(&text);
        let Parsed::Head(end) = parsed else { return Ok(()) };
        let bytes = &text[..end];
        prop_assert!(bytes.ends_with(b"\r\n\r\n"));
        let lf = bytes.iter().filter(|&&byte| byte == b'\n').count();
        let crlf = bytes.windows(2).filter(|two| two == b"\r\n").count();
        let cr = bytes.iter().filter(|&&byte| byte == b'\r').count();
        prop_assert!(lf == crlf && cr == crlf && !bytes.contains(&0));
        let count = |known| head.fields.iter().filter(|field| field.known == known).count();
        prop_assert!(count(Known::Host) <= 1 && count(Known::ContentLength) <= 1);
        prop_assert!(count(Known::ContentLength) + count(Known::TransferEncoding) <= 1);
    }

    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let (head, parsed) = parse(&text);
        if let Parsed::Refused(refusal) = parsed {
            let _ = refusal.describe(&text).to_string();
        }
        for field in &head.fields {
            let _ = (field.name.of(&text), field.value.of(&text));
        }
    }
}
