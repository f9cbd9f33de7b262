use proptest::prelude::*;

use super::super::tests::{Line, configuration, servers};
use super::super::{Book, Finding, Heed, Pins};
use super::*;
use crate::ResolvedUpstream;
use crate::settings::Guard;
use crate::syncer::lesson::Origin;

fn settings(lines: &[Line], prefixes: &[&str], guard: bool) -> (Settings, Vec<ResolvedUpstream>) {
    let (mut settings, resolved) = configuration(lines);
    let discover = |prefix: &&str| Discover {
        upsync: Upsync {
            folders: true,
            ..Upsync::folder("consul", 8500, prefix)
        },
        template: "like".to_owned(),
        guard: guard.then(Guard::default),
    };
    settings.discovers = prefixes.iter().map(discover).collect();
    (settings, resolved)
}

const LIKE: Line = ("like", &[], None, None);

fn book(prefixes: &[&str], guard: bool) -> Book {
    let (settings, resolved) = settings(&[LIKE], prefixes, guard);
    Book::new(&settings, resolved, &Table::default())
}

fn heard(folders: &[(&str, &[u16])]) -> Heard {
    let own = |ports: &[u16]| Heard {
        servers: servers(ports).into(),
        ..Heard::default()
    };
    Heard {
        folders: folders
            .iter()
            .map(|(n, p)| ((*n).to_owned(), own(p)))
            .collect(),
        ..Heard::default()
    }
}

/// What the syncer does with an answer; returns what the book said of the folders.
fn teach(book: &mut Book, finder: FeedId, heard: Heard, confirmed: bool) -> Finding {
    let origin = Origin {
        source: "consul".into(),
        index: 1,
        seen_ns: 0,
    };
    let finding = book.find(finder, heard, confirmed).unwrap();
    for (feed, heard) in &finding.lists {
        let heed = book.hear(*feed, heard, &origin, confirmed).unwrap();
        if matches!(heed, Heed::Apply { .. }) {
            book.learn(*feed, &heard.servers);
        }
    }
    finding
}

