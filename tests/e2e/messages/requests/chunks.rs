//! Chunked bodies.

use super::super::row::{Request, gets, refused, taken, unfinished};
use super::{SMUGGLED, chunked};

pub fn rows() -> Vec<Request> {
    [legal(), sizes(), extensions(), terminators(), trailers()].concat()
}

fn legal() -> Vec<Request> {
    let mut rows = Vec::new();
    for (name, body, data) in [
        ("one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("no chunk", "0\r\n\r\n", ""),
        (
            "several chunks",
            "1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n",
            "hello",
        ),
        ("upper case", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("lower case", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("leading zeros", "0005\r\nhello\r\n0000\r\n\r\n", "hello"),
        (
            "sixteen digits",
            "0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n",
            "hello",
        ),
        ("an extension", "5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello"),
        (
            "blanks around it",
            "5 ; a = b\r\nhello\r\n0\t;\tb\r\n\r\n",
            "hello",
        ),
        (
            "a quoted extension",
            "5;a=\"b;c\\\"\"\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        ("a padded size", "5  \r\nhello\r\n0  \r\n\r\n", "hello"),
        ("trailers", "5\r\nhello\r\n0\r\nX: 1\r\nY:\r\n\r\n", "hello"),
        (
            "trailers that would frame",
            "5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\nHost: o\r\n\r\n",
            "hello",
        ),
        (
            "data that looks like the end",
            "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
            "0\r\n\r\n",
        ),
        (
            "data with every line end",
            "4\r\n\r\n\n\r\r\n0\r\n\r\n",
            "\r\n\n\r",
        ),
        (
            "data that is a request",
            "1c\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n\r\n0\r\n\r\n",
            "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
    ] {
        let row = taken(
            &format!("chunks: {name}"),
            chunked(body),
            &[gets("POST /a").body(data)],
        );
        rows.push(row);
    }
    let next = "GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let two = [gets("POST /a").body("hello"), gets("GET /b")];
    rows.push(taken(
        "chunks: and a request",
        chunked(&format!("5\r\nhello\r\n0\r\n\r\n{next}")),
        &two,
    ));
    rows.push(taken(
        "chunks: and a line and a request",
        chunked(&format!("5\r\nhello\r\n0\r\n\r\n\r\n{next}")),
        &two,
    ));
    rows.push(
        refused(
            "chunks: and garbage",
            chunked("5\r\nhello\r\n0\r\n\r\nhello\r\n\r\n"),
            400,
        )
        .after(&two[..1]),
    );
    for method in ["GET", "DELETE", "OPTIONS", "HEAD"] {
        let line = format!("{method} /a");
        let text = format!(
            "{line} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        rows.push(taken(
            &format!("chunks: of {method}"),
            text,
            &[gets(line).body("hello")],
        ));
    }
    rows
}

fn sizes() -> Vec<Request> {
    let mut rows = Vec::new();
    for size in [
        "",
        " ",
        ";a",
        "+5",
        "-5",
        "-0",
        " 5",
        "\t5",
        "0x5",
        "0X5",
        "5h",
        "g",
        "5.0",
        "5,5",
        "5 5",
        "5 x",
        "5\t5",
        "5_0",
        "\"5\"",
        "five",
        "\u{665}",
        "5\u{a0}",
        "00000000000000005",
        "00000000000000000",
        "8000000000000000",
        "8000000000000005",
        "ffffffffffffffff",
        "10000000000000000",
        "10000000000000005",
        "100000000000000000000000000000005",
        "fffffffffffffff5x",
        "5\r",
        "5\0",
        "\x005",
        "5\x0b",
        "5\x0c",
    ] {
        let text = chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"));
        rows.push(refused(&format!("chunk size {size:?}"), text, 400));
    }
    rows.push(unfinished(
        "chunk size below 2^63",
        chunked("80000\r\nhello"),
    ));
    rows.push(refused(
        "a chunk beyond client_max_body_size",
        chunked(&format!("100001\r\n{}", "x".repeat(0x10_0001))),
        413,
    ));
    rows
}

fn extensions() -> Vec<Request> {
    let long = |length: usize| format!("5;{}\r\nhello\r\n", "e".repeat(length - 1));
    let mut rows = Vec::new();
    for (name, extension) in [
        ("LF", ";a\n"),
        ("LF and a size", ";\n10"),
        ("LF in quotes", ";a=\"\n\""),
        ("CR", ";a\rb"),
        ("CR CR", ";a\r"),
        ("NUL", ";a\0b"),
        ("DEL", ";a\x7f"),
        ("vertical tab", ";\x0b"),
        ("blanks and LF", "  \n"),
        ("CR LF in quotes", ";a=\"\r\n\""),
    ] {
        let text = chunked(&format!("5{extension}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"));
        rows.push(refused(&format!("chunk extension with {name}"), text, 400));
    }
    rows.push(taken(
        "a chunk extension as long as may be",
        chunked(&format!("{}0\r\n\r\n", long(256))),
        &[gets("POST /a").body("hello")],
    ));
    rows.push(refused(
        "a chunk extension beyond that",
        chunked(&long(257)),
        400,
    ));
    rows.push(refused(
        "extensions beyond their sum",
        chunked(&format!("{}0\r\n\r\n", long(256).repeat(65))),
        400,
    ));
    rows.push(refused(
        "an extension of blanks only",
        chunked(&format!("5{}\r\nhello\r\n", " ".repeat(300))),
        400,
    ));
    rows
}

fn terminators() -> Vec<Request> {
    let mut rows = Vec::new();
    for (name, body) in [
        ("LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("LF CR after the size", "5\n\rhello\r\n0\r\n\r\n"),
        ("nothing after the data", "5\r\nhello0\r\n\r\n"),
        ("LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("CR after the data", "5\r\nhello\r0\r\n\r\n"),
        ("two bytes after the data", "5\r\nhelloXX0\r\n\r\n"),
        ("a byte more than the size", "5\r\nhello!\r\n0\r\n\r\n"),
        ("a byte less than the size", "6\r\nhello\r\n0\r\n\r\n"),
        (
            "an empty line after the data",
            "5\r\nhello\r\n\r\n0\r\n\r\n",
        ),
        (
            "an empty line before the size",
            "\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        ("LF after the last size", "5\r\nhello\r\n0\n\r\n"),
        ("CR after the last size", "5\r\nhello\r\n0\r\r\n"),
        ("LF at the very end", "5\r\nhello\r\n0\r\n\n"),
        ("CR CR LF at the very end", "5\r\nhello\r\n0\r\n\r\r\n"),
        ("CR and a byte at the very end", "5\r\nhello\r\n0\r\n\rX"),
        (
            "no last line",
            "5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        ("a body without chunks", "hello"),
        ("a length instead", "hello\r\n\r\n"),
    ] {
        let text = chunked(&format!("{body}{SMUGGLED}"));
        rows.push(refused(&format!("chunk end: {name}"), text, 400));
    }
    for (name, body) in [
        ("nothing", ""),
        ("half a size", "5"),
        ("a size", "5\r\n"),
        ("half the data", "5\r\nhel"),
        ("the data", "5\r\nhello"),
        ("the data and CR", "5\r\nhello\r"),
        ("one chunk", "5\r\nhello\r\n"),
        ("the last size", "5\r\nhello\r\n0"),
        ("the last line", "5\r\nhello\r\n0\r\n"),
        ("the last CR", "5\r\nhello\r\n0\r\n\r"),
        ("half a trailer", "5\r\nhello\r\n0\r\nX: 1"),
        ("a trailer", "5\r\nhello\r\n0\r\nX: 1\r\n"),
    ] {
        rows.push(unfinished(
            &format!("chunks end after {name}"),
            chunked(body),
        ));
    }
    rows
}

fn trailers() -> Vec<Request> {
    let mut rows = Vec::new();
    for lines in [
        "X\r\n",
        "X : 1\r\n",
        ": 1\r\n",
        " X: 1\r\n",
        "X: 1\r\n folded\r\n",
        "X: 1\n",
        "X: 1\r",
        "X: \0\r\n",
        "X: \x7f\r\n",
        "X Y: 1\r\n",
        "X\0: 1\r\n",
        "X: 1\r\nY\r\n",
    ] {
        let text = chunked(&format!("5\r\nhello\r\n0\r\n{lines}\r\n{SMUGGLED}"));
        rows.push(refused(&format!("trailer {lines:?}"), text, 400));
    }
    let long = |length: usize| {
        chunked(&format!(
            "5\r\nhello\r\n0\r\nX:{}\r\n\r\n",
            "a".repeat(length - 4)
        ))
    };
    rows.push(taken(
        "trailers as long as may be",
        long(8192),
        &[gets("POST /a").body("hello")],
    ));
    rows.push(refused("trailers beyond that", long(8193), 400));
    rows
}
