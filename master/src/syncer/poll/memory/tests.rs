use super::*;
use crate::settings::Upsync;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys with their weights and indices.
type Store = BTreeMap<(u8, u8), (u32, u64)>;

fn entry(key: &str, value: &str, index: u64) -> String {
    let value = STANDARD.encode(value);
    format!(r#"{{"LockIndex":0,"Key":"{key}","Flags":0,"Value":"{value}","ModifyIndex":{index}}}"#)
}

fn body(store: &Store) -> Vec<u8> {
    let entry = |((folder, port), (weight, index)): (&(u8, u8), &(u32, u64))| {
        let key = format!("up/{folder}/10.0.0.1:{}", 100 + u16::from(*port));
        entry(&key, &format!(r#"{{"weight":{weight}}}"#), *index)
    };
    let entries: Vec<String> = store.iter().map(entry).collect();
    format!("[{}]", entries.join(",")).into_bytes()
}

fn targets() -> Vec<Target> {
    let target = |feed| {
        let prefix = format!("up/{feed}");
        Target::new(feed, &prefix, &Upsync::folder("127.0.0.1", 8500, &prefix))
    };
    (0..3).map(target).collect()
}

#[test]
fn what_is_said_again_is_the_same_list_and_only_that() {
    let mut store: Store = [((0, 1), (1, 5)), ((1, 1), (1, 6)), ((1, 2), (1, 7))].into();
    let mut memory = Memory::default();
    let targets = targets();
    let mut hear = |store: &Store| {
        memory.take(body(store)).unwrap();
        memory.hear(&targets, false).0
    };
    let first = hear(&store);
    let again = hear(&store);
    let same = |one: &[Heard], other: &[Heard]| -> Vec<bool> {
        let pairs = one.iter().zip(other);
        pairs
            .map(|(one, other)| Arc::ptr_eq(&one.servers, &other.servers))
            .collect()
    };
    assert_eq!(same(&first, &again), [true, true, true]);
    store.insert((1, 1), (9, 8));
    let updated = hear(&store);
    assert_eq!(same(&again, &updated), [true, false, true]);
    assert_eq!(updated[1].servers[0].weight, 9);
    store.remove(&(0, 1));
    let removed = hear(&store);
    assert_eq!(same(&updated, &removed), [false, true, true]);
    assert!(removed[0].servers.is_empty());
    // A store that was wiped and filled again has a known index and another value.
    store.insert((1, 1), (4, 8));
    assert_eq!(hear(&store)[1].servers[0].weight, 4);
}

#[test]
fn what_is_no_list_of_entries_is_forgotten_with_all_before() {
    let good = body(&[((0, 1), (1, 5)), ((0, 2), (1, 6))].into());
    let text = String::from_utf8(good.clone()).unwrap();
    let bad = [
        "",
        "null",
        "{}",
        "[",
        "[,]",
        "[]]",
        &text[..text.len() - 1],
        &text[..text.len() - 2],
        &format!("{text}x"),
        &text.replace("},{", "}{"),
        &text.replace("},{", "},,{"),
        &text.replace("}]", "},]"),
        &text.replace("\"Key\"", "\"key\""),
    ];
    for text in bad {
        let mut memory = Memory::default();
        memory.take(good.clone()).unwrap();
        assert!(memory.take(text.into()).is_err(), "{text}");
        assert!(memory.is_empty() && memory.body.is_empty(), "{text}");
        memory.take(good.clone()).unwrap();
        assert_eq!(memory.hear(&targets(), false).0[0].servers.len(), 2);
    }
    let mut memory = Memory::default();
    memory.take(b" [ \n] ".to_vec()).unwrap();
    assert!(memory.is_empty());
}

proptest! {
    /// Whatever came before, an answer says what it says to a memory that is new.
    #[test]
    fn an_answer_means_the_same_whatever_came_before(
        stores in prop::collection::vec(
            prop::collection::btree_map((0u8..4, 0u8..6), (1u32..3, 1u64..4), 1..12),
            1..8,
        ),
        cuts in prop::collection::vec(prop::option::weighted(0.2, 0usize..400), 8),
    ) {
        let (targets, mut memory) = (targets(), Memory::default());
        for (store, cut) in stores.iter().zip(cuts) {
            let mut text = body(store);
            if let Some(cut) = cut {
                text.truncate(cut.min(text.len() - 1));
                prop_assert!(memory.take(text).is_err());
                continue;
            }
            memory.take(text.clone()).unwrap();
            let mut new = Memory::default();
            new.take(text).unwrap();
            prop_assert_eq!(memory.hear(&targets, false), new.hear(&targets, false));
        }
    }
}
