//! A region from all its sides: published, read by workers and outsiders, counted in.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]
#![allow(
    clippy::print_stdout,
    reason = "a child reports over its standard output"
)]

use std::path::{Path, PathBuf};

use weir_shm::{
    Address, Capacity, CounterId, Error, Metric, Publication, PublishError, Publisher, Reader,
    Region, Seen, Server, Snapshot, Upstream, WorkerRegion, WorkerState,
};

const CAPACITY: Capacity = Capacity {
    servers: 16,
    upstreams: 3,
    workers: 3,
    slots: 4,
    history: Capacity::MIN_HISTORY,
};

struct Fixture {
    region: Region,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn fixture(capacity: Capacity) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    let region = Region::create(&path, capacity).unwrap();
    Fixture {
        region,
        path,
        _folder: folder,
    }
}

fn publisher(region: &Region) -> Publisher {
    Publisher::new(region, region.writer_file().unwrap()).unwrap()
}

fn server(port: u16) -> Server {
    Server {
        address: Address::Ip(([127, 0, 0, 1], port).into()),
        weight: 1,
        max_fails: 2,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    }
}

fn upstream(name: &str, ports: impl IntoIterator<Item = u16>) -> Upstream {
    let servers = ports.into_iter().map(server).collect();
    Upstream {
        name: name.to_owned(),
        changed: 0,
        learned: false,
        template: None,
        servers,
    }
}

fn ids(publisher: &Publisher, upstream: usize) -> Vec<CounterId> {
    publisher.table().upstreams[upstream]
        .servers
        .iter()
        .map(|server| server.counter)
        .collect()
}

fn catch_up(worker: &mut WorkerRegion, snapshot: &mut Snapshot) {
    worker.read(snapshot.version, snapshot).unwrap();
    worker.scoreboard().set_table_version(snapshot.version);
}

#[test]
fn what_is_published_is_what_everybody_reads() {
    let fixture = fixture(CAPACITY);
    let mut publisher = publisher(&fixture.region);
    let mut worker = fixture.region.worker(0).unwrap();
    let mut snapshot = Snapshot::default();
    worker.read(0, &mut snapshot).unwrap();
    assert_eq!(snapshot, Snapshot::default());

    let mut unix = server(0);
    unix.address = Address::Unix(PathBuf::from("/run/b.sock"));
    unix.backup = true;
    let mut v6 = server(0);
    v6.address = Address::Ip("[fe80::1%3]:443".parse().unwrap());
    v6.down = true;
    let mut first = upstream("test", [8001]);
    first.servers.extend([unix, v6]);
    let tables = vec![first, upstream("empty", [])];
    let publication = publisher.publish(tables, Seen::NOBODY).unwrap();
    assert_eq!(
        publication,
        Publication {
            version: 1,
            changed: true
        }
    );
    assert_eq!(worker.table_version(), 1);

    let table = Reader::open(&fixture.path).unwrap().table().unwrap();
    assert_eq!(&table, publisher.table());
    worker.read(0, &mut snapshot).unwrap();
    assert_eq!(snapshot.version, 1);
    for (seen, published) in snapshot.upstreams.iter().zip(&table.upstreams) {
        assert_eq!(seen.name, published.name);
        assert_eq!(seen.changed, 1);
        assert_eq!(seen.servers.as_ref(), Some(&published.servers));
    }
    assert!(
        Reader::open(&fixture.path)
            .unwrap()
            .verify()
            .unwrap()
            .problems
            .is_empty()
    );
}

#[test]
fn only_changed_upstreams_carry_servers() {
    let fixture = fixture(CAPACITY);
    let mut publisher = publisher(&fixture.region);
    let mut worker = fixture.region.worker(0).unwrap();
    let mut snapshot = Snapshot::default();
    publisher
        .publish(vec![upstream("a", [1]), upstream("b", [2])], Seen::NOBODY)
        .unwrap();
    catch_up(&mut worker, &mut snapshot);
    publisher
        .publish(
            vec![upstream("a", [1]), upstream("b", [3, 2])],
            Seen::NOBODY,
        )
        .unwrap();
    catch_up(&mut worker, &mut snapshot);
    assert_eq!(snapshot.upstreams[0].changed, 1);
    assert_eq!(snapshot.upstreams[0].servers, None);
    assert_eq!(snapshot.upstreams[1].changed, 2);
    assert_eq!(snapshot.upstreams[1].servers.as_ref().unwrap().len(), 2);
    catch_up(&mut worker, &mut snapshot);
    assert!(
        snapshot
            .upstreams
            .iter()
            .all(|upstream| upstream.servers.is_none())
    );
}

