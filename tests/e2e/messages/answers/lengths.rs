//! The framing that answers declare.

use super::super::row::{Answer, bad, whole};
use super::{POISON, ok};

pub fn rows() -> Vec<Answer> {
    [lengths(), codings(), empty()].concat()
}

fn lengths() -> Vec<Answer> {
    let mut rows = Vec::new();
    for value in [
        "",
        "+2",
        "-2",
        "2.0",
        "0x2",
        "2 2",
        "2,2",
        "2, 2",
        "2,3",
        "2;",
        "\"2\"",
        "two",
        "\u{662}",
        "9223372036854775808",
        "18446744073709551618",
        "2\u{a0}",
    ] {
        rows.push(bad(
            &format!("length {value:?}"),
            ok(&format!("Content-Length: {value}\r\n"), "ok"),
        ));
    }
    for lines in [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 0\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\ncontent-length: 0\r\n",
        "Content-Length: 2\r\nContent-Length:\r\n",
        "Content-Length : 2\r\n",
        "Content-Length\r\n",
        "Content-Length: 2\r\n 0\r\n",
        "Content-Length:\r\n 2\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        rows.push(bad(&format!("lengths {lines:?}"), ok(lines, "ok")));
    }
    for value in ["2", "02", " 2 ", "\t2"] {
        let text = ok(&format!("Content-Length:{value}\r\n"), "ok");
        rows.push(whole(&format!("length {value:?}"), text, 200, "ok"));
    }
    rows.push(whole(
        "a length of zero",
        ok("Content-Length: 0\r\n", ""),
        200,
        "",
    ));
    rows.push(whole(
        "more than its length",
        ok("Content-Length: 2\r\n", &format!("ok{POISON}")),
        200,
        "ok",
    ));
    rows.push(whole(
        "more than nothing",
        ok("Content-Length: 0\r\n", POISON),
        200,
        "",
    ));
    rows.push(whole(
        "an empty line after it",
        ok("Content-Length: 2\r\n", "ok\r\n"),
        200,
        "ok",
    ));
    rows
}

fn codings() -> Vec<Answer> {
    let mut rows = Vec::new();
    let body = "2\r\nok\r\n0\r\n\r\n";
    for value in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        "xchunked",
        "\"chunked\"",
        "chunked;q=1",
        "chun ked",
        "chunked\u{a0}",
    ] {
        rows.push(bad(
            &format!("coding {value:?}"),
            ok(&format!("Transfer-Encoding: {value}\r\n"), body),
        ));
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "X: 1\nTransfer-Encoding: chunked\r\n",
    ] {
        rows.push(bad(&format!("codings {lines:?}"), ok(lines, body)));
    }
    rows.push(bad(
        "a coding in HTTP/1.0",
        ok("Transfer-Encoding: chunked\r\n", body).replace("HTTP/1.1", "HTTP/1.0"),
    ));
    for value in ["chunked", "Chunked", " CHUNKED "] {
        let text = ok(&format!("Transfer-Encoding:{value}\r\n"), body);
        rows.push(whole(&format!("coding {value:?}"), text, 200, "ok"));
    }
    rows
}

/// Answers that have no body, whatever they say.
fn empty() -> Vec<Answer> {
    let head = |name: &str, text: String| whole(name, text, 200, "").to("HEAD /row");
    let chunks = "2\r\nok\r\n0\r\n\r\n";
    vec![
        head("HEAD with a length", ok("Content-Length: 1000\r\n", ""))
            .with("Content-Length: 1000\r\n"),
        head(
            "HEAD with a coding",
            ok("Transfer-Encoding: chunked\r\n", ""),
        ),
        head("HEAD with neither", ok("", "")),
        head("HEAD with a body", ok("Content-Length: 2\r\n", "ok")).with("Content-Length: 2\r\n"),
        head(
            "HEAD with an answer for a body",
            ok(&format!("Content-Length: {}\r\n", POISON.len()), POISON),
        )
        .with(&format!("Content-Length: {}\r\n", POISON.len())),
        head(
            "HEAD with chunks",
            ok("Transfer-Encoding: chunked\r\n", chunks),
        ),
        whole("204", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        whole(
            "204 with a length of zero",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            204,
            "",
        ),
        whole(
            "204 with a length",
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
            204,
            "",
        ),
        whole(
            "204 with a body",
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
            204,
            "",
        ),
        whole(
            "204 with a coding",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            204,
            "",
        ),
        whole(
            "204 with chunks",
            format!("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
            204,
            "",
        ),
        whole(
            "204 with an answer for a body",
            format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}"),
            204,
            "",
        ),
        whole(
            "304",
            "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
            304,
            "",
        )
        .with("ETag: x\r\n"),
        whole(
            "304 with a length",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            304,
            "",
        )
        .with("Content-Length: 9\r\n"),
        whole(
            "304 with a body",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok",
            304,
            "",
        )
        .with("Content-Length: 2\r\n"),
        whole(
            "304 with chunks",
            format!("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
            304,
            "",
        ),
        whole(
            "205 with a length of zero",
            "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
            205,
            "",
        ),
        bad(
            "HEAD with two lengths",
            ok("Content-Length: 1\r\nContent-Length: 2\r\n", ""),
        )
        .to("HEAD /row"),
        bad(
            "304 with a bad length",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n",
        ),
    ]
}
