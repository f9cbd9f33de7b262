//! Header fields: their form, their number, and those that end at this hop.

use super::super::row::{Request, gets, refused, taken};
use super::get;

pub fn rows() -> Vec<Request> {
    [forms(), sizes(), hops()].concat()
}

fn forms() -> Vec<Request> {
    let mut rows = Vec::new();
    for lines in [
        "X : 1\r\n",
        "X\t: 1\r\n",
        " X: 1\r\n",
        "X: 1\r\n folded\r\n",
        "X: 1\r\n\tfolded\r\n",
        "X: 1\r\n \r\n",
        "X:\r\n 1\r\n",
        "X: 1\r\n Content-Length: 5\r\n",
        "X: 1\r\n Transfer-Encoding: chunked\r\n",
        ": 1\r\n",
        ":\r\n",
        "X\r\n",
        "X 1\r\n",
        "X Y: 1\r\n",
        "\"X\": 1\r\n",
        "X(Y): 1\r\n",
        "X[Y]: 1\r\n",
        "X{Y}: 1\r\n",
        "X/Y: 1\r\n",
        "X\\Y: 1\r\n",
        "X@Y: 1\r\n",
        "X=Y: 1\r\n",
        "X,Y: 1\r\n",
        "X;Y: 1\r\n",
        "X?Y: 1\r\n",
        "X<Y>: 1\r\n",
        "X\u{e9}: 1\r\n",
        "GET /smuggled HTTP/1.1\r\n",
    ] {
        rows.push(refused(&format!("field {lines:?}"), get(lines), 400));
    }
    for lines in [
        "X: 1\r\n",
        "x-Lower: 1\r\n",
        "X: 1\r\nX: 2\r\nx: 3\r\n",
        "X: a:b:c\r\n",
        "X: \"quoted, with\ttab\"\r\n",
        "X: caf\u{e9}\r\n",
        "X: \u{1f980}\r\n",
        "X-Empty: \r\n",
        "X-1: 1\r\n",
        "1X: 1\r\n",
        "Cookie: a=b; c=d\r\nCookie: e=f\r\n",
        "Accept: */*\r\nAccept-Encoding: gzip, br\r\nUser-Agent: x (y)\r\n",
        "Authorization: Basic eDp5\r\n",
        "X-Length: Content-Length: 5\r\n",
        "Content-Lengths: 5\r\n",
        "XContent-Length: 5\r\n",
        "Transfer-Encodings: chunked\r\n",
        "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n",
        "Origin: null\r\nReferer: http://x/\r\n",
        "Max-Forwards: 5\r\n",
    ] {
        let row = taken(
            &format!("field {lines:?}"),
            get(lines),
            &[gets("GET /a").fields(lines)],
        );
        rows.push(row);
    }
    rows.push(taken(
        "no decoded byte of a path ends a line",
        "GET /inject/%0d%0aX:%20y HTTP/1.1\r\nHost: h\r\n\r\n",
        &[gets("GET /inject/%0d%0aX:%20y").fields("X-Uri: /inject/%0D%0AX: y\r\n")],
    ));
    for (name, lines, kept) in [
        ("blanks around a value go", "X: \t 1 2 \t\r\n", "X: 1 2\r\n"),
        ("no blank before a value", "X:1\r\n", "X: 1\r\n"),
        (
            "names that a gateway could confuse go",
            "X_Y: 1\r\nX-Y: 2\r\n",
            "X-Y: 2\r\n",
        ),
        ("a dot in a name goes", "X.Y: 1\r\n", ""),
        ("Content_Length is no length", "Content_Length: 5\r\n", ""),
        (
            "Transfer_Encoding is no coding",
            "Transfer_Encoding: chunked\r\n",
            "",
        ),
        (
            "other bytes of tokens go",
            "X!Y: 1\r\nX#: 2\r\n'X': 3\r\nX*: 4\r\n",
            "",
        ),
    ] {
        rows.push(taken(name, get(lines), &[gets("GET /a").fields(kept)]));
    }
    rows
}

