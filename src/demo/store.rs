//! A key/value store with Consul's index rules, in memory and without I/O.

use std::collections::BTreeMap;

/// Keys at one time.
const MAX_KEYS: usize = 65_536;
/// Remembered deletions; past it they are folded into one index for all prefixes.
const MAX_GRAVES: usize = 65_536;

/// A key's value and the indexes that Consul gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub create_index: u64,
    pub modify_index: u64,
}

/// The keys, and one index for all of them that rises by one a write, as Consul's Raft index.
#[derive(Debug, Default)]
pub struct Store {
    index: u64,
    entries: BTreeMap<String, Entry>,
    /// Deleted keys: a prefix's index must not fall when its latest key goes.
    graves: BTreeMap<String, u64>,
    /// At least this index for every prefix.
    floor: u64,
}

/// A write had no room.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Store {
    /// Writes `key`. The index moves even when the value is the same, as Consul's does.
    pub fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), Full> {
        if self.entries.len() >= MAX_KEYS && !self.entries.contains_key(key) {
            return Err(Full);
        }
        self.index += 1;
        let index = self.index;
        self.entries
            .entry(key.to_owned())
            .and_modify(|entry| {
                entry.modify_index = index;
                entry.value.clone_from(&value);
            })
            .or_insert(Entry {
                value,
                create_index: index,
                modify_index: index,
            });
        self.graves.remove(key);
        Ok(())
    }

    /// Deletes `key`; a key that is not there moves no index.
    pub fn delete(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.index += 1;
            self.bury(key.to_owned());
        }
    }

    /// Deletes every key that starts with `prefix`, under one index.
    pub fn delete_tree(&mut self, prefix: &str) {
        let keys: Vec<String> = self.list(prefix).map(|(key, _)| key.to_owned()).collect();
        if keys.is_empty() {
            return;
        }
        self.index += 1;
        for key in keys {
            self.entries.remove(&key);
            self.bury(key);
        }
    }

    fn bury(&mut self, key: String) {
        if self.graves.len() >= MAX_GRAVES {
            self.graves.clear();
            self.floor = self.index;
        }
        self.graves.insert(key, self.index);
    }

    /// One entry.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entries whose keys start with `prefix`, in key order.
    pub fn list<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        under(&self.entries, prefix)
    }

    /// What `X-Consul-Index` says for one key: its own, else that of the whole store. At least 1.
    pub fn key_index(&self, key: &str) -> u64 {
        self.get(key)
            .map_or(self.index, |entry| entry.modify_index)
            .max(1)
    }

    /// What `X-Consul-Index` says for a prefix: the latest write or deletion below it, or the
    /// whole store's index when there never was one. At least 1.
    pub fn prefix_index(&self, prefix: &str) -> u64 {
        let written = self
            .list(prefix)
            .map(|(_, entry)| entry.modify_index)
            .max()
            .unwrap_or(0);
        let deleted = under(&self.graves, prefix)
            .map(|(_, index)| *index)
            .max()
            .unwrap_or(0);
        match written.max(deleted) {
            0 => self.index.max(1),
            index => index.max(self.floor),
        }
    }
}

fn under<'a, V>(
    map: &'a BTreeMap<String, V>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a V)> {
    map.range(prefix.to_owned()..)
        .take_while(move |(key, _)| key.starts_with(prefix))
        .map(|(key, value)| (key.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(store: &Store, prefix: &str) -> Vec<String> {
        store.list(prefix).map(|(key, _)| key.to_owned()).collect()
    }

    #[test]
    fn a_prefix_has_the_index_of_its_latest_change() {
        let mut store = Store::default();
        assert_eq!(store.prefix_index("a/"), 1, "never 0");
        store.put("a/1", b"x".to_vec()).unwrap();
        store.put("b/1", b"y".to_vec()).unwrap();
        assert_eq!((store.prefix_index("a/"), store.prefix_index("b/")), (1, 2));
        assert_eq!(
            store.prefix_index("c/"),
            2,
            "without keys: the whole store's"
        );
        store.put("a/1", b"x".to_vec()).unwrap();
        assert_eq!(store.prefix_index("a/"), 3, "the same value moves it too");
        assert_eq!(
            store.get("a/1").map(|e| (e.create_index, e.modify_index)),
            Some((1, 3))
        );
    }

    #[test]
    fn deleting_the_latest_key_does_not_lower_the_index() {
        let mut store = Store::default();
        store.put("a/1", Vec::new()).unwrap();
        store.put("a/2", Vec::new()).unwrap();
        store.delete("a/2");
        assert_eq!(
            (store.prefix_index("a/"), keys(&store, "a/")),
            (3, vec!["a/1".to_owned()])
        );
        store.delete("a/2");
        assert_eq!(store.prefix_index("a/"), 3, "deleting nothing is no change");
        store.put("b", Vec::new()).unwrap();
        store.delete_tree("a/");
        assert_eq!((store.prefix_index("a/"), keys(&store, "a/").len()), (5, 0));
    }

    #[test]
    fn a_prefix_is_a_text_prefix() {
        let mut store = Store::default();
        for key in ["t/test/1", "t/test2/1", "t/tesu"] {
            store.put(key, Vec::new()).unwrap();
        }
        assert_eq!(keys(&store, "t/test").len(), 2);
        assert_eq!(keys(&store, "t/test/"), ["t/test/1"]);
    }

    #[test]
    fn is_full_at_its_limit_and_forgets_graves_upwards() {
        let mut store = Store::default();
        for n in 0..MAX_KEYS {
            store.put(&format!("k/{n}"), Vec::new()).unwrap();
        }
        assert_eq!(store.put("k/more", Vec::new()), Err(Full));
        assert_eq!(store.put("k/0", b"again".to_vec()), Ok(()));
        store.delete_tree("k/");
        store.put("z", Vec::new()).unwrap();
        store.delete("z");
        assert!(store.graves.len() <= MAX_GRAVES);
        assert_eq!(store.put("k/more", Vec::new()), Ok(()));
    }

    proptest! {
        #[test]
        fn an_index_never_falls(ops in proptest::collection::vec((0u8..3, "[ab]/[0-3]"), 1..60)) {
            let mut store = Store::default();
            let mut last = [0, 0];
            for (op, key) in ops {
                match op {
                    0 => store.put(&key, Vec::new()).unwrap(),
                    1 => store.delete(&key),
                    _ => store.delete_tree(&key[..2]),
                }
                for (prefix, last) in ["a/", "b/"].iter().zip(&mut last) {
                    // A prefix without any key or grave has the store's index: only from the
                    // first key on is it the prefix's own.
                    let seen = store.list(prefix).next().is_some()
                        || store.graves.keys().any(|key| key.starts_with(prefix));
                    let index = store.prefix_index(prefix);
                    if seen {
                        prop_assert!(index >= *last, "{index} < {last}");
                        *last = index;
                    }
                }
            }
        }
    }
}