#[test]
fn equal_content_is_not_published_again() {
    let fixture = fixture(CAPACITY);
    let mut publisher = publisher(&fixture.region);
    assert!(
        publisher.publish(vec![], Seen::NOBODY).unwrap().changed,
        "the first table, though empty"
    );
    let table = vec![upstream("a", [1, 2]), upstream("b", [])];
    assert!(
        publisher
            .publish(table.clone(), Seen::NOBODY)
            .unwrap()
            .changed
    );
    let again = publisher.publish(table.clone(), Seen::NOBODY).unwrap();
    assert_eq!(
        again,
        Publication {
            version: 2,
            changed: false
        }
    );
    let changes: [fn(&mut Vec<Upstream>); 7] = [
        |table| table[0].servers[0].weight = 9,
        |table| table[0].servers[0].max_fails = 9,
        |table| table[0].servers[0].fail_timeout_ms = 9,
        |table| table[0].servers[0].down = true,
        |table| table[0].servers[0].backup = true,
        |table| table[0].servers.swap(0, 1),
        |table| table.swap(0, 1),
    ];
    for change in changes {
        publisher.publish(table.clone(), Seen::NOBODY).unwrap();
        let before = ids(&publisher, 0);
        let mut changed = table.clone();
        change(&mut changed);
        assert!(publisher.publish(changed, Seen::NOBODY).unwrap().changed);
        let after: Vec<_> = (0..2)
            .flat_map(|upstream| ids(&publisher, upstream))
            .collect();
        assert!(before.iter().all(|id| after.contains(id)), "counters stay");
    }
}

#[test]
fn a_server_keeps_its_counter_wherever_it_moves() {
    let fixture = fixture(CAPACITY);
    let mut publisher = publisher(&fixture.region);
    publisher
        .publish(vec![upstream("a", [1, 2, 3, 4])], Seen::NOBODY)
        .unwrap();
    let [one, two, three, four] = ids(&publisher, 0)[..] else {
        panic!()
    };
    publisher
        .publish(vec![upstream("a", [9, 4, 2, 1, 3])], Seen::NOBODY)
        .unwrap();
    assert_eq!(ids(&publisher, 0)[1..], [four, two, one, three]);
    // The same address in another upstream is another server.
    publisher
        .publish(
            vec![upstream("b", [1]), upstream("a", [3, 1])],
            Seen::NOBODY,
        )
        .unwrap();
    assert_eq!(ids(&publisher, 1), [three, one]);
    assert_ne!(ids(&publisher, 0), [one]);
}

#[test]
fn one_address_twice_is_two_servers() {
    let fixture = fixture(CAPACITY);
    let mut publisher = publisher(&fixture.region);
    publisher
        .publish(
            vec![upstream("a", [1, 1]), upstream("a", [1])],
            Seen::NOBODY,
        )
        .unwrap();
    let mut seen = ids(&publisher, 0);
    seen.extend(ids(&publisher, 1));
    seen.sort_by_key(|id| id.index);
    seen.dedup();
    assert_eq!(seen.len(), 3);
    publisher
        .publish(vec![upstream("a", [2, 1, 7, 1])], Seen::NOBODY)
        .unwrap();
    let kept = ids(&publisher, 0);
    assert!(seen.contains(&kept[1]) && seen.contains(&kept[3]) && kept[1] != kept[3]);
}

