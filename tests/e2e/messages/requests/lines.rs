//! Line ends, empty lines and request lines.

use super::super::row::{Request, gets, refused, taken, unfinished};
use super::{SMUGGLED, get};

pub fn rows() -> Vec<Request> {
    [line_ends(), empty_lines(), request_lines(), foreign()].concat()
}

fn line_ends() -> Vec<Request> {
    let mut rows = vec![
        taken("a plain request", get(""), &[gets("GET /a")]),
        unfinished("no empty line", "GET /a HTTP/1.1\r\nHost: h\r\n"),
        unfinished(
            "no end of the last line",
            "GET /a HTTP/1.1\r\nHost: h\r\n\r",
        ),
        unfinished("half a request line", "GET /a HT"),
        unfinished("CR alone at the end", "GET /a HTTP/1.1\r\nHost: h\r"),
        refused(
            "every line ends with LF",
            get("X: 1\r\n").replace('\r', ""),
            400,
        ),
        refused(
            "an empty line that is LF",
            "GET /a HTTP/1.1\r\nHost: h\r\n\n",
            400,
        ),
        refused(
            "an empty line that is LF CR",
            "GET /a HTTP/1.1\r\nHost: h\r\n\n\r",
            400,
        ),
        refused(
            "LF LF inside a value",
            get("X: 1\n\nGET /smuggled HTTP/1.1\r\n"),
            400,
        ),
        refused(
            "a value with LF and a request",
            get(&format!("X: 1\n{SMUGGLED}")),
            400,
        ),
    ];
    let line_end = [
        ("the request line", "GET /a HTTP/1.1@Host: h\r\n\r\n"),
        ("the Host line", "GET /a HTTP/1.1\r\nHost: h@Y: 2\r\n\r\n"),
        ("a field", "GET /a HTTP/1.1\r\nHost: h\r\nX: 1@Y: 2\r\n\r\n"),
        (
            "a field before the length",
            "POST /a HTTP/1.1\r\nHost: h\r\nX: 1@Content-Length: 1\r\n\r\nx",
        ),
        (
            "a field before the coding",
            "POST /a HTTP/1.1\r\nHost: h\r\nX: 1@Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ];
    for (place, text) in line_end {
        for (end, bytes) in [
            ("LF", "\n"),
            ("CR", "\r"),
            ("LF CR", "\n\r"),
            ("CR CR LF", "\r\r\n"),
            ("vertical tab", "\x0b"),
            ("form feed", "\x0c"),
        ] {
            let name = format!("{end} after {place}");
            rows.push(refused(&name, text.replace('@', bytes), 400));
        }
    }
    // A line separator of Unicode ends no line: it is part of the value.
    rows.push(taken(
        "U+2028 in a value",
        get("X: 1\u{2028}Content-Length: 5\r\n"),
        &[gets("GET /a").fields("X: 1\u{2028}Content-Length: 5\r\n")],
    ));
    rows.push(taken(
        "U+0085 in a value",
        get("X: 1\u{85}Y: 2\r\n"),
        &[gets("GET /a").fields("X: 1\u{85}Y: 2\r\n")],
    ));
    rows
}

fn empty_lines() -> Vec<Request> {
    let (plain, two) = (get(""), [gets("GET /a"), gets("GET /a")]);
    vec![
        taken("one empty line before", format!("\r\n{plain}"), &two[..1]),
        refused("two empty lines before", format!("\r\n\r\n{plain}"), 400),
        refused(
            "many empty lines before",
            format!("{}{plain}", "\r\n".repeat(100)),
            400,
        ),
        refused("an empty line of LF before", format!("\n{plain}"), 400),
        refused("a CR before", format!("\r{plain}"), 400),
        refused("a blank line before", format!(" \r\n{plain}"), 400),
        taken("an empty line between", format!("{plain}\r\n{plain}"), &two),
        refused(
            "two empty lines between",
            format!("{plain}\r\n\r\n{plain}"),
            400,
        )
        .after(&two[..1]),
        refused("LF between", format!("{plain}\n{plain}"), 400).after(&two[..1]),
        refused("NUL between", format!("{plain}\0{plain}"), 400).after(&two[..1]),
    ]
}

fn request_lines() -> Vec<Request> {
    let mut rows = Vec::new();
    for line in [
        "get /a HTTP/1.1",
        "Get /a HTTP/1.1",
        " GET /a HTTP/1.1",
        "\tGET /a HTTP/1.1",
        "GET\t/a HTTP/1.1",
        "GET /a\tHTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET /a  HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a HTTP/1.1\t",
        "GET /a b HTTP/1.1",
        "GET /a HTTP/1.1 /b HTTP/1.1",
        "GET /a",
        "GET ",
        "GET",
        "/a HTTP/1.1",
        "HTTP/1.1 200 OK",
        "G@T /a HTTP/1.1",
        "GET:/a HTTP/1.1",
        "GET/ /a HTTP/1.1",
        "G\u{c9}T /a HTTP/1.1",
        "\u{feff}GET /a HTTP/1.1",
        "GET /a HTTP/0.9",
        "GET /a HTTP/1",
        "GET /a HTTP/1.",
        "GET /a HTTP/.1",
        "GET /a HTTP/1.1.1",
        "GET /a HTTP/1.10",
        "GET /a HTTP/01.1",
        "GET /a HTTP/1,1",
        "GET /a HTTP/+1.1",
        "GET /a HTTP/-1.1",
        "GET /a HTTP/1.1;x",
        "GET /a HTTP/1.x",
        "GET /a HTTP1.1",
        "GET /a HTTP /1.1",
        "GET /a HTTP/ 1.1",
        "GET /a http/1.1",
        "GET /a HTTPS/1.1",
        "GET /a XHTTP/1.1",
        "GET /a HTTP/\u{661}.1",
    ] {
        rows.push(refused(
            &format!("line {line:?}"),
            format!("{line}\r\nHost: h\r\n\r\n"),
            400,
        ));
    }
    for (line, status) in [
        ("GET /a HTTP/2.0", 505),
        ("GET /a HTTP/9.9", 505),
        ("PRI * HTTP/2.0", 505),
        ("TRACE /a HTTP/1.1", 405),
        ("CONNECT h:443 HTTP/1.1", 405),
        ("CONNECT /a HTTP/1.1", 405),
        ("CONNECT http://h/ HTTP/1.1", 405),
    ] {
        let text = format!("{line}\r\nHost: h\r\n\r\n");
        rows.push(refused(&format!("line {line:?}"), text, status));
    }
    rows.push(refused(
        "TRACE with no hop left",
        "TRACE /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\nCookie: secret\r\n\r\n",
        405,
    ));
    for method in [
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "HEAD",
        "POST",
        "PROPFIND",
        "M-SEARCH",
        "MY_METHOD",
        "GETX",
        "X",
    ] {
        let line = format!("{method} /a");
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        rows.push(taken(&format!("method {method}"), text, &[gets(line)]));
    }
    for minor in [2, 9] {
        let text = format!("GET /a HTTP/1.{minor}\r\nHost: h\r\n\r\n");
        rows.push(taken(
            &format!("minor version {minor}"),
            text,
            &[gets("GET /a")],
        ));
    }
    let long = "M".repeat(200);
    let text = format!("{long} /a HTTP/1.1\r\nHost: h\r\n\r\n");
    rows.push(taken("a long method", text, &[gets(format!("{long} /a"))]));
    rows
}

/// Other protocols that find their way to an HTTP port.
fn foreign() -> Vec<Request> {
    vec![
        refused(
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            400,
        ),
        refused("an SSH banner", "SSH-2.0-OpenSSH_9.6\r\n", 400),
        refused(
            "a PROXY header",
            format!("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{}", get("")),
            400,
        ),
        refused(
            "a PROXY header in binary",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
            400,
        ),
        refused("a Redis command", "*1\r\n$4\r\nPING\r\n", 400),
        refused("mail", "EHLO h\r\n", 400),
    ]
}
