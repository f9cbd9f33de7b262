//! Consul's KV store: what is asked, and what an answer says.

use std::time::Duration;

use super::client::{Deadlines, Fault};
use super::decode::{Entry, excerpt};
use super::response::Response;
use crate::settings::Upsync;

/// A blocking query waits at most this long, so that a half-open connection is noticed.
pub const WAIT_MAX: Duration = Duration::from_secs(10);
/// Consul adds up to a sixteenth to `wait`; this much more is the network's.
pub const GRACE: Duration = Duration::from_secs(2);
/// Consul's `wait=0` means five minutes.
pub const WAIT_MIN: Duration = Duration::from_millis(1);

/// `wait` of a blocking query whose answer is to be there within `timeout` (`upsync_timeout`).
pub fn wait(timeout: Duration) -> Duration {
    let wait = if timeout >= 2 * GRACE {
        (timeout - GRACE) * 16 / 17
    } else {
        timeout / 2
    };
    wait.clamp(WAIT_MIN, WAIT_MAX)
}

/// The deadlines of a request that waits for `wait` within `timeout`.
pub fn deadlines(wait: Duration, timeout: Duration) -> Deadlines {
    Deadlines {
        connect: GRACE.min(timeout),
        answer: (wait + wait / 16 + GRACE).min(timeout),
        silence: GRACE,
        total: timeout,
    }
}

/// The request for everything below the upstream's folder once it is newer than `index`.
pub fn request(upsync: &Upsync, index: u64, wait: Duration) -> Vec<u8> {
    let wait = match (wait.as_secs(), wait.subsec_millis()) {
        (seconds, 0) if seconds > 0 => format!("{seconds}s"),
        _ => format!("{}ms", wait.as_millis()),
    };
    get(upsync, &format!("index={index}&wait={wait}"))
}

/// The request for everything below the upstream's folder as it is now, by the leader's word.
pub fn direct(upsync: &Upsync) -> Vec<u8> {
    get(upsync, "consistent")
}

/// The slash at the end makes Consul itself leave `test2` out when asked for `test`.
fn get(upsync: &Upsync, parameters: &str) -> Vec<u8> {
    let folder = match upsync.prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    format!(
        "GET /v1/kv/{folder}?recurse&{parameters} HTTP/1.1\r\nHost: {}\r\n\
         User-Agent: weir/{}\r\nAccept: application/json\r\n\r\n",
        upsync.host,
        env!("CARGO_PKG_VERSION"),
    )
    .into_bytes()
}

/// The folder that an upstream's keys lie in, as keys spell it: percent-encoding undone.
pub fn folder(prefix: &str) -> String {
    let bytes = prefix.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes
            .get(at + 1..at + 3)
            .filter(|hex| bytes[at] == b'%' && hex.iter().all(u8::is_ascii_hexdigit))
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// What a complete answer says.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// `X-Consul-Index`.
    pub index: u64,
    /// Everything below the prefix; empty for a 404.
    pub entries: Vec<Entry<'a>>,
    /// Consul says that it left out what the token may not read.
    pub filtered: bool,
}

/// Reads an answer.
///
/// # Errors
/// It is none that Consul gives to this request: another status than 200 and 404, no index, a body
/// that is not a list of entries, or an empty list (Consul answers 404 when there is no key).
pub fn answer(response: &Response) -> Result<Answer<'_>, Fault> {
    if !matches!(response.status, 200 | 404) {
        let body = String::from_utf8_lossy(&response.body);
        let seconds = number(response, "retry-after");
        return Err(Fault::Status {
            status: response.status,
            retry_after: seconds.map(Duration::from_secs),
            message: excerpt(body.trim()),
        });
    }
    let invalid = |why: &str| Fault::Invalid(format!("answered with{why}"));
    let index = number(response, "x-consul-index");
    let index = index.ok_or_else(|| invalid("out a valid X-Consul-Index"))?;
    let filtered = response.field("x-consul-results-filtered-by-acls");
    let filtered = filtered.is_some_and(|value| value.trim_ascii() == b"true");
    if response.status == 404 {
        return Ok(Answer {
            index,
            entries: Vec::new(),
            filtered,
        });
    }
    let entries: Vec<Entry> = serde_json::from_slice(&response.body)
        .map_err(|error| invalid(&format!(" invalid JSON: {error}")))?;
    if entries.is_empty() {
        return Err(invalid(" an empty list"));
    }
    Ok(Answer {
        index,
        entries,
        filtered,
    })
}

