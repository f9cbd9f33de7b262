//! The folders below a prefix, each of which is an upstream (`upsync_discover`).

use std::collections::HashMap;

use crate::syncer::decode::{self, Entry, Refused};
use crate::syncer::lesson::Heard;

/// The longest name of a folder that can be an upstream, in bytes.
const NAME_MAX: usize = 255;

/// What the entries below `prefix`, in key order, say of each folder directly in it. Keys that lie in
/// the prefix itself are nobody's.
pub fn hear(prefix: &str, entries: &[Entry<'_>], filtered: bool) -> Heard {
    let mut heard = Heard {
        filtered,
        ..Heard::default()
    };
    let mut taken: HashMap<String, &str> = HashMap::new();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let Some(folder) = folder_below(prefix, &first.key) else {
            rest = &rest[1..];
            continue;
        };
        let path = &first.key[..prefix.len() + 1 + folder.len()];
        let own = decode::below(path, rest, |entry| &entry.key);
        rest = &rest[own.len().max(1)..];
        let name = folder.to_ascii_lowercase();
        let reason = match taken.get(&name) {
            Some(other) => Some(format!("the folder {other:?} is an upstream of this name")),
            None => bad_name(&name).map(str::to_owned),
        };
        if let Some(reason) = reason {
            heard.refused.push(Refused {
                key: format!("{path}/"),
                modify_index: own
                    .iter()
                    .map(|entry| entry.modify_index)
                    .max()
                    .unwrap_or(0),
                reason,
            });
            continue;
        }
        taken.insert(name.clone(), folder);
        let decoded = decode::decode(path, own);
        heard.refused.extend(decoded.refused.iter().cloned());
        heard.folders.push((name, decoded.into()));
    }
    heard
}

fn below<'k>(prefix: &str, key: &'k str) -> &'k str {
    key.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or_default()
}

/// The folder directly in `prefix` that a key lies in.
fn folder_below<'k>(prefix: &str, key: &'k str) -> Option<&'k str> {
    let (folder, _) = below(prefix, key).split_once('/')?;
    Some(folder)
}

/// Why a name is none that `proxy_pass` could have.
fn bad_name(name: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() {
        Some("a folder without a name is no upstream")
    } else if name.len() > NAME_MAX {
        Some("the name of the folder is too long for an upstream")
    } else if !name.bytes().all(plain) {
        Some("the name of an upstream has letters, digits, \".\", \"_\" and \"-\"")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(keys: &[&'static str]) -> Vec<Entry<'static>> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let entry = |key: &'static str| Entry {
            key: key.into(),
            value: None,
            modify_index: 7,
        };
        keys.into_iter().map(entry).collect()
    }

    #[test]
    fn every_folder_is_a_list() {
        let heard = hear(
            "up",
            &entries(&[
                "up/a/10.0.0.1:1",
                "up/a/10.0.0.2:1",
                "up/a-b/10.0.0.3:1",
                "up/empty/",
                "up/deep/er/10.0.0.4:1",
                "up/10.0.0.5:1",
                "up/bad/x",
            ]),
            true,
        );
        assert!(heard.filtered && heard.servers.is_empty());
        let lists: Vec<(&str, usize)> = heard
            .folders
            .iter()
            .map(|(name, own)| (name.as_str(), own.servers.len()))
            .collect();
        let expected = [("a-b", 1), ("a", 2), ("bad", 0), ("deep", 0), ("empty", 0)];
        assert_eq!(lists, expected);
        assert_eq!(heard.refused.len(), 1);
        assert_eq!(heard.refused[0].key, "up/bad/x");
    }

    #[test]
    fn bad_names_are_refused_and_named() {
        let long: &'static str = Box::leak(format!("up/{}/10.0.0.1:1", "x".repeat(256)).into());
        let heard = hear(
            "up",
            &entries(&[
                "up/a b/10.0.0.1:1",
                "up//10.0.0.1:1",
                long,
                "up/Web/10.0.0.1:1",
                "up/web/10.0.0.2:1",
            ]),
            false,
        );
        let names: Vec<&str> = heard
            .folders
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["web"]);
        let refused: Vec<&str> = heard.refused.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(refused[..2], ["up//", "up/a b/"]);
        assert_eq!((refused.len(), refused[2]), (4, "up/web/"));
        assert!(heard.refused[2].reason.contains("\"Web\""));
    }
}
