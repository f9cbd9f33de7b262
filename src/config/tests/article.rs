//! The configurations that come with weir.

use std::net::SocketAddr;
use std::time::Duration;

use weir_master::settings::{Host, Server, Upsync};
use weir_shm::Address;
use weir_worker::settings::{Handler, LocationKind, ProxyTarget, ServerName};

use super::{at, built, proxy};

fn server(port: u16, max_fails: u32) -> (Host, u32, u32, u64) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    (Host::Address(Address::Ip(address)), 1, max_fails, 10_000)
}

fn shown(server: &Server) -> (Host, u32, u32, u64) {
    (
        server.host.clone(),
        server.weight,
        server.max_fails,
        server.fail_timeout_ms,
    )
}

#[test]
fn the_articles_configuration() {
    let built = built(include_str!("../../../conf/article.conf"));
    let [test, bar] = &built.settings.upstreams[..] else {
        panic!("{:?}", built.settings.upstreams);
    };
    let upsync = Upsync {
        interval: Duration::from_millis(500),
        ..Upsync::folder("127.0.0.1", 8500, "upstreams/test")
    };
    assert_eq!(test.upsync, Some(upsync));
    assert_eq!(
        test.dump.as_deref(),
        Some("/tmp/servers_test.conf".as_ref())
    );
    assert_eq!(
        test.servers.iter().map(shown).collect::<Vec<_>>(),
        [server(11111, 1)]
    );
    assert_eq!(
        bar.servers.iter().map(shown).collect::<Vec<_>>(),
        [server(8090, 3)]
    );
    assert_eq!((bar.upsync.as_ref(), bar.dump.as_ref()), (None, None));

    let worker = &built.worker;
    assert_eq!(worker.worker_connections, 4096);
    assert_eq!(worker.listeners.len(), 1);
    assert_eq!(worker.listeners[0].address.to_string(), "0.0.0.0:8080");
    assert_eq!(worker.servers[0].names, [ServerName::Exact(String::new())]);
    assert!(
        worker.servers[0]
            .locations
            .iter()
            .all(|one| one.kind == LocationKind::Exact)
    );
    assert!(matches!(
        proxy(&built, "/proxy_test").target,
        ProxyTarget::Upstream(0)
    ));
    assert!(matches!(
        proxy(&built, "/bar").target,
        ProxyTarget::Upstream(1)
    ));
    assert!(matches!(
        at(&built, "/upstream_show").handler,
        Handler::UpstreamShow
    ));
    let names: Vec<_> = worker
        .upstreams
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["test", "bar"]);
    assert!(
        worker
            .upstreams
            .iter()
            .all(|one| one.keepalive == 32 && !one.implicit)
    );
}

#[test]
fn the_default_configuration_with_its_media_types() {
    let text = format!(
        "# configuration file conf/weir.conf:\n{}\n# configuration file conf/mime.types:\n{}\n",
        include_str!("../../../conf/weir.conf"),
        include_str!("../../../conf/mime.types"),
    );
    let built = built(&text);
    let settings = at(&built, "/");
    assert_eq!(settings.types[&b"html"[..]], b"text/html");
    assert_eq!(settings.types[&b"svgz"[..]], b"image/svg+xml");
    assert_eq!(settings.default_type, b"text/plain");
    let elsewhere = at(&built, "/stub_status");
    assert_eq!(elsewhere.default_type, b"application/octet-stream");
    assert_eq!(settings.keepalive_timeout, Duration::from_secs(65));
    assert_eq!(settings.ret.as_ref().map(|ret| ret.status), Some(200));
}
