//! `server {}`, its addresses, names and locations, and how it answers.

use super::super::build;
use super::{check, in_http, in_server, refused};

#[test]
fn listen() {
    check(
        in_server,
        &[
            ("listen 80; listen 80;", "a duplicate listen 0.0.0.0:80"),
            (
                "listen 70000;",
                "invalid port in \"70000\" of the \"listen\" directive",
            ),
            (
                "listen a/b;",
                "invalid host in \"a/b\" of the \"listen\" directive",
            ),
            ("listen 80 what;", "invalid parameter \"what\""),
            ("listen 80 backlog=0;", "invalid backlog \"backlog=0\""),
            (
                "listen 80 ipv6only=oops;",
                "invalid ipv6only flags \"oops\"",
            ),
            ("listen 80 backlog=x;", "invalid backlog \"backlog=x\""),
            ("listen 80 rcvbuf=-1;", "invalid rcvbuf \"rcvbuf=-1\""),
            ("listen 80 sndbuf=4g;", "invalid sndbuf \"sndbuf=4g\""),
            ("listen 80 fastopen=;", "invalid fastopen \"fastopen=\""),
            ("listen 80 ipv6only=1;", "invalid parameter \"ipv6only=1\""),
            ("listen 80 deferred=1;", "invalid parameter \"deferred=1\""),
            (
                "listen 80 so_keepalive=;",
                "invalid so_keepalive value: \"\"",
            ),
            (
                "listen 80 so_keepalive=0::0;",
                "invalid so_keepalive value: \"0::0\"",
            ),
            (
                "listen 80 so_keepalive=1h:x:3;",
                "invalid so_keepalive value: \"1h:x:3\"",
            ),
            (
                "listen 80 so_keepalive=1:2:3:4;",
                "invalid so_keepalive value: \"1:2:3:4\"",
            ),
            (
                "listen 80 setfib=1;",
                "the \"setfib\" parameter is not supported by weir",
            ),
            (
                "listen 80 multipath;",
                "the \"multipath\" parameter is not supported by weir",
            ),
            (
                "listen 81-80;",
                "invalid port range in \"81-80\" of the \"listen\" directive",
            ),
            (
                "listen 1-2000;",
                "port range of more than 1024 ports in \"1-2000\" of the \"listen\" directive",
            ),
            (
                "listen 80 proxy_protocol;",
                "the \"proxy_protocol\" parameter is not supported by weir",
            ),
        ],
    );
    assert_eq!(
        refused(&in_server("listen 443 ssl;")),
        "the \"ssl\" parameter requires ngx_http_ssl_module in weir.conf:3 (weir does not have it)"
    );
}

#[test]
fn servers_that_share_an_address() {
    for (first, second, message) in [
        (
            "listen 80 default_server;",
            "listen 80 default_server;",
            "a duplicate default server for 0.0.0.0:80",
        ),
        (
            "listen 80 backlog=5;",
            "listen *:80 bind;",
            "duplicate listen options for 0.0.0.0:80",
        ),
        (
            "listen 80; server_name a.*.b;",
            "listen 80;",
            "invalid server name or wildcard \"a.*.b\" on 0.0.0.0:80",
        ),
    ] {
        let text =
            format!("events {{}}\nhttp {{\nserver {{ {first} }} server {{ {second} }}\n}}\n");
        assert_eq!(refused(&text), format!("{message} in weir.conf:3"));
    }
    // With one server there is nothing to tell apart, and nginx takes it.
    assert!(build(&in_server("server_name a.*.b;")).is_ok());
}

#[test]
fn names() {
    check(
        in_server,
        &[
            ("server_name *;", "server name \"*\" is invalid"),
            ("server_name *a.b;", "server name \"*a.b\" is invalid"),
            ("server_name .;", "server name \".\" is invalid"),
            (
                "server_name ~^a;",
                "regular expressions in server names are not supported by weir: \"~^a\"",
            ),
        ],
    );
}

#[test]
fn locations() {
    check(
        in_server,
        &[
            ("location a b {}", "invalid location modifier \"a\""),
            ("location / {} location / {}", "duplicate location \"/\""),
            ("location ^~ / {} location / {}", "duplicate location \"/\""),
            (
                "location = /a { location /a/b {} }",
                "location \"/a/b\" cannot be inside the exact location \"/a\"",
            ),
            (
                "location /a { location /b {} }",
                "location \"/b\" is outside location \"/a\"",
            ),
            (
                "location @a { location /b {} }",
                "location \"/b\" cannot be inside the named location \"@a\"",
            ),
            (
                "location / { location @a {} }",
                "named location \"@a\" can be on the server level only",
            ),
            (
                "location @a { proxy_pass http://127.0.0.1:1/; }",
                "\"proxy_pass\" cannot have URI part in location given by regular expression, \
                 or inside named location, or inside \"if\" statement, or inside \"limit_except\" block",
            ),
            (
                "location / { internal; internal; }",
                "\"internal\" directive is duplicate",
            ),
            (
                "location ~ \\.php$ {}",
                "location by regular expression \"\\.php$\" is not supported by weir",
            ),
        ],
    );
    assert!(
        build(&in_server(
            "location @a {} location @a {} location @a/b {} location = / {} location / {} location ^~ /a {}"
        ))
        .is_ok()
    );
}

#[test]
fn contexts() {
    check(
        in_http,
        &[(
            "location / {}",
            "\"location\" directive is not allowed here",
        )],
    );
    check(
        in_server,
        &[(
            "proxy_pass http://a;",
            "\"proxy_pass\" directive is not allowed here",
        )],
    );
}

#[test]
fn answers() {
    check(
        in_server,
        &[
            ("return x;", "invalid return code \"x\""),
            ("return 1000;", "invalid return code \"1000\""),
            ("return 200 $nothing;", "unknown \"nothing\" variable"),
            ("expires x;", "\"expires\" directive invalid value"),
            ("expires 1h 2h;", "\"expires\" directive invalid value"),
            (
                "expires modified @1h;",
                "\"expires\" directive daily time cannot be used with \"modified\" parameter",
            ),
            (
                "expires @25h;",
                "\"expires\" directive daily time value must be less than 24 hours",
            ),
            (
                "expires 1; expires 2;",
                "\"expires\" directive is duplicate",
            ),
            ("add_header_inherit x;", "invalid value \"x\""),
            ("add_trailer_inherit x;", "invalid value \"x\""),
            ("add_trailer A b c;", "invalid parameter \"c\""),
            ("add_trailer 'A b' c;", "invalid header name \"A b\""),
            (
                "add_trailer A;",
                "invalid number of arguments in \"add_trailer\" directive",
            ),
            (
                "absolute_redirect 1;",
                "invalid value \"1\" in \"absolute_redirect\" directive, it must be \"on\" or \"off\"",
            ),
        ],
    );
}

#[test]
fn error_pages() {
    check(
        in_server,
        &[
            ("error_page =200 /x;", "invalid value \"=200\""),
            ("error_page 404 =x /x;", "invalid value \"=x\""),
            ("error_page 499 /x;", "invalid value \"499\""),
            ("error_page 404x /x;", "invalid value \"404x\""),
            (
                "error_page 404 600 /x;",
                "value \"600\" must be between 300 and 599",
            ),
            (
                "error_page 299 /x;",
                "value \"299\" must be between 300 and 599",
            ),
            (
                "error_page 404;",
                "invalid number of arguments in \"error_page\" directive",
            ),
        ],
    );
}