#[test]
fn a_counter_row_is_reused_only_when_nobody_uses_it() {
    let fixture = fixture(Capacity {
        servers: 2,
        ..CAPACITY
    });
    let mut publisher = publisher(&fixture.region);
    let mut worker = fixture.region.worker(0).unwrap();
    let mut snapshot = Snapshot::default();
    publisher
        .publish(vec![upstream("a", [1])], Seen::NOBODY)
        .unwrap();
    let old = ids(&publisher, 0)[0];
    catch_up(&mut worker, &mut snapshot);
    worker.counters().begin(old);

    // Dropped, but the worker still routes by the version that has it.
    publisher
        .publish(vec![upstream("a", [2])], Seen::NOBODY)
        .unwrap();
    let too_many = PublishError::TooManyServers {
        has: 2,
        room: 1,
        leaving: 1,
    };
    assert_eq!(
        publisher.publish(vec![upstream("a", [2, 3])], Seen::NOBODY),
        Err(too_many.clone())
    );
    assert_eq!(publisher.table().version, 2);
    assert_eq!(publisher.table().leaving[0].server.counter, old);
    let listed = Reader::open(&fixture.path)
        .unwrap()
        .counters(publisher.table())
        .unwrap();
    assert_eq!(
        (listed.len(), listed[1].leaving, listed[1].total.in_flight),
        (2, true, 1)
    );

    // Passed, but a request is in flight.
    catch_up(&mut worker, &mut snapshot);
    assert_eq!(
        publisher.publish(vec![upstream("a", [2, 3])], Seen::NOBODY),
        Err(too_many)
    );

    worker.counters().end(old, 10, 20);
    assert!(
        Reader::open(&fixture.path)
            .unwrap()
            .counters(publisher.table())
            .unwrap()
            .len()
            == 1
    );
    publisher
        .publish(vec![upstream("a", [2, 3])], Seen::NOBODY)
        .unwrap();
    let new = ids(&publisher, 0)[1];
    assert_eq!(
        new,
        CounterId {
            index: old.index,
            incarnation: old.incarnation + 1
        }
    );
    // A number never counts for two servers, whatever the old one still does.
    worker.counters().begin(new);
    worker.counters().begin(old);
    worker.counters().end(old, 1, 1);
    worker.counters().fail(old, 5);
    let counts = worker.counters().counts(new);
    assert_eq!(
        (
            counts.in_flight,
            counts.requests,
            counts.received,
            counts.failures
        ),
        (1, 1, 0, 0)
    );
}

#[test]
fn a_server_that_comes_back_while_it_leaves_keeps_its_row() {
    let fixture = fixture(Capacity {
        servers: 3,
        ..CAPACITY
    });
    let mut publisher = publisher(&fixture.region);
    let _worker = fixture.region.worker(0).unwrap();
    publisher
        .publish(vec![upstream("a", [1, 2]), upstream("b", [])], Seen::NOBODY)
        .unwrap();
    let before = ids(&publisher, 0);
    // However often: the rows do not run out, though the worker routes by nothing newer.
    for _ in 0..5 {
        publisher
            .publish(vec![upstream("a", []), upstream("b", [])], Seen::NOBODY)
            .unwrap();
        assert_eq!(publisher.table().leaving.len(), 2);
        publisher
            .publish(vec![upstream("a", [2, 1]), upstream("b", [])], Seen::NOBODY)
            .unwrap();
        assert_eq!(ids(&publisher, 0), [before[1], before[0]]);
        assert!(publisher.table().leaving.is_empty());
    }
    // In another upstream it is another server.
    publisher
        .publish(vec![upstream("a", [2]), upstream("b", [1])], Seen::NOBODY)
        .unwrap();
    assert_ne!(ids(&publisher, 1)[0].index, before[0].index);
    assert_eq!(publisher.table().leaving.len(), 1);
}

