//! Tables: published, read by workers and outsiders, and gone on with by the next publisher.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod common;

use std::path::PathBuf;

use weir_shm::{
    Address, Capacity, Publication, PublishError, Reader, Seen, Server, Snapshot, Upstream,
};

use common::{CAPACITY, catch_up, fixture, ids, publisher, server, upstream};

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
    let mut twice = fits.clone();
    twice[2].name = "a".to_owned();
    let error = publisher.publish(twice, Seen::NOBODY).unwrap_err();
    assert_eq!(error, PublishError::NameTwice { name: "a".into() });
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

#[test]
fn who_reads_a_little_at_a_time_follows_a_table_that_changes_all_the_time() {
    const SERVERS: u16 = 500;
    let capacity = Capacity {
        servers: 1024,
        ..CAPACITY
    };
    // With three a turn, every attempt is spoiled that takes two turns.
    for publishes_a_turn in [1, 3] {
        let fixture = fixture(capacity);
        let mut publisher = publisher(&fixture.region);
        let mut worker = fixture.region.worker(0).unwrap();
        let mut publish = |version: u64| {
            let mut table = vec![upstream("test", 1..=SERVERS)];
            for server in &mut table[0].servers {
                server.weight = version as u32;
            }
            publisher.publish(table, Seen::NOBODY).unwrap()
        };
        let mut version = publish(1).version;
        let mut snapshot = Snapshot::default();
        catch_up(&mut worker, &mut snapshot);
        let mut turns = 0;
        loop {
            for _ in 0..publishes_a_turn {
                version = publish(version + 1).version;
            }
            turns += 1;
            if worker.read_some(&mut 2, 1, &mut snapshot).unwrap() {
                break;
            }
        }
        assert!(turns > SERVERS / 2, "{turns}");
        assert!(snapshot.version > 1);
        let servers = snapshot.upstreams[0].servers.as_ref().unwrap();
        assert_eq!(servers.len(), usize::from(SERVERS));
        let weight = snapshot.version as u32;
        assert!(servers.iter().all(|server| server.weight == weight));
    }
}
