//! What is learned from sources, and what the table has of it over starts and reloads.

use super::*;

#[test]
fn a_start_goes_on_with_what_the_table_has_of_upsync_upstreams() {
    let lines: [Line; 4] = [
        ("a", &[1], Some("a"), None),
        ("b", &[1], Some("b"), None),
        ("c", &[1], None, None),
        ("d", &[1], Some("d"), None),
    ];
    let book = book(
        &lines,
        &[("a", &[9, 8]), ("b", &[1]), ("c", &[7]), ("d", &[1])],
        &["a", "d"],
    );
    expect(
        &book,
        &[("a", &[9, 8]), ("b", &[1]), ("c", &[1]), ("d", &[1])],
    );
    let learned: Vec<bool> = book.feeds().map(|(_, feed)| feed.learned).collect();
    assert_eq!(
        learned,
        [true, false, true],
        "b has what was configured, d what was learned though it is the same"
    );
}

#[test]
fn a_list_replaces_the_configured_servers_and_an_empty_one_only_what_was_learned() {
    let mut book = book(&[("a", &[1], Some("a"), Some("/a"))], &[("a", &[1])], &[]);
    assert!(learn(&mut book, 0, &servers(&[])).is_none());
    expect(&book, &[("a", &[1])]);
    assert!(book.dumps(0).is_empty());
    let before = learn(&mut book, 0, &servers(&[2, 3])).unwrap();
    expect(&book, &[("a", &[3, 2])]);
    assert_eq!(book.dumps(0), [(PathBuf::from("/a"), servers(&[3, 2]))]);
    assert!(learn(&mut book, 0, &servers(&[2, 3])).is_none(), "equal");
    let full = learn(&mut book, 0, &servers(&[])).unwrap();
    expect(&book, &[("a", &[])]);
    assert!(book.dumps(0).is_empty(), "nginx takes no empty list");
    book.unlearn(0, full);
    expect(&book, &[("a", &[3, 2])]);
    book.unlearn(0, before);
    expect(&book, &[("a", &[1])]);
    assert!(
        learn(&mut book, 77, &servers(&[2])).is_none(),
        "a feed that is gone"
    );
    let mut weighty = servers(&[1]);
    weighty[0].weight = 5;
    assert!(learn(&mut book, 0, &weighty).is_some());
}

#[test]
fn a_prepared_configuration_shows_only_its_new_names() {
    let old: [Line; 3] = [
        ("a", &[1], Some("a"), None),
        ("s", &[1], None, None),
        ("gone", &[1], Some("g"), None),
    ];
    let mut book = book(&old, &[], &[]);
    learn(&mut book, 0, &servers(&[2])).unwrap();
    let new: [Line; 4] = [
        ("new", &[1], Some("n"), None),
        ("a", &[5], Some("a"), None),
        ("s", &[6], None, None),
        ("dumped", &[1], Some("d"), None),
    ];
    let feeds = prepare(&mut book, &new, &[("dumped", &[4]), ("a", &[4])]);
    assert_eq!(feeds, [2, 3], "a keeps its feed");
    let kept: &[(&str, &[u16])] = &[("a", &[2]), ("s", &[1]), ("gone", &[1])];
    expect(&book, &[kept, &[("new", &[1]), ("dumped", &[4])]].concat());
    learn(&mut book, 2, &servers(&[8])).unwrap();
    learn(&mut book, 0, &servers(&[2, 3])).unwrap();

    assert_eq!(book.commit(), (vec![1], vec![]));
    expect(
        &book,
        &[("new", &[8]), ("a", &[3, 2]), ("s", &[6]), ("dumped", &[4])],
    );
    assert_eq!(book.commit(), (vec![], vec![]));
}

#[test]
fn an_abort_brings_everything_back() {
    let old: [Line; 2] = [("a", &[1], Some("a"), None), ("s", &[1], None, None)];
    let mut book = book(&old, &[], &[]);
    learn(&mut book, 0, &servers(&[2])).unwrap();
    let new: [Line; 2] = [
        ("a", &[1], Some("other"), None),
        ("b", &[1], Some("b"), None),
    ];
    assert_eq!(prepare(&mut book, &new, &[]), [1, 2]);
    learn(&mut book, 1, &servers(&[9])).unwrap();
    expect(&book, &[("a", &[2]), ("s", &[1]), ("b", &[1])]);
    assert_eq!(book.abort(), [1, 2]);
    expect(&book, &[("a", &[2]), ("s", &[1])]);
    assert_eq!(prepare(&mut book, &old, &[]), Vec::<FeedId>::new());
}

#[test]
fn a_changed_source_goes_on_with_the_old_list() {
    let mut book = book(&[("a", &[1], Some("a"), Some("/a"))], &[], &[]);
    learn(&mut book, 0, &servers(&[2])).unwrap();
    let moved: [Line; 1] = [("a", &[1], Some("other"), Some("/a"))];
    assert_eq!(prepare(&mut book, &moved, &[]), [1]);
    assert!(book.dumps(1).is_empty(), "not in force yet");
    let (gone, dumps) = book.commit();
    assert_eq!(
        (gone, dumps),
        (vec![0], vec![(PathBuf::from("/a"), servers(&[2]))])
    );
    expect(&book, &[("a", &[2])]);
    learn(&mut book, 1, &servers(&[2, 3])).unwrap();
    expect(&book, &[("a", &[3, 2])]);
}

#[test]
fn strong_dependency_is_met_by_servers_from_a_source_or_an_answer_and_configured_ones() {
    let lines: [Line; 2] = [("a", &[1], Some("a"), None), ("b", &[], Some("b"), None)];
    let mut book = book(&lines, &[], &[]);
    assert!(book.is_waiting(&[0, 1]));
    assert!(book.unmet(&[0, 1]).unwrap().contains("\"a\""));
    book.feed_mut(0).unwrap().answered = true;
    assert!(book.unmet(&[0, 1]).unwrap().contains("\"b\""));
    book.feed_mut(1).unwrap().answered = true;
    assert!(!book.is_waiting(&[0, 1]));
    assert!(
        book.unmet(&[0, 1]).unwrap().contains("\"b\""),
        "nobody would be behind it"
    );
    learn(&mut book, 1, &servers(&[3])).unwrap();
    assert_eq!(book.unmet(&[0, 1]), None);
}
