//! The directives about a client's connection: what is refused, and what is built.

use std::time::Duration;

use weir_worker::settings::{KeepaliveDisable, Lingering, LingeringClose};

use super::{at, http, refused};

fn fault(line: &str) -> String {
    refused(&format!("events {{}}\nhttp {{\n{line}\n}}\n"))
}

#[test]
fn faults_are_told_in_nginxs_words() {
    for (line, message) in [
        ("lingering_close maybe;", "invalid value \"maybe\""),
        (
            "lingering_close on; lingering_close on;",
            "\"lingering_close\" directive is duplicate",
        ),
        (
            "lingering_time x;",
            "\"lingering_time\" directive invalid value",
        ),
        (
            "lingering_timeout 1m 2m;",
            "invalid number of arguments in \"lingering_timeout\" directive",
        ),
        ("keepalive_disable msie;", "invalid value \"msie\""),
        (
            "keepalive_disable none msie6 safari;",
            "invalid number of arguments in \"keepalive_disable\" directive",
        ),
        (
            "keepalive_disable;",
            "invalid number of arguments in \"keepalive_disable\" directive",
        ),
        (
            "keepalive_min_timeout -1;",
            "\"keepalive_min_timeout\" directive invalid value",
        ),
        ("server_tokens full;", "invalid value \"full\""),
        (
            "max_headers many;",
            "\"max_headers\" directive invalid number",
        ),
        (
            "merge_slashes 1;",
            "invalid value \"1\" in \"merge_slashes\" directive, it must be \"on\" or \"off\"",
        ),
        (
            "underscores_in_headers yes;",
            "invalid value \"yes\" in \"underscores_in_headers\" directive, it must be \"on\" or \"off\"",
        ),
        (
            "reset_timedout_connection 0;",
            "invalid value \"0\" in \"reset_timedout_connection\" directive, it must be \"on\" or \"off\"",
        ),
        (
            "server { location / { ignore_invalid_headers off; } }",
            "\"ignore_invalid_headers\" directive is not allowed here",
        ),
        (
            "server { location / { max_headers 5; } }",
            "\"max_headers\" directive is not allowed here",
        ),
        (
            "server { location / { chunked_transfer_encoding; } }",
            "invalid number of arguments in \"chunked_transfer_encoding\" directive",
        ),
    ] {
        assert_eq!(fault(line), format!("{message} in weir.conf:3"), "{line}");
    }
}

#[test]
fn a_connections_end_is_taken_over_value_by_value() {
    let built = http(
        "lingering_close ALWAYS; lingering_time 3s; keepalive_disable safari; server_tokens off;
         server { keepalive_min_timeout 2s; chunked_transfer_encoding off;
           location /a { lingering_close off; lingering_timeout 1s; keepalive_disable none; }
           location /b { reset_timedout_connection on; keepalive_disable msie6; keepalive_disable safari; } }",
    );
    let (a, b) = (at(&built, "/a"), at(&built, "/b"));
    let expected = Lingering {
        close: LingeringClose::Off,
        time: Duration::from_secs(3),
        timeout: Duration::from_secs(1),
    };
    assert_eq!(a.lingering, expected);
    let expected = Lingering {
        close: LingeringClose::Always,
        timeout: Duration::from_secs(5),
        ..expected
    };
    assert_eq!(b.lingering, expected);
    let disable = |msie6, safari| KeepaliveDisable { msie6, safari };
    assert_eq!(a.keepalive_disable, disable(false, false));
    assert_eq!(b.keepalive_disable, disable(true, true));
    assert_eq!(
        built.worker.servers[0].fallback.keepalive_disable,
        disable(false, true)
    );
    assert_eq!(b.keepalive_min_timeout, Duration::from_secs(2));
    assert!(b.reset_timedout_connection && !a.reset_timedout_connection);
    assert!(!a.server_tokens && !a.chunked_transfer_encoding);
}

#[test]
fn rules_for_heads_are_a_servers() {
    let built = http(
        "underscores_in_headers on; max_headers 7;
         server { ignore_invalid_headers off; merge_slashes off; }
         server { listen 81; max_headers 8; underscores_in_headers off; }",
    );
    let [one, two] = &built.worker.servers[..] else {
        panic!("two servers")
    };
    assert!(one.underscores_in_headers && !two.underscores_in_headers);
    assert_eq!((one.max_headers, two.max_headers), (7, 8));
    assert!(!one.ignore_invalid_headers && two.ignore_invalid_headers);
    assert!(!one.merge_slashes && two.merge_slashes);
}
