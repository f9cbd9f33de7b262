//! The main context and `events {}`.

use super::super::build;
use super::{check, main, refused};

#[test]
fn main_context() {
    check(
        main,
        &[
            (
                "daemon yes;",
                "invalid value \"yes\" in \"daemon\" directive, it must be \"on\" or \"off\"",
            ),
            ("daemon on; daemon on;", "\"daemon\" directive is duplicate"),
            ("pid a; pid b;", "\"pid\" directive is duplicate"),
            (
                "worker_processes 0;",
                "\"worker_processes\" directive invalid value",
            ),
            (
                "worker_processes many;",
                "\"worker_processes\" directive invalid value",
            ),
            (
                "worker_rlimit_nofile 1k;",
                "\"worker_rlimit_nofile\" directive invalid number",
            ),
            (
                "worker_shutdown_timeout 1x;",
                "\"worker_shutdown_timeout\" directive invalid value",
            ),
            (
                "user no-such-user-here;",
                "getpwnam(\"no-such-user-here\") failed",
            ),
            (
                "user root no-such-group-here;",
                "getgrnam(\"no-such-group-here\") failed",
            ),
            ("error_log logs/e.log loud;", "invalid log level \"loud\""),
            (
                "upsync_log logs/u.log;",
                "\"upsync_log\" directive is not allowed here",
            ),
            (
                "error_log logs/e.log warn info;",
                "duplicate log level \"info\"",
            ),
            (
                "error_log logs/e.log debug_http warn;",
                "duplicate log level \"warn\"",
            ),
            (
                "error_log logs/e.log debug debug_http;",
                "invalid log level \"debug_http\"",
            ),
            (
                "error_log syslog:server=a;",
                "error_log to \"syslog:server=a\" is not supported by weir",
            ),
            ("listen 80;", "\"listen\" directive is not allowed here"),
            ("server {}", "\"server\" directive is not allowed here"),
            (
                "include no-such-file.conf;",
                "open() \"no-such-file.conf\" failed (not in the text)",
            ),
            ("region a b;", "invalid parameter \"b\""),
            (
                "region a upstreams=65537;",
                "invalid parameter \"upstreams=65537\", it must be between 1 and 65536",
            ),
            (
                "region a workers=1025;",
                "invalid parameter \"workers=1025\", it must be between 1 and 1024",
            ),
            (
                "worker_processes 1025;",
                "\"worker_processes\" directive invalid value",
            ),
            (
                "region a slots=3;",
                "invalid parameter \"slots=3\", it must be between 4 and 64",
            ),
            (
                "region a history=1025m;",
                "invalid parameter \"history=1025m\", it must be between 4096 and 1073741824",
            ),
            (
                "http { upsync_drain_timeout x; }",
                "\"upsync_drain_timeout\" directive invalid value",
            ),
            (
                "region a history=4000;",
                "invalid parameter \"history=4000\", it must be between 4096 and 1073741824",
            ),
            ("events { worker_connections x; }", "invalid number \"x\""),
            ("events { use kqueue; }", "invalid event type \"kqueue\""),
            (
                "events { listen 80; }",
                "\"listen\" directive is not allowed here",
            ),
        ],
    );
    let text = "events { worker_connections 1; } http { server { listen 80; } }";
    assert_eq!(
        refused(text),
        "1 worker_connections are not enough for 1 listening sockets"
    );
    assert!(build(&text.replace('1', "2")).is_ok());
}
