//! etcd: what is asked, and what an answer says, by its second API and by the JSON gateway of its
//! third.
//!
//! Both can tell of changes one by one, and both forget old ones. So a change that is told of only
//! rings a [bell](Bell): what a folder holds is always read as a whole, in one answer of one
//! revision.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::super::client::Fault;
use super::super::consul;
use super::super::decode::Entry;
use super::super::response::Response;
use crate::settings::{Consistency, Kind, Secret, Upsync};

/// `Key not found`.
const NOT_FOUND: u64 = 100;
/// `The event in requested index is outdated and cleared`.
const CLEARED: u64 = 401;

/// The request for everything below the folder of `upsync`; `direct`: by the leader's word.
pub fn read(upsync: &Upsync, direct: bool, host: &str, token: Option<&Secret>) -> Vec<u8> {
    let consistency = match direct {
        true => Consistency::Consistent,
        false => upsync.consistency,
    };
    if upsync.kind == Kind::Etcd {
        let quorum = match consistency {
            Consistency::Consistent => "&quorum=true",
            _ => "",
        };
        let target = format!("/v2/keys/{}?recursive=true{quorum}", upsync.prefix);
        return request("GET", &target, host, token, "");
    }
    let (key, range_end) = range(upsync);
    let serializable = consistency == Consistency::Stale;
    let body = json!({"key": key, "range_end": range_end, "serializable": serializable});
    request("POST", "/v3/kv/range", host, token, &body.to_string())
}

/// The request that is answered when something below the folder changes after `index`.
pub fn watch(upsync: &Upsync, index: u64, host: &str, token: Option<&Secret>) -> Vec<u8> {
    let next = index.saturating_add(1);
    if upsync.kind == Kind::Etcd {
        let prefix = &upsync.prefix;
        let target = format!("/v2/keys/{prefix}?recursive=true&wait=true&waitIndex={next}");
        return request("GET", &target, host, token, "");
    }
    let (key, range_end) = range(upsync);
    let create = json!({"key": key, "range_end": range_end, "start_revision": next});
    let body = json!({"create_request": create});
    request("POST", "/v3/watch", host, token, &body.to_string())
}

fn request(method: &str, target: &str, host: &str, token: Option<&Secret>, body: &str) -> Vec<u8> {
    let token = token.map_or(String::new(), |Secret(text)| {
        format!("Authorization: {text}\r\n")
    });
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir/{}\r\n\
         Accept: application/json\r\n{token}{length}\r\n{body}",
        env!("CARGO_PKG_VERSION"),
    )
    .into_bytes()
}

/// The first key of a folder and the first behind it, in base64.
fn range(upsync: &Upsync) -> (String, String) {
    let folder = consul::folder(&upsync.prefix);
    let encode = |text: String| STANDARD.encode(text);
    match folder.as_str() {
        // By etcd's convention: from the first key to the end.
        "" => (encode("\0".to_owned()), encode("\0".to_owned())),
        // `0` comes after `/`.
        folder => (encode(format!("{folder}/")), encode(format!("{folder}0"))),
    }
}

/// What a folder holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Folder<'a> {
    /// The store's revision, which only rises.
    pub index: u64,
    /// Everything below the folder.
    pub entries: Vec<Entry<'a>>,
}

/// Reads the answer to [`read`].
///
/// # Errors
/// A status that is no answer, or a body that is not etcd's.
pub fn folder(kind: Kind, response: &Response) -> Result<Folder<'_>, Fault> {
    match kind {
        Kind::Etcd => keys(response),
        _ => ranged(response),
    }
}

fn invalid(why: impl std::fmt::Display) -> Fault {
    Fault::Invalid(format!("answered with {why}"))
}

#[derive(Deserialize)]
struct Ranged<'a> {
    header: Header,
    #[serde(borrow, default)]
    kvs: Vec<Pair<'a>>,
}

/// The gateway writes 64-bit numbers as strings, and leaves zeros out.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    revision: Number,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(default)]
    mod_revision: Number,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(try_from = "Written")]
struct Number(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Number {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Number, &'static str> {
        match written {
            Written::Number(number) => Ok(Number(number)),
            Written::Text(text) => text.parse().map(Number).map_err(|_| "not a number"),
        }
    }
}

fn ranged(response: &Response) -> Result<Folder<'_>, Fault> {
    consul::status(response, &[200])?;
    let ranged: Ranged = serde_json::from_slice(&response.body)
        .map_err(|error| invalid(format_args!("invalid JSON: {error}")))?;
    let entry = |pair: Pair<'_>| -> Option<Entry<'_>> {
        let key = STANDARD.decode(pair.key.as_bytes()).ok()?;
        Some(Entry {
            key: String::from_utf8_lossy(&key).into_owned().into(),
            value: pair.value.map(|value| Cow::Owned(value.into_owned())),
            modify_index: pair.mod_revision.0,
        })
    };
    let count = ranged.kvs.len();
    let entries: Vec<Entry> = ranged.kvs.into_iter().filter_map(entry).collect();
    if entries.len() < count {
        return Err(invalid("a key that is not base64"));
    }
    if ranged.header.revision.0 == 0 {
        return Err(invalid("no revision"));
    }
    Ok(Folder {
        index: ranged.header.revision.0,
        entries,
    })
}