fn expect(book: &Book, expected: &[(&str, usize)]) {
    let table = book.table();
    let found = table.iter().filter(|upstream| upstream.template.is_some());
    let found: Vec<_> = found.map(|u| (u.name.as_str(), u.servers.len())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_folder_comes_with_its_first_server_and_goes_by_a_second_read() {
    let mut book = book(&["up"], true);
    let finder = book.ids()[0];
    assert!(book.is_waiting(&[finder]) && book.is_finder(finder));
    assert_eq!(book.watched().len(), 1);
    teach(
        &mut book,
        finder,
        heard(&[("a", &[1, 2]), ("b", &[3]), ("none", &[])]),
        false,
    );
    assert!(!book.is_waiting(&[finder]));
    expect(&book, &[("a", 2), ("b", 1)]);
    assert_eq!(book.watched().len(), 1, "a folder has no watch of its own");
    assert_eq!(book.table()[1].template.as_deref(), Some("like"));

    let only_b = || heard(&[("b", &[3])]);
    let finding = teach(&mut book, finder, only_b(), true);
    assert_eq!(finding.missing, ["a"], "nobody had asked for a second read");
    expect(&book, &[("a", 2), ("b", 1)]);
    teach(&mut book, finder, heard(&[("a", &[1]), ("b", &[3])]), true);
    let finding = teach(&mut book, finder, only_b(), true);
    assert_eq!(finding.missing, ["a"], "it was there in between");
    let finding = teach(&mut book, finder, only_b(), true);
    assert_eq!(
        (finding.gone, finding.missing.len()),
        (vec!["a".to_owned()], 0)
    );
    expect(&book, &[("b", 1)]);
    // What is empty and still there is held as for any upstream.
    teach(&mut book, finder, heard(&[("b", &[]), ("c", &[1])]), true);
    expect(&book, &[("b", 1), ("c", 1)]);
    assert_eq!(book.held().count(), 1);
}

#[test]
fn all_folders_at_once_are_held_until_one_is_back_or_the_loss_is_accepted() {
    let mut book = book(&["up"], true);
    let finder = book.ids()[0];
    teach(&mut book, finder, heard(&[("a", &[1]), ("b", &[2])]), false);
    for confirmed in [false, true, true] {
        let finding = teach(&mut book, finder, heard(&[("a", &[])]), confirmed);
        assert!(finding.gone.is_empty() && finding.missing.is_empty());
    }
    expect(&book, &[("a", 1), ("b", 1)]);
    assert_eq!(book.held().count(), 2);
    book.accept("b").unwrap();
    assert!(book.accept_loss("b"));
    expect(&book, &[("a", 1)]);
    let mut filtered = heard(&[("c", &[1])]);
    filtered.filtered = true;
    teach(&mut book, finder, filtered, true);
    assert!(
        book.held().any(|(name, _)| name == "a"),
        "the answer was filtered"
    );
    teach(&mut book, finder, heard(&[("a", &[1])]), false);
    assert_eq!(book.held().count(), 0);
}

#[test]
fn without_the_guard_folders_go_at_once() {
    let mut book = book(&["up"], false);
    let finder = book.ids()[0];
    teach(&mut book, finder, heard(&[("a", &[1])]), false);
    assert_eq!(teach(&mut book, finder, heard(&[]), false).gone, ["a"]);
    expect(&book, &[]);
}

#[test]
fn names_that_are_taken_are_refused_once() {
    let (settings, resolved) = settings(&[LIKE, ("web", &[1], None, None)], &["up", "other"], true);
    let mut book = Book::new(&settings, resolved, &Table::default());
    let [up, other] = book.ids()[..] else {
        panic!("two finders");
    };
    let both = || heard(&[("web", &[1]), ("a", &[2])]);
    let finding = teach(&mut book, up, both(), false);
    assert_eq!(finding.refused.len(), 1);
    assert_eq!(finding.refused[0].0, "web");
    assert!(
        teach(&mut book, up, both(), false).refused.is_empty(),
        "told"
    );
    let finding = teach(&mut book, other, both(), false);
    let why = |name: &str| {
        finding
            .refused
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, why)| why)
    };
    assert!(why("a").unwrap().contains("below up/"));
    assert!(why("web").unwrap().contains("the configuration has"));
    expect(&book, &[("a", 1)]);
}

#[test]
fn a_name_that_comes_free_is_taken_with_what_was_heard_last() {
    let (with, named) = settings(&[LIKE, ("web", &[1], None, None)], &["up", "other"], false);
    let mut book = Book::new(&with, named, &Table::default());
    let [up, other] = book.ids()[..] else {
        panic!("two finders");
    };
    teach(&mut book, up, heard(&[("a", &[1])]), false);
    teach(
        &mut book,
        other,
        heard(&[("a", &[2]), ("web", &[3])]),
        false,
    );
    teach(
        &mut book,
        other,
        heard(&[("a", &[2, 4]), ("web", &[3]), ("b", &[])]),
        false,
    );
    assert_eq!(book.passed_over(other).count(), 2);
    expect(&book, &[("a", 1)]);
    // Another finder's.
    assert_eq!(teach(&mut book, up, heard(&[]), false).gone, ["a"]);
    expect(&book, &[("a", 2)]);
    assert!(book.is_heard("a"));
    // The configuration's: not before the one without it is in force.
    let (without, resolved) = settings(&[LIKE], &["up", "other"], false);
    book.prepare(&without, resolved.clone(), &Default::default());
    expect(&book, &[("a", 2)]);
    book.abort();
    expect(&book, &[("a", 2)]);
    book.prepare(&without, resolved, &Default::default());
    book.commit();
    expect(&book, &[("a", 2), ("web", 1)]);
    assert_eq!(book.passed_over(other).count(), 0);
    // The configuration has it again for a while, and nothing new is heard of it.
    let (again, named) = settings(&[LIKE, ("web", &[9], None, None)], &["up", "other"], false);
    book.prepare(&again, named, &Default::default());
    let table = book.table();
    let named = table.iter().filter(|upstream| upstream.name == "web");
    assert_eq!(named.count(), 1, "no name twice");
    let gone = teach(
        &mut book,
        other,
        heard(&[("a", &[2, 4]), ("web", &[3, 5])]),
        false,
    )
    .gone;
    assert!(gone.is_empty(), "it is not in force yet");
    book.commit();
    expect(&book, &[("a", 2)]);
    let (without, resolved) = settings(&[LIKE], &["up", "other"], false);
    book.prepare(&without, resolved, &Default::default());
    book.commit();
    expect(&book, &[("a", 2), ("web", 2)]);
    // An answer without them takes them away as any.
    let finding = teach(&mut book, other, heard(&[]), false);
    assert_eq!(finding.gone, ["a", "web"]);
    // What only a pin keeps has its name.
    teach(&mut book, up, heard(&[("a", &[1])]), false);
    book.pin(Some("a"), 1).unwrap();
    teach(&mut book, other, heard(&[("a", &[2, 3])]), false);
    teach(&mut book, up, heard(&[]), false);
    expect(&book, &[("a", 1)]);
    book.unpin(Some("a")).unwrap();
    expect(&book, &[("a", 2)]);
}

