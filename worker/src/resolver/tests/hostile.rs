//! Bytes that nobody would send in good faith, from a fixed seed.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::Lookup;
use super::super::message::{Kind, question, read};
use super::{Says, World, found, settings};

/// Rounds of each test: bounded time, the same bytes every time.
const ROUNDS: u32 = 20_000;

fn rounds<S: Strategy>(strategy: &S, mut check: impl FnMut(S::Value)) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for _ in 0..ROUNDS {
        check(strategy.new_tree(&mut runner).unwrap().current());
    }
}

#[test]
fn names_that_point_at_themselves_end() {
    let header = b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0";
    for name in [
        &b"\xc0\x0c"[..],
        b"\x01a\xc0\x0c",
        b"\xc0\x0e\xc0\x0c",
        b"\xff\xff",
        b"\x3f",
        b"\x40a\0",
    ] {
        let record = b"\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
        let bytes = [header, name, b"\0\x01\0\x01", name, record].concat();
        assert!(read(&bytes).is_err(), "{bytes:?}");
        // The same in the answer to a good question, where the first is a good pointer.
        if name == b"\xc0\x0c" {
            continue;
        }
        let asked = question("a.test", Kind::A, 7).unwrap();
        let bytes = [header, &asked[12..], name, record].concat();
        let reply = read(&bytes);
        assert!(reply.is_err() || !format!("{reply:?}").contains("192.0.2.1"));
    }
}

#[test]
fn a_head_that_promises_records_gets_no_room_for_them() {
    let header = b"\0\x07\x81\x80\0\x01\xff\xff\xff\xff\xff\xff";
    let asked = question("a.test", Kind::A, 7).unwrap();
    let bytes = [header, &asked[12..]].concat();
    assert_eq!(read(&bytes).unwrap_err(), "short DNS response");
}

#[test]
fn any_bytes_are_an_answer_or_none() {
    let bytes = proptest::collection::vec(any::<u8>(), 0..600);
    rounds(&bytes, |bytes| drop(read(&bytes)));
}

/// Good answers with bytes changed, left out, and cut: whatever is taken is for this question.
#[test]
fn a_damaged_answer_never_resolves_another_name() {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let damage = (changes, any::<prop::sample::Index>(), any::<bool>());
    let mut taken = 0;
    let mut world = World::new(settings(2));
    rounds(&damage, |(changes, cut, is_cut)| {
        let lookup = world.look_up("a.test", 1);
        if lookup == Lookup::Waiting {
            let mut last = None;
            while let Some(asked) = world.asked() {
                last = Some(asked);
            }
            if let Some(asked) = last {
                let says = [
                    Says::Alias("a.test", "b.test", 5),
                    Says::Address("b.test", "192.0.2.1", 5),
                ];
                let mut bytes = found(&asked.messages[0], &says);
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                if is_cut {
                    bytes.truncate(cut.index(bytes.len()));
                }
                let target = &asked.messages[0][12..];
                let same = bytes
                    .get(12..12 + target.len())
                    .is_some_and(|question| question.eq_ignore_ascii_case(target))
                    && bytes[..2] == asked.messages[0][..2];
                world.receive(asked.lookup, &bytes);
                let outcomes = world.outcomes();
                assert!(same || outcomes.is_empty(), "{bytes:?}");
                taken += usize::from(!outcomes.is_empty());
            }
        }
        world.faults();
        world.pass(Duration::from_secs(5));
    });
    assert!(taken > 100, "the checker must have seen answers: {taken}");
}
