//! How late tables are published and routed by, counted from when their news was seen.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod common;

use std::time::Duration;

use weir_shm::{Reader, Seen, Snapshot};

use common::{CAPACITY, fixture, publisher, upstream};

#[test]
fn a_worker_counts_when_it_routes_by_what_was_published() {
    let fixture = fixture(CAPACITY);
    let mut publisher = publisher(&fixture.region);
    let reader = Reader::open(&fixture.path).unwrap();
    let mut worker = fixture.region.worker(1).unwrap();
    let mut snapshot = Snapshot::default();
    let mut publish = |name| {
        publisher
            .publish(vec![upstream(name, [])], Seen::NOBODY)
            .unwrap()
    };
    let mut follow = || {
        let since = snapshot.version;
        worker.read(since, &mut snapshot).unwrap();
        worker.used(since, &snapshot);
        let latencies = reader.latencies().unwrap();
        assert_eq!(latencies.used.len(), 1);
        assert_eq!(latencies.used[0].0, 1);
        latencies.used[0].1.clone()
    };
    publish("a");
    assert_eq!(follow().count(), 0, "a worker that starts is no delay");
    publish("b");
    std::thread::sleep(Duration::from_millis(3));
    let one = follow();
    assert_eq!(one.count(), 1);
    assert!(one.longest_us >= 3000 && one.sum_us == one.longest_us);
    // Those that it passed over were used late too, as far as the ring remembers.
    for name in ["c", "d", "e", "f", "g"] {
        publish(name);
    }
    assert_eq!(follow().count(), 1 + 3);
    // It outlives the worker, and does not count for the next one.
    fixture.region.fold(1);
    drop(fixture.region.worker(1).unwrap());
    let after = reader.latencies().unwrap();
    assert_eq!((after.gone.count(), after.used[0].1.count()), (4, 0));
    assert_eq!(
        after.gone.longest_us,
        one.longest_us.max(after.gone.longest_us)
    );
}

#[test]
fn latencies_are_counted_from_what_was_seen() {
    let fixture = fixture(CAPACITY);
    let mut publisher = publisher(&fixture.region);
    let reader = Reader::open(&fixture.path).unwrap();
    publisher.publish(vec![], Seen::NOBODY).unwrap();
    assert_eq!(reader.latencies().unwrap().published.count(), 0);
    let seen = Seen(Seen::now().0 - 5_000_000);
    publisher.publish(vec![upstream("a", [])], seen).unwrap();
    let published = reader.latencies().unwrap().published;
    assert_eq!(published.count(), 1);
    assert!((5_000..5_000_000).contains(&published.longest_us));
    let table = reader.table().unwrap();
    assert_eq!(table.seen, seen);
    assert!(table.published > seen.0);
}