#[test]
fn what_was_found_is_there_in_the_next_life_and_over_reloads() {
    let mut first = book(&["up"], true);
    let finder = first.ids()[0];
    teach(
        &mut first,
        finder,
        heard(&[("a", &[1]), ("b", &[2])]),
        false,
    );
    let table = Table {
        upstreams: first.table(),
        ..Table::default()
    };
    let (configured, resolved) = settings(&[LIKE], &["up"], true);
    let mut book = Book::new(&configured, resolved.clone(), &table);
    expect(&book, &[("a", 1), ("b", 1)]);
    let finder = book.watched()[0].0;
    assert!(teach(&mut book, finder, heard(&[]), false).gone.is_empty());
    expect(&book, &[("a", 1), ("b", 1)]);

    // The same again, another address, a name that is configured now, and none.
    book.prepare(&configured, resolved.clone(), &Default::default());
    assert!(book.commit().0.is_empty());
    expect(&book, &[("a", 1), ("b", 1)]);
    let (mut moved, resolved) = settings(&[LIKE, ("b", &[7], None, None)], &["up"], true);
    moved.discovers[0].upsync.prefix = "moved".to_owned();
    let new = book.prepare(&moved, resolved, &Default::default());
    teach(&mut book, new[0], heard(&[("c", &[1])]), false);
    expect(&book, &[("a", 1), ("b", 1)]);
    assert_eq!(book.commit().0, [finder]);
    expect(&book, &[("a", 1), ("c", 1)]);
    let (none, resolved) = configuration(&[LIKE]);
    book.prepare(&none, resolved, &Default::default());
    book.commit();
    expect(&book, &[]);
}

/// One that is configured as the folder `web` of the same source.
const WEB: Line = ("web", &[], Some("up/web"), None);

#[test]
fn what_was_found_gets_a_block_of_its_own() {
    let mut book = book(&["up"], true);
    let finder = book.ids()[0];
    teach(&mut book, finder, heard(&[("web", &[1, 2])]), false);
    let (own, resolved) = settings(&[LIKE, WEB, ("new", &[1], None, None)], &["up"], true);
    book.prepare(&own, resolved, &Default::default());
    let names = |book: &Book| -> Vec<String> {
        let table = book.table().into_iter();
        table.map(|upstream| upstream.name).collect()
    };
    assert_eq!(names(&book), ["like", "new", "web"], "each name once");
    expect(&book, &[("web", 2)]);
    book.commit();
    assert_eq!(names(&book), ["like", "web", "new"]);
    expect(&book, &[]);
    let table = book.table();
    assert!(
        table[1].learned && table[1].servers.len() == 2,
        "it goes on with the servers of its folder"
    );
}

#[test]
fn an_abort_loses_what_only_the_refused_configuration_found() {
    let mut book = book(&["up"], true);
    let up = book.ids()[0];
    teach(&mut book, up, heard(&[("a", &[1])]), false);
    let (more, resolved) = settings(&[LIKE], &["up", "other"], true);
    let new = book.prepare(&more, resolved, &Default::default());
    teach(&mut book, new[0], heard(&[("b", &[2])]), false);
    teach(&mut book, up, heard(&[("a", &[1]), ("c", &[3])]), false);
    expect(&book, &[("a", 1), ("c", 1)]);
    assert_eq!(book.abort(), [new[0]]);
    expect(&book, &[("a", 1), ("c", 1)]);
    assert!(!book.is_found("b"));
}

