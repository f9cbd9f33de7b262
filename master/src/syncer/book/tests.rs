use super::*;
use crate::settings::{self, Place, Upsync};
use crate::syncer::guard::Why;
use crate::syncer::lesson::{Heard, Origin};
use std::net::IpAddr;
use std::time::Duration;
use weir_shm::{Address, CounterId};

pub(super) fn servers(ports: &[u16]) -> Vec<Server> {
    let server = |port: &u16| Server {
        address: Address::Ip(([10, 0, 0, 1], *port).into()),
        weight: 1,
        max_fails: 2,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    };
    ports.iter().map(server).collect()
}

fn learn(book: &mut Book, id: FeedId, servers: &[Server]) -> Option<Before> {
    book.learn(id, &servers.into())
}

/// An upstream: its name, configured ports, `upsync` prefix (`None` is none) and dump.
pub(super) type Line<'a> = (&'a str, &'a [u16], Option<&'a str>, Option<&'a str>);

pub(super) fn configuration(lines: &[Line]) -> (Settings, Vec<ResolvedUpstream>) {
    let upstream = |(name, _, prefix, dump): &Line| settings::Upstream {
        name: (*name).to_owned(),
        servers: Vec::new(),
        upsync: prefix.map(|prefix| Upsync {
            strong: true,
            ..Upsync::folder("consul", 8500, prefix)
        }),
        dump: dump.map(Into::into),
        guard: Some(Guard::default()),
        resolver: None,
        resolver_timeout: Duration::ZERO,
        place: Place::default(),
    };
    let settings = Settings {
        daemon: false,
        master_process: true,
        user: None,
        pid: PathBuf::new(),
        worker_processes: 1,
        rlimit_nofile: None,
        watchdog: None,
        worker_connections: 1,
        shutdown_timeout: None,
        region: settings::Region {
            path: PathBuf::new(),
            capacity: weir_shm::Capacity {
                servers: 1,
                upstreams: 1,
                workers: 1,
                slots: 4,
                history: weir_shm::Capacity::MIN_HISTORY,
            },
            workers_given: true,
            servers_given: true,
        },
        listeners: Vec::new(),
        resources: Vec::new(),
        private: Vec::new(),
        temp_folders: Vec::new(),
        error_logs: [].into(),
        upstreams: lines.iter().map(upstream).collect(),
        discovers: Vec::new(),
        start_timeout: Duration::ZERO,
        upsync_log: None,
        state: None,
        control: None,
    };
    let resolved = lines.iter().map(|(name, ports, ..)| ResolvedUpstream {
        name: (*name).to_owned(),
        servers: servers(ports),
        names: Vec::new(),
    });
    (settings, resolved.collect())
}

fn book(lines: &[Line], table: &[(&str, &[u16])], learned: &[&str]) -> Book {
    let (settings, resolved) = configuration(lines);
    let upstreams = table.iter().map(|(name, ports)| Upstream {
        name: (*name).to_owned(),
        changed: 1,
        learned: learned.contains(name),
        template: None,
        servers: servers(ports),
    });
    let table = Table {
        version: 1,
        upstreams: upstreams.collect(),
        ..Table::default()
    };
    Book::new(&settings, resolved, &table)
}

/// The table as names and ports.
fn shown(book: &Book) -> Vec<(String, Vec<u16>)> {
    let port = |server: &Server| match &server.address {
        Address::Ip(address) => address.port(),
        Address::Unix(_) => 0,
    };
    let table = book.table().into_iter();
    table
        .map(|u| (u.name, u.servers.iter().map(port).collect()))
        .collect()
}

fn expect(book: &Book, expected: &[(&str, &[u16])]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(n, p)| ((*n).to_owned(), p.to_vec()))
        .collect();
    assert_eq!(shown(book), expected);
}

fn prepare(book: &mut Book, lines: &[Line], dumped: &[(&str, &[u16])]) -> Vec<FeedId> {
    let (settings, resolved) = configuration(lines);
    let dumped = dumped
        .iter()
        .map(|(name, ports)| ((*name).to_owned(), servers(ports)));
    book.prepare(&settings, resolved, &dumped.collect())
}

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

/// One upstream `a` with a fixed server and one of the name `back.test`, asked of `resolver`.
fn with_name(resolver: u16, table: &[&str]) -> (Settings, Vec<ResolvedUpstream>, Table) {
    let (mut settings, mut resolved) = configuration(&[("a", &[1], None, None)]);
    let upstream = &mut settings.upstreams[0];
    upstream.resolver = Some(std::sync::Arc::new(weir_worker::settings::Resolver {
        servers: vec![([127, 0, 0, 1], resolver).into()],
        valid: None,
        ipv4: true,
        ipv6: true,
    }));
    upstream.servers = vec![settings::Server {
        host: settings::Host::Name {
            host: "Back.test".into(),
            port: 80,
            written: "Back.test".into(),
        },
        weight: 3,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        resolve: true,
        place: Place::default(),
    }];
    resolved[0].names = crate::resolve::named(upstream);
    let named = &resolved[0].names[0];
    let known = table.iter().map(|ip| named.at(ip.parse().unwrap()));
    let servers = resolved[0].servers.iter().cloned().chain(known).collect();
    let upstream = Upstream {
        name: "a".into(),
        changed: 1,
        learned: false,
        template: None,
        servers,
    };
    let table = Table {
        version: 1,
        upstreams: vec![upstream],
        ..Table::default()
    };
    (settings, resolved, table)
}

