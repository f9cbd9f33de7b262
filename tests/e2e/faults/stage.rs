//! One weir under load, looked at all the time, with upstreams that Consul fills.

use std::time::Duration;

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

/// An upstream's name, and the address and parameters of its `upsync`.
pub type Upstream = (String, String);

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
    /// Returns when each upstream has the first of the servers, which Consul must hold already, or
    /// else is `configured`.
    #[track_caller]
    pub fn start(upstreams: &[Upstream], configured: bool, backends: Vec<Backend>) -> Stage {
        let server = match configured {
            true => format!("server {};", backends[0].address()),
            false => String::new(),
        };
        let text = text(upstreams, &server);
        let weir = Setup::http(&text).workers(WORKERS).start();
        let sight = Sight::start(&weir.address(), "/upstream_show");
        wait_until(SOON, "each upstream has its server", || {
            let first = [backends[0].address()];
            upstreams
                .iter()
                .all(|(name, _)| sight.servers(name) == first)
        });
        let targets: Vec<_> = upstreams
            .iter()
            .map(|(name, _)| format!("/{name}/"))
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

fn text(upstreams: &[Upstream], server: &str) -> String {
    let upstream = |(name, source): &Upstream| {
        format!(
            "upstream {name} {{ {server} upsync {source} upsync_timeout=6m upsync_interval=500ms \
             upsync_type=consul strong_dependency=off; keepalive 8; }}\n"
        )
    };
    let location = |(name, _): &Upstream| {
        format!("location /{name}/ {{ access_log off; proxy_pass http://{name}; }}\n")
    };
    let show = "location = /upstream_show { access_log off; upstream_show; }\n\
                proxy_http_version 1.1; proxy_set_header Connection \"\";\n";
    let locations: String = upstreams.iter().map(location).collect();
    let upstreams: String = upstreams.iter().map(upstream).collect();
    upstreams + &in_server(&(show.to_owned() + &locations))
}
