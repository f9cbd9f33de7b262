//! A region to test with, and what is put into it.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod random;

use std::path::PathBuf;

use weir_shm::{
    Address, Capacity, CounterId, Publisher, Region, Server, Snapshot, Upstream, WorkerRegion,
};

pub const CAPACITY: Capacity = Capacity {
    servers: 16,
    upstreams: 3,
    workers: 3,
    slots: 4,
    history: Capacity::MIN_HISTORY,
};

/// A region in a folder of its own.
pub struct Fixture {
    pub region: Region,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

pub fn fixture(capacity: Capacity) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    let region = Region::create(&path, capacity).unwrap();
    Fixture {
        region,
        path,
        _folder: folder,
    }
}

pub fn publisher(region: &Region) -> Publisher {
    Publisher::new(region, region.writer_file().unwrap()).unwrap()
}

pub fn server(port: u16) -> Server {
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

pub fn upstream(name: &str, ports: impl IntoIterator<Item = u16>) -> Upstream {
    let servers = ports.into_iter().map(server).collect();
    Upstream {
        name: name.to_owned(),
        changed: 0,
        learned: false,
        template: None,
        servers,
    }
}

/// The counter rows of an upstream's servers.
pub fn ids(publisher: &Publisher, upstream: usize) -> Vec<CounterId> {
    publisher.table().upstreams[upstream]
        .servers
        .iter()
        .map(|server| server.counter)
        .collect()
}

/// A worker routes by what is published.
pub fn catch_up(worker: &mut WorkerRegion, snapshot: &mut Snapshot) {
    worker.read(snapshot.version, snapshot).unwrap();
    worker.scoreboard().set_table_version(snapshot.version);
}
