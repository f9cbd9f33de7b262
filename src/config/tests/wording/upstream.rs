//! `upstream {}`: its servers, and the source that it learns them from.

use weir_master::settings::SourceAddress;

use super::super::http;
use super::{check, in_upstream, refused};

#[test]
fn upstreams() {
    check(
        in_upstream,
        &[
            (
                "server 10.0.0.1 weight=0;",
                "invalid parameter \"weight=0\"",
            ),
            (
                "server 10.0.0.1 weight=x;",
                "invalid parameter \"weight=x\"",
            ),
            (
                "server 10.0.0.1 weight=65536;",
                "invalid parameter \"weight=65536\", the largest weight is 65535",
            ),
            (
                "server 10.0.0.1 fail_timeout=1ms;",
                "invalid parameter \"fail_timeout=1ms\"",
            ),
            (
                "server 10.0.0.1 max_conns=1;",
                "the \"max_conns=1\" parameter is not supported by weir",
            ),
            (
                "server a.test service=http resolve;",
                "the \"service=http\" parameter is not supported by weir",
            ),
            ("server 10.0.0.1 what;", "invalid parameter \"what\""),
            (
                "server 10.0.0.1:0;",
                "invalid port in upstream \"10.0.0.1:0\"",
            ),
            ("server http://a;", "invalid host in upstream \"http://a\""),
            (
                "keepalive x;",
                "invalid value \"x\" in \"keepalive\" directive",
            ),
            ("keepalive 1 global;", "invalid parameter \"global\""),
            (
                "keepalive 1; keepalive 1;",
                "\"keepalive\" directive is duplicate",
            ),
            (
                "upsync_lb least_conn;",
                "upsync_lb \"least_conn\" is not supported by weir, use round_robin",
            ),
            (
                "upsync_guard maybe;",
                "invalid value \"maybe\" in \"upsync_guard\" directive, it must be \"on\" or \"off\"",
            ),
            (
                "upsync_guard on share=101%;",
                "invalid parameter \"share=101%\"",
            ),
            (
                "upsync_guard on share=50;",
                "invalid parameter \"share=50\"",
            ),
            (
                "upsync_guard on servers=0;",
                "invalid parameter \"servers=0\"",
            ),
            (
                "upsync_guard on; upsync_guard off;",
                "\"upsync_guard\" directive is duplicate",
            ),
            (
                "upsync_discover c:1/v1/kv/p template=t;",
                "\"upsync_discover\" directive is not allowed here",
            ),
            (
                "upsync_lb what;",
                "invalid value \"what\" in \"upsync_lb\" directive",
            ),
            ("listen 80;", "\"listen\" directive is not allowed here"),
        ],
    );
}

#[test]
fn paths_of_sources() {
    let upsync = |text: &str, reason: &str| {
        let message = format!(
            "{reason} in upsync \"{text}\", it must be HOST:PORT/v1/kv/PREFIX in weir.conf:3"
        );
        assert_eq!(refused(&in_upstream(&format!("upsync {text};"))), message);
    };
    upsync("http://a:1/v1/kv/x", "unexpected scheme");
    upsync("a/v1/kv/x", "no port");
    upsync("a:1", "invalid path");
    upsync("a:1/v2/kv/x", "invalid path");
    upsync("a:1/v1/kv/", "no key prefix");
    upsync("a:1/v1/kv///", "no key prefix");
    upsync("a:1/v1/kv/x^y", "invalid character in the key prefix");
    upsync("unix:/x", "invalid path");
    upsync("a:1,b/v1/kv/x", "no port");
    upsync("a:1,,b:1/v1/kv/x", "no host");
    upsync("a:1,http://b:1/v1/kv/x", "unexpected scheme");
}

#[test]
fn sources() {
    check(
        in_upstream,
        &[
            (
                "upsync a:1/v1/kv/x upsync_type=etcd;",
                "invalid path in upsync \"a:1/v1/kv/x\", it must be HOST:PORT/v2/keys/PREFIX",
            ),
            (
                "upsync a:1/v1/kv/web upsync_type=consul_health;",
                "invalid path in upsync \"a:1/v1/kv/web\", it must be \
                 HOST:PORT/v1/health/service/NAME",
            ),
            (
                "upsync a:1/v1/catalog/service/a/b upsync_type=consul_services;",
                "invalid name of a service in upsync \"a:1/v1/catalog/service/a/b\", it must be \
                 HOST:PORT/v1/catalog/service/NAME",
            ),
            (
                "upsync a:1/v1/kv/x?dc=y;",
                "unexpected query in upsync \"a:1/v1/kv/x?***\", it must be HOST:PORT/v1/kv/PREFIX",
            ),
            (
                "upsync a:1/v1/kv/x?token=a&b;",
                "unexpected query in upsync \"a:1/v1/kv/x?***\", it must be HOST:PORT/v1/kv/PREFIX",
            ),
            (
                "upsync a:1/v1/kv/x token=secret;",
                "invalid parameter \"token=***\"",
            ),
            (
                "upsync a:1/v1/kv/x datacenter=a/b;",
                "invalid parameter \"datacenter=a/b\"",
            ),
            (
                "upsync a:1/v2/keys/x upsync_type=etcd datacenter=dc1;",
                "invalid parameter \"datacenter=dc1\"",
            ),
            (
                "upsync a:1/v1/kv/x consistency=eventual;",
                "invalid parameter \"consistency=eventual\"",
            ),
            (
                "upsync_token a; upsync_token_file b;",
                "\"upsync_token\" and \"upsync_token_file\" exclude each other",
            ),
            (
                "upsync_token a; upsync_token b;",
                "\"upsync_token\" directive is duplicate",
            ),
            (
                "upsync_token 'a b';",
                "\"upsync_token\" directive has an invalid token",
            ),
            (
                "upsync_token_file '';",
                "\"upsync_token_file\" directive names no file",
            ),
            (
                "upsync_ssl_verify maybe;",
                "invalid value \"maybe\" in \"upsync_ssl_verify\" directive, it must be \"on\" or \"off\"",
            ),
            (
                "upsync_ssl_name 'a b';",
                "\"upsync_ssl_name\" directive invalid value",
            ),
            (
                "upsync a:1/v1/kv/x upsync_type=file;",
                "invalid parameter \"upsync_type=file\"",
            ),
            (
                "upsync a:1/v1/kv/x upsync_interval=0;",
                "invalid parameter \"upsync_interval=0\"",
            ),
            (
                "upsync a:1/v1/kv/x upsync_timeout=x;",
                "invalid parameter \"upsync_timeout=x\"",
            ),
            (
                "upsync a:1/v1/kv/x strong_dependency=yes;",
                "invalid parameter \"strong_dependency=yes\"",
            ),
            (
                "upsync a:1/v1/kv/x; upsync a:1/v1/kv/x;",
                "\"upsync\" directive is duplicate",
            ),
        ],
    );
}

#[test]
fn a_source_has_its_defaults() {
    let built = http("upstream u { upsync [::1]:8500/v1/kv/a/b/; }");
    let upsync = built.settings.upstreams[0].upsync.clone().unwrap();
    assert_eq!(upsync.host, "[::1]:8500");
    assert_eq!(upsync.addresses, [SourceAddress::tcp("::1", 8500)]);
    assert_eq!(upsync.prefix, "a/b");
    assert_eq!(
        (
            upsync.interval.as_secs(),
            upsync.timeout.as_secs(),
            upsync.strong
        ),
        (5, 360, false)
    );
}
