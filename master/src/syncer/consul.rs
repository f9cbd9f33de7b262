//! Consul: what is asked, and what an answer says.

use std::time::Duration;

use super::client::{Deadlines, Fault};
use super::decode::{Entry, excerpt};
use super::response::Response;
use crate::settings::{Consistency, Kind, Secret, Upsync};

/// Where Consul tells about the token of the request itself.
pub const OWN_TOKEN: &str = "/v1/acl/token/self";

/// A blocking query waits at most this long, so that a half-open connection is noticed.
pub const WAIT_MAX: Duration = Duration::from_secs(10);
/// Consul adds up to a sixteenth to `wait`; this much more is the network's.
pub const GRACE: Duration = Duration::from_secs(2);
/// What an answer that has begun may be late by.
pub const SLACK: Duration = Duration::from_secs(5);
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
        slack: SLACK,
        total: timeout,
    }
}

/// How a request waits, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Until there is something newer than the index, or the wait is over.
    Blocking(u64, Duration),
    /// Not at all, and the answer is what the leader holds.
    Direct,
}

impl Ask {
    /// How long it may wait.
    pub fn wait(self) -> Duration {
        match self {
            Ask::Blocking(_, wait) => wait,
            Ask::Direct => WAIT_MIN,
        }
    }
}

/// The target for everything that `upsync` is about. The slash at the end of a folder makes Consul
/// itself leave `test2` out when asked for `test`.
pub fn target(upsync: &Upsync, ask: Ask) -> String {
    let mut target = format!("{}{}", upsync.kind.path(), upsync.prefix);
    if upsync.kind == Kind::Consul {
        if !upsync.prefix.is_empty() {
            target.push('/');
        }
        target.push_str("?recurse");
    }
    let mut add = |text: &str| {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(text);
    };
    if let Ask::Blocking(index, wait) = ask {
        add(&format!("index={index}"));
        add(&match (wait.as_secs(), wait.subsec_millis()) {
            (seconds, 0) if seconds > 0 => format!("wait={seconds}s"),
            _ => format!("wait={}ms", wait.as_millis()),
        });
    }
    if let Some(datacenter) = &upsync.datacenter {
        add(&format!("dc={datacenter}"));
    }
    match (ask, upsync.consistency) {
        (Ask::Direct, _) | (_, Consistency::Consistent) => add("consistent"),
        (_, Consistency::Stale) => add("stale"),
        (_, Consistency::Default) => {}
    }
    target
}

/// A GET for `target`, with the token that shows that weir may ask.
pub fn request(target: &str, host: &str, token: Option<&Secret>) -> Vec<u8> {
    let token = token.map_or(String::new(), |Secret(text)| {
        format!("X-Consul-Token: {text}\r\n")
    });
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir/{}\r\n\
         Accept: application/json\r\n{token}\r\n",
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

/// The fault that an answer's status is, unless it is one of `usual`.
///
/// # Errors
/// [`Fault::Status`].
pub fn status(response: &Response, usual: &[u16]) -> Result<(), Fault> {
    if usual.contains(&response.status) {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&response.body);
    let seconds = number(response, "retry-after");
    Err(Fault::Status {
        status: response.status,
        retry_after: seconds.map(Duration::from_secs),
        message: excerpt(body.trim()),
    })
}

/// `X-Consul-Index`.
///
/// # Errors
/// There is none.
pub fn index(response: &Response) -> Result<u64, Fault> {
    number(response, "x-consul-index")
        .ok_or_else(|| Fault::Invalid("answered without a valid X-Consul-Index".to_owned()))
}

/// A field that is one number.
pub fn number(response: &Response, name: &str) -> Option<u64> {
    let text = std::str::from_utf8(response.field(name)?).ok()?;
    text.trim().parse().ok()
}

/// Whether Consul says that it left out what the token may not read.
pub fn is_filtered(response: &Response) -> bool {
    response
        .field("x-consul-results-filtered-by-acls")
        .is_some_and(|value| value.trim_ascii() == b"true")
}

/// The keys of an answer, none for a 404.
///
/// # Errors
/// It is none that Consul gives to this request: another status, a body that is not a list of
/// entries, or an empty list (Consul answers 404 when there is no key).
pub fn entries(response: &Response) -> Result<Vec<Entry<'_>>, Fault> {
    status(response, &[200, 404])?;
    if response.status == 404 {
        return Ok(Vec::new());
    }
    let entries: Vec<Entry> = serde_json::from_slice(&response.body).map_err(invalid_json)?;
    if entries.is_empty() {
        return Err(empty_list());
    }
    Ok(entries)
}

/// Takes the body out of an answer whose keys are read otherwise; `None` for a 404.
///
/// # Errors
/// It has another status.
pub fn keys(response: &mut Response) -> Result<Option<Vec<u8>>, Fault> {
    status(response, &[200, 404])?;
    Ok((response.status == 200).then(|| std::mem::take(&mut response.body)))
}

/// The body is none that Consul writes.
pub fn invalid_json(error: impl std::fmt::Display) -> Fault {
    Fault::Invalid(format!("answered with invalid JSON: {error}"))
}

