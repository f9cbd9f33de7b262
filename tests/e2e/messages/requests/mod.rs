//! What clients send.

mod chunks;
mod codings;
mod controls;
mod fields;
mod hosts;
mod lengths;
mod lines;
mod sequences;
mod targets;

use super::row::Request;

/// A request that would be the attacker's, were it ever read as one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

pub fn rows() -> Vec<Request> {
    let tables = [
        ("line", lines::rows()),
        ("control", controls::rows()),
        ("target", targets::rows()),
        ("host", hosts::rows()),
        ("field", fields::rows()),
        ("length", lengths::rows()),
        ("coding", codings::rows()),
        ("chunk", chunks::rows()),
        ("sequence", sequences::rows()),
    ];
    let mut all = Vec::new();
    for (subject, rows) in tables {
        all.extend(rows.into_iter().map(|row| Request {
            name: format!("request, {subject}: {}", row.name),
            ..row
        }));
    }
    all
}

/// GET with these field lines.
fn get(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

/// POST with these field lines and what follows the head.
fn post(fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
}

/// POST with a chunked body.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}
