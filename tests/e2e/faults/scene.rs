//! A stage with an upstream and a proxy to Consul for each row.

use std::collections::BTreeMap;

use super::stage::{Stage, backends};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};

pub struct Scene {
    pub stage: Stage,
    pub consul: &'static Consul,
    proxies: BTreeMap<String, FaultProxy>,
    root: String,
}

impl Scene {
    /// Returns when each upstream has its first server.
    #[track_caller]
    pub fn start(upstreams: &[&str]) -> Scene {
        let (consul, root, backends) = (Consul::shared(), consul::folder(), backends());
        let mut proxies = BTreeMap::new();
        let mut sources = Vec::new();
        for name in upstreams {
            consul.put(&format!("{root}/{name}/{}", backends[0].address()), ENTRY);
            let proxy = FaultProxy::start(&consul.address(), Fault::None);
            let source = format!("{}/v1/kv/{root}/{name}", proxy.address());
            sources.push(((*name).to_owned(), source));
            proxies.insert((*name).to_owned(), proxy);
        }
        Scene {
            stage: Stage::start(&sources, "", backends),
            consul,
            proxies,
            root,
        }
    }

    pub fn proxy(&self, upstream: &str) -> &FaultProxy {
        &self.proxies[upstream]
    }

    pub fn key(&self, upstream: &str, name: &str) -> String {
        format!("{}/{upstream}/{name}", self.root)
    }
}
