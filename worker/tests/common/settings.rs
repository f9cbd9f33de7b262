//! Settings as a configuration would give them, to be changed by a test.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_shm::{Address, CounterId, Server};
use weir_worker::settings::{
    Handler, Level, Listener, Location, LocationKind, LocationSettings, LogTarget, Logs, Part,
    Proxy, ProxyTarget, Settings, Template, Upstream, VirtualServer,
};

/// A text without variables.
pub fn text(text: &str) -> Template {
    Template {
        parts: vec![Part::Text(text.as_bytes().to_vec())],
    }
}

/// Texts and variables.
pub fn template(parts: &[Part]) -> Template {
    Template {
        parts: parts.to_vec(),
    }
}

/// What `location / { proxy_pass http://NAME; }` inherits by default.
pub fn location(handler: Handler) -> LocationSettings {
    LocationSettings {
        name: b"/".to_vec(),
        handler,
        error_logs: vec![LogTarget {
            resource: 0,
            level: Level::Debug,
        }]
        .into(),
        ..LocationSettings::default()
    }
}

pub fn proxy(upstream: usize) -> Proxy {
    Proxy {
        target: ProxyTarget::Upstream(upstream),
        host: b"backend".to_vec(),
        ..Proxy::default()
    }
}

pub fn upstream(name: &str) -> Upstream {
    Upstream {
        name: name.to_owned(),
        ..Upstream::default()
    }
}

/// One listener, one server whose only location proxies to the upstream `backend`.
pub fn settings(address: SocketAddr) -> Settings {
    let proxied = Arc::new(location(Handler::Proxy(Box::new(proxy(0)))));
    Settings {
        worker_connections: 512,
        shutdown_timeout: None,
        multi_accept: false,
        error_logs: proxied.error_logs.clone(),
        logs: Logs::default(),
        listeners: vec![Listener {
            address: Address::Ip(address),
            servers: vec![0],
            default: 0,
        }],
        servers: vec![VirtualServer {
            locations: vec![Location {
                kind: LocationKind::Prefix,
                path: b"/".to_vec(),
                settings: proxied,
                inner: Vec::new(),
            }],
            fallback: Arc::new(location(Handler::None)),
            ..VirtualServer::default()
        }],
        upstreams: vec![upstream("backend")],
    }
}

/// Changes the only location.
pub fn edit(settings: &mut Settings, change: impl FnOnce(&mut LocationSettings)) {
    change(Arc::make_mut(
        &mut settings.servers[0].locations[0].settings,
    ));
}

/// Changes the proxy of the only location.
pub fn edit_proxy(settings: &mut Settings, change: impl FnOnce(&mut Proxy)) {
    edit(settings, |location| match &mut location.handler {
        Handler::Proxy(proxy) => change(proxy),
        other => panic!("{other:?}"),
    });
}

pub fn server(address: SocketAddr) -> Server {
    Server {
        address: Address::Ip(address),
        weight: 1,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    }
}
