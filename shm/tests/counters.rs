//! Counter rows: whose they are, how long, and what is left of those of a dead worker.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod common;

use weir_shm::{Capacity, CounterId, Metric, PublishError, Reader, Seen, Snapshot};

use common::{CAPACITY, catch_up, fixture, ids, publisher, upstream};

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
            vec![upstream("a", [1, 1]), upstream("b", [1])],
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