/// A field that is one number.
fn number(response: &Response, name: &str) -> Option<u64> {
    let text = std::str::from_utf8(response.field(name)?).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upsync(prefix: &str) -> Upsync {
        Upsync {
            host: "consul.local:8500".into(),
            name: "consul.local".into(),
            port: 8500,
            prefix: prefix.into(),
            timeout: Duration::from_secs(360),
            interval: Duration::from_millis(500),
            strong: false,
        }
    }

    fn response(status: u16, index: &str, body: &str) -> Response {
        Response {
            status,
            fields: vec![("x-consul-index".into(), index.into())],
            body: body.into(),
            keep: true,
        }
    }

    #[test]
    fn the_request_asks_for_the_folder() {
        let text = |prefix, index, wait| {
            let request = String::from_utf8(request(&upsync(prefix), index, wait)).unwrap();
            request.lines().next().unwrap().to_owned()
        };
        assert_eq!(
            text("upstreams/test", 169, WAIT_MAX),
            "GET /v1/kv/upstreams/test/?recurse&index=169&wait=10s HTTP/1.1"
        );
        assert_eq!(
            text("", 0, Duration::from_millis(1500)),
            "GET /v1/kv/?recurse&index=0&wait=1500ms HTTP/1.1"
        );
        let once = String::from_utf8(direct(&upsync("a/b"))).unwrap();
        assert!(once.starts_with("GET /v1/kv/a/b/?recurse&consistent HTTP/1.1\r\n"));
        let all = String::from_utf8(request(&upsync("a"), 0, WAIT_MAX)).unwrap();
        assert!(all.contains("\r\nHost: consul.local:8500\r\n") && all.ends_with("\r\n\r\n"));
    }

    #[test]
    fn waits_end_before_their_deadlines() {
        assert_eq!(wait(Duration::from_secs(360)), WAIT_MAX);
        let usual = deadlines(WAIT_MAX, Duration::from_secs(360));
        assert_eq!(usual.answer, Duration::from_millis(12_625));
        for ms in [
            0, 1, 2, 10, 100, 3999, 4000, 4001, 12_000, 12_625, 12_700, 360_000,
        ] {
            let timeout = Duration::from_millis(ms);
            let wait = wait(timeout);
            assert!(wait >= WAIT_MIN && wait <= WAIT_MAX, "{ms}");
            assert!(ms < 2 || wait + wait / 16 <= timeout, "{ms}");
            let deadlines = deadlines(wait, timeout);
            assert!(deadlines.answer <= timeout && deadlines.connect <= timeout);
        }
    }

    #[test]
    fn a_folder_is_spelled_as_keys_are() {
        for (prefix, expected) in [
            ("upstreams/test", "upstreams/test"),
            ("a%20b/%C3%A4", "a b/ä"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%+1", "%+1"),
            ("", ""),
        ] {
            assert_eq!(folder(prefix), expected);
        }
    }

    #[test]
    fn answers_are_read_or_refused() {
        let list = r#"[{"LockIndex":0,"Key":"test/1.2.3.4:5","Flags":0,"Value":"e30=","CreateIndex":3,"ModifyIndex":4},
            {"Key":"test/","Value":null}]"#;
        let good = response(200, "17", list);
        let read = answer(&good).unwrap();
        assert_eq!(read.index, 17);
        assert_eq!(read.entries[0].value.as_deref(), Some("e30="));
        assert_eq!(
            (read.entries[0].modify_index, read.entries[1].modify_index),
            (4, 0)
        );
        assert_eq!(read.entries[1].value, None);
        assert!(answer(&response(404, "17", "")).unwrap().entries.is_empty());
        for (bad, reason) in [
            (
                response(500, "1", "No cluster leader"),
                "status 500: \"No cluster leader\"",
            ),
            (response(429, "1", ""), "status 429"),
            (response(200, "", "[]"), "X-Consul-Index"),
            (response(200, "-1", "[]"), "X-Consul-Index"),
            (response(404, "x", ""), "X-Consul-Index"),
            (
                Response {
                    fields: vec![],
                    ..response(200, "1", list)
                },
                "X-Consul-Index",
            ),
            (response(200, "1", "[]"), "empty list"),
            (response(200, "1", ""), "invalid JSON"),
            (response(200, "1", &list[..40]), "invalid JSON"),
            (response(200, "1", "null"), "invalid JSON"),
            (response(200, "1", "{\"a\":1}"), "invalid JSON"),
            (response(200, "1", "[{\"Value\":null}]"), "invalid JSON"),
        ] {
            let error = answer(&bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_consul_says_beside_its_answer_is_heard() {
        let mut filtered = response(404, "17", "");
        assert!(!answer(&filtered).unwrap().filtered);
        let field = ("x-consul-results-filtered-by-acls".into(), "true".into());
        filtered.fields.push(field);
        assert!(answer(&filtered).unwrap().filtered);

        let mut busy = response(429, "1", "too many");
        assert!(answer(&busy).unwrap_err().retry_after().is_none());
        busy.fields.push(("retry-after".into(), "3".into()));
        let fault = answer(&busy).unwrap_err();
        assert!(fault.is_crowded() && !fault.is_forbidden());
        assert_eq!(fault.retry_after(), Some(Duration::from_secs(3)));
        assert!(answer(&response(403, "1", "")).unwrap_err().is_forbidden());
    }
}
