//! From the entries of a key-value store to servers: which keys count, what their values say, which
//! are bad.

pub mod service;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foldhash::fast::RandomState;
use serde::Deserialize;
use serde_json::Value;
use weir_shm::{Address, CounterId, Server};
use weir_worker::unit;

/// upsync's defaults for what a value leaves out.
const WEIGHT: u32 = 1;
const MAX_FAILS: u32 = 2;
const FAIL_TIMEOUT_S: u64 = 10;

const WEIGHT_MAX: u64 = 65_535;
const MAX_FAILS_MAX: u64 = i32::MAX as u64;
/// About 24 days: milliseconds still fit an `i32` wherever a dump is read.
const FAIL_TIMEOUT_MAX_S: u64 = i32::MAX as u64 / 1000;

/// A log line shows at most this much of a key or a value, in characters.
const EXCERPT: usize = 200;

/// A KV entry as Consul lists it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct Entry<'a> {
    /// The whole key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// Base64; none for an empty value.
    #[serde(borrow, default)]
    pub value: Option<Cow<'a, str>>,
    /// The index of its last change.
    #[serde(default)]
    pub modify_index: u64,
}

/// What one answer says about one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// In key order, each address once.
    pub servers: Vec<Server>,
    /// The entries that are none, in key order.
    pub refused: Vec<Refused>,
}

/// An entry that is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The whole key.
    pub key: String,
    /// Its `ModifyIndex`.
    pub modify_index: u64,
    /// For the log, foreign bytes escaped.
    pub reason: String,
}

/// Decodes the entries directly below `folder` (decoded, no `/` at either end; empty is the root).
/// Other folders, nested ones too, and the folder's own key are not looked at.
pub fn decode(folder: &str, entries: &[Entry<'_>]) -> Decoded {
    let mut entries: Vec<_> = entries
        .iter()
        .filter_map(|entry| Some((name_below(folder, &entry.key)?, entry)))
        .collect();
    entries.sort_by(|one, other| one.1.key.cmp(&other.1.key));

    let mut collected = Collected::with_room_for(entries.len());
    for (name, entry) in entries {
        let server = server(name, entry.value.as_deref());
        collected.add(&entry.key, entry.modify_index, server);
    }
    collected.decoded
}

/// What is gathered from entries, in key order: of those with one address the first counts.
#[derive(Default)]
pub(super) struct Collected<'k> {
    pub decoded: Decoded,
    taken: HashMap<Address, &'k str, RandomState>,
}

impl<'k> Collected<'k> {
    pub fn with_room_for(entries: usize) -> Collected<'k> {
        Collected {
            decoded: Decoded::default(),
            taken: HashMap::with_capacity_and_hasher(entries, RandomState::default()),
        }
    }

    pub fn add(&mut self, key: &'k str, modify_index: u64, server: Result<Server, String>) {
        let server = server.and_then(|server| match self.taken.get(&server.address) {
            Some(by) => Err(format!(
                "{} is already at key {}",
                server.address,
                excerpt(by)
            )),
            None => Ok(server),
        });
        match server {
            Ok(server) => {
                self.taken.insert(server.address.clone(), key);
                self.decoded.servers.push(server);
            }
            Err(reason) => self.decoded.refused.push(Refused {
                key: key.to_owned(),
                modify_index,
                reason,
            }),
        }
    }
}

/// Of `entries`, which are in the order of their keys, those that lie below `folder`, however deep.
pub fn below<'e, E>(folder: &str, entries: &'e [E], key: impl Fn(&E) -> &str) -> &'e [E] {
    let start = match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let from = entries.partition_point(|entry| *key(entry) < *start);
    let entries = &entries[from..];
    let count = entries.partition_point(|entry| key(entry).starts_with(&start));
    &entries[..count]
}

/// The last segment of `key` if it lies directly in `folder`.
pub(super) fn name_below<'k>(folder: &str, key: &'k str) -> Option<&'k str> {
    let name = if folder.is_empty() {
        key
    } else {
        key.strip_prefix(folder)?.strip_prefix('/')?
    };
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// What a value may say; anything else in it is someone else's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    server: Option<Value>,
    weight: Option<Value>,
    max_fails: Option<Value>,
    fail_timeout: Option<Value>,
    down: Option<Value>,
    backup: Option<Value>,
}