#[test]
fn a_dead_worker_is_folded_and_holds_nothing_back() {
    let fixture = fixture(Capacity {
        servers: 1,
        ..CAPACITY
    });
    let mut publisher = publisher(&fixture.region);
    let mut worker = fixture.region.worker(1).unwrap();
    publisher
        .publish(vec![upstream("a", [1])], Seen::NOBODY)
        .unwrap();
    let id = ids(&publisher, 0)[0];
    catch_up(&mut worker, &mut Snapshot::default());
    for _ in 0..3 {
        worker.counters().begin(id);
    }
    worker.counters().end(id, 100, 10);
    worker.counters().fail(id, 77);
    worker.scoreboard().add(Metric::Accepted, 5);
    worker.scoreboard().add(Metric::Active, 2);
    drop(worker);
    let mut successor = fixture.region.worker(2).unwrap();
    let before = successor.status();
    assert_eq!((before.accepted, before.active), (5, 2));

    fixture.region.fold(1);
    assert_eq!(fixture.region.scoreboard().len(), 1);
    let after = successor.status();
    assert_eq!((after.accepted, after.active), (5, 0));
    let total = || {
        let reader = Reader::open(&fixture.path).unwrap();
        reader.counters(&reader.table().unwrap()).unwrap()[0].total
    };
    let folded = total();
    assert_eq!(
        (folded.in_flight, folded.requests, folded.failures),
        (0, 3, 1)
    );
    assert_eq!(
        (folded.received, folded.sent, folded.latest_failure_ms),
        (100, 10, 77)
    );
    successor.counters().begin(id);
    assert_eq!((total().requests, total().in_flight), (4, 1));
    successor.counters().end(id, 1, 1);

    publisher.publish(vec![], Seen::NOBODY).unwrap();
    catch_up(&mut successor, &mut Snapshot::default());
    publisher
        .publish(vec![upstream("a", [2])], Seen::NOBODY)
        .unwrap();
    assert_eq!(
        total().requests,
        0,
        "the folded row belongs to the old incarnation"
    );
    // A worker that dies with rows of the old incarnation only must not bring them back.
    let last = ids(&publisher, 0)[0];
    fixture.region.fold(2);
    fixture.region.worker(0).unwrap().counters().begin(last);
    fixture.region.fold(0);
    assert_eq!(total().requests, 1);
}

#[test]
fn a_table_that_does_not_fit_leaves_the_previous_one() {
    let fixture = fixture(CAPACITY);
    let mut publisher = publisher(&fixture.region);
    let fits = vec![upstream("a", 1..=16), upstream("b", []), upstream("c", [])];
    publisher.publish(fits.clone(), Seen::NOBODY).unwrap();
    let before = publisher.table().clone();

    let mut many = fits.clone();
    many[1].servers.push(server(99));
    let error = publisher.publish(many, Seen::NOBODY).unwrap_err();
    assert_eq!(
        error,
        PublishError::TooManyServers {
            has: 17,
            room: 16,
            leaving: 0
        }
    );
    let mut many = fits.clone();
    many.push(upstream("d", []));
    let error = publisher.publish(many, Seen::NOBODY).unwrap_err();
    assert_eq!(error, PublishError::TooManyUpstreams { has: 4, room: 3 });
    // 4096 + 64 * 3 + 16 * 16 bytes of text.
    let mut long = fits.clone();
    long[1].name = "x".repeat(4544 - 2);
    publisher.publish(long.clone(), Seen::NOBODY).unwrap();
    long[1].name.push('x');
    let error = publisher.publish(long, Seen::NOBODY).unwrap_err();
    assert_eq!(
        error,
        PublishError::TextTooLong {
            has: 4545,
            room: 4544
        }
    );
    publisher.publish(fits, Seen::NOBODY).unwrap();
    assert_eq!(publisher.table().upstreams[0], before.upstreams[0]);
    assert_eq!(
        &Reader::open(&fixture.path).unwrap().table().unwrap(),
        publisher.table()
    );
}

#[test]
fn a_new_publisher_goes_on_where_the_last_one_stopped() {
    let fixture = fixture(CAPACITY);
    let mut first = publisher(&fixture.region);
    let worker = fixture.region.worker(0).unwrap();
    first
        .publish(vec![upstream("a", [1, 2, 3])], Seen::NOBODY)
        .unwrap();
    worker.scoreboard().set_table_version(1);
    first
        .publish(vec![upstream("a", [3, 1])], Seen::NOBODY)
        .unwrap();
    let before = first.table().clone();
    assert_eq!(before.leaving.len(), 1);
    drop(first);
    let mut second = publisher(&fixture.region);
    assert_eq!(second.table(), &before);
    assert!(
        !second
            .publish(vec![upstream("a", [3, 1])], Seen::NOBODY)
            .unwrap()
            .changed
    );
    let publication = second
        .publish(vec![upstream("a", [3, 1, 4])], Seen::NOBODY)
        .unwrap();
    assert_eq!(
        publication,
        Publication {
            version: 3,
            changed: true
        }
    );
    let new = ids(&second, 0)[2];
    assert!(
        before.upstreams[0]
            .servers
            .iter()
            .all(|server| server.counter.index != new.index)
    );
    assert_ne!(new.index, before.leaving[0].server.counter.index);
}

