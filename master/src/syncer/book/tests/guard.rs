//! What the guard holds, and how it is let go.

use super::*;
use crate::syncer::guard::Why;
use crate::syncer::lesson::{Heard, Origin};

fn heard(ports: &[u16]) -> Heard {
    Heard {
        servers: servers(ports).into(),
        ..Heard::default()
    }
}

fn origin(index: u64) -> Origin {
    Origin {
        source: "consul:8500/v1/kv/a".into(),
        index,
        seen_ns: 0,
    }
}

#[test]
fn what_the_guard_holds_is_released_by_a_better_answer_or_accepted() {
    let mut book = book(&[("a", &[1], Some("a"), None)], &[], &[]);
    let mut hear = |ports: &[u16], index| {
        let heed = book.hear(0, &heard(ports), &origin(index), false).unwrap();
        if matches!(heed, Heed::Apply { .. }) {
            learn(&mut book, 0, &servers(ports));
        }
        heed
    };
    let apply = |released| Heed::Apply { released };
    let hold = |news| Heed::Hold {
        why: Why::Empty,
        news,
    };
    assert_eq!(hear(&[], 1), apply(false), "nothing was learned yet");
    assert_eq!(hear(&[2, 3], 2), apply(false));
    assert_eq!(hear(&[], 3), hold(true));
    assert_eq!(hear(&[], 4), hold(false), "told once");
    assert_eq!(hear(&[2, 3, 4], 5), apply(true));
    assert_eq!(hear(&[], 6), hold(true));

    let held: Vec<_> = book.held().map(|(name, held)| (name, held.why)).collect();
    assert_eq!(held, [("a", Why::Empty)]);
    assert!(book.accept("b").unwrap_err().contains("no upstream \"b\""));
    let (feed, held) = book.accept("a").unwrap();
    assert_eq!((feed, held.origin.index), (0, 6));
    learn(&mut book, feed, &held.servers).unwrap();
    expect(&book, &[("a", &[])]);
    assert!(book.accept("a").unwrap_err().contains("no answer is held"));
}

#[test]
fn a_large_removal_is_applied_when_the_second_read_says_the_same() {
    let mut book = book(&[("a", &[], Some("a"), None)], &[], &[]);
    learn(&mut book, 0, &servers(&[1, 2, 3, 4, 5, 6]));
    let mut hear = |ports: &[u16], confirmed| {
        let heed = book.hear(0, &heard(ports), &origin(1), confirmed).unwrap();
        matches!(heed, Heed::Apply { .. })
    };
    assert!(!hear(&[6], true), "nobody asked for a second read");
    assert!(!hear(&[6], false));
    assert!(!hear(&[5], true), "not the same");
    assert!(!hear(&[6], true), "not the same as that");
    assert!(hear(&[6], true));
    assert!(!hear(&[6], false), "once");
    assert!(hear(&[1, 2, 3], false), "half is not more than half");
    assert!(!hear(&[6], true), "the answer between was a good one");
}

#[test]
fn a_reload_without_the_guard_lets_go_what_it_held() {
    let lines: [Line; 1] = [("a", &[], Some("a"), None)];
    let mut book = book(&lines, &[("a", &[1, 2])], &["a"]);
    book.hear(0, &heard(&[]), &origin(1), false).unwrap();
    assert!(book.unguarded().is_empty());
    let (mut settings, resolved) = configuration(&lines);
    settings.upstreams[0].guard = None;
    book.prepare(&settings, resolved, &HashMap::new());
    assert!(book.unguarded().is_empty(), "not in force yet");
    book.commit();
    let let_go = book.unguarded();
    assert_eq!((let_go.len(), let_go[0].0), (1, 0));
    let heed = book.hear(0, &heard(&[]), &origin(1), false).unwrap();
    assert_eq!(heed, Heed::Apply { released: false });
}
