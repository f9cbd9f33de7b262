//! One weir under load, looked at all the time, with upstreams that Consul fills.

use std::thread;
use std::time::{Duration, Instant};

use super::checks::{seen, soon};
use super::{RECOVERED, at_most};
use crate::support::backend::Backend;
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

/// Between two looks at what was seen.
const GLANCE: Duration = Duration::from_millis(5);

/// etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Second,
    Third,
}

/// An upstream that Consul or etcd fills.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: String,
    /// The first word of its `upsync`.
    source: String,
    /// `upsync_type`.
    kind: &'static str,
    /// More directives of its block.
    more: String,
}

impl Upstream {
    /// From the keys below a folder.
    pub fn kv(name: &str, address: &str, folder: &str) -> Upstream {
        Upstream {
            name: name.to_owned(),
            source: format!("{address}/v1/kv/{folder}"),
            kind: "consul",
            more: String::new(),
        }
    }

    /// From Consul's catalog.
    pub fn catalog(name: &str, address: &str, service: &str) -> Upstream {
        let mut upstream = Upstream::kv(name, "", "");
        upstream.source = format!("{address}/v1/catalog/service/{service}");
        upstream.kind = "consul_services";
        upstream
    }

    /// From Consul's catalog and checks.
    pub fn health(name: &str, address: &str, service: &str) -> Upstream {
        let mut upstream = Upstream::kv(name, "", "");
        upstream.source = format!("{address}/v1/health/service/{service}");
        upstream.kind = "consul_health";
        upstream
    }

    /// From the keys below a folder of etcd, by its second API or its third.
    pub fn etcd(name: &str, address: &str, folder: &str, api: Api) -> Upstream {
        let mut upstream = Upstream::kv(name, "", "");
        (upstream.source, upstream.kind) = match api {
            Api::Second => (format!("{address}/v2/keys/{folder}"), "etcd"),
            Api::Third => (format!("{address}/v3/kv/{folder}"), "etcd3"),
        };
        upstream
    }

    pub fn with(mut self, directives: &str) -> Upstream {
        self.more += directives;
        self
    }

    fn block(&self) -> String {
        let Upstream {
            name,
            source,
            kind,
            more,
        } = self;
        format!(
            "upstream {name} {{ {more} upsync {source} upsync_timeout=6m upsync_interval=500ms \
             upsync_type={kind} strong_dependency=off; keepalive 8; }}\n"
        )
    }

    fn location(&self) -> String {
        let name = &self.name;
        format!("location /{name}/ {{ access_log off; proxy_pass http://{name}; }}\n")
    }
}

pub struct Stage {
    pub weir: Weir,
    pub sight: Sight,
    load: Load,
    backends: Vec<Backend>,
    workers: Vec<u32>,
}

/// Servers that answer, for a stage.
pub fn backends() -> Vec<Backend> {
    let name = |number: usize| Backend::named(&number.to_string());
    (0..SERVERS).map(name).collect()
}

impl Stage {
    /// Returns when each upstream has the first of the servers, which Consul holds or the
    /// configuration.
    #[track_caller]
    pub fn start(upstreams: &[Upstream], backends: Vec<Backend>) -> Stage {
        let text = text(upstreams);
        let weir = Setup::http(&text).workers(WORKERS).start();
        let sight = Sight::start(&weir.address(), "/upstream_show");
        wait_until(SOON, "each upstream has its server", || {
            let first = [backends[0].address()];
            upstreams
                .iter()
                .all(|upstream| sight.servers(&upstream.name) == first)
        });
        let targets: Vec<_> = upstreams
            .iter()
            .map(|upstream| format!("/{}/", upstream.name))
            .collect();
        let load = Load::paced(&weir.address(), &targets, CONNECTIONS, PAUSE);
        Stage {
            workers: weir.workers(),
            weir,
            sight,
            load,
            backends,
        }
    }

    /// The address of a server that answers.
    pub fn server(&self, number: usize) -> &str {
        self.backends[number].address()
    }

    /// Waits until an upstream has a server; how long after `since` that was.
    pub fn wait(
        &self,
        upstream: &str,
        number: usize,
        since: Instant,
        bound: Duration,
    ) -> Result<Duration, String> {
        let limit = at_most(bound);
        loop {
            if let Some(at) = seen(&self.sight.history(upstream), self.server(number)) {
                let took = at.saturating_duration_since(since);
                return soon("the change", took, limit).map(|()| took);
            }
            if since.elapsed() > limit {
                return Err(format!("the change is not there after {limit:?}"));
            }
            thread::sleep(GLANCE);
        }
    }

    /// One change after another, each made by `put` and seen before the next; the longest that one
    /// took.
    pub fn later_puts(&self, upstream: &str, put: impl Fn(&str)) -> Result<Duration, String> {
        let mut longest = Duration::ZERO;
        for number in 2..SERVERS {
            let since = Instant::now();
            put(self.server(number));
            let took = self.wait(upstream, number, since, RECOVERED);
            longest = longest.max(took.map_err(|why| format!("later PUT {number}: {why}"))?);
        }
        Ok(longest)
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

fn text(upstreams: &[Upstream]) -> String {
    let blocks: String = upstreams.iter().map(Upstream::block).collect();
    let locations: String = upstreams.iter().map(Upstream::location).collect();
    let show = "location = /upstream_show { access_log off; upstream_show; }\n\
                proxy_http_version 1.1; proxy_set_header Connection \"\";\n";
    blocks + &in_server(&(show.to_owned() + &locations))
}
