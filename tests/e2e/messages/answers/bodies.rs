//! Bodies of answers: chunks, trailers, and what is cut short.

use super::super::row::{Answer, Got, cut, whole};
use super::{POISON, ok};

pub fn rows() -> Vec<Answer> {
    [chunks(), trailers(), short(), old()].concat()
}

fn chunked(body: &str) -> String {
    ok("Transfer-Encoding: chunked\r\n", body)
}

fn chunks() -> Vec<Answer> {
    let mut rows = Vec::new();
    for (name, body) in [
        ("one", "2\r\nok\r\n0\r\n\r\n"),
        ("two", "1\r\no\r\n1\r\nk\r\n0\r\n\r\n"),
        ("zeros", "0000000000000002\r\nok\r\n000\r\n\r\n"),
        ("extensions", "2;a=\"b\"\r\nok\r\n0;c\r\n\r\n"),
        ("padding", "2   \r\nok\r\n0  \r\n\r\n"),
        (
            "trailers, which go",
            "2\r\nok\r\n0\r\nX: 1\r\nContent-Length: 5\r\n\r\n",
        ),
    ] {
        rows.push(whole(&format!("chunks: {name}"), chunked(body), 200, "ok"));
    }
    rows.push(whole("chunks: none", chunked("0\r\n\r\n"), 200, ""));
    rows.push(whole(
        "chunks: and another answer",
        chunked(&format!("2\r\nok\r\n0\r\n\r\n{POISON}")),
        200,
        "ok",
    ));
    // The head has gone out by then, or the answer is still ours to replace: what the client
    // gets is never whole.
    for (name, body) in [
        ("no size", "\r\nok\r\n0\r\n\r\n"),
        ("a sign", "+2\r\nok\r\n0\r\n\r\n"),
        ("0x", "0x2\r\nok\r\n0\r\n\r\n"),
        ("no digit", "g\r\nok\r\n0\r\n\r\n"),
        ("17 digits", "00000000000000002\r\nok\r\n0\r\n\r\n"),
        ("2^63", "8000000000000000\r\nok\r\n0\r\n\r\n"),
        ("2^64 + 2", "10000000000000002\r\nok\r\n0\r\n\r\n"),
        ("LF after the size", "2\nok\r\n0\r\n\r\n"),
        ("LF after the data", "2\r\nok\n0\r\n\r\n"),
        ("no end of the data", "2\r\nok0\r\n\r\n"),
        ("a byte too many", "2\r\nok!\r\n0\r\n\r\n"),
        ("a byte too few", "3\r\nok\r\n0\r\n\r\n"),
        ("text after the size", "2 x\r\nok\r\n0\r\n\r\n"),
        ("NUL in an extension", "2;\0\r\nok\r\n0\r\n\r\n"),
        ("LF in an extension", "2;a\nb\r\nok\r\n0\r\n\r\n"),
        ("LF at the end", "2\r\nok\r\n0\r\n\n"),
        ("a bad trailer", "2\r\nok\r\n0\r\nX\r\n\r\n"),
        ("a folded trailer", "2\r\nok\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
        ("an answer instead", POISON),
    ] {
        rows.push(cut(&format!("bad chunks: {name}"), chunked(body)));
    }
    let long = format!("2;{}\r\nok\r\n0\r\n\r\n", "e".repeat(300));
    rows.push(cut("bad chunks: a long extension", chunked(&long)));
    let long = format!("2\r\nok\r\n0\r\nX: {}\r\n\r\n", "e".repeat(9000));
    rows.push(cut("bad chunks: a long trailer", chunked(&long)));
    rows
}

fn trailers() -> Vec<Answer> {
    let passed = |name: &str, body: &str, trailers: &str| {
        cut(name, chunked(body))
            .to("GET /row/trailers")
            .got(Got::Trailed("ok".into(), trailers.into()))
    };
    vec![
        passed(
            "trailers pass",
            "2\r\nok\r\n0\r\nX: 1\r\nY: 2\r\n\r\n",
            "X: 1\r\nY: 2\r\n",
        ),
        passed(
            "trailers pass without data before",
            "2\r\nok\r\n0;x\r\nX:1\r\n\r\n",
            "X: 1\r\n",
        ),
        passed("no trailers", "2\r\nok\r\n0\r\n\r\n", ""),
        passed(
            "trailers that would frame do not pass",
            "2\r\nok\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: x\r\nConnection: close\r\n\
             Set-Cookie: a\r\nX: 1\r\n\r\n",
            "X: 1\r\n",
        ),
        whole(
            "no trailers for HTTP/1.0",
            chunked("2\r\nok\r\n0\r\nX: 1\r\n\r\n"),
            200,
            "ok",
        )
        .asked("GET /row/trailers HTTP/1.0\r\nHost: h\r\n\r\n"),
        whole(
            "no trailers behind a length",
            ok("Trailer: X\r\nContent-Length: 2\r\n", "okX: 1\r\n\r\n"),
            200,
            "ok",
        )
        .to("GET /row/trailers"),
        whole("no trailers for HEAD", chunked(""), 200, "").to("HEAD /row/trailers"),
    ]
}

fn short() -> Vec<Answer> {
    let mut rows = Vec::new();
    for (name, text) in [
        ("a length, no data", ok("Content-Length: 5\r\n", "")),
        ("a length, some data", ok("Content-Length: 5\r\n", "hell")),
        ("chunks, no data", chunked("")),
        ("chunks, half a size", chunked("5")),
        ("chunks, a size", chunked("5\r\n")),
        ("chunks, some data", chunked("5\r\nhel")),
        ("chunks, all data", chunked("5\r\nhello")),
        ("chunks, a CR", chunked("5\r\nhello\r")),
        ("chunks, one chunk", chunked("5\r\nhello\r\n")),
        ("chunks, the last size", chunked("5\r\nhello\r\n0")),
        ("chunks, the last line", chunked("5\r\nhello\r\n0\r\n")),
        ("chunks, the last CR", chunked("5\r\nhello\r\n0\r\n\r")),
        (
            "chunks, half a trailer",
            chunked("5\r\nhello\r\n0\r\nX: 1\r\n"),
        ),
    ] {
        rows.push(cut(&format!("cut: {name}"), &text).closing());
        rows.push(cut(&format!("reset: {name}"), &text).resetting());
        rows.push(
            cut(&format!("cut for HTTP/1.0: {name}"), &text)
                .asked_by_old()
                .closing(),
        );
        rows.push(
            cut(&format!("reset for HTTP/1.0: {name}"), &text)
                .asked_by_old()
                .resetting(),
        );
    }
    rows.push(cut("reset: until close", ok("", "hello")).resetting());
    rows.push(
        cut("reset for HTTP/1.0: until close", ok("", "hello"))
            .asked_by_old()
            .resetting(),
    );
    rows
}

fn old() -> Vec<Answer> {
    vec![
        whole("until close", ok("", "hello"), 200, "hello").closing(),
        whole("until close, nothing", ok("", ""), 200, "").closing(),
        whole(
            "until close, what looks chunked",
            ok("", "5\r\nhello\r\n0\r\n\r\n"),
            200,
            "5\r\nhello\r\n0\r\n\r\n",
        )
        .closing(),
        whole(
            "until close from HTTP/1.0",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            200,
            "hello",
        )
        .closing(),
        whole("until close for HTTP/1.0", ok("", "hello"), 200, "hello")
            .asked_by_old()
            .closing(),
        whole(
            "a length for HTTP/1.0",
            ok("Content-Length: 2\r\n", "ok"),
            200,
            "ok",
        )
        .asked_by_old(),
        whole(
            "chunks for HTTP/1.0",
            chunked("2\r\nok\r\n0\r\n\r\n"),
            200,
            "ok",
        )
        .asked_by_old(),
        whole(
            "chunks for HTTP/1.0 that keeps",
            chunked("2\r\nok\r\n0\r\n\r\n"),
            200,
            "ok",
        )
        .asked("GET /row HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"),
    ]
}