fn sizes() -> Vec<Request> {
    let many = |count: usize| "X: 1\r\n".repeat(count);
    let long = |count: usize| format!("X: {}\r\n", "a".repeat(count));
    vec![
        taken(
            "64 fields and Host",
            get(&many(64)),
            &[gets("GET /a").fields(many(64))],
        ),
        taken(
            "999 fields and Host",
            get(&many(999)),
            &[gets("GET /a").fields(many(999))],
        ),
        refused("1000 fields and Host", get(&many(1000)), 400),
        refused("5000 fields", get(&many(5000)), 400),
        taken(
            "a long field",
            get(&long(8000)),
            &[gets("GET /a").fields(long(8000))],
        ),
        refused("a field beyond its buffer", get(&long(9000)), 400),
        refused(
            "a line that never ends",
            format!("GET /a HTTP/1.1\r\nX: {}", "a".repeat(9000)),
            400,
        ),
        refused("a head beyond all buffers", get(&long(7000).repeat(6)), 400),
        refused(
            "a name beyond its buffer",
            get(&format!("{}: 1\r\n", "N".repeat(9000))),
            400,
        ),
        refused("a method that never ends", "M".repeat(9000), 414),
    ]
}

fn hops() -> Vec<Request> {
    let mut rows = Vec::new();
    for (name, lines, kept) in [
        (
            "a field named in Connection goes",
            "Connection: x-a\r\nX-A: 1\r\nX-B: 2\r\n",
            "X-B: 2\r\n",
        ),
        (
            "every one of that name goes",
            "X-A: 1\r\nConnection: X-A\r\nx-a: 2\r\n",
            "",
        ),
        (
            "several are named",
            "Connection: X-A,,\t, X-B ,\r\nX-A: 1\r\nX-B: 2\r\n",
            "",
        ),
        (
            "in several fields",
            "Connection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 2\r\n",
            "",
        ),
        ("Host stays", "Connection: Host\r\nX: 1\r\n", "X: 1\r\n"),
        (
            "Cookie stays",
            "Connection: Cookie\r\nCookie: a\r\n",
            "Cookie: a\r\n",
        ),
        (
            "Authorization stays",
            "Connection: authorization\r\nAuthorization: a\r\n",
            "Authorization: a\r\n",
        ),
        (
            "what proxies say of the client stays",
            "Connection: X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, Forwarded\r\n\
             X-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=x\r\n",
            "X-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=x\r\n",
        ),
        (
            "Connection itself goes",
            "Connection: keep-alive\r\nKeep-Alive: timeout=9\r\n",
            "",
        ),
        (
            "Proxy-Connection goes",
            "Proxy-Connection: keep-alive\r\n",
            "",
        ),
        ("TE goes", "TE: trailers\r\n", ""),
        ("TE with chunked goes", "TE: chunked\r\n", ""),
        ("Trailer goes", "Trailer: X\r\n", ""),
        (
            "Upgrade goes",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            "",
        ),
        (
            "h2c goes",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            "",
        ),
        ("an empty Connection", "Connection:\r\n", ""),
        (
            "strange options",
            "Connection: a b, \"c\", d=e, @\r\nX: 1\r\n",
            "X: 1\r\n",
        ),
    ] {
        rows.push(taken(name, get(lines), &[gets("GET /a").fields(kept)]));
    }
    let names: Vec<String> = (0..33).map(|number| format!("X-{number}")).collect();
    rows.push(refused(
        "too many names",
        get(&format!("Connection: {}\r\n", names.join(","))),
        400,
    ));
    rows.push(taken(
        "as many names as may be",
        get(&format!("Connection: {}\r\n", names[..32].join(","))),
        &[gets("GET /a")],
    ));
    rows.push(taken(
        "the length stays",
        "POST /a HTTP/1.1\r\nHost: h\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
        &[gets("POST /a").body("hello")],
    ));
    rows.push(taken(
        "the coding stays",
        "POST /a HTTP/1.1\r\nHost: h\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
        &[gets("POST /a").body("hello")],
    ));
    rows
}
