//! The region: what a worker pays for tables and counters, and the syncer for a publish.

use std::error::Error;

use weir_shm::{
    Address, Capacity, CounterId, Metric, Publisher, Reader, Region, Server, Snapshot, Upstream,
};

use crate::Bench;

/// Runs everything about the region.
pub fn run(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    for servers in [3, 100, 10_000] {
        tables(bench, servers)?;
    }
    rows(bench)
}

fn tables(bench: &mut Bench, servers: usize) -> Result<(), Box<dyn Error>> {
    let folder = folder()?;
    let path = folder.path().join("region");
    let region = Region::create(&path, Capacity::default())?;
    let mut publisher = Publisher::new(&region, region.writer_file()?)?;
    let mut worker = region.worker(0)?;
    let one = Upstream {
        name: "one".to_owned(),
        changed: 0,
        learned: false,
        template: None,
        servers: list(1),
    };
    let many = Upstream {
        name: "many".to_owned(),
        changed: 0,
        learned: false,
        template: None,
        servers: list(servers),
    };
    publisher.publish(vec![one, many], weir_shm::Seen::NOBODY)?;
    let reader = Reader::open(&path)?;

    let mut snapshot = Snapshot::default();
    bench.measure(&format!("table read whole, {servers} servers"), || {
        worker.read(0, &mut snapshot).is_ok()
    });
    bench.measure(&format!("table read with pread, {servers} servers"), || {
        reader.table().is_ok()
    });
    let mut round = 0;
    let upstreams = publisher.table().upstreams.clone();
    bench.measure(&format!("publish one change, {servers} servers"), || {
        let mut upstreams = upstreams.clone();
        round += 1;
        upstreams[1].servers[servers / 2].fail_timeout_ms = round;
        publisher.publish(upstreams, weir_shm::Seen::NOBODY).is_ok()
    });
    bench.measure(&format!("publish nothing new, {servers} servers"), || {
        publisher
            .publish(publisher.table().upstreams.clone(), weir_shm::Seen::NOBODY)
            .is_ok()
    });
    bench.measure(
        &format!("read one change of another, {servers} servers"),
        || {
            round += 1;
            let mut upstreams = upstreams.clone();
            upstreams[0].servers[0].fail_timeout_ms = round;
            let published = publisher.publish(upstreams, weir_shm::Seen::NOBODY).is_ok();
            published && worker.read(snapshot.version, &mut snapshot).is_ok()
        },
    );
    let mut next = 0;
    bench.measure(&format!("publish another list, {servers} servers"), || {
        next = servers as u32 - next;
        let mut upstreams = upstreams.clone();
        upstreams[1].servers = list_from(next, servers);
        let published = publisher.publish(upstreams, weir_shm::Seen::NOBODY).is_ok();
        worker
            .scoreboard()
            .set_table_version(worker.table_version());
        published
    });
    Ok(())
}

fn rows(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    let folder = folder()?;
    let region = Region::create(&folder.path().join("region"), Capacity::default())?;
    let worker = region.worker(0)?;
    let other = region.worker(1)?;
    let id = CounterId {
        index: 17,
        incarnation: 1,
    };
    bench.measure("table version", || worker.table_version());
    bench.measure("counters begin and end", || {
        worker.counters().begin(id);
        worker.counters().end(id, 128, 64);
    });
    bench.measure("counters fail", || worker.counters().fail(id, 1));
    bench.measure("scoreboard add", || {
        worker.scoreboard().add(Metric::Requests, 1)
    });
    let mut cursors = worker.failures().cursors();
    bench.measure("failures poll, nothing", || {
        worker.failures().poll(&mut cursors, |_| {})
    });
    bench.measure("failures note and poll", || {
        other.failures().note(id);
        worker.failures().poll(&mut cursors, |_| {});
    });
    bench.measure("stub_status sums", || worker.status());
    Ok(())
}

pub fn folder() -> std::io::Result<tempfile::TempDir> {
    let shared = std::path::Path::new("/dev/shm");
    if shared.is_dir() {
        tempfile::tempdir_in(shared)
    } else {
        tempfile::tempdir()
    }
}

fn list(servers: usize) -> Vec<Server> {
    list_from(0, servers)
}

pub fn list_from(first: u32, servers: usize) -> Vec<Server> {
    (first..first + servers as u32)
        .map(|number| Server {
            address: Address::Ip((std::net::Ipv4Addr::from(0x0a00_0000 + number), 8080).into()),
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        })
        .collect()
}
