//! Complete answers that are none, or say something wrong.

use super::row::{How, Row, check};
use crate::support::fault::Fault;

fn status(line: &str, body: &str) -> How {
    let length = body.len();
    How::Broken(Fault::Answer(format!(
        "HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )))
}

fn garbage(text: &str) -> How {
    How::Broken(Fault::Answer(text.to_owned()))
}

/// What Consul says to a connection too many.
pub fn crowded() -> Fault {
    let why = "Your IP is issuing too many concurrent connections, please rate limit your calls\n";
    Fault::Greeting(format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{why}",
        why.len()
    ))
}

#[test]
fn answers_that_are_none() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>hi</html>";
    check(&[
        Row::new(
            "status_500",
            status("500 Internal Server Error", "No cluster leader"),
        )
        .says(&["status 500: \"No cluster leader\""]),
        Row::new("status_502", status("502 Bad Gateway", "")).says(&["status 502"]),
        Row::new(
            "status_429",
            status("429 Too Many Requests", "Your IP is issuing too many"),
        )
        .says(&["status 429"]),
        Row::new("status_429_at_once", How::Broken(crowded())).says(&["status 429"]),
        Row::new("status_403", status("403 Forbidden", "Permission denied")).says(&["403"]),
        Row::new("status_301", status("301 Moved Permanently", "")).says(&["status 301"]),
        Row::new("garbage", garbage("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n"))
            .says(&["invalid response head: invalid HTTP version"]),
        Row::new("another_protocol", garbage("220 mail ESMTP ready\r\n\r\n"))
            .says(&["invalid response head: invalid HTTP version"]),
        Row::new("bad_head", garbage("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"))
            .says(&["invalid response head"]),
        Row::new(
            "bad_length",
            garbage("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        )
        .says(&["Content-Length"]),
        Row::new("a_page", garbage(page)).says(&["X-Consul-Index", "invalid JSON"]),
    ]);
}

#[test]
fn bodies_that_are_no_list() {
    let body = |name, body: &str| Row::new(name, How::Standing(Fault::Body(body.to_owned())));
    let invalid = &["invalid JSON"];
    check(&[
        Row::new("truncated_json", How::Standing(Fault::Chop(2))).says(invalid),
        Row::new("truncated_key", How::Standing(Fault::Chop(200))).says(invalid),
        body("empty_body", "").says(invalid),
        body("empty_list", "[]").says(&["empty list"]),
        body("null", "null").says(invalid),
        body("object", "{\"a\":1}").says(invalid),
        body("numbers", "[1,2]").says(invalid),
        body("no_key", "[{\"Value\":\"e30=\"}]").says(invalid),
        body("key_of_another_type", "[{\"Key\":1}]").says(invalid),
        body("deep_json", &"[".repeat(100_000)).says(invalid),
    ]);
}

fn index(name: &'static str, value: Option<&str>) -> Row {
    let field = ("X-Consul-Index".to_owned(), value.map(str::to_owned));
    Row::new(name, How::Standing(Fault::Fields(vec![field])))
}

#[test]
fn indices_that_are_wrong() {
    check(&[
        index("index_missing", None).says(&["X-Consul-Index"]),
        index("index_no_number", Some("eleven")).says(&["X-Consul-Index"]),
        index("index_negative", Some("-5")).says(&["X-Consul-Index"]),
        index("index_too_large", Some("99999999999999999999")).says(&["X-Consul-Index"]),
        index("index_0", Some("0")).passes(),
        index("index_1", Some("1")).passes(),
        index("index_backwards", Some("5"))
            .passes()
            .says(&["index went back"]),
    ]);
}