#[test]
fn a_second_writer_waits_for_the_first() {
    let fixture = fixture(CAPACITY);
    let mut first = publisher(&fixture.region);
    first
        .publish(vec![upstream("a", [1])], Seen::NOBODY)
        .unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| publisher(&fixture.region).table().version);
        for port in 2..200 {
            first
                .publish(vec![upstream("a", [port])], Seen::NOBODY)
                .unwrap();
        }
        assert!(!second.is_finished(), "while the first has the lock");
        drop(first);
        assert_eq!(second.join().unwrap(), 199);
    });
}

#[test]
fn failures_reach_the_other_workers() {
    let fixture = fixture(CAPACITY);
    let one = fixture.region.worker(0).unwrap();
    let two = fixture.region.worker(1).unwrap();
    let id = |index| CounterId {
        index,
        incarnation: 7,
    };
    let mut own = one.failures().cursors();
    let mut other = two.failures().cursors();
    let mut seen = Vec::new();
    one.failures().note(id(3));
    one.failures().note(id(4));
    one.failures().poll(&mut own, |_| panic!("its own"));
    two.failures().poll(&mut other, |id| seen.push(id));
    two.failures().poll(&mut other, |_| panic!("again"));
    assert_eq!(seen, [id(3), id(4)]);

    // A ring that was overrun has lost its oldest.
    seen.clear();
    (0..1000).for_each(|index| one.failures().note(id(index)));
    two.failures().poll(&mut other, |id| seen.push(id));
    assert_eq!(seen.len(), 255);
    assert_eq!(seen.last(), Some(&id(999)));
    assert!(seen.is_sorted_by_key(|id| id.index));
}

#[test]
fn the_scoreboard_shows_what_workers_do() {
    let fixture = fixture(CAPACITY);
    fixture.region.set_master(4711);
    let worker = fixture.region.worker(2).unwrap();
    let row = worker.scoreboard();
    let shown = &fixture.region.scoreboard()[0];
    assert_eq!((shown.slot, shown.pid), (2, std::process::id()));
    assert_eq!(
        (shown.state, shown.table_version),
        (WorkerState::Starting, 0)
    );
    row.set_state(WorkerState::Parked);
    row.set_generation(3);
    row.set_heartbeat_ms(1234);
    row.add(Metric::Waiting, 4);
    row.sub(Metric::Waiting, 1);
    let reader = Reader::open(&fixture.path).unwrap();
    let rows = reader.workers().unwrap();
    assert_eq!(rows, fixture.region.scoreboard());
    assert_eq!(
        (rows[0].state, rows[0].generation),
        (WorkerState::Parked, 3)
    );
    assert_eq!((rows[0].heartbeat_ms, rows[0].status.waiting), (1234, 3));
    assert_eq!(reader.header().master_pid, 4711);
    assert!(matches!(
        fixture.region.worker(3),
        Err(Error::NoSuchSlot {
            slot: 3,
            workers: 3
        })
    ));
}

