//! Files that are no region, and regions with mutations, checksums recomputed or not.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use weir_shm::layout::{Layout, WORD, header, slot};

use super::region::{CAPACITY, Fixture, run, weirctl};

/// Mutated regions at least, and for how long more of them.
const AT_LEAST: usize = 60;
const SPAN: Duration = Duration::from_secs(6);
const COMMANDS: [&str; 8] = [
    "table", "workers", "counters", "verify", "history", "sources", "errors", "latency",
];

fn refused(bytes: &[u8], reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    fs::write(&path, bytes).unwrap();
    for command in COMMANDS.iter().chain(&["watch"]) {
        let output = run(weirctl(&path, &[command]));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
        assert!(
            errors.starts_with("weirctl: \"") && errors.contains(reason),
            "{command}: {errors}"
        );
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| u64::from_ne_bytes(chunk.try_into().unwrap());
    bytes.chunks_exact(WORD).map(word).collect()
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn what_is_no_region_is_refused() {
    let good = fs::read(Fixture::new().path()).unwrap();
    refused(b"", "not a region of weir");
    refused(b"not a region at all", "not a region of weir");
    refused(&vec![0; good.len()], "not a region of weir");
    refused(&good[..8], "truncated");
    refused(&good[..4096], "truncated");
    refused(&good[..good.len() - 1], "truncated");
    refused(&[good.as_slice(), b"x"].concat(), "its header says");
    let mut other = words(&good);
    other[header::LAYOUT] += 1;
    refused(&bytes(&other), "layout version");
    let mut other = words(&good);
    other[header::SERVERS] += 1;
    refused(&bytes(&other), "checksum");
    let swapped: Vec<u8> = words(&good)
        .iter()
        .flat_map(|word| word.swap_bytes().to_ne_bytes())
        .collect();
    refused(&swapped, "not a region of weir");
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(weirctl(folder.path(), &["table"]));
    assert!(
        !output.status.success() && !output.stderr.is_empty(),
        "{output:?}"
    );
    let output = run(weirctl("/dev/zero".as_ref(), &["table"]));
    assert!(
        !output.status.success() && !output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn a_damaged_table_is_found() {
    let fixture = Fixture::new();
    let mut words = words(&fs::read(fixture.path()).unwrap());
    let first = slot_of(&words, words[header::VERSION]);
    words[first + slot::HEAD + 1] ^= 1;
    let path = fixture.folder.path().join("damaged");
    fs::write(&path, bytes(&words)).unwrap();
    for command in ["table", "counters"] {
        let output = run(weirctl(&path, &[command]));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("damaged table"),
            "{output:?}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
    let output = run(weirctl(&path, &["verify"]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).ends_with("damaged\n"),
        "{output:?}"
    );
}

/// The first word of a version's slot.
fn slot_of(words: &[u64], version: u64) -> usize {
    let layout = Layout::new(CAPACITY);
    layout.tables + (version % words[header::SLOTS].max(1)) as usize * layout.slot_words
}

fn checksum(parts: &[&[u64]]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(&bytes(part)));
    u64::from(hasher.finalize())
}

/// Makes the checksums of the header and of every slot good again.
fn recompute(words: &mut [u64]) {
    words[header::CHECKSUM] = checksum(&[&words[..header::CHECKSUM]]);
    for version in 0..u64::from(CAPACITY.slots) {
        let first = slot_of(words, version).min(words.len());
        let room = Layout::new(CAPACITY).slot_words.min(words.len() - first);
        let length = usize::try_from(words[first + slot::WORDS]).unwrap_or(0);
        if (slot::HEAD..=room).contains(&length) {
            let table = &mut words[first..first + length];
            table[slot::CHECKSUM] = checksum(&[&table[..slot::CHECKSUM], &table[slot::HEAD..]]);
        }
    }
}

/// Where mutations bite, and what is written there.
fn mutation() -> impl Strategy<Value = (usize, u64)> {
    let layout = Layout::new(CAPACITY);
    let place = prop_oneof![
        0..header::VERSION + 1,
        layout.tables..layout.tenancy,
        (0..4usize, 0..slot::HEAD + 60)
            .prop_map(move |(n, word)| layout.tables + n * layout.slot_words + word),
        layout.tenancy..layout.words,
    ];
    let value = prop_oneof![
        any::<u64>(),
        0..40u64,
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(1 << 63),
        (0..64u32).prop_map(|bit| 1 << bit),
    ];
    (place, value)
}

fn assert_orderly(output: &Output, what: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{what}: {output:?}"
    );
    assert!(!errors.contains("panicked"), "{what}: {errors}");
    // An error or a problem has a sentence; control bytes of the region reach no terminal.
    assert!(
        output.status.success() || output.stdout.len() + errors.len() > 10,
        "{what}"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{what}: {text:?}"
    );
}

#[test]
fn mutated_regions_neither_panic_nor_hang() {
    let fixture = Fixture::new();
    let good = words(&fs::read(fixture.path()).unwrap());
    let path = fixture.folder.path().join("mutated");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mutations = proptest::collection::vec(mutation(), 1..5);
    let until = Instant::now() + SPAN;
    let (mut regions, mut accepted, mut rejected) = (0, 0, 0);
    while regions < AT_LEAST || Instant::now() < until {
        let places = mutations.new_tree(&mut runner).unwrap().current();
        let mut mutated = good.clone();
        for (place, value) in &places {
            mutated[*place] = *value;
        }
        if regions % 3 != 0 {
            recompute(&mut mutated);
        }
        fs::write(&path, bytes(&mutated)).unwrap();
        for command in COMMANDS {
            let mut arguments = vec![command];
            arguments.extend((regions % 2 == 0).then_some("--json"));
            let output = run(weirctl(&path, &arguments));
            assert_orderly(&output, &format!("{command} of {places:?}"));
            match output.status.success() {
                true => accepted += 1,
                false => rejected += 1,
            }
        }
        regions += 1;
    }
    // The mutations reach both sides of the checks.
    assert!(
        accepted > 0 && rejected > 0,
        "{accepted} accepted, {rejected} rejected"
    );
}
