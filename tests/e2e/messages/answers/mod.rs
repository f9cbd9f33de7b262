//! What servers send.

mod bodies;
mod fields;
mod lengths;
mod status;

use super::row::Answer;

/// An answer that would be an attacker's, were it ever taken for the one to the next request.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";

pub fn rows() -> Vec<Answer> {
    let tables = [
        ("status", status::rows()),
        ("field", fields::rows()),
        ("length", lengths::rows()),
        ("body", bodies::rows()),
    ];
    let mut all = Vec::new();
    for (subject, rows) in tables {
        all.extend(rows.into_iter().map(|row| Answer {
            name: format!("answer, {subject}: {}", row.name),
            ..row
        }));
    }
    all
}

/// 200 with these field lines and what follows the head.
fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}
