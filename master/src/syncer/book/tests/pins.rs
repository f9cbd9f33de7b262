//! Upstreams that an operator holds as they are, or brings back.

use super::*;

#[test]
fn pins_hold_while_learning_goes_on() {
    let lines: [Line; 3] = [
        ("a", &[1], Some("a"), Some("/a")),
        ("b", &[1], Some("b"), None),
        ("s", &[7], None, None),
    ];
    let mut book = book(&lines, &[], &[]);
    learn(&mut book, 0, &servers(&[2])).unwrap();
    assert!(book.pin(Some("s"), 4).unwrap_err().contains("no source"));
    assert!(book.pin(Some("x"), 4).unwrap_err().contains("no upstream"));
    assert!(book.unpin(Some("a")).unwrap_err().contains("not pinned"));
    assert_eq!(book.pin(Some("a"), 4).unwrap(), ["a"]);
    assert_eq!(book.pin(None, 5).unwrap(), ["b"], "a is pinned already");
    assert_eq!(book.pins()["a"].version, 4);
    learn(&mut book, 0, &servers(&[3])).unwrap();
    learn(&mut book, 1, &servers(&[4])).unwrap();
    let pinned: &[(&str, &[u16])] = &[("a", &[2]), ("b", &[1]), ("s", &[7])];
    expect(&book, pinned);
    assert!(!book.table()[1].learned, "b has its configured servers");
    assert_eq!(book.dumps(0), [(PathBuf::from("/a"), servers(&[2]))]);

    // Over a reload, and in the next life of the syncer.
    prepare(&mut book, &lines, &[]);
    book.commit();
    expect(&book, pinned);
    let (settings, resolved) = configuration(&lines[1..]);
    let table = Table {
        upstreams: book.table(),
        ..Table::default()
    };
    let mut next = Book::new(&settings, resolved, &table);
    next.set_pins(book.pins().clone());
    assert!(next.pins().keys().eq(["b"]), "there is no a any more");
    learn(&mut next, 0, &servers(&[5])).unwrap();
    expect(&next, &[("b", &[1]), ("s", &[7])]);

    assert_eq!(book.unpin(None).unwrap(), ["a", "b"]);
    expect(&book, &[("a", &[3]), ("b", &[4]), ("s", &[7])]);
}

#[test]
fn a_rollback_pins_what_the_old_table_had() {
    let lines: [Line; 3] = [
        ("a", &[1], Some("a"), None),
        ("new", &[1], Some("n"), None),
        ("s", &[7], None, None),
    ];
    let mut book = book(&lines, &[], &[]);
    book.pin(Some("a"), 9).unwrap();
    let old = |name: &str, ports: &[u16]| Upstream {
        name: name.to_owned(),
        changed: 1,
        learned: true,
        template: None,
        servers: servers(ports),
    };
    let content = [old("a", &[2, 3]), old("gone", &[4]), old("s", &[5])];
    assert_eq!(book.rollback(3, &content).unwrap(), ["a"]);
    expect(&book, &[("a", &[2, 3]), ("new", &[1]), ("s", &[7])]);
    assert_eq!(book.pins()["a"].version, 3);
    let error = book.rollback(3, &content[1..]).unwrap_err();
    assert!(error.contains("table version 3"));
    assert_eq!(book.unpin(Some("a")).unwrap(), ["a"]);
    expect(&book, &[("a", &[1]), ("new", &[1]), ("s", &[7])]);
}
