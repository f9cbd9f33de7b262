//! The table that is there before the syncer has learnt anything.

use weir_shm::{Server, Table, Upstream};

use crate::resolve::ResolvedUpstream;
use crate::settings;
use crate::syncer::dump;

/// Every upstream in configuration order. One that Consul feeds has, of these, the first that
/// there is: what the last run knew of it, its dump, its configured servers.
///
/// Beside the table: the names of the upstreams with servers of the first two kinds. `report` gets
/// a line for a dump that is there and cannot be used; it does not stop a start.
pub(crate) fn build(
    upstreams: &[settings::Upstream],
    resolved: &[ResolvedUpstream],
    last: Option<&Table>,
    report: impl Fn(&str),
) -> (Vec<Upstream>, Vec<String>) {
    let mut learned = Vec::new();
    let table = upstreams.iter().zip(resolved).map(|(upstream, resolved)| {
        let fed = upstream.upsync.as_ref();
        let known =
            fed.and_then(|_| last_run(upstream, last).or_else(|| dumped(upstream, &report)));
        if known.is_some() {
            learned.push(upstream.name.clone());
        }
        Upstream {
            name: upstream.name.clone(),
            changed: 0,
            servers: known.unwrap_or_else(|| resolved.servers.clone()),
        }
    });
    (table.collect(), learned)
}

/// Every upstream with its configured servers.
pub(crate) fn configured(resolved: &[ResolvedUpstream]) -> Vec<Upstream> {
    resolved
        .iter()
        .map(|upstream| Upstream {
            name: upstream.name.clone(),
            changed: 0,
            servers: upstream.servers.clone(),
        })
        .collect()
}

fn last_run(upstream: &settings::Upstream, last: Option<&Table>) -> Option<Vec<Server>> {
    let known = last?
        .upstreams
        .iter()
        .find(|known| known.name == upstream.name)?;
    (!known.servers.is_empty()).then(|| known.servers.clone())
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
            upsync: fed.then(|| Upsync {
                host: "127.0.0.1:8500".into(),
                name: "127.0.0.1".into(),
                port: 8500,
                prefix: "upstreams/test".into(),
                timeout: Duration::from_secs(360),
                interval: Duration::from_millis(500),
                strong: false,
            }),
            dump,
            place: Place::default(),
        }
    }

    fn ports(fed: bool, last: Option<&[u16]>, dump: Option<&Path>) -> (Vec<u16>, Vec<String>) {
        let upstreams = [upstream("test", fed, dump.map(Path::to_owned))];
        let resolved = [ResolvedUpstream {
            name: "test".into(),
            servers: vec![server(1)],
        }];
        let last = last.map(|ports| Table {
            version: 9,
            upstreams: vec![Upstream {
                name: "test".into(),
                changed: 3,
                servers: ports.iter().copied().map(server).collect(),
            }],
            ..Table::default()
        });
        let reports = std::cell::RefCell::new(Vec::new());
        let (table, learned) = build(&upstreams, &resolved, last.as_ref(), |line| {
            reports.borrow_mut().push(line.to_owned());
        });
        assert_eq!(learned.is_empty(), table[0].servers == resolved[0].servers);
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
        assert_eq!(ports(true, Some(&[2]), Some(&path)).0, [2]);
        assert_eq!(ports(true, Some(&[]), Some(&path)).0, [3, 4]);
        assert_eq!(ports(true, None, None).0, [1]);
        assert_eq!(ports(false, Some(&[2]), Some(&path)).0, [1]);
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
