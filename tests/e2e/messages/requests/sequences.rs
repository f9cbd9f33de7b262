//! Requests one after another, versions, expectations and hops.

use super::super::row::{Request, gets, own, refused, taken, unfinished};
use super::{SMUGGLED, get};

pub fn rows() -> Vec<Request> {
    [pipelines(), versions(), expectations(), hops()].concat()
}

fn nth(number: usize) -> String {
    format!("GET /{number} HTTP/1.1\r\nHost: h\r\nX: {number}\r\n\r\n")
}

fn pipelines() -> Vec<Request> {
    let intended =
        |number: usize| gets(format!("GET /{number}")).fields(format!("X: {number}\r\n"));
    let several = |count: usize| {
        let text: String = (0..count).map(nth).collect();
        let all: Vec<_> = (0..count).map(intended).collect();
        taken(&format!("{count} requests at once"), text, &all)
    };
    let close = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    vec![
        several(2),
        several(10),
        several(100),
        taken(
            "nothing after close",
            format!("{close}{SMUGGLED}"),
            &[gets("GET /a")],
        ),
        taken(
            "close among other options",
            format!("GET /a HTTP/1.1\r\nHost: h\r\nConnection: X, Close\r\n\r\n{SMUGGLED}"),
            &[gets("GET /a")],
        ),
        refused(
            "a bad one after a good one",
            format!("{}GET\r\n{SMUGGLED}", nth(0)),
            400,
        )
        .after(&[intended(0)]),
        refused(
            "nothing after a bad one",
            format!("GET /a HTTP/1.1\r\n\r\n{SMUGGLED}"),
            400,
        ),
        refused(
            "nothing after a bad coding",
            format!("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\n\r\n{SMUGGLED}"),
            501,
        ),
        unfinished(
            "half a request after a whole one",
            format!("{}GET /b HT", nth(0)),
        )
        .after(&[intended(0)]),
        taken(
            "HEAD before GET",
            format!("HEAD /h HTTP/1.1\r\nHost: h\r\n\r\n{}", nth(0)),
            &[gets("HEAD /h"), intended(0)],
        ),
        taken(
            "bodies of both kinds between",
            format!(
                "POST /l HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc{}\
                 POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n{}",
                nth(0),
                nth(1)
            ),
            &[
                gets("POST /l").body("abc"),
                intended(0),
                gets("POST /c").body("abc"),
                intended(1),
            ],
        ),
        own(
            "an answer of weir's own keeps the connection",
            "GET /own HTTP/1.1\r\nHost: h\r\n\r\n",
            200,
        ),
        own(
            "with the body passed over",
            "POST /own HTTP/1.1\r\nHost: h\r\nContent-Length: 31\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\nabcde",
            200,
        ),
        own(
            "with the chunks passed over",
            "POST /own HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n",
            200,
        ),
        unfinished(
            "with the body not yet there",
            "POST /own HTTP/1.1\r\nHost: h\r\nContent-Length: 5",
        ),
    ]
}

fn versions() -> Vec<Request> {
    let old = |fields: &str| format!("GET /a HTTP/1.0\r\nHost: h\r\n{fields}\r\n");
    vec![
        taken(
            "HTTP/1.0 ends the connection",
            format!("{}{SMUGGLED}", old("")),
            &[gets("GET /a")],
        ),
        taken(
            "HTTP/1.0 keeps it when asked",
            old("Connection: keep-alive\r\n"),
            &[gets("GET /a")],
        ),
        taken(
            "HTTP/1.0 with keep-alive and close",
            format!("{}{SMUGGLED}", old("Connection: keep-alive, close\r\n")),
            &[gets("GET /a")],
        ),
        taken(
            "Proxy-Connection keeps nothing",
            format!("{}{SMUGGLED}", old("Proxy-Connection: keep-alive\r\n")),
            &[gets("GET /a")],
        ),
        taken(
            "HTTP/1.0 is not asked to go on",
            old("Expect: 100-continue\r\nContent-Length: 0\r\n"),
            &[gets("GET /a")],
        ),
        refused("HTTP/0.9", "GET /a\r\n", 400),
    ]
}

fn expectations() -> Vec<Request> {
    let head = "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n";
    let hello = [gets("POST /a").body("hello")];
    vec![
        taken(
            "Expect with a length",
            format!("{head}Content-Length: 5\r\n\r\n"),
            &hello,
        )
        .then("hello"),
        taken(
            "Expect with chunks",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
            &hello,
        )
        .then("5\r\nhello\r\n0\r\n\r\n"),
        taken(
            "Expect in other letters",
            format!(
                "{}Content-Length: 5\r\n\r\n",
                head.replace("100-c", "100-C")
            ),
            &hello,
        )
        .then("hello"),
        taken(
            "Expect with the body there",
            format!("{head}Content-Length: 5\r\n\r\nhello"),
            &hello,
        ),
        taken(
            "Expect without a body",
            format!("{head}\r\n"),
            &[gets("POST /a")],
        ),
        taken(
            "Expect with a length of zero",
            format!("{head}Content-Length: 0\r\n\r\n"),
            &[gets("POST /a")],
        ),
        taken(
            "another expectation",
            "POST /a HTTP/1.1\r\nHost: h\r\nExpect: other\r\nContent-Length: 5\r\n\r\nhello",
            &hello,
        ),
        refused(
            "Expect of a refused request",
            format!("{head}Content-Length: x\r\n\r\n"),
            400,
        ),
        own(
            "Expect of an answer of weir's own",
            "POST /own HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            200,
        ),
        refused(
            "Expect of a body too large",
            format!("{head}Content-Length: 99999999\r\n\r\n"),
            413,
        ),
        unfinished(
            "Expect, and no body",
            format!("{head}Content-Length: 5\r\n\r\n"),
        )
        .then(""),
        unfinished(
            "Expect, and half a body",
            format!("{head}Content-Length: 5\r\n\r\n"),
        )
        .then("hel"),
        refused(
            "Expect, and bad chunks",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
            400,
        )
        .then("hello"),
    ]
}

fn hops() -> Vec<Request> {
    let options =
        |value: &str| format!("OPTIONS /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: {value}\r\n\r\n");
    let passes = |left: &str| [gets("OPTIONS /a").fields(format!("Max-Forwards: {left}\r\n"))];
    let mut rows = vec![
        taken("OPTIONS with ten hops", options("10"), &passes("9")),
        taken("OPTIONS with one hop", options("1"), &passes("0")),
        taken("OPTIONS with leading zeros", options("007"), &passes("6")),
        own("OPTIONS with no hop", options("0"), 200),
        taken(
            "only OPTIONS counts hops",
            get("Max-Forwards: 0\r\n"),
            &[gets("GET /a").fields("Max-Forwards: 0\r\n")],
        ),
        taken(
            "Connection takes no hops away",
            "OPTIONS /a HTTP/1.1\r\nHost: h\r\nConnection: Max-Forwards\r\nMax-Forwards: 3\r\n\r\n",
            &passes("2"),
        ),
    ];
    for value in ["", "-1", "+1", "x", "1, 2", "1.0", "99999999999999999999"] {
        rows.push(refused(
            &format!("Max-Forwards {value:?}"),
            options(value),
            400,
        ));
    }
    rows.push(refused(
        "two Max-Forwards",
        options("1\r\nMax-Forwards: 1"),
        400,
    ));
    rows
}
