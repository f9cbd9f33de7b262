//! `location {}`: where requests are passed to, and with which buffers.

use super::super::build;
use super::{check, in_location, refused};

#[test]
fn proxying() {
    check(
        in_location,
        &[
            ("proxy_pass a;", "invalid URL prefix"),
            ("proxy_pass http://;", "no host in upstream \"\""),
            ("proxy_pass http://a:0;", "invalid port in upstream \"a:0\""),
            (
                "proxy_pass http://a; proxy_pass http://b;",
                "\"proxy_pass\" directive is duplicate",
            ),
            (
                "proxy_pass http://$nothing;",
                "unknown \"nothing\" variable",
            ),
            ("proxy_http_version 3;", "invalid value \"3\""),
            (
                "proxy_set_header X ${host;",
                "the closing bracket in \"host\" variable is missing",
            ),
            (
                "proxy_connect_timeout -1;",
                "\"proxy_connect_timeout\" directive invalid value",
            ),
            (
                "proxy_temp_path a 0;",
                "\"proxy_temp_path\" directive invalid value",
            ),
            (
                "client_body_temp_path a 1 2 8;",
                "\"client_body_temp_path\" directive invalid value",
            ),
            ("client_body_in_file_only yes;", "invalid value \"yes\""),
            (
                "proxy_buffers 0 4k;",
                "\"proxy_buffers\" directive invalid value",
            ),
            ("limit_rate fast;", "\"limit_rate\" directive invalid value"),
            ("proxy_limit_rate $nothing;", "unknown \"nothing\" variable"),
            (
                "proxy_max_temp_file_size 1g;",
                "\"proxy_max_temp_file_size\" directive invalid value",
            ),
            (
                "upstream_show on;",
                "invalid number of arguments in \"upstream_show\" directive",
            ),
        ],
    );
    assert_eq!(
        refused(&in_location("proxy_pass https://a;")),
        "https protocol requires SSL support in weir.conf:3 (weir does not have it)"
    );
    for text in [
        "events {}\nhttp { upstream u { server 10.0.0.1; } server { location / {\nproxy_pass http://u:80;\n} } }",
        "events {}\nhttp { server { location / {\nproxy_pass http://u:80;\n} } upstream u { server 10.0.0.1; } }",
    ] {
        assert_eq!(
            refused(text),
            "upstream \"u\" may not have port 80 in weir.conf:3"
        );
    }
}

#[test]
fn sizes_of_buffers_must_fit_one_another() {
    let largest =
        "the maximum of the value of \"proxy_buffer_size\" and one of the \"proxy_buffers\"";
    for (text, message) in [
        ("proxy_buffers 1 4k;", "there must be at least 2 \"proxy_buffers\"".to_owned()),
        (
            "proxy_busy_buffers_size 1k;",
            format!("\"proxy_busy_buffers_size\" must be equal to or greater than {largest}"),
        ),
        (
            "proxy_buffer_size 64k;",
            "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer"
                .to_owned(),
        ),
        (
            "proxy_temp_file_write_size 1k;",
            format!("\"proxy_temp_file_write_size\" must be equal to or greater than {largest}"),
        ),
        (
            "proxy_max_temp_file_size 1k;",
            format!(
                "\"proxy_max_temp_file_size\" must be equal to zero to disable temporary files usage \
                 or must be equal to or greater than {largest}"
            ),
        ),
    ] {
        assert_eq!(refused(&in_location(text)), format!("{message} in weir.conf:2"));
    }
    for fine in [
        "proxy_buffers 2 8k; proxy_busy_buffers_size 8k;",
        "proxy_busy_buffers_size 28k; proxy_max_temp_file_size 0;",
        "proxy_max_temp_file_size 4k; proxy_temp_file_write_size 4k;",
    ] {
        assert!(build(&in_location(fine)).is_ok(), "{fine}");
    }
}
