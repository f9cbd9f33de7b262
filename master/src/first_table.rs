//! The table that is there before the syncer has learnt anything.

use weir_shm::{Server, Table, Upstream};

use crate::resolve::ResolvedUpstream;
use crate::settings;
use crate::syncer::dump;

/// Every upstream in configuration order. One that Consul feeds has, of these, the first that
/// there is: what the last run knew of it, its dump, its configured servers.
///
/// `report` gets a line for a dump that is there and cannot be used; it does not stop a start.
pub(crate) fn build(
    upstreams: &[settings::Upstream],
    resolved: &[ResolvedUpstream],
    last: Option<&Table>,
    report: impl Fn(&str),
) -> Vec<Upstream> {
    let table = upstreams.iter().zip(resolved).map(|(upstream, resolved)| {
        let fed = upstream.upsync.as_ref();
        let known =
            fed.and_then(|_| last_run(upstream, last).or_else(|| dumped(upstream, &report)));
        Upstream {
            name: upstream.name.clone(),
            changed: 0,
            learned: known.is_some(),
            servers: known.unwrap_or_else(|| resolved.servers.clone()),
        }
    });
    table.collect()
}

/// Every upstream with its configured servers.
pub(crate) fn configured(resolved: &[ResolvedUpstream]) -> Vec<Upstream> {
    resolved
        .iter()
        .map(|upstream| Upstream {
            name: upstream.name.clone(),
            changed: 0,
            learned: false,
            servers: upstream.servers.clone(),
        })
        .collect()
}

/// What the last run had learned: servers that were configured then say nothing about now.
fn last_run(upstream: &settings::Upstream, last: Option<&Table>) -> Option<Vec<Server>> {
    let known = last?
        .upstreams
        .iter()
        .find(|known| known.name == upstream.name)?;
    known.learned.then(|| known.servers.clone())
}

fn dumped(upstream: &settings::Upstream, report: impl Fn(&str)) -> Option<Vec<Server>> {
    let path = upstream.dump.as_ref().filter(|path| path.exists())?;
    match dump::read(path) {
        Ok(servers) => (!servers.is_empty()).then_some(servers),
        Err(error) => {
            report(&format!(
                "dump of upstream \"{}\" is not used: {error}",
                upstream.name
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Place, Upsync};
    use std::path::{Path, PathBuf};
    use std::time::Duration;
    use weir_shm::{Address, CounterId};

    fn server(port: u16) -> Server {
        Server {
            address: Address::Ip(([127, 0, 0, 1], port).into()),
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        }
    }

    fn upstream(name: &str, fed: bool, dump: Option<PathBuf>) -> settings::Upstream {
        settings::Upstream {
            name: name.into(),
            servers: Vec::new(),
            upsync: fed.then(|| Upsync::folder("127.0.0.1", 8500, "upstreams/test")),
            dump,
            guard: Some(settings::Guard::default()),
            resolver: None,
            resolver_timeout: Duration::ZERO,
            place: Place::default(),
        }
    }

    /// `last`: the last run's servers, and whether it had learned them.
    fn ports(
        fed: bool,
        last: Option<(&[u16], bool)>,
        dump: Option<&Path>,
    ) -> (Vec<u16>, Vec<String>) {
        let upstreams = [upstream("test", fed, dump.map(Path::to_owned))];
        let resolved = [ResolvedUpstream {
            name: "test".into(),
            servers: vec![server(1)],
            names: Vec::new(),
        }];
        let last = last.map(|(ports, learned)| Table {
            version: 9,
            upstreams: vec![Upstream {
                name: "test".into(),
                changed: 3,
                learned,
                servers: ports.iter().copied().map(server).collect(),
            }],
            ..Table::default()
        });
        let reports = std::cell::RefCell::new(Vec::new());
        let table = build(&upstreams, &resolved, last.as_ref(), |line| {
            reports.borrow_mut().push(line.to_owned());
        });
        assert_ne!(table[0].learned, table[0].servers == resolved[0].servers);
        let ports = table[0].servers.iter().map(|server| match &server.address {
            Address::Ip(address) => address.port(),
            Address::Unix(_) => 0,
        });
        (ports.collect(), reports.into_inner())
    }

    #[test]
    fn the_last_run_then_the_dump_then_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.conf");
        assert_eq!(ports(true, None, Some(&path)).0, [1]);
        dump::write(&path, &[server(3), server(4)]).unwrap();
        assert_eq!(ports(true, Some((&[2], true)), Some(&path)).0, [2]);
        let none: [u16; 0] = [];
        assert_eq!(ports(true, Some((&[], true)), Some(&path)).0, none);
        assert_eq!(ports(true, None, None).0, [1]);
        assert_eq!(ports(false, Some((&[2], true)), Some(&path)).0, [1]);
    }

    #[test]
    fn what_was_configured_for_the_last_run_is_not_taken_over() {
        assert_eq!(ports(true, Some((&[2], false)), None).0, [1]);
    }

    #[test]
    fn a_dump_is_newer_than_what_was_configured_for_the_last_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.conf");
        dump::write(&path, &[server(3)]).unwrap();
        assert_eq!(ports(true, Some((&[2], false)), Some(&path)).0, [3]);
    }

    #[test]
    fn a_bad_dump_is_told_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.conf");
        std::fs::write(&path, "serve me").unwrap();
        let (ports, reports) = ports(true, None, Some(&path));
        assert_eq!(ports, [1]);
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("dump of upstream \"test\" is not used: "));
    }
}
