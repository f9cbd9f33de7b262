//! An endpoint that answers `/v1/kv/` as Consul does, as far as a load balancer and curl need it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::http::{Request, Response};
use super::store::{Entry, Store};

/// The answer to a write; with a newline, as Consul's in development mode, for those who paste.
const DONE: &[u8] = b"true\n";
const ROOT: &str = "/v1/kv/";
/// Consul's `wait` when a blocking query names none.
const DEFAULT_WAIT: Duration = Duration::from_secs(5 * 60);
/// Consul's longest `wait`.
const MAX_WAIT: Duration = Duration::from_secs(10 * 60);
/// Parameters that would change what a write means and are not here.
const UNKNOWN_TO_DEMO: [&str; 4] = ["cas", "acquire", "release", "flags"];

/// The store and those who wait for it.
#[derive(Debug, Default)]
pub struct Endpoint {
    store: Mutex<Store>,
    changed: Condvar,
}

/// An entry as Consul lists it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'a> {
    lock_index: u64,
    key: &'a str,
    flags: u64,
    value: Option<String>,
    create_index: u64,
    modify_index: u64,
}

impl<'a> Listed<'a> {
    fn new(key: &'a str, entry: &Entry) -> Listed<'a> {
        Listed {
            lock_index: 0,
            key,
            flags: 0,
            value: (!entry.value.is_empty()).then(|| STANDARD.encode(&entry.value)),
            create_index: entry.create_index,
            modify_index: entry.modify_index,
        }
    }
}

impl Endpoint {
    /// Answers one request; a blocking query returns when it is due.
    pub fn answer(&self, request: &Request) -> Response {
        let Some(key) = request.path.strip_prefix(ROOT) else {
            return Response::text(404, "Only /v1/kv/ is here\n");
        };
        let Ok(key) = percent_decode_str(key).decode_utf8() else {
            return Response::text(400, "The key is not UTF-8\n");
        };
        let query = Query(&request.query);
        match request.method.as_str() {
            "GET" | "HEAD" => self.get(&key, &query),
            "PUT" => self.put(&key, &query, &request.body),
            "DELETE" => self.delete(&key, &query),
            _ => Response::text(405, "GET, PUT or DELETE\n"),
        }
    }

    /// Writes a key from inside the demo.
    pub fn set(&self, key: &str, value: &str) {
        let written = self.lock().put(key, value.as_bytes().to_vec());
        debug_assert!(written.is_ok(), "the demo's own keys fit");
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, key: &str, query: &Query, body: &[u8]) -> Response {
        if key.is_empty() {
            return Response::text(400, "Missing key name");
        }
        if let Some(name) = UNKNOWN_TO_DEMO
            .iter()
            .find(|name| query.get(name).is_some())
        {
            return Response::text(400, format!("This endpoint has no ?{name}\n"));
        }
        let written = self.lock().put(key, body.to_vec());
        self.changed.notify_all();
        match written {
            Ok(()) => json(200, DONE.to_vec(), None),
            Err(_) => Response::text(507, "Too many keys\n"),
        }
    }

    fn delete(&self, key: &str, query: &Query) -> Response {
        if query.get("recurse").is_some() {
            self.lock().delete_tree(key);
        } else if key.is_empty() {
            return Response::text(400, "Missing key name");
        } else {
            self.lock().delete(key);
        }
        self.changed.notify_all();
        json(200, DONE.to_vec(), None)
    }

    fn get(&self, key: &str, query: &Query) -> Response {
        let listing = query.get("recurse").is_some() || query.get("keys").is_some();
        if !listing && key.is_empty() {
            return Response::text(400, "Missing key name");
        }
        let Some(since) = query.get("index").map_or(Some(0), |text| text.parse().ok()) else {
            return Response::text(400, "Invalid index");
        };
        let wait = match query.get("wait").map(parse_wait) {
            None => DEFAULT_WAIT,
            Some(Some(wait)) => wait.min(MAX_WAIT),
            Some(None) => return Response::text(400, "Invalid wait time"),
        };
        if listing {
            let index = |store: &Store| store.prefix_index(key);
            let store = self.block(since, wait, &index);
            list(&store, key, query, index(&store))
        } else {
            let index = |store: &Store| store.key_index(key);
            let store = self.block(since, wait, &index);
            one(&store, key, query, index(&store))
        }
    }

