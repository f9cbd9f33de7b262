//! `http {}`.

use super::{check, in_http};

#[test]
fn clients() {
    check(
        in_http,
        &[
            (
                "sendfile maybe;",
                "invalid value \"maybe\" in \"sendfile\" directive, it must be \"on\" or \"off\"",
            ),
            (
                "keepalive_timeout 1x;",
                "\"keepalive_timeout\" directive invalid value",
            ),
            (
                "client_max_body_size 1x;",
                "\"client_max_body_size\" directive invalid value",
            ),
            (
                "client_header_buffer_size 1g;",
                "\"client_header_buffer_size\" directive invalid value",
            ),
            (
                "large_client_header_buffers 4 256;",
                "the \"large_client_header_buffers\" size must be equal to or greater than \"connection_pool_size\"",
            ),
        ],
    );
}

#[test]
fn logs() {
    check(
        in_http,
        &[
            (
                "log_format combined x;",
                "duplicate \"log_format\" name \"combined\"",
            ),
            ("log_format a 'b $1';", "unknown \"1\" variable"),
            ("log_format a $nothing;", "unknown \"nothing\" variable"),
            (
                "access_log logs/a.log nothing;",
                "unknown log format \"nothing\"",
            ),
            ("access_log off x;", "invalid parameter \"x\""),
            (
                "access_log logs/a.log combined buffer=0;",
                "invalid buffer size \"0\"",
            ),
            ("log_format a b$;", "invalid parameter \"$\""),
            (
                "log_format a 'b${-x';",
                "the closing bracket in \"\" variable is missing",
            ),
            ("log_format a b$-c;", "invalid parameter \"$-c\""),
            (
                "log_format a escape=xml b;",
                "unknown log format escaping \"xml\"",
            ),
            (
                "log_format a b; log_format a c;",
                "duplicate \"log_format\" name \"a\"",
            ),
            (
                "access_log logs/a.log combined flush=1s;",
                "no buffer is defined for access_log \"logs/a.log\"",
            ),
            (
                "access_log logs/a.log combined buffer=1k flush=0;",
                "invalid flush time \"0\"",
            ),
            (
                "access_log logs/$host.log combined buffer=1k;",
                "buffered logs cannot have variables in name",
            ),
            (
                "access_log logs/a.log combined buffer=1k; access_log logs/a.log combined buffer=2k;",
                "access_log \"logs/a.log\" already defined with conflicting parameters",
            ),
            (
                "access_log logs/a.log combined if=$nothing;",
                "unknown \"nothing\" variable",
            ),
            (
                "access_log logs/$tcpinfo_rtt;",
                "the \"tcpinfo_rtt\" variable is not supported by weir",
            ),
            (
                "access_log syslog:server=a;",
                "access_log to \"syslog:server=a\" is not supported by weir",
            ),
            (
                "open_log_file_cache inactive=1s;",
                "\"open_log_file_cache\" must have \"max\" parameter",
            ),
            (
                "open_log_file_cache max=1 valid=x;",
                "invalid \"open_log_file_cache\" parameter \"valid=x\"",
            ),
            (
                "open_log_file_cache off; open_log_file_cache max=1;",
                "\"open_log_file_cache\" directive is duplicate",
            ),
            (
                "access_log logs/a.log combined gzip;",
                "the \"gzip\" parameter is not supported by weir",
            ),
        ],
    );
}

#[test]
fn added_fields_access_and_types() {
    check(
        in_http,
        &[
            ("add_header A b c;", "invalid parameter \"c\""),
            ("add_header 'A b' c;", "invalid header name \"A b\""),
            ("allow 10.0.0.0/40;", "invalid parameter \"10.0.0.0/40\""),
            ("types { a { b; } }", "unexpected \"{\""),
            (
                "types { include a b; }",
                "invalid number of arguments in \"include\" directive",
            ),
        ],
    );
}

#[test]
fn upstream_blocks() {
    check(
        in_http,
        &[
            ("upstream u {}", "no servers are inside upstream"),
            (
                "upstream u { server a; } upstream U { server b; }",
                "duplicate upstream \"U\"",
            ),
            (
                "upstream u { server 10.0.0.1 backup; }",
                "no servers in upstream \"u\"",
            ),
        ],
    );
}
