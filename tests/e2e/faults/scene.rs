//! A stage with an upstream and a proxy to Consul for each row.

use std::collections::BTreeMap;

use super::row::Row;
use super::stage::{Stage, backends};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};

pub struct Scene {
    pub stage: Stage,
    pub consul: &'static Consul,
    proxies: BTreeMap<String, FaultProxy>,
    root: String,
}

/// How the upstreams of a scene are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Alone,
    /// Each with another one, [`too`], by one long poll for their parent folder.
    Together,
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
        let mut proxies = BTreeMap::new();
        let mut sources = Vec::new();
        for upstream in upstreams {
            let proxy = FaultProxy::start(&consul.address(), Fault::None);
            let both = [(*upstream).to_owned(), too(upstream)];
            let all = if asked == Asked::Together { 2 } else { 1 };
            for name in both.into_iter().take(all) {
                let folder = format!("{root}/{upstream}/{name}");
                consul.put(&format!("{folder}/{}", backends[0].address()), ENTRY);
                let source = format!("{}/v1/kv/{folder}", proxy.address());
                sources.push((name, source));
            }
            proxies.insert((*upstream).to_owned(), proxy);
        }
        begin(&proxies);
        Scene {
            stage: Stage::start(&sources, configured, backends),
            consul,
            proxies,
            root,
        }
    }

    pub fn proxy(&self, upstream: &str) -> &FaultProxy {
        &self.proxies[upstream]
    }

    pub fn key(&self, upstream: &str, name: &str) -> String {
        format!("{}/{upstream}/{upstream}/{name}", self.root)
    }
}
