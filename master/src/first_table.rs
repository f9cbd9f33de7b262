//! The table that is there before the syncer has learnt anything.

use std::time::UNIX_EPOCH;

use weir_shm::{Server, Upstream};

use crate::last_run::{Known, LastRun};
use crate::resolve::ResolvedUpstream;
use crate::settings;
use crate::syncer::dump;
use crate::syncer::recorder::report::{From, State, UpstreamStatus};

/// An upstream and what its servers are worth.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) upstream: Upstream,
    pub(crate) status: UpstreamStatus,
}

/// Every upstream in configuration order. One that a source feeds has, of these, the first that
/// there is: what the last run knew of it, what was saved, its dump, its configured servers.
///
/// `report` gets a line for a dump that is there and cannot be used; it does not stop a start.
pub(crate) fn build(
    upstreams: &[settings::Upstream],
    resolved: &[ResolvedUpstream],
    last: &LastRun,
    report: impl Fn(&str),
) -> Vec<First> {
    let table = upstreams.iter().zip(resolved).map(|(upstream, resolved)| {
        let is_fed = upstream.upsync.is_some();
        let known = last.known(&upstream.name).filter(|known| {
            // Servers that names feed may be pinned, and are not learned.
            let is_named = upstream.servers.iter().any(settings::Server::is_resolved);
            is_fed || (is_named && known.pinned.is_some())
        });
        let known = known.or_else(|| dumped(upstream, &report).filter(|_| is_fed));
        first(upstream, resolved, known)
    });
    table.collect()
}

/// What `upsync_discover` found in the last run, and finds again.
pub(crate) fn discovered(settings: &settings::Settings, last: &LastRun) -> Vec<First> {
    let is_again = |upstream: &Upstream| {
        let template = upstream.template.as_deref();
        let mut discovers = settings.discovers.iter();
        let mut configured = settings.upstreams.iter();
        discovers.any(|discover| Some(discover.template.as_str()) == template)
            && !configured.any(|known| known.name.eq_ignore_ascii_case(&upstream.name))
    };
    let upstreams = last.upstreams().unwrap_or_default();
    let again = upstreams.into_iter().filter(is_again);
    again
        .filter_map(|upstream| {
            let known = last.known(&upstream.name)?;
            let status = UpstreamStatus {
                name: upstream.name.clone(),
                is_fed: true,
                ..UpstreamStatus::default()
            };
            Some(First {
                upstream,
                status: with_known(status, &known),
            })
        })
        .collect()
}

/// Every upstream with its configured servers.
pub(crate) fn configured(
    upstreams: &[settings::Upstream],
    resolved: &[ResolvedUpstream],
) -> Vec<First> {
    let table = upstreams.iter().zip(resolved);
    table
        .map(|(upstream, resolved)| first(upstream, resolved, None))
        .collect()
}

fn first(
    upstream: &settings::Upstream,
    resolved: &ResolvedUpstream,
    known: Option<Known>,
) -> First {
    let mut status = UpstreamStatus {
        name: upstream.name.clone(),
        is_fed: upstream.upsync.is_some(),
        ..UpstreamStatus::default()
    };
    let mut learned = false;
    let mut servers = None;
    if let Some(known) = known {
        status = with_known(status, &known);
        learned = known.learned;
        servers = Some(known.servers);
    }
    First {
        upstream: Upstream {
            name: upstream.name.clone(),
            changed: 0,
            learned,
            template: None,
            servers: servers.unwrap_or_else(|| resolved.servers.clone()),
        },
        status,
    }
}

/// The status of an upstream that is served by what is known of it.
fn with_known(status: UpstreamStatus, known: &Known) -> UpstreamStatus {
    UpstreamStatus {
        state: match known.pinned {
            Some(_) => State::Pinned,
            None => State::Stale,
        },
        confirmed_ms: known.confirmed_ms,
        from: Some(known.from),
        pinned: known.pinned.clone(),
        ..status
    }
}

fn dumped(upstream: &settings::Upstream, report: impl Fn(&str)) -> Option<Known> {
    let path = upstream.dump.as_ref().filter(|path| path.exists())?;
    let servers: Vec<Server> = match dump::read(path) {
        Ok(servers) => servers,
        Err(error) => {
            report(&format!(
                "dump of upstream \"{}\" is not used: {error}",
                upstream.name
            ));
            return None;
        }
    };
    let changed = path.metadata().and_then(|metadata| metadata.modified());
    let since = changed.ok()?.duration_since(UNIX_EPOCH).ok();
    (!servers.is_empty()).then(|| Known {
        servers,
        learned: true,
        from: From::Dump,
        confirmed_ms: since.and_then(|since| u64::try_from(since.as_millis()).ok()),
        pinned: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Place, Upsync};
    use std::path::{Path, PathBuf};
    use std::time::Duration;
    use weir_shm::{Address, CounterId, Table};

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
                template: None,
                servers: ports.iter().copied().map(server).collect(),
            }],
            ..Table::default()
        });
        let reports = std::cell::RefCell::new(Vec::new());
        let last = LastRun {
            table: last,
            ..LastRun::default()
        };
        let table = build(&upstreams, &resolved, &last, |line| {
            reports.borrow_mut().push(line.to_owned());
        });
        let First { upstream, status } = &table[0];
        assert_ne!(upstream.learned, upstream.servers == resolved[0].servers);
        assert_eq!(status.state == State::Stale, upstream.learned);
        let ports = upstream.servers.iter().map(|server| match &server.address {
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
