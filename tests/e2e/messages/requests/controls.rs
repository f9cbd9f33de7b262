//! Control bytes in every part of a request.

use super::super::row::{Request, refused};

/// Those that parsers have been found to skip, to take for blanks, or to end a text at.
const BYTES: [u8; 10] = [0, 1, 7, 8, 0x0b, 0x0c, 0x0e, 0x1b, 0x1f, 0x7f];

pub fn rows() -> Vec<Request> {
    let mut rows = Vec::new();
    for byte in BYTES {
        let at = char::from(byte);
        for (place, text) in [
            (
                "before the method",
                format!("{at}GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
            ),
            (
                "in the method",
                format!("GE{at}T /a HTTP/1.1\r\nHost: h\r\n\r\n"),
            ),
            (
                "in the path",
                format!("GET /a{at}b HTTP/1.1\r\nHost: h\r\n\r\n"),
            ),
            (
                "in the query",
                format!("GET /a?b{at}c HTTP/1.1\r\nHost: h\r\n\r\n"),
            ),
            (
                "before the version",
                format!("GET /a {at}HTTP/1.1\r\nHost: h\r\n\r\n"),
            ),
            (
                "after the version",
                format!("GET /a HTTP/1.1{at}\r\nHost: h\r\n\r\n"),
            ),
            (
                "in Host",
                format!("GET /a HTTP/1.1\r\nHost: h{at}h\r\n\r\n"),
            ),
            (
                "in a name",
                format!("GET /a HTTP/1.1\r\nHost: h\r\nX{at}Y: 1\r\n\r\n"),
            ),
            (
                "before a colon",
                format!("GET /a HTTP/1.1\r\nHost: h\r\nX{at}: 1\r\n\r\n"),
            ),
            (
                "in a value",
                format!("GET /a HTTP/1.1\r\nHost: h\r\nX: 1{at}2\r\n\r\n"),
            ),
            (
                "at the end of a value",
                format!("GET /a HTTP/1.1\r\nHost: h\r\nX: 1{at}\r\n\r\n"),
            ),
            (
                "in a length",
                format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1{at}\r\n\r\nx"),
            ),
            (
                "in a coding",
                format!(
                    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {at}chunked\r\n\r\n0\r\n\r\n"
                ),
            ),
            (
                "before the coding's colon",
                format!(
                    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding{at}: chunked\r\n\r\n0\r\n\r\n"
                ),
            ),
        ] {
            rows.push(refused(&format!("byte {byte:#04x} {place}"), text, 400));
        }
    }
    rows
}