fn addresses(book: &Book) -> Vec<String> {
    let table = book.table();
    let servers = table[0].servers.iter();
    servers.map(|server| server.address.to_string()).collect()
}

fn ips(list: &[&str]) -> Option<Vec<IpAddr>> {
    Some(list.iter().map(|ip| ip.parse().unwrap()).collect())
}

#[test]
fn a_names_addresses_follow_the_configured_servers() {
    let (settings, resolved, table) = with_name(53, &[]);
    let mut book = Book::new(&settings, resolved, &table);
    let id = book.ids()[0];
    assert!(book.is_waiting(&[id]));
    assert_eq!(addresses(&book), ["10.0.0.1:1"]);
    let before = book.resolve(id, ips(&["192.0.2.1", "192.0.2.2", "192.0.2.1"]));
    assert_eq!(before, Some(Vec::new()));
    assert!(!book.is_waiting(&[id]));
    let both = ["10.0.0.1:1", "192.0.2.1:80", "192.0.2.2:80"];
    assert_eq!(addresses(&book), both);
    assert_eq!(book.table()[0].servers[1].weight, 3);
    // The same in another order is the same, and a failure changes nothing.
    assert_eq!(book.resolve(id, ips(&["192.0.2.2", "192.0.2.1"])), None);
    assert_eq!(book.resolve(id, None), None);
    assert_eq!(addresses(&book), both);
    let before = book.resolve(id, ips(&["192.0.2.3", "192.0.2.2"]));
    assert_eq!(addresses(&book)[1..], ["192.0.2.2:80", "192.0.2.3:80"]);
    book.unresolve(id, before.unwrap());
    assert_eq!(addresses(&book), both);
    // A name that is gone has no address.
    assert!(book.resolve(id, ips(&[])).is_some());
    assert_eq!(addresses(&book), ["10.0.0.1:1"]);
}

#[test]
fn a_failed_first_resolution_ends_the_waiting() {
    let (settings, resolved, table) = with_name(53, &[]);
    let mut book = Book::new(&settings, resolved, &table);
    let id = book.ids()[0];
    assert_eq!(book.resolve(id, None), None);
    assert!(!book.is_waiting(&[id]));
}

#[test]
fn a_syncer_that_starts_again_keeps_a_names_addresses() {
    let (settings, resolved, table) = with_name(53, &["192.0.2.7", "192.0.2.8"]);
    let mut book = Book::new(&settings, resolved, &table);
    let seen = ["10.0.0.1:1", "192.0.2.7:80", "192.0.2.8:80"];
    assert_eq!(addresses(&book), seen);
    let id = book.ids()[0];
    assert_eq!(book.resolve(id, None), None);
    assert_eq!(addresses(&book), seen);
}

#[test]
fn a_name_goes_on_over_reloads_and_begins_with_what_is_known_of_it() {
    let (settings, resolved, table) = with_name(53, &[]);
    let mut book = Book::new(&settings, resolved.clone(), &table);
    let id = book.ids()[0];
    book.resolve(id, ips(&["192.0.2.1"]));
    assert!(
        book.prepare(&settings, resolved, &HashMap::new())
            .is_empty()
    );
    assert!(book.commit().0.is_empty());
    assert_eq!(book.ids(), [id]);

    // Another resolver is asked anew.
    let (other, resolved, _) = with_name(54, &[]);
    let new = book.prepare(&other, resolved, &HashMap::new());
    assert_eq!(new.len(), 1);
    assert!(book.is_waiting(&new));
    let name = book.names(new[0]).next().unwrap().1;
    assert_eq!(
        (name.name.as_str(), name.resolver.servers[0].port()),
        ("back.test", 54)
    );
    assert_eq!(book.commit().0, [id]);
    assert_eq!(addresses(&book), ["10.0.0.1:1", "192.0.2.1:80"]);
    let (none, resolved) = configuration(&[("a", &[1], None, None)]);
    book.prepare(&none, resolved.clone(), &HashMap::new());
    assert!(book.abort().is_empty());
    book.prepare(&none, resolved, &HashMap::new());
    assert_eq!(book.commit().0, new);
    assert_eq!(addresses(&book), ["10.0.0.1:1"]);
}

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