/// The list has no entry, for which Consul would have answered 404.
pub fn empty_list() -> Fault {
    Fault::Invalid("answered with an empty list".to_owned())
}

/// Whether Consul knows the token that it was asked with, by its answer for [`OWN_TOKEN`]: where it
/// checks none (401) every token is good.
///
/// # Errors
/// It says neither.
pub fn token_is_alive(response: &Response) -> Result<bool, Fault> {
    match response.status {
        200 | 401 => Ok(true),
        403 => Ok(false),
        _ => status(response, &[]).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upsync(prefix: &str) -> Upsync {
        Upsync::folder("consul.local", 8500, prefix)
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
    fn the_target_says_what_is_asked_for() {
        let ten = Ask::Blocking(169, WAIT_MAX);
        let mut upsync = upsync("upstreams/test");
        let kv = "/v1/kv/upstreams/test/?recurse";
        assert_eq!(target(&upsync, ten), format!("{kv}&index=169&wait=10s"));
        assert_eq!(target(&upsync, Ask::Direct), format!("{kv}&consistent"));
        upsync.datacenter = Some("dc2".into());
        upsync.consistency = Consistency::Stale;
        let direct = format!("{kv}&dc=dc2&consistent");
        assert_eq!(target(&upsync, Ask::Direct), direct);
        let stale = format!("{kv}&index=169&wait=10s&dc=dc2&stale");
        assert_eq!(target(&upsync, ten), stale);
        let root = Upsync {
            consistency: Consistency::Consistent,
            ..self::upsync("")
        };
        assert_eq!(
            target(&root, Ask::Blocking(0, Duration::from_millis(1500))),
            "/v1/kv/?recurse&index=0&wait=1500ms&consistent"
        );
        for (kind, path) in [
            (Kind::ConsulServices, "catalog"),
            (Kind::ConsulHealth, "health"),
        ] {
            let upsync = Upsync {
                kind,
                ..self::upsync("web")
            };
            let path = format!("/v1/{path}/service/web");
            assert_eq!(target(&upsync, ten), format!("{path}?index=169&wait=10s"));
            assert_eq!(target(&upsync, Ask::Direct), format!("{path}?consistent"));
        }
    }

    #[test]
    fn a_request_has_its_host_and_its_token() {
        let secret = Secret("abc".into());
        let text = |token| String::from_utf8(request("/x?y", "h:1", token)).unwrap();
        let plain = text(None);
        assert!(plain.starts_with("GET /x?y HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(plain.ends_with("\r\n\r\n") && !plain.contains("Token"));
        assert!(text(Some(&secret)).contains("\r\nX-Consul-Token: abc\r\n"));
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
        let read = entries(&good).unwrap();
        assert_eq!(index(&good).unwrap(), 17);
        assert_eq!(read[0].value.as_deref(), Some("e30="));
        assert_eq!((read[0].modify_index, read[1].modify_index), (4, 0));
        assert_eq!(read[1].value, None);
        assert!(entries(&response(404, "17", "")).unwrap().is_empty());
        for (bad, reason) in [
            (
                response(500, "1", "No cluster leader"),
                "status 500: \"No cluster leader\"",
            ),
            (response(403, "1", "denied"), "status 403: \"denied\""),
            (response(200, "1", "[]"), "empty list"),
            (response(200, "1", ""), "invalid JSON"),
            (response(200, "1", &list[..40]), "invalid JSON"),
            (response(200, "1", "null"), "invalid JSON"),
            (response(200, "1", "{\"a\":1}"), "invalid JSON"),
            (response(200, "1", "[{\"Value\":null}]"), "invalid JSON"),
        ] {
            let error = entries(&bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        for bad in ["", "-1", "x"] {
            assert!(index(&response(200, bad, list)).is_err(), "{bad}");
        }
        let none = Response::default();
        assert!(index(&none).is_err());
    }

    #[test]
    fn too_many_requests_say_how_long_to_wait() {
        let with = |value: &str| {
            let mut response = response(429, "1", "");
            let field = ("retry-after".to_owned(), value.as_bytes().to_vec());
            response.fields.push(field);
            status(&response, &[200]).unwrap_err()
        };
        assert_eq!(with("7").retry_after(), Some(Duration::from_secs(7)));
        for other in ["", "-1", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            let fault = with(other);
            assert!(
                fault.is_crowded() && fault.retry_after().is_none(),
                "{other}"
            );
        }
        let forbidden = status(&response(403, "1", "denied"), &[200, 404]).unwrap_err();
        assert!(forbidden.is_forbidden() && !forbidden.is_of_address());
    }

    #[test]
    fn what_is_filtered_and_what_is_alive() {
        let mut answer = response(200, "1", "[]");
        assert!(!is_filtered(&answer));
        let field = "x-consul-results-filtered-by-acls";
        answer.fields.push((field.into(), "true".into()));
        assert!(is_filtered(&answer));
        let alive = |status| token_is_alive(&response(status, "1", "")).ok();
        assert_eq!(
            [200, 401, 403].map(alive),
            [Some(true), Some(true), Some(false)]
        );
        assert_eq!([404, 429, 500].map(alive), [None, None, None]);
    }
}
