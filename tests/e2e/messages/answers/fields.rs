//! Fields of answers.

use super::super::row::{Answer, bad, whole};
use super::ok;

pub fn rows() -> Vec<Answer> {
    [forms(), hops()].concat()
}

fn forms() -> Vec<Answer> {
    let mut rows = Vec::new();
    for lines in [
        "X : 1\r\n",
        "X\t: 1\r\n",
        " X: 1\r\n",
        "X: 1\r\n folded\r\n",
        "X: 1\r\n\tfolded\r\n",
        "X:\r\n 1\r\n",
        ": 1\r\n",
        "X\r\n",
        "X 1\r\n",
        "X Y: 1\r\n",
        "\"X\": 1\r\n",
        "X\0: 1\r\n",
        "X: \0\r\n",
        "X: \x01\r\n",
        "X: \x0b\r\n",
        "X: \x7f\r\n",
        "X: 1\rY: 2\r\n",
        "X\u{e9}: 1\r\n",
        "X@Y: 1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "Set-Cookie: a\r\n b\r\n",
        "Location: /\r\n\tSet-Cookie: a\r\n",
    ] {
        rows.push(bad(
            &format!("field {lines:?}"),
            ok(&format!("{lines}Content-Length: 2\r\n"), "ok"),
        ));
    }
    for (lines, kept) in [
        ("X: 1\r\nY:\r\n", "X: 1\r\nY: \r\n"),
        ("X: caf\u{e9}\r\n", "X: caf\u{e9}\r\n"),
        ("X: a\tb\r\n", "X: a\tb\r\n"),
        ("x: 1\r\nX: 2\r\n", "x: 1\r\nX: 2\r\n"),
        (
            "Set-Cookie: a\r\nSet-Cookie: b\r\n",
            "Set-Cookie: a\r\nSet-Cookie: b\r\n",
        ),
        ("X_Y: 1\r\n", "X_Y: 1\r\n"),
        (
            "ETag: \"x\"\r\nCache-Control: no-store\r\n",
            "ETag: \"x\"\r\nCache-Control: no-store\r\n",
        ),
        ("Location: http://x/\r\n", "Location: http://x/\r\n"),
        ("Content-Type: text/x\r\n", "Content-Type: text/x\r\n"),
        ("X:1\r\n", "X: 1\r\n"),
        ("X: \t1 \t\r\n", "X: 1\r\n"),
        ("Server: x\r\nDate: y\r\n", ""),
    ] {
        let text = ok(&format!("{lines}Content-Length: 2\r\n"), "ok");
        rows.push(whole(&format!("field {lines:?}"), text, 200, "ok").with(kept));
    }
    let many = |count: usize| {
        ok(
            &format!("{}Content-Length: 2\r\n", "X: 1\r\n".repeat(count)),
            "ok",
        )
    };
    rows.push(whole("300 fields", many(300), 200, "ok").with(&"X: 1\r\n".repeat(300)));
    rows.push(bad("1001 fields", many(1001)));
    rows.push(bad(
        "a head without end",
        format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(70_000)),
    ));
    rows
}

fn hops() -> Vec<Answer> {
    let with = |lines: &str| ok(&format!("{lines}Content-Length: 2\r\n"), "ok");
    vec![
        whole(
            "hop-by-hop fields go",
            with("Keep-Alive: x\r\nProxy-Connection: x\r\nTE: x\r\nTrailer: X\r\nUpgrade: h2c\r\n"),
            200,
            "ok",
        ),
        whole(
            "a field named in Connection goes",
            with("Connection: X-A\r\nX-A: 1\r\nX-B: 2\r\n"),
            200,
            "ok",
        )
        .with("X-B: 2\r\n"),
        whole(
            "the length stays",
            with("Connection: Content-Length\r\n"),
            200,
            "ok",
        ),
        whole(
            "Set-Cookie stays",
            with("Connection: Set-Cookie\r\nSet-Cookie: a\r\n"),
            200,
            "ok",
        )
        .with("Set-Cookie: a\r\n"),
        whole(
            "the type stays",
            with("Connection: Content-Type\r\nContent-Type: text/x\r\n"),
            200,
            "ok",
        )
        .with("Content-Type: text/x\r\n"),
        whole(
            "the coding stays",
            ok(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
                "2\r\nok\r\n0\r\n\r\n",
            ),
            200,
            "ok",
        ),
        whole(
            "close ends only the server's connection",
            with("Connection: close\r\n"),
            200,
            "ok",
        )
        .closing(),
        bad(
            "too many names in Connection",
            with(&format!(
                "Connection: {}\r\n",
                (0..40)
                    .map(|number| format!("X{number}"))
                    .collect::<Vec<_>>()
                    .join(",")
            )),
        ),
    ]
}
