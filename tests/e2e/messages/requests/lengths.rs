//! Content-Length.

use super::super::row::{Request, gets, refused, taken, unfinished};
use super::{SMUGGLED, get, post};

pub fn rows() -> Vec<Request> {
    [values(), several(), bodies()].concat()
}

fn values() -> Vec<Request> {
    let mut rows = Vec::new();
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "+0",
        "5.0",
        "5.",
        ".5",
        "5e0",
        "0x5",
        "0b1",
        "5h",
        "h",
        "five",
        "5 5",
        "5\t5",
        "5,",
        ",5",
        "5,5",
        "5, 5",
        "5,6",
        "5;5",
        "5;q=1",
        "\"5\"",
        "'5'",
        "(5)",
        "5%00",
        "\u{665}",
        "\u{ff15}",
        "5\u{a0}",
        "\u{a0}5",
        "1_0",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "340282366920938463463374607431768211461",
        "NaN",
        "Infinity",
        "chunked",
        "5\u{b2}",
    ] {
        let text = post(
            &format!("Content-Length: {value}\r\n"),
            &format!("hello{SMUGGLED}"),
        );
        rows.push(refused(&format!("length {value:?}"), text, 400));
    }
    rows.push(refused(
        "a length of 200 digits",
        post(&format!("Content-Length: {}\r\n", "9".repeat(200)), "x"),
        400,
    ));
    for value in ["5", "05", "0000000000000000000000000000005", " 5 ", "\t5\t"] {
        let text = post(&format!("Content-Length:{value}\r\n"), "hello");
        rows.push(taken(
            &format!("length {value:?}"),
            text,
            &[gets("POST /a").body("hello")],
        ));
    }
    rows.push(unfinished(
        "a length of 2^63 - 1",
        post("Content-Length: 524288\r\n", "hello"),
    ));
    rows.push(refused(
        "a length beyond client_max_body_size",
        post("Content-Length: 9223372036854775807\r\n", "x"),
        413,
    ));
    rows
}

fn several() -> Vec<Request> {
    let mut rows = Vec::new();
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\ncontent-length: 50\r\n",
        "Content-Length: 5\r\nX: 1\r\nCONTENT-LENGTH: 5\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
        "Content-Length:\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: x\r\n",
        "Content-Length: 5\r\nContent-Length : 50\r\n",
        "Content-Length : 5\r\n",
        "Content-Length\t: 5\r\n",
        "Content-Length: 5\r\n Content-Length: 50\r\n",
        "Content-Length:\r\n 5\r\n",
        "Content-Length: 5\r\n 0\r\n",
        " Content-Length: 5\r\n",
        "Content-Length 5\r\n",
        "Content Length: 5\r\n",
        "Content-Length: 1\nContent-Length: 5\r\n",
        "Content-Length: 1\rContent-Length: 5\r\n",
    ] {
        let text = post(lines, &format!("hello{SMUGGLED}"));
        rows.push(refused(&format!("lengths {lines:?}"), text, 400));
    }
    rows
}

fn bodies() -> Vec<Request> {
    let mut rows = Vec::new();
    for method in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "FOO",
    ] {
        let line = format!("{method} /a");
        let text = format!(
            "{line} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        );
        let name = format!("a request as the body of {method}");
        rows.push(taken(&name, text, &[gets(line).body(SMUGGLED)]));
    }
    let next = "GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let two = [gets("POST /a").body("hello"), gets("GET /b")];
    rows.extend([
        taken(
            "a length of zero ends there",
            post("Content-Length: 0\r\n", next),
            &[gets("POST /a"), gets("GET /b")],
        ),
        taken(
            "no length is no body",
            post("", next),
            &[gets("POST /a"), gets("GET /b")],
        ),
        taken(
            "what follows the body is a request",
            post("Content-Length: 5\r\n", &format!("hello{next}")),
            &two,
        ),
        taken(
            "with an empty line between",
            post("Content-Length: 5\r\n", &format!("hello\r\n{next}")),
            &two,
        ),
        refused(
            "what follows the body is none",
            post("Content-Length: 5\r\n", "hello, world\r\n\r\n"),
            400,
        )
        .after(&two[..1]),
        refused(
            "a body longer than its length",
            post("Content-Length: 4\r\n", &format!("hello{next}")),
            400,
        )
        .after(&[gets("POST /a").body("hell")]),
        unfinished(
            "a body shorter than its length",
            post("Content-Length: 500\r\n", next),
        ),
        unfinished("a body that never comes", post("Content-Length: 5\r\n", "")),
        unfinished("a GET whose body never comes", get("Content-Length: 5\r\n")),
        taken(
            "a body with every kind of line end",
            post("Content-Length: 9\r\n", "\n\r\r\n\r\n\0\n\r"),
            &[gets("POST /a").body("\n\r\r\n\r\n\0\n\r")],
        ),
        taken(
            "a body that looks chunked",
            post("Content-Length: 15\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            &[gets("POST /a").body("5\r\nhello\r\n0\r\n\r\n")],
        ),
        refused(
            "HTTP/1.0 with two lengths",
            "POST /a HTTP/1.0\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            400,
        ),
        taken(
            "HTTP/1.0 with a length",
            "POST /a HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            &[gets("POST /a").body("hello")],
        ),
        taken(
            "HTTP/1.0 without a length",
            format!("POST /a HTTP/1.0\r\nHost: h\r\n\r\n{SMUGGLED}"),
            &[gets("POST /a")],
        ),
    ]);
    rows
}
