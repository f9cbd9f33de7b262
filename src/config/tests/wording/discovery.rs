//! `upsync_discover`.

use super::super::build;
use super::refused;

#[test]
fn discovery() {
    let long = "t".repeat(256);
    let too_long = format!("upsync_discover c:1/v1/kv/p template={long};");
    let in_discovery = |line: &str| {
        format!("events {{}}\nhttp {{ upstream t {{ server c:1; }}\n{line}\nserver {{ }} }}\n")
    };
    for (line, message) in [
        (
            "upsync_discover c:1/v1/kv/p;",
            "invalid number of arguments in \"upsync_discover\" directive",
        ),
        (
            "upsync_discover c:1/v1/kv/p upsync_timeout=1s;",
            "\"upsync_discover\" needs a \"template=\"",
        ),
        (
            "upsync_discover c:1/v1/kv/p template=;",
            "invalid parameter \"template=\"",
        ),
        (
            "upsync_discover c:1/v1/kv/p template=t template=t;",
            "invalid parameter \"template=t\"",
        ),
        (
            &too_long,
            "the name in \"template=\" is longer than 255 bytes",
        ),
        (
            "upsync_discover c:1/v1/kv/p template=other;",
            "no upstream \"other\" in \"upsync_discover\"",
        ),
        (
            "upsync_discover c:1/v1/kv/p template=t upsync_type=consul_health;",
            "\"upsync_type=consul_health\" is not supported by \"upsync_discover\"",
        ),
        (
            "upsync_discover c:1/v1/kv/p template=t token=secret;",
            "invalid parameter \"token=***\"",
        ),
        (
            "upsync_discover c:1/v1/kv/p template=t upsync_timeout=0;",
            "invalid parameter \"upsync_timeout=0\"",
        ),
        (
            "upsync_discover c/v1/kv/p template=t;",
            "no port in upsync_discover \"c/v1/kv/p\", it must be HOST:PORT/v1/kv/PREFIX",
        ),
        (
            "upsync_discover c:1/v1/kv/ template=t;",
            "no key prefix in upsync_discover \"c:1/v1/kv/\", it must be HOST:PORT/v1/kv/PREFIX",
        ),
        (
            "upsync_discover c:1/v1/kv/p template=t; upsync_discover c:1/v1/kv/p template=t;",
            "duplicate \"upsync_discover\" of c:1/v1/kv/p",
        ),
        (
            "upsync_discover https://c:1/v1/kv/p template=t;",
            "no upsync_ssl_trusted_certificate for upsync_ssl_verify",
        ),
    ] {
        let expected = format!("{message} in weir.conf:3");
        assert_eq!(refused(&in_discovery(line)), expected, "{line}");
    }

    // Only a template may be without a server, and one is a block.
    let good = "upsync_discover c:1/v1/kv/p template=t;
        upsync_discover c:1/v1/kv/p template=t datacenter=other;";
    let built = build(&in_discovery(good).replace("server c:1;", "")).unwrap();
    assert_eq!(built.settings.discovers.len(), 2);
    assert_eq!(
        refused(
            "events {}\nhttp { upstream u {\n}\n upstream t { } upsync_discover c:1/v1/kv/p template=t; }"
        ),
        "no servers are inside upstream in weir.conf:3"
    );
    assert_eq!(
        refused(
            "events {}\nhttp { server { location / { proxy_pass http://10.0.0.1; } }\n\
             upsync_discover c:1/v1/kv/p template=10.0.0.1; }"
        ),
        "no upstream \"10.0.0.1\" in \"upsync_discover\" in weir.conf:3"
    );
}