#[test]
fn what_is_in_force_follows_no_finder_that_is_only_prepared() {
    let mut book = book(&["up"], true);
    let up = book.ids()[0];
    teach(&mut book, up, heard(&[("a", &[1])]), false);
    let (moved, resolved) = settings(&[LIKE], &["moved"], true);
    book.prepare(&moved, resolved, &Default::default());
    book.commit();
    let (again, resolved) = settings(&[LIKE], &["again"], true);
    let new = book.prepare(&again, resolved, &Default::default());
    let a = || heard(&[("a", &[1, 2])]);
    assert_eq!(teach(&mut book, new[0], a(), false).refused.len(), 1);
    expect(&book, &[("a", 1)]);
    book.commit();
    expect(&book, &[("a", 1)]);
    assert_eq!(book.heirs(), new);
    teach(&mut book, new[0], a(), false);
    expect(&book, &[("a", 2)]);
    assert!(book.heirs().is_empty());
}

#[test]
fn what_a_filtered_answer_changes_of_a_folder_is_held() {
    let mut book = book(&["up"], true);
    let finder = book.ids()[0];
    let all: &[(&str, &[u16])] = &[("a", &[1, 2]), ("b", &[3])];
    teach(&mut book, finder, heard(all), false);
    let filtered = |folders: &[(&str, &[u16])]| Heard {
        filtered: true,
        ..heard(folders)
    };
    teach(&mut book, finder, filtered(all), false);
    assert_eq!(book.held().count(), 0, "it changes nothing");
    teach(
        &mut book,
        finder,
        filtered(&[("a", &[1]), ("b", &[3])]),
        false,
    );
    expect(&book, &[("a", 2), ("b", 1)]);
    let held: Vec<&str> = book.held().map(|(name, _)| name).collect();
    assert_eq!(held, ["a"]);
    teach(&mut book, finder, heard(&[("a", &[1]), ("b", &[3])]), false);
    expect(&book, &[("a", 1), ("b", 1)]);
}

#[test]
fn a_pin_keeps_what_is_gone_until_it_ends() {
    let mut book = book(&["up"], false);
    let finder = book.ids()[0];
    teach(&mut book, finder, heard(&[("a", &[1]), ("b", &[2])]), false);
    assert_eq!(book.pin(Some("a"), 3).unwrap(), ["a"]);
    assert!(
        teach(&mut book, finder, heard(&[("b", &[2])]), false)
            .gone
            .is_empty()
    );
    expect(&book, &[("a", 1), ("b", 1)]);
    book.unpin(Some("a")).unwrap();
    expect(&book, &[("b", 1)]);
    assert_eq!(book.pins(), &Pins::new());
}

proptest! {
    /// Whatever is answered, what was found is never all gone, and has servers.
    #[test]
    fn no_answers_take_all_upstreams(
        answers in prop::collection::vec(
            (prop::collection::btree_map("[a-d]", prop::collection::btree_set(1u16..9, 0..5), 0..4), any::<bool>()),
            0..40,
        ),
    ) {
        let mut book = book(&["up"], true);
        let finder = book.ids()[0];
        teach(&mut book, finder, heard(&[("a", &[1]), ("b", &[2])]), false);
        for (folders, confirmed) in answers {
            let folders: Vec<(String, Vec<u16>)> =
                folders.into_iter().map(|(n, p)| (n, p.into_iter().collect())).collect();
            let folders: Vec<(&str, &[u16])> =
                folders.iter().map(|(n, p)| (n.as_str(), p.as_slice())).collect();
            teach(&mut book, finder, heard(&folders), confirmed);
            let table = book.table();
            let found: Vec<_> = table.iter().filter(|u| u.template.is_some()).collect();
            prop_assert!(!found.is_empty());
            prop_assert!(found.iter().all(|upstream| !upstream.servers.is_empty()));
        }
    }
}
