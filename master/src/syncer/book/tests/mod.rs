mod guard;
mod learning;
mod names;
mod pins;

use super::*;
use crate::settings::{self, Place, Upsync};
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