    /// Waits until the index has passed `since` (0: not at all), at most `wait`.
    fn block(
        &self,
        since: u64,
        wait: Duration,
        index: &dyn Fn(&Store) -> u64,
    ) -> MutexGuard<'_, Store> {
        let until = Instant::now() + wait;
        let mut store = self.lock();
        while since > 0 && index(&store) <= since {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            store = self
                .changed
                .wait_timeout(store, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        store
    }
}

/// The keys below a prefix, their entries too unless only `?keys` are asked for.
fn list(store: &Store, prefix: &str, query: &Query, index: u64) -> Response {
    if store.list(prefix).next().is_none() {
        return json(404, Vec::new(), Some(index));
    }
    if query.get("keys").is_some() {
        let keys: Vec<&str> = store.list(prefix).map(|(key, _)| key).collect();
        return listed(&keys, index);
    }
    let entries: Vec<Listed> = store
        .list(prefix)
        .map(|(key, entry)| Listed::new(key, entry))
        .collect();
    listed(&entries, index)
}

/// One key, or only its value when `?raw` is asked for.
fn one(store: &Store, key: &str, query: &Query, index: u64) -> Response {
    let Some(entry) = store.get(key) else {
        return json(404, Vec::new(), Some(index));
    };
    if query.get("raw").is_none() {
        return listed(&[Listed::new(key, entry)], index);
    }
    let mut response = json(200, entry.value.clone(), Some(index));
    response.fields[0].1 = "text/plain".to_owned();
    response
}

fn listed<T: Serialize + ?Sized>(value: &T, index: u64) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json(200, body, Some(index)),
        Err(error) => Response::text(500, error.to_string()),
    }
}

fn json(status: u16, body: Vec<u8>, index: Option<u64>) -> Response {
    let mut fields = vec![("Content-Type", "application/json".to_owned())];
    if let Some(index) = index {
        fields.push(("X-Consul-Index", index.to_string()));
        fields.push(("X-Consul-Knownleader", "true".to_owned()));
        fields.push(("X-Consul-Lastcontact", "0".to_owned()));
    }
    Response {
        status,
        fields,
        body,
    }
}

/// The part of a target after `?`.
struct Query<'a>(&'a str);

impl Query<'_> {
    /// The value of a parameter; empty when it has none.
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .split('&')
            .find_map(|pair| match pair.split_once('=') {
                Some((key, value)) if key == name => Some(value),
                None if pair == name => Some(""),
                _ => None,
            })
    }
}

