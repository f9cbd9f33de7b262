//! What the workers of one region count is added to another's numbers while both last.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod common;

use std::path::Path;

use weir_shm::{Capacity, Carried, CounterId, Metric, Reader, Region, Seen, WorkerRegion};

use common::{CAPACITY, publisher, upstream};

fn publish(region: &Region, upstreams: &[(&str, &[u16])]) -> Vec<CounterId> {
    let mut publisher = publisher(region);
    let table = upstreams
        .iter()
        .map(|(name, ports)| upstream(name, ports.iter().copied()));
    publisher.publish(table.collect(), Seen::NOBODY).unwrap();
    let servers = publisher.table().upstreams.iter();
    let servers = servers.flat_map(|upstream| &upstream.servers);
    servers.map(|server| server.counter).collect()
}

fn count(worker: &WorkerRegion, id: CounterId, requests: u64) {
    for _ in 0..requests {
        worker.counters().begin(id);
        worker.counters().end(id, 100, 10);
        worker.scoreboard().add(Metric::Requests, 1);
    }
}

/// Requests and bytes received, by server.
fn counted(path: &Path) -> Vec<(u64, u64)> {
    let reader = Reader::open(path).unwrap();
    let rows = reader.counters(&reader.table().unwrap()).unwrap();
    let of_row = |row: &weir_shm::ServerCounters| (row.total.requests, row.total.received);
    rows.iter().map(of_row).collect()
}

#[test]
fn each_count_is_carried_once_to_the_same_server() {
    let folder = tempfile::tempdir().unwrap();
    let [old_path, new_path] = ["old", "new"].map(|name| folder.path().join(name));
    let old = Region::create(&old_path, CAPACITY).unwrap();
    let ids = publish(&old, &[("a", &[1, 2, 1]), ("b", &[1])]);
    let worker = old.worker(0).unwrap();
    for (id, requests) in ids.iter().zip([1, 2, 3, 4]) {
        count(&worker, *id, requests);
    }
    // Of another size, in another order, with one more and one less.
    let capacity = Capacity {
        servers: 32,
        workers: 1,
        ..CAPACITY
    };
    let new = Region::create(&new_path, capacity).unwrap();
    let own = publish(&new, &[("b", &[9, 1]), ("a", &[1, 1])]);
    let reader = Reader::open(&old_path).unwrap();
    let mut carried = Carried::default();
    carried.carry(reader.tally().unwrap(), &new).unwrap();
    assert_eq!(counted(&new_path), [(0, 0), (4, 400), (1, 100), (3, 300)]);
    carried.carry(reader.tally().unwrap(), &new).unwrap();
    assert_eq!(counted(&new_path), [(0, 0), (4, 400), (1, 100), (3, 300)]);

    // Both count on; one request of the old one is not over yet.
    let heir = new.worker(0).unwrap();
    count(&heir, own[1], 10);
    count(&worker, ids[3], 5);
    worker.counters().begin(ids[0]);
    carried.carry(reader.tally().unwrap(), &new).unwrap();
    assert_eq!(counted(&new_path)[1], (19, 1900));
    assert_eq!(counted(&new_path)[2], (2, 100));
    let shown = Reader::open(&new_path).unwrap();
    let rows = shown.counters(&shown.table().unwrap()).unwrap();
    assert!(rows.iter().all(|row| row.total.in_flight == 0));
    assert_eq!(shown.status().unwrap().requests, 10 + 5 + 10);

    // The old one's worker ends, and what it counted is folded there.
    worker.counters().end(ids[0], 100, 10);
    drop(worker);
    old.fold(0);
    carried.carry(reader.tally().unwrap(), &new).unwrap();
    assert_eq!(counted(&new_path)[1], (19, 1900));
    assert_eq!(counted(&new_path)[2], (2, 200));
    assert_eq!(shown.status().unwrap().requests, 10 + 5 + 10);
    // And the new one's too, with what was carried.
    drop(heir);
    new.fold(0);
    assert_eq!(counted(&new_path)[1], (19, 1900));
    assert_eq!(shown.status().unwrap().requests, 10 + 5 + 10);
}

#[test]
fn a_region_that_goes_on_from_anothers_version_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("region");
    let region = Region::create(&path, CAPACITY).unwrap();
    let mut publisher = publisher(&region);
    publisher.start_after(41);
    publisher.publish(Vec::new(), Seen::NOBODY).unwrap();
    let report = Reader::open(&path).unwrap().verify().unwrap();
    assert_eq!((report.header.version, report.slots.len()), (42, 1));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn a_server_that_was_away_counts_from_zero() {
    let folder = tempfile::tempdir().unwrap();
    let [old_path, new_path] = ["old", "new"].map(|name| folder.path().join(name));
    let old = Region::create(&old_path, CAPACITY).unwrap();
    let new = Region::create(&new_path, CAPACITY).unwrap();
    let before = publish(&old, &[("a", &[1])]);
    // The new one does not know it yet.
    publish(&new, &[("a", &[])]);
    let worker = old.worker(0).unwrap();
    count(&worker, before[0], 7);
    let reader = Reader::open(&old_path).unwrap();
    let mut carried = Carried::default();
    carried.carry(reader.tally().unwrap(), &new).unwrap();
    publish(&new, &[("a", &[1])]);
    carried.carry(reader.tally().unwrap(), &new).unwrap();
    assert_eq!(counted(&new_path), [(7, 700)]);

    publish(&old, &[("a", &[2])]);
    // Nobody routes to it any more: its row is free.
    worker.scoreboard().set_table_version(2);
    let again = publish(&old, &[("a", &[1])]);
    assert_ne!(before, again);
    count(&worker, again[0], 2);
    carried.carry(reader.tally().unwrap(), &new).unwrap();
    assert_eq!(counted(&new_path), [(9, 900)]);
}
