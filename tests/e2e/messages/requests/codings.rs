//! Transfer-Encoding, alone and beside Content-Length.

use super::super::row::{Request, gets, refused, taken, unfinished};
use super::{SMUGGLED, post};

const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";

pub fn rows() -> Vec<Request> {
    [values(), obfuscated(), with_length()].concat()
}

fn values() -> Vec<Request> {
    let mut rows = Vec::new();
    for value in [
        "chunked",
        "Chunked",
        "CHUNKED",
        " chunked",
        "\tchunked\t",
        "  chunked  ",
    ] {
        let text = post(&format!("Transfer-Encoding:{value}\r\n"), BODY);
        rows.push(taken(
            &format!("coding {value:?}"),
            text,
            &[gets("POST /a").body("hello")],
        ));
    }
    for value in [
        "",
        "identity",
        "gzip",
        "deflate",
        "compress",
        "cow",
        "xchunked",
        "chunkedx",
        "x-chunked",
        "chunk",
        "chun ked",
        "chunked chunked",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked,identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "gzip;q=1, chunked",
        "chunked;q=1",
        "chunked;",
        "chunked ;a=b",
        "\"chunked\"",
        "'chunked'",
        "<chunked>",
        "chunked#",
        "chunked%00",
        "ch\u{fc}nked",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "chunke\u{212a}d",
        "c h u n k e d",
        "0",
        "5",
        "none",
        "trailers",
    ] {
        let text = post(
            &format!("Transfer-Encoding: {value}\r\n"),
            &format!("{BODY}{SMUGGLED}"),
        );
        rows.push(refused(&format!("coding {value:?}"), text, 501));
    }
    rows
}

fn obfuscated() -> Vec<Request> {
    let mut rows = Vec::new();
    for lines in [
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "\tTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding chunked\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: chunked\r\n gzip\r\n",
        "Transfer-Encoding: gzip\r\n chunked\r\n",
        "Transfer-\r\nEncoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n",
        "Transfer-Encoding: x\r\ntransfer-encoding: chunked\r\n",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding : x\r\n",
        "X: 1\nTransfer-Encoding: chunked\r\n",
        "X: 1\rTransfer-Encoding: chunked\r\n",
        "Foo: bar\r\n\rTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\nX: 1\r\n",
        "Transfer-Encoding: \0chunked\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        ":Transfer-Encoding: chunked\r\n",
        "\"Transfer-Encoding\": chunked\r\n",
        "Transfer-Encoding; chunked\r\n",
        "Transf\u{e9}r-Encoding: chunked\r\n",
    ] {
        let text = post(lines, &format!("{BODY}{SMUGGLED}"));
        rows.push(refused(&format!("codings {lines:?}"), text, 400));
    }
    rows.push(refused(
        "a coding in HTTP/1.0",
        format!("POST /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}"),
        400,
    ));
    rows
}

/// CL.TE, TE.CL and TE.TE: whatever part of them a server believes, there is nothing to believe.
fn with_length() -> Vec<Request> {
    let mut rows = Vec::new();
    for (name, length, coding) in [
        ("CL.TE", "Content-Length: 4", "Transfer-Encoding: chunked"),
        (
            "CL.TE with the right length",
            "Content-Length: 15",
            "Transfer-Encoding: chunked",
        ),
        (
            "CL.TE with zero",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
        ),
        (
            "CL.TE in other letters",
            "content-length: 4",
            "transfer-encoding: CHUNKED",
        ),
        (
            "CL.TE with a bad length",
            "Content-Length: x",
            "Transfer-Encoding: chunked",
        ),
    ] {
        for (order, lines) in [
            ("length first", format!("{length}\r\n{coding}\r\n")),
            ("coding first", format!("{coding}\r\nX: 1\r\n{length}\r\n")),
        ] {
            let text = post(&lines, &format!("{BODY}{SMUGGLED}"));
            rows.push(refused(&format!("{name}, {order}"), text, 400));
        }
    }
    for coding in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding:\x0bchunked",
        "X: 1\nTransfer-Encoding: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\n x",
    ] {
        let text = post(
            &format!("Content-Length: 4\r\n{coding}\r\n"),
            &format!("{BODY}{SMUGGLED}"),
        );
        rows.push(refused(&format!("length with {coding:?}"), text, 400));
    }
    let four = [gets("POST /a")
        .fields("X-Transfer-Encoding: chunked\r\n")
        .body("hell")];
    rows.extend([
        refused(
            "the prefix of another coding's name",
            post("Content-Length: 4\r\nX-Transfer-Encoding: chunked\r\n", "hello"),
            400,
        )
        .after(&four),
        unfinished("a coding that ignored names hide", post("Content-Length: 400\r\nTransfer_Encoding: chunked\r\n", BODY)),
        taken(
            "0.CL",
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 28\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            &[gets("GET /a").body("GET /b HTTP/1.1\r\nHost: h\r\n\r\n")],
        ),
    ]);
    rows
}