/// Go's durations as Consul takes them: `10s`, `1m30s`, `1.5s`, `100ms`.
fn parse_wait(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    if text.is_empty() {
        None
    } else {
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn ask(endpoint: &Endpoint, method: &str, target: &str, body: &str) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        endpoint.answer(&Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            body: body.as_bytes().to_vec(),
        })
    }

    fn index(response: &Response) -> u64 {
        let field = response
            .fields
            .iter()
            .find(|(name, _)| *name == "X-Consul-Index")
            .unwrap();
        field.1.parse().unwrap()
    }

    fn body(response: &Response) -> &str {
        std::str::from_utf8(&response.body).unwrap()
    }

    #[test]
    fn lists_what_was_put_as_consul_does() {
        let kv = Endpoint::default();
        assert_eq!(
            body(&ask(
                &kv,
                "PUT",
                "/v1/kv/up/t/1.2.3.4:80",
                r#"{"weight":1}"#
            )),
            "true\n"
        );
        ask(&kv, "PUT", "/v1/kv/up/t/%5B::1%5D:80", "");
        let list = ask(&kv, "GET", "/v1/kv/up/t?recurse", "");
        assert_eq!((list.status, index(&list)), (200, 2));
        assert_eq!(
            body(&list),
            "[{\"LockIndex\":0,\"Key\":\"up/t/1.2.3.4:80\",\"Flags\":0,\
             \"Value\":\"eyJ3ZWlnaHQiOjF9\",\"CreateIndex\":1,\"ModifyIndex\":1},\
             {\"LockIndex\":0,\"Key\":\"up/t/[::1]:80\",\"Flags\":0,\"Value\":null,\
             \"CreateIndex\":2,\"ModifyIndex\":2}]"
        );
        let keys = ask(&kv, "GET", "/v1/kv/up?keys", "");
        assert_eq!(body(&keys), "[\"up/t/1.2.3.4:80\",\"up/t/[::1]:80\"]");
        let raw = ask(&kv, "GET", "/v1/kv/up/t/1.2.3.4:80?raw", "");
        assert_eq!((body(&raw), index(&raw)), (r#"{"weight":1}"#, 1));
    }

    #[test]
    fn an_empty_prefix_is_404_with_an_index() {
        let kv = Endpoint::default();
        let empty = ask(&kv, "GET", "/v1/kv/up?recurse", "");
        assert_eq!((empty.status, index(&empty), empty.body.len()), (404, 1, 0));
        ask(&kv, "PUT", "/v1/kv/up/1", "");
        ask(&kv, "DELETE", "/v1/kv/up/1", "");
        let empty = ask(&kv, "GET", "/v1/kv/up?recurse", "");
        assert_eq!((empty.status, index(&empty)), (404, 2));
    }

    #[test]
    fn a_blocking_query_returns_when_its_prefix_moves() {
        let kv = Arc::new(Endpoint::default());
        ask(&kv, "PUT", "/v1/kv/up/1", "a");
        let waiter = {
            let kv = kv.clone();
            thread::spawn(move || ask(&kv, "GET", "/v1/kv/up/?recurse&index=1&wait=60s", ""))
        };
        ask(&kv, "PUT", "/v1/kv/other", "");
        ask(&kv, "PUT", "/v1/kv/up/2", "b");
        let answer = waiter.join().unwrap();
        assert_eq!(index(&answer), 3);
        assert!(body(&answer).contains("up/2"));
    }

    #[test]
    fn a_blocking_query_gives_up_after_its_wait() {
        let kv = Endpoint::default();
        ask(&kv, "PUT", "/v1/kv/up/1", "a");
        let start = Instant::now();
        let answer = ask(&kv, "GET", "/v1/kv/up/?recurse&index=1&wait=30ms", "");
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!((answer.status, index(&answer)), (200, 1));
    }

    #[test]
    fn bad_requests_are_refused() {
        let kv = Endpoint::default();
        for (method, target, status) in [
            ("GET", "/v1/kv/", 400),
            ("PUT", "/v1/kv/", 400),
            ("DELETE", "/v1/kv/", 400),
            ("PUT", "/v1/kv/a?cas=1", 400),
            ("GET", "/v1/kv/a?recurse&index=x", 400),
            ("GET", "/v1/kv/a?recurse&index=1&wait=soon", 400),
            ("GET", "/v1/kv/%ff", 400),
            ("POST", "/v1/kv/a", 405),
            ("GET", "/v1/agent/self", 404),
        ] {
            assert_eq!(
                ask(&kv, method, target, "").status,
                status,
                "{method} {target}"
            );
        }
    }

    #[test]
    fn waits_are_go_durations() {
        assert_eq!(parse_wait("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_wait("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_wait("100ms"), Some(Duration::from_millis(100)));
        for bad in ["", "10", "s", "1d", "1..2s", "-1s", "99999999999999999999h"] {
            assert_eq!(parse_wait(bad), None, "{bad:?}");
        }
    }
}