#[derive(Deserialize)]
struct Got<'a> {
    #[serde(borrow)]
    node: Node<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(default)]
    dir: bool,
    #[serde(borrow, default)]
    nodes: Vec<Node<'a>>,
    #[serde(default)]
    modified_index: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(default)]
    error_code: u64,
}

fn error_code(response: &Response) -> u64 {
    let told: Told = serde_json::from_slice(&response.body).unwrap_or_default();
    told.error_code
}

fn keys(response: &Response) -> Result<Folder<'_>, Fault> {
    let absent = response.status == 404 && error_code(response) == NOT_FOUND;
    if !absent {
        consul::status(response, &[200])?;
    }
    let index = consul::number(response, "x-etcd-index")
        .ok_or_else(|| Fault::Invalid("answered without a valid X-Etcd-Index".to_owned()))?;
    let mut entries = Vec::new();
    if !absent {
        let got: Got = serde_json::from_slice(&response.body)
            .map_err(|error| invalid(format_args!("invalid JSON: {error}")))?;
        let mut left = vec![got.node];
        while let Some(node) = left.pop() {
            left.extend(node.nodes);
            if !node.dir {
                entries.push(Entry {
                    key: node.key.trim_start_matches('/').to_owned().into(),
                    value: node.value.map(|value| STANDARD.encode(&*value).into()),
                    modify_index: node.modified_index,
                });
            }
        }
    }
    Ok(Folder { index, entries })
}

/// Tells from what comes for a [`watch`] whether it is time to read.
#[derive(Debug)]
pub struct Bell {
    kind: Kind,
    /// What came of a line that has not ended.
    line: Vec<u8>,
}

/// What a bell does. The strongest counts, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sound {
    /// Nothing.
    Quiet,
    /// It is time to read, and it will ring again.
    Rings,
    /// It is time to read, and this bell has rung for the last time.
    Breaks,
}

/// The longest line of a watch that is looked at, in bytes: it holds the changes of one revision.
const LINE_MAX: usize = 64 << 20;

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    result: Option<Heard>,
}

#[derive(Deserialize)]
struct Heard {
    #[serde(default)]
    header: Header,
    #[serde(default)]
    events: Option<Vec<Event>>,
    #[serde(default)]
    created: bool,
    #[serde(default)]
    canceled: bool,
}

#[derive(Deserialize)]
struct Event {
    kv: Changed,
}

#[derive(Deserialize)]
struct Changed {
    #[serde(default)]
    mod_revision: Number,
}

impl Bell {
    /// For a watch of this kind.
    pub fn new(kind: Kind) -> Bell {
        Bell {
            kind,
            line: Vec::new(),
        }
    }

    /// Takes in what came of the body: it rings if something changed after `index`, and breaks when
    /// etcd ends the watch or says what is not understood, as reading once too often does no harm.
    pub fn hears(&mut self, piece: &[u8], index: u64) -> Sound {
        if self.kind == Kind::Etcd {
            // The answer is complete when something has changed.
            return Sound::Quiet;
        }
        let mut sound = Sound::Quiet;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                sound = sound.max(rings(&self.line, index));
                self.line.clear();
            }
        }
        if self.line.len() > LINE_MAX {
            self.line.clear();
            sound = Sound::Breaks;
        }
        sound
    }

    /// The answer is complete: time to read, unless it is a fault.
    ///
    /// # Errors
    /// A status that is neither a change nor says that changes were forgotten.
    pub fn ended(&self, response: &Response) -> Result<(), Fault> {
        if self.kind == Kind::Etcd && response.status == 400 && error_code(response) == CLEARED {
            return Ok(());
        }
        consul::status(response, &[200])
    }
}

fn rings(line: &[u8], index: u64) -> Sound {
    if line.trim_ascii().is_empty() {
        return Sound::Quiet;
    }
    let Ok(Message {
        result: Some(heard),
    }) = serde_json::from_slice(line)
    else {
        return Sound::Breaks;
    };
    let events = heard.events.unwrap_or_default();
    // Canceled: changes after `index` were compacted away, or the watch is over for another reason.
    // A store that was wiped and counts from the beginning tells so as the watch begins.
    if heard.canceled || (heard.created && heard.header.revision.0 < index) {
        Sound::Breaks
    } else if events.iter().any(|event| event.kv.mod_revision.0 > index) {
        Sound::Rings
    } else {
        Sound::Quiet
    }
}

#[cfg(test)]
mod tests;
