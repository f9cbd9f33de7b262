//! Upstreams: their order, the checks that need all of them, and what workers and master are told.

use std::collections::HashMap;
use std::sync::Arc;

use weir_master::settings as master;
use weir_worker::settings as worker;

use super::super::draft::{Http, UpstreamDraft};
use super::super::error::Fault;
use super::super::source::Source;

/// The upstreams in the order of the settings, blocks first, and the place of each in it.
pub fn ordered(upstreams: &[UpstreamDraft]) -> (Vec<usize>, Vec<&UpstreamDraft>) {
    let numbered = || upstreams.iter().enumerate();
    let explicit = numbered().filter(|(_, upstream)| upstream.explicit);
    let implicit = numbered().filter(|(_, upstream)| !upstream.explicit);
    let mut order = vec![0; upstreams.len()];
    let mut sorted = Vec::with_capacity(upstreams.len());
    for (index, upstream) in explicit.chain(implicit) {
        order[index] = sorted.len();
        sorted.push(upstream);
    }
    (order, sorted)
}

pub fn check_upstreams(upstreams: &[&UpstreamDraft], http: &Http) -> Result<(), Fault> {
    let mut names = HashMap::new();
    for upstream in upstreams {
        let mut discovers = http.discovers.iter();
        let is_template =
            upstream.explicit && discovers.any(|discover| discover.template == upstream.name);
        if let Some(fault) = upstream.empty.clone().filter(|_| !is_template) {
            return Err(fault);
        }
        let is_fed = is_template || upstream.upsync.is_some();
        if !is_fed && upstream.servers.iter().all(|server| server.backup) {
            let message = format!("no servers in upstream \"{}\"", upstream.name);
            return Err(Fault::at(upstream.place.clone(), message));
        }
        if upstream.servers.iter().any(master::Server::is_resolved)
            && resolver(upstream, http).is_none()
        {
            let message = format!(
                "no resolver defined to resolve names at run time in upstream \"{}\"",
                upstream.name
            );
            return Err(Fault::at(upstream.place.clone(), message));
        }
        let key = key(upstream);
        if names.insert(key.clone(), ()).is_some() {
            let message = format!("duplicate upstream \"{key}\"");
            return Err(Fault::at(upstream.place.clone(), message));
        }
    }
    Ok(())
}

/// An upstream's own `resolver`, or that of `http {}`.
fn resolver<'a>(upstream: &'a UpstreamDraft, http: &'a Http) -> Option<&'a Arc<worker::Resolver>> {
    let outer = http.level.common.resolver.as_ref();
    upstream.resolver.as_ref().or(outer)
}

/// The key into the table.
fn key(upstream: &UpstreamDraft) -> String {
    match (upstream.explicit, upstream.port) {
        (true, _) => upstream.name.clone(),
        (false, 0) => format!("unix:{}", upstream.name),
        (false, port) => format!("{}:{port}", upstream.name),
    }
}

pub fn worker_upstream(upstream: &UpstreamDraft, http: &Http) -> worker::Upstream {
    let nginx = worker::Upstream::default();
    let keepalive = if upstream.explicit {
        nginx.keepalive
    } else {
        0
    };
    worker::Upstream {
        name: key(upstream),
        implicit: !upstream.explicit,
        keepalive: upstream.keepalive.unwrap_or(keepalive),
        keepalive_requests: upstream
            .keepalive_requests
            .unwrap_or(nginx.keepalive_requests),
        keepalive_timeout: upstream
            .keepalive_timeout
            .unwrap_or(nginx.keepalive_timeout),
        keepalive_time: upstream.keepalive_time.unwrap_or(nginx.keepalive_time),
        drain_timeout: upstream.drain_timeout.or(http.drain_timeout).flatten(),
        balance: nginx.balance,
    }
}

pub fn master_upstream(upstream: &UpstreamDraft, http: &Http, source: &Source) -> master::Upstream {
    master::Upstream {
        name: key(upstream),
        servers: upstream.servers.clone(),
        upsync: None,
        dump: upstream
            .dump
            .as_ref()
            .map(|path| source.paths().full(path).into()),
        guard: upstream
            .guard
            .or(http.guard)
            .unwrap_or(Some(master::Guard::default())),
        resolver: resolver(upstream, http)
            .filter(|_| upstream.servers.iter().any(master::Server::is_resolved))
            .cloned(),
        resolver_timeout: upstream
            .resolver_timeout
            .or(http.level.common.resolver_timeout)
            .unwrap_or(worker::RESOLVER_TIMEOUT),
        place: upstream.place.clone(),
    }
}
