//! `resolver`, `resolver_timeout` and `server … resolve`.

use std::time::Duration;

use weir_master::settings::Host;

use super::{http, proxy, refused};

/// The refusal of a directive in `http {}`.
fn fault(line: &str) -> String {
    let message = refused(&format!("events {{}}\nhttp {{\n{line}\n}}"));
    message.split(" in weir.conf").next().unwrap().to_owned()
}

#[test]
fn its_parameters() {
    let built = http(
        "resolver 127.0.0.1 [::1]:5353 10.0.0.1:54 valid=1m ipv6=off;
         server { location / { set_nothing; } }"
            .replace("set_nothing;", "proxy_pass http://$host;")
            .as_str(),
    );
    let resolver = proxy(&built, "/").resolver.clone().unwrap();
    let servers: Vec<_> = resolver.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["127.0.0.1:53", "[::1]:5353", "10.0.0.1:54"]);
    assert_eq!(resolver.valid, Some(Duration::from_secs(60)));
    assert!(resolver.ipv4 && !resolver.ipv6);
    assert_eq!(proxy(&built, "/").resolver_timeout, Duration::from_secs(30));

    let built =
        http("resolver localhost:55 valid=0; server { location / { proxy_pass http://$host; } }");
    let resolver = proxy(&built, "/").resolver.clone().unwrap();
    assert!(
        resolver
            .servers
            .iter()
            .all(|server| server.ip().is_loopback() && server.port() == 55)
    );
    assert_eq!(
        (resolver.valid, resolver.ipv4, resolver.ipv6),
        (None, true, true)
    );
}

#[test]
fn levels_inherit_it_whole() {
    let built = http(
        "resolver 10.0.0.1 valid=5s; resolver_timeout 2s;
         server {
           location /a { proxy_pass http://$host; }
           location /b { resolver 10.0.0.2; resolver_timeout 300ms; proxy_pass http://$host; } }",
    );
    let own = |path| {
        let proxy = proxy(&built, path);
        let resolver = proxy.resolver.clone().unwrap();
        (
            resolver.servers[0].ip().to_string(),
            resolver.valid,
            proxy.resolver_timeout,
        )
    };
    let a = (
        "10.0.0.1".to_owned(),
        Some(Duration::from_secs(5)),
        Duration::from_secs(2),
    );
    assert_eq!(own("/a"), a);
    assert_eq!(
        own("/b"),
        ("10.0.0.2".to_owned(), None, Duration::from_millis(300))
    );
    let none = http("server { location / { proxy_pass http://$host; } }");
    assert_eq!(proxy(&none, "/").resolver, None);
}

#[test]
fn what_is_refused() {
    for (line, expected) in [
        (
            "resolver;",
            "invalid number of arguments in \"resolver\" directive",
        ),
        ("resolver valid=5s;", "no name servers defined"),
        ("resolver 10.0.0.1 valid=x;", "invalid parameter: valid=x"),
        (
            "resolver 10.0.0.1 valid=5ms;",
            "invalid parameter: valid=5ms",
        ),
        (
            "resolver 10.0.0.1 ipv6=maybe;",
            "invalid parameter: ipv6=maybe",
        ),
        ("resolver 10.0.0.1 ipv4=;", "invalid parameter: ipv4="),
        (
            "resolver 10.0.0.1 ipv4=off ipv6=off;",
            "\"ipv4\" and \"ipv6\" cannot both be \"off\"",
        ),
        (
            "resolver 10.0.0.1 status_zone=dns;",
            "the \"status_zone=dns\" parameter is not supported by weir",
        ),
        (
            "resolver 10.0.0.1:0;",
            "invalid port in resolver \"10.0.0.1:0\"",
        ),
        (
            "resolver [::g];",
            "invalid IPv6 address in resolver \"[::g]\"",
        ),
        (
            "resolver no-such-host.invalid;",
            "host not found in resolver \"no-such-host.invalid\"",
        ),
        (
            "resolver unix:/run/dns;",
            "unix domain socket in resolver \"unix:/run/dns\"",
        ),
        (
            "resolver 10.0.0.1; resolver 10.0.0.2;",
            "\"resolver\" directive is duplicate",
        ),
        (
            "resolver_timeout soon;",
            "\"resolver_timeout\" directive invalid value",
        ),
        (
            "upstream a { server b resolve; resolver 10.0.0.1; resolver 10.0.0.1; }",
            "\"resolver\" directive is duplicate",
        ),
        (
            "upstream a { server b resolve; }",
            "no resolver defined to resolve names at run time in upstream \"a\"",
        ),
        (
            "upstream a { server 10.0.0.1; zone a 1k; }",
            "zone \"a\" is too small",
        ),
        (
            "upstream a { server 10.0.0.1; zone a big; }",
            "invalid zone size \"big\"",
        ),
    ] {
        assert_eq!(fault(line), expected, "{line}");
    }
}

#[test]
fn servers_that_resolve_have_their_upstreams_resolver_or_the_outer_one() {
    let built = http(
        "upstream own { zone own 64k; server a.test:81 resolve weight=2; resolver 10.0.0.9; resolver_timeout 1s; }
         upstream outer { server a.test resolve backup; server 10.0.0.1; }
         upstream fixed { server 10.0.0.1 resolve; zone shared; }
         resolver 10.0.0.8; resolver_timeout 2s;
         server { location / { return 200; } }",
    );
    let upstreams = &built.settings.upstreams;
    let asks = |at: usize| {
        let resolver = upstreams[at].resolver.as_ref()?;
        Some((
            resolver.servers[0].to_string(),
            upstreams[at].resolver_timeout.as_secs(),
        ))
    };
    assert_eq!(asks(0), Some(("10.0.0.9:53".to_owned(), 1)));
    assert_eq!(asks(1), Some(("10.0.0.8:53".to_owned(), 2)));
    assert_eq!(asks(2), None);
    let server = &upstreams[0].servers[0];
    assert!(server.is_resolved() && server.weight == 2);
    assert!(matches!(&server.host, Host::Name { host, port: 81, .. } if host == "a.test"));
    // Without `resolve` nobody needs a resolver, and a location's is not an upstream's.
    http(
        "upstream a { server 10.0.0.1; } server { location / { resolver 10.0.0.8; return 200; } }",
    );
    assert!(
        fault("upstream a { server b resolve; } server { resolver 10.0.0.8; }")
            .contains("no resolver")
    );
}
