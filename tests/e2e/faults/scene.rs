//! One weir under load, with an upstream and a proxy to Consul for each row.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::load::{Load, Outcome};
use crate::support::sight::Sight;
use crate::support::wait_until;
use crate::support::weir::{SOON, Setup, Weir, in_server};

/// The first serves from the start; each other one is what a PUT brings.
pub const SERVERS: usize = 5;
const WORKERS: usize = 2;
const CONNECTIONS: usize = 2;
/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(2);

pub struct Scene {
    pub consul: &'static Consul,
    pub weir: Weir,
    pub sight: Sight,
    load: Load,
    backends: Vec<Backend>,
    proxies: BTreeMap<String, FaultProxy>,
    workers: Vec<u32>,
    root: String,
}

impl Scene {
    /// Returns when each upstream has its first server.
    #[track_caller]
    pub fn start(upstreams: &[&str]) -> Scene {
        let consul = Consul::shared();
        let root = consul::folder();
        let backends: Vec<_> = (0..SERVERS)
            .map(|number| Backend::named(&number.to_string()))
            .collect();
        let proxy = |name: &&str| {
            let proxy = FaultProxy::start(&consul.address(), Fault::None);
            ((*name).to_owned(), proxy)
        };
        let proxies: BTreeMap<_, _> = upstreams.iter().map(proxy).collect();
        for name in upstreams {
            consul.put(&format!("{root}/{name}/{}", backends[0].address()), ENTRY);
        }
        let weir = Setup::http(&text(&proxies, &root)).workers(WORKERS).start();
        let sight = Sight::start(&weir.address(), "/upstream_show");
        wait_until(SOON, "each upstream has its server", || {
            let first = [backends[0].address()];
            upstreams.iter().all(|name| sight.servers(name) == first)
        });
        let targets: Vec<_> = upstreams.iter().map(|name| format!("/{name}/")).collect();
        let load = Load::paced(&weir.address(), &targets, CONNECTIONS, PAUSE);
        Scene {
            consul,
            workers: weir.workers(),
            weir,
            sight,
            load,
            backends,
            proxies,
            root,
        }
    }

    pub fn proxy(&self, upstream: &str) -> &FaultProxy {
        &self.proxies[upstream]
    }

    /// The address of a server that answers.
    pub fn server(&self, number: usize) -> &str {
        self.backends[number].address()
    }

    pub fn key(&self, upstream: &str, name: &str) -> String {
        format!("{}/{upstream}/{name}", self.root)
    }

    /// Ends the load: no request has failed, and nobody had to be replaced.
    pub fn finish(self) -> Result<Outcome, String> {
        let outcome = self.load.stop();
        if !outcome.failures.is_empty() {
            return Err(format!("requests failed: {:?}", outcome.failures));
        }
        let now = self.weir.workers();
        if now != self.workers {
            return Err(format!("workers {:?} have become {now:?}", self.workers));
        }
        if self.weir.error_log().contains("exited on signal") {
            return Err("a process died".to_owned());
        }
        Ok(outcome)
    }
}

fn text(proxies: &BTreeMap<String, FaultProxy>, root: &str) -> String {
    let upstream = |(name, proxy): (&String, &FaultProxy)| {
        let address = proxy.address();
        format!(
            "upstream {name} {{ upsync {address}/v1/kv/{root}/{name} upsync_timeout=6m \
             upsync_interval=500ms upsync_type=consul strong_dependency=off; keepalive 8; }}\n"
        )
    };
    let location = |name: &String| {
        format!("location /{name}/ {{ access_log off; proxy_pass http://{name}; }}\n")
    };
    let upstreams: String = proxies.iter().map(upstream).collect();
    let locations: String = proxies.keys().map(location).collect();
    let show = "location = /upstream_show { access_log off; upstream_show; }\n\
                proxy_http_version 1.1; proxy_set_header Connection \"\";\n";
    upstreams + &in_server(&(show.to_owned() + &locations))
}