/// The server of an entry: its key's last segment and its value.
pub(super) fn server(name: &str, value: Option<&str>) -> Result<Server, String> {
    let fields = fields(value.unwrap_or_default())?;
    let address = match &fields.server {
        Some(Value::String(text)) => {
            address(text).map_err(|why| format!("server {} {why}", excerpt(text)))?
        }
        Some(_) => return Err("server is not a string".to_owned()),
        None => address(name).map_err(|why| format!("key {why}, and its value names no server"))?,
    };
    fields.server(address)
}

impl Fields {
    /// The server at `address`.
    fn server(&self, address: Address) -> Result<Server, String> {
        let fields = self;
        let weight = number("weight", &fields.weight, WEIGHT.into(), 1, WEIGHT_MAX)?;
        let max_fails = number(
            "max_fails",
            &fields.max_fails,
            MAX_FAILS.into(),
            0,
            MAX_FAILS_MAX,
        )?;
        let seconds = number(
            "fail_timeout",
            &fields.fail_timeout.as_ref().map(in_seconds),
            FAIL_TIMEOUT_S,
            0,
            FAIL_TIMEOUT_MAX_S,
        )?;
        Ok(Server {
            address,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            max_fails: u32::try_from(max_fails).unwrap_or(u32::MAX),
            fail_timeout_ms: seconds * 1000,
            down: flag("down", &fields.down)?,
            backup: flag("backup", &fields.backup)?,
            counter: CounterId::default(),
        })
    }
}

/// `10s` as nginx writes a time; anything else is left as it is.
fn in_seconds(value: &Value) -> Value {
    let time = value.as_str().and_then(|text| unit::seconds(text.trim()));
    time.map_or_else(|| value.clone(), |time| time.as_secs().into())
}

fn fields(value: &str) -> Result<Fields, String> {
    let bytes = STANDARD
        .decode(value)
        .map_err(|_| "value is not base64".to_owned())?;
    let text = bytes.trim_ascii();
    match text.first() {
        None => Ok(Fields::default()),
        Some(b'{') => {
            serde_json::from_slice(text).map_err(|error| format!("value is not JSON: {error}"))
        }
        Some(_) => Err(format!(
            "value {} is not a JSON object",
            excerpt(&String::from_utf8_lossy(text))
        )),
    }
}

fn address(text: &str) -> Result<Address, &'static str> {
    let address: SocketAddr = text.parse().map_err(|_| "is not IP:PORT")?;
    if address.port() == 0 {
        return Err("has port 0");
    }
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Err("has a scope"),
        _ => Ok(Address::Ip(address)),
    }
}

fn number(
    name: &str,
    field: &Option<Value>,
    default: u64,
    min: u64,
    max: u64,
) -> Result<u64, String> {
    let Some(value) = field else {
        return Ok(default);
    };
    let number = match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| {
            let shown = match value {
                Value::String(text) => excerpt(text),
                other => excerpt(&other.to_string()),
            };
            format!("{name} is {shown}, not {min} to {max}")
        })
}

/// JSON knows one kind of number: `10.0` and `1e1` are ten.
fn whole(number: f64) -> Option<u64> {
    let exact = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    exact.then_some(number as u64)
}

fn flag(name: &str, field: &Option<Value>) -> Result<bool, String> {
    match field {
        Some(Value::Bool(on)) => Ok(*on),
        _ => Ok(number(name, field, 0, 0, 1)? == 1),
    }
}

/// Foreign text for a log line: quoted, escaped, and cut when it is long.
pub fn excerpt(text: &str) -> String {
    let cut = text.char_indices().nth(EXCERPT).map(|(at, _)| at);
    match cut {
        Some(at) => format!("{:?}…", &text[..at]),
        None => format!("{text:?}"),
    }
}

/// Which refused entries were logged already: each once a (key, `ModifyIndex`).
#[derive(Clone, Debug, Default)]
pub struct Known(HashMap<String, u64>);

impl Known {
    /// The entries that are new to the log; what an answer no longer has is forgotten.
    pub fn news<'r>(&mut self, refused: &'r [Refused]) -> Vec<&'r Refused> {
        let news = refused
            .iter()
            .filter(|entry| self.0.get(&entry.key) != Some(&entry.modify_index))
            .collect();
        self.0 = refused
            .iter()
            .map(|entry| (entry.key.clone(), entry.modify_index))
            .collect();
        news
    }
}

#[cfg(test)]
mod tests;
