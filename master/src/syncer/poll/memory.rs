//! What the last answer said, entry by entry: of the next one only what is different is decoded, and
//! an upstream of which nothing is different gets the very same list again, which tells everyone after
//! that there is nothing to do. Pure.
//!
//! Bytes are compared, not indices: a Consul that was wiped and filled again may give an index that
//! is known to a value that is not.

use std::collections::HashMap;
use std::ops::Range;

use weir_shm::Server;

use super::{Share, Target};
use crate::syncer::book::FeedId;
use crate::syncer::decode::{self, Collected, Entry};
use crate::syncer::lesson::Heard;

/// Larger answers are not kept, in bytes.
const KEPT_MAX: usize = 16 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    body: Vec<u8>,
    /// In key order.
    entries: Vec<Known>,
    lists: HashMap<FeedId, List>,
    /// Rises with each answer.
    answer: u64,
}

/// What became of an answer.
#[derive(Debug)]
pub struct Taken {
    /// It is the last one again, to the byte.
    pub is_known: bool,
    /// A buffer.
    pub spare: Vec<u8>,
}

/// An entry of the last answer.
#[derive(Debug)]
struct Known {
    /// Where it is in the body.
    raw: Range<usize>,
    key: Box<str>,
    modify_index: u64,
    /// Bytes of key and value.
    size: usize,
    server: Result<Server, String>,
    /// The answer that had it first like this.
    since: u64,
}

/// What was said about an upstream.
#[derive(Debug)]
struct List {
    folder: String,
    entries: usize,
    answer: u64,
    heard: Heard,
}

impl Memory {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Memory::default();
    }

    /// Takes a list of entries in, as Consul writes it, in exchange for a buffer that nobody needs any more.
    ///
    /// # Errors
    /// It is none; everything is forgotten.
    pub fn take(&mut self, body: Vec<u8>) -> Result<Taken, String> {
        let mut old = std::mem::take(&mut self.entries);
        self.answer += 1;
        if body == self.body && !old.is_empty() {
            self.entries = old;
            return Ok(Taken {
                is_known: true,
                spare: body,
            });
        }
        let mut entries = Vec::with_capacity(old.len());
        let mut rest = old.drain(..).peekable();
        let walked = elements(&body, |at| {
            let is_same = |old: &Known| body[at..].starts_with(&self.body[old.raw.clone()]);
            if let Some(mut known) = rest.next_if(|old| is_same(old)) {
                known.raw = at..at + known.raw.len();
                let end = known.raw.end;
                entries.push(known);
                return Ok(end);
            }
            let mut known = read(&body, at, self.answer)?;
            while rest.next_if(|old| old.key < known.key).is_some() {}
            // Those before it are gone, and it is as it was.
            if let Some(old) = rest.next_if(|old| old.key == known.key)
                && self.body[old.raw] == body[known.raw.clone()]
            {
                known.since = old.since;
            }
            let end = known.raw.end;
            entries.push(known);
            Ok(end)
        });
        drop(rest);
        if let Err(why) = walked {
            self.clear();
            return Err(why);
        }
        if !entries.is_sorted_by(|one, other| one.key <= other.key) {
            entries.sort_by(|one, other| one.key.cmp(&other.key));
        }
        self.entries = entries;
        Ok(Taken {
            is_known: false,
            spare: std::mem::replace(&mut self.body, body),
        })
    }

    /// The answer has no entry at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the answer that was taken in says about each target.
    pub fn hear(&mut self, targets: &[Target], filtered: bool) -> (Vec<Heard>, Share) {
        let all: usize = self.entries.iter().map(|entry| entry.size).sum();
        let mut share = Share::default();
        let mut lists = HashMap::with_capacity(targets.len());
        let mut heard = Vec::with_capacity(targets.len());
        for target in targets {
            let own = decode::below(&target.folder, &self.entries, |entry| &entry.key);
            share.ours += own.iter().map(|entry| entry.size).sum::<usize>();
            let newest = own.iter().map(|entry| entry.modify_index).max();
            share.newest = share.newest.max(newest.unwrap_or_default());
            let is_same = |list: &List| {
                list.folder == target.folder
                    && list.entries == own.len()
                    && own.iter().all(|entry| entry.since <= list.answer)
            };
            let mut list = match self.lists.remove(&target.feed).filter(is_same) {
                Some(list) => list,
                None => List {
                    folder: target.folder.clone(),
                    entries: own.len(),
                    answer: self.answer,
                    heard: collect(&target.folder, own),
                },
            };
            list.heard.filtered = filtered;
            heard.push(list.heard.clone());
            lists.insert(target.feed, list);
        }
        share.foreign = all.saturating_sub(share.ours);
        self.lists = lists;
        if self.body.len() > KEPT_MAX {
            self.clear();
        }
        (heard, share)
    }
}

fn collect(folder: &str, own: &[Known]) -> Heard {
    let direct = own
        .iter()
        .filter(|entry| decode::name_below(folder, &entry.key).is_some());
    let mut collected = Collected::with_room_for(own.len());
    for entry in direct {
        collected.add(&entry.key, entry.modify_index, entry.server.clone());
    }
    collected.decoded.into()
}

/// Decodes the entry that begins at `at`.
fn read(body: &[u8], at: usize, answer: u64) -> Result<Known, String> {
    let mut entries = serde_json::Deserializer::from_slice(&body[at..]).into_iter::<Entry<'_>>();
    let entry = match entries.next() {
        Some(entry) => entry.map_err(|error| error.to_string())?,
        None => return Err("EOF while parsing a list".to_owned()),
    };
    let value = entry.value.as_deref();
    let name = entry.key.rsplit('/').next().unwrap_or_default();
    Ok(Known {
        raw: at..at + entries.byte_offset(),
        size: entry.key.len() + value.map_or(0, str::len),
        server: decode::server(name, value),
        modify_index: entry.modify_index,
        key: entry.key.into(),
        since: answer,
    })
}

/// Walks the elements of a JSON list: `element` is told where each begins and returns where it ends.
fn elements(
    body: &[u8],
    mut element: impl FnMut(usize) -> Result<usize, String>,
) -> Result<(), String> {
    let is_blank = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\n' | b'\r');
    let blank = |at: usize| at + body[at..].iter().take_while(is_blank).count();
    let unexpected = |at: usize| match body.get(at) {
        Some(byte) => format!("unexpected {:?} at byte {at}", char::from(*byte)),
        None => "EOF while parsing a list".to_owned(),
    };
    let mut at = blank(0);
    if body.get(at) != Some(&b'[') {
        return Err(unexpected(at));
    }
    at = blank(at + 1);
    let mut is_first = true;
    while is_first || body.get(at) == Some(&b',') {
        if !is_first {
            at = blank(at + 1);
        } else if body.get(at) == Some(&b']') {
            break;
        }
        at = blank(element(at)?);
        is_first = false;
    }
    if body.get(at) != Some(&b']') {
        return Err(unexpected(at));
    }
    match blank(at + 1) {
        end if end == body.len() => Ok(()),
        more => Err(unexpected(more)),
    }
}

#[cfg(test)]
mod tests;
