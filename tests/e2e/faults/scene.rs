//! A stage with an upstream and a proxy to Consul for each row.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::row::Row;
use super::stage::{Api, Stage, Upstream, backends};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::etcd::Etcd;
use crate::support::fault::{Fault, FaultProxy};

pub struct Scene {
    pub stage: Stage,
    proxies: BTreeMap<String, FaultProxy>,
    place: Place,
}

/// Where the upstreams' servers are listed.
struct Place {
    consul: &'static Consul,
    etcd: Option<Etcd>,
    asked: Asked,
    root: String,
}

impl Place {
    fn folder(&self, row: &str, upstream: &str) -> String {
        format!("{}/{row}/{upstream}", self.root)
    }

    /// A name for Consul's catalog, which knows no folders.
    fn service(&self, row: &str) -> String {
        self.folder(row, row).replace('/', "-")
    }

    fn upstream(&self, row: &str, name: &str, address: &str) -> Upstream {
        match self.asked {
            Asked::Alone | Asked::Together => Upstream::kv(name, address, &self.folder(row, name)),
            Asked::Catalog => Upstream::catalog(name, address, &self.service(row)),
            Asked::Health => Upstream::health(name, address, &self.service(row)),
            Asked::Etcd(api) => Upstream::etcd(name, address, &self.folder(row, name), api),
        }
    }

    /// Who lists them.
    fn address(&self) -> String {
        let etcd = self.etcd.as_ref().map(Etcd::address);
        etcd.unwrap_or_else(|| self.consul.address())
    }

    /// Lists one more server; `value` is its key's.
    fn add(&self, row: &str, upstream: &str, server: &str, value: &str) {
        match self.asked {
            Asked::Alone | Asked::Together => {
                let key = format!("{}/{server}", self.folder(row, upstream));
                self.consul.put(&key, value);
            }
            Asked::Catalog | Asked::Health => self.consul.register(&self.service(row), server),
            Asked::Etcd(api) => {
                let key = format!("{}/{server}", self.folder(row, upstream));
                let etcd = self.etcd.as_ref().expect("it was started");
                match api {
                    Api::Second => etcd.put_old(&key, &encoded(value)),
                    Api::Third => etcd.put(&key, value),
                }
            }
        }
    }
}

/// A value as a query has it.
pub fn encoded(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

/// How the upstreams of a scene are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By keys, each by a long poll of its own.
    Alone,
    /// By keys, each with another one, [`too`], by one long poll for their parent folder.
    Together,
    /// As a service of the catalog.
    Catalog,
    /// As a service and its health.
    Health,
    /// By keys of an etcd.
    Etcd(Api),
}

/// The upstream that shares a folder with `upstream`.
pub fn too(upstream: &str) -> String {
    format!("{upstream}_too")
}

impl Scene {
    /// Returns when each upstream has its first server.
    #[track_caller]
    pub fn start(upstreams: &[&str], asked: Asked) -> Scene {
        Scene::build(upstreams, asked, |_| {}, false)
    }

    /// With the faults there from the start, the first server is configured, too.
    #[track_caller]
    pub fn start_into(rows: &[Row]) -> Scene {
        let names: Vec<_> = rows.iter().map(|row| row.name).collect();
        let begin = |proxies: &BTreeMap<String, FaultProxy>| {
            rows.iter().for_each(|row| row.strike(&proxies[row.name]));
        };
        Scene::build(&names, Asked::Alone, begin, true)
    }

    #[track_caller]
    fn build(
        upstreams: &[&str],
        asked: Asked,
        begin: impl FnOnce(&BTreeMap<String, FaultProxy>),
        configured: bool,
    ) -> Scene {
        let (consul, root, backends) = (Consul::shared(), consul::folder(), backends());
        let server = match configured {
            true => format!("server {};", backends[0].address()),
            false => String::new(),
        };
        let mut proxies = BTreeMap::new();
        let mut sources = Vec::new();
        let place = Place {
            consul,
            etcd: matches!(asked, Asked::Etcd(_)).then(Etcd::start),
            asked,
            root,
        };
        for upstream in upstreams {
            let proxy = FaultProxy::start(&place.address(), Fault::None);
            let both = [(*upstream).to_owned(), too(upstream)];
            let all = if asked == Asked::Together { 2 } else { 1 };
            for name in both.into_iter().take(all) {
                place.add(upstream, &name, backends[0].address(), ENTRY);
                let source = place.upstream(upstream, &name, proxy.address());
                sources.push(source.with(&server));
            }
            proxies.insert((*upstream).to_owned(), proxy);
        }
        begin(&proxies);
        Scene {
            stage: Stage::start(&sources, backends),
            proxies,
            place,
        }
    }

    pub fn proxy(&self, upstream: &str) -> &FaultProxy {
        &self.proxies[upstream]
    }

    /// Lists one more server of an upstream.
    pub fn add(&self, upstream: &str, server: &str) {
        self.place.add(upstream, upstream, server, ENTRY);
    }

    /// Sets a key of an upstream's folder.
    pub fn put(&self, upstream: &str, name: &str, value: &str) {
        let folder = self.place.folder(upstream, upstream);
        self.place.consul.put(&format!("{folder}/{name}"), value);
    }

    pub fn delete(&self, upstream: &str, name: &str) {
        let folder = self.place.folder(upstream, upstream);
        self.place.consul.delete(&format!("{folder}/{name}"));
    }
}