#[test]
fn a_region_is_made_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    for capacity in [
        Capacity {
            slots: 3,
            ..CAPACITY
        },
        Capacity {
            servers: 0,
            ..CAPACITY
        },
    ] {
        assert!(matches!(
            Region::create(&path, capacity),
            Err(Error::Capacity(_))
        ));
    }
    let nowhere = folder.path().join("missing/weir.region");
    let error = Region::create(&nowhere, CAPACITY).unwrap_err().to_string();
    assert!(
        error.contains("missing/weir.region") && error.contains("No such file"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let old = Region::create(&path, CAPACITY).unwrap();
    let boot = Reader::open(&path).unwrap().header().boot_id;
    publisher(&old)
        .publish(vec![upstream("a", [1])], Seen::NOBODY)
        .unwrap();
    let _new = Region::create(&path, CAPACITY).unwrap();
    assert_ne!(Reader::open(&path).unwrap().header().boot_id, boot);
    assert_eq!(old.table_version(), 1, "the replaced one lives on");
    let mut orphaned = publisher(&old);
    let again = orphaned.publish(vec![upstream("a", [2])], Seen::NOBODY);
    assert_eq!(again.unwrap().version, 2, "its writer is not the other's");
    assert_eq!(Reader::open(&path).unwrap().header().version, 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_mode(&path);
}

fn assert_mode(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o644
    );
}

/// The region's memory is reserved when it is made. The limit on the size of files stands in for
/// a full file system; `trap` keeps its signal from ending the process.
#[test]
fn what_cannot_be_reserved_is_an_error_at_once() {
    const FOLDER: &str = "WEIR_TEST_FOLDER";
    if let Ok(folder) = std::env::var(FOLDER) {
        let path = Path::new(&folder).join("weir.region");
        println!("{}", Region::create(&path, CAPACITY).unwrap_err());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 20; exec \"$0\" --exact --nocapture \"$1\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg("what_cannot_be_reserved_is_an_error_at_once")
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("posix_fallocate() of region"),
        "{said}"
    );
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn ten_thousand_servers_in_one_upstream_work() {
    let fixture = fixture(Capacity::default());
    let mut publisher = publisher(&fixture.region);
    let mut worker = fixture.region.worker(0).unwrap();
    let mut snapshot = Snapshot::default();
    let numbered = |number: u32| Server {
        address: Address::Ip((std::net::Ipv4Addr::from(0x0a00_0000 + number), 80).into()),
        ..server(0)
    };
    let room = Capacity::default().servers;
    let filled = |servers| Upstream {
        servers,
        ..upstream("many", [])
    };
    for count in [10_000, 10_001, 9_999, room] {
        let servers = (0..count).rev().map(numbered).collect();
        publisher
            .publish(vec![filled(servers)], Seen::NOBODY)
            .unwrap();
        catch_up(&mut worker, &mut snapshot);
        let read = snapshot.upstreams[0].servers.as_ref().unwrap();
        assert_eq!(read.len(), count as usize);
        assert_eq!(read, &publisher.table().upstreams[0].servers);
        let outside = Reader::open(&fixture.path).unwrap();
        assert_eq!(&outside.table().unwrap(), publisher.table());
    }
    let error = publisher
        .publish(
            vec![filled((0..=room).map(numbered).collect())],
            Seen::NOBODY,
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("table with 32769 servers does not fit"),
        "{error}"
    );
    assert_eq!(worker.table_version(), snapshot.version);
    assert!(
        Reader::open(&fixture.path)
            .unwrap()
            .verify()
            .unwrap()
            .problems
            .is_empty()
    );
}

#[test]
fn a_worker_maps_the_tables_for_reading_only() {
    let fixture = fixture(CAPACITY);
    let path = fixture.path.to_str().unwrap();
    let mappings = || -> Vec<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let ours = maps.lines().filter(|line| line.ends_with(path));
        ours.map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
            .collect()
    };
    assert_eq!(mappings(), ["rw-s"]);
    let worker = fixture.region.worker(0).unwrap();
    let mut both = mappings();
    both.sort();
    assert_eq!(both, ["r--s", "rw-s", "rw-s"]);
    drop(worker);
    assert_eq!(mappings(), ["rw-s"]);
}

#[test]
fn versions_go_on_from_those_of_another_region() {
    let fixture = fixture(CAPACITY);
    let mut first = publisher(&fixture.region);
    first.start_after(41);
    let publication = first.publish(vec![upstream("a", [1])], Seen::NOBODY);
    assert_eq!(publication.unwrap().version, 42);
    drop(first);
    let reader = Reader::open(&fixture.path).unwrap();
    assert_eq!(reader.table().unwrap().version, 42);
    let mut worker = fixture.region.worker(0).unwrap();
    let mut snapshot = Snapshot::default();
    worker.read(0, &mut snapshot).unwrap();
    assert_eq!(snapshot.version, 42);
    // One that has a table goes on from its own.
    let mut second = publisher(&fixture.region);
    second.start_after(99);
    let publication = second.publish(vec![upstream("a", [2])], Seen::NOBODY);
    assert_eq!(publication.unwrap().version, 43);
}
