//! Every refusal in nginx's words, with its file and line.

use weir_master::settings::SourceAddress;

use super::{build, refused};

/// A configuration whose third line is the one at fault.
fn main(line: &str) -> String {
    format!("# one\n# two\n{line}\nevents {{}}\n")
}

fn in_http(line: &str) -> String {
    format!("events {{}}\nhttp {{\n{line}\n}}\n")
}

fn in_server(line: &str) -> String {
    format!("events {{}}\nhttp {{ server {{\n{line}\n}} }}\n")
}

fn in_location(line: &str) -> String {
    format!("events {{}}\nhttp {{ server {{ location / {{\n{line}\n}} }} }}\n")
}

fn in_upstream(line: &str) -> String {
    format!("events {{}}\nhttp {{ upstream u {{\n{line}\n}} }}\n")
}

fn check(frame: fn(&str) -> String, cases: &[(&str, &str)]) {
    for (line, message) in cases {
        assert_eq!(
            refused(&frame(line)),
            format!("{message} in weir.conf:3"),
            "{line}"
        );
    }
}

#[test]
fn syntax() {
    for (text, message) in [
        ("events {}\n}", "unexpected \"}\" in weir.conf:2"),
        ("events {}\n;", "unexpected \";\" in weir.conf:2"),
        ("events {}\n{", "unexpected \"{\" in weir.conf:2"),
        (
            "events {\n",
            "unexpected end of file, expecting \"}\" in weir.conf:2",
        ),
        (
            "events {}\nuser root",
            "unexpected end of file, expecting \";\" or \"}\" in weir.conf:2",
        ),
        (
            "events {}\nuser 'root",
            "unexpected end of file, expecting \";\" or \"}\" in weir.conf:2",
        ),
        (
            "events {}\nuser \"root\\\"",
            "unexpected end of file, expecting \";\" or \"}\" in weir.conf:2",
        ),
        ("events {}\nuser root }", "unexpected \"}\" in weir.conf:2"),
        (
            "events {}\nuser \"root\"x;",
            "unexpected \"x\" in weir.conf:2",
        ),
        (
            "events {}\nuser \"root\"\u{1};",
            "unexpected \"\\x01\" in weir.conf:2",
        ),
        (
            "events {}\nuser root {}",
            "directive \"user\" is not terminated by \";\" in weir.conf:2",
        ),
        (
            "events;\n",
            "directive \"events\" has no opening \"{\" in weir.conf:1",
        ),
        (
            "events {}\nuser a b c;",
            "invalid number of arguments in \"user\" directive in weir.conf:2",
        ),
        (
            "events {}\ndaemon on off;",
            "invalid number of arguments in \"daemon\" directive in weir.conf:2",
        ),
        (
            "\u{feff}events {}",
            "unexpected UTF-8 byte order mark in weir.conf:1",
        ),
        (
            "events {}\nuser a\0b;",
            "unexpected NUL byte in weir.conf:2",
        ),
        ("", "no \"events\" section in configuration"),
        (
            "events {}\n\nevents {}",
            "\"events\" directive is duplicate in weir.conf:3",
        ),
        (
            "events {}\nhttp {}\nhttp {}",
            "\"http\" directive is duplicate in weir.conf:3",
        ),
        // As in nginx, the line is the one on which the directive ends.
        (
            "events {}\nuser a\nb\nc;",
            "invalid number of arguments in \"user\" directive in weir.conf:4",
        ),
    ] {
        assert_eq!(refused(text), message, "{text:?}");
    }
}

#[test]
fn long_parameters() {
    let long = |quote: &str| {
        refused(&format!(
            "events {{}}\nuser {quote}{}{quote};\n",
            "a".repeat(5000)
        ))
    };
    assert_eq!(
        long(""),
        "too long parameter \"aaaaaaaaaa...\" started in weir.conf:2"
    );
    let missing = |quote| {
        format!(
            "too long parameter, probably missing terminating \"{quote}\" character in weir.conf:2"
        )
    };
    assert_eq!(long("\""), missing('"'));
    assert_eq!(long("'"), missing('\''));
    let fits = |length| {
        build(&format!(
            "events {{}} http {{ server {{ return 200 '{}'; }} }}",
            "a".repeat(length)
        ))
    };
    assert!(fits(4095).is_ok());
    assert!(fits(4096).is_err());
}

#[test]
fn lexing_is_nginxs() {
    let text = |value: &str| {
        let built = super::server(&format!("location / {{ return 200 {value}; }}"));
        let ret = super::at(&built, "/").ret.clone().unwrap();
        match &ret.text.unwrap().parts[..] {
            [weir_worker::settings::Part::Text(text)] => String::from_utf8(text.clone()).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(text("a\\tb\\nc\\rd"), "a\tb\nc\rd");
    assert_eq!(text(r#""a\"b\\c\'d\x""#), "a\"b\\c'd\\x");
    assert_eq!(text("'a;{}#b'"), "a;{}#b");
    assert_eq!(text("a\\;b"), "a\\;b");
    assert_eq!(text("a\\ b"), "a\\ b");
    assert_eq!(text("a#b\"c'd}"), "a#b\"c'd}");
    assert_eq!(text("\"a\nb\""), "a\nb");
    assert_eq!(text("\\\"a\\\""), "\"a\"");
    assert_eq!(
        super::server("location / { return 200 a${host}b; }")
            .worker
            .servers
            .len(),
        1
    );
}

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

#[test]
fn http_and_servers() {
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
            ("add_header A b c;", "invalid parameter \"c\""),
            ("add_header 'A b' c;", "invalid header name \"A b\""),
            ("allow 10.0.0.0/40;", "invalid parameter \"10.0.0.0/40\""),
            ("types { a { b; } }", "unexpected \"{\""),
            (
                "types { include a b; }",
                "invalid number of arguments in \"include\" directive",
            ),
            ("upstream u {}", "no servers are inside upstream"),
            (
                "upstream u { server a; } upstream U { server b; }",
                "duplicate upstream \"U\"",
            ),
            (
                "upstream u { server 10.0.0.1 backup; }",
                "no servers in upstream \"u\"",
            ),
            (
                "location / {}",
                "\"location\" directive is not allowed here",
            ),
        ],
    );
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
            ("server_name *;", "server name \"*\" is invalid"),
            ("server_name *a.b;", "server name \"*a.b\" is invalid"),
            ("server_name .;", "server name \".\" is invalid"),
            (
                "server_name ~^a;",
                "regular expressions in server names are not supported by weir: \"~^a\"",
            ),
            ("return x;", "invalid return code \"x\""),
            ("return 1000;", "invalid return code \"1000\""),
            ("return 200 $nothing;", "unknown \"nothing\" variable"),
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
            (
                "absolute_redirect 1;",
                "invalid value \"1\" in \"absolute_redirect\" directive, it must be \"on\" or \"off\"",
            ),
            (
                "location ~ \\.php$ {}",
                "location by regular expression \"\\.php$\" is not supported by weir",
            ),
            (
                "proxy_pass http://a;",
                "\"proxy_pass\" directive is not allowed here",
            ),
        ],
    );
    assert_eq!(
        refused(&in_server("listen 443 ssl;")),
        "the \"ssl\" parameter requires ngx_http_ssl_module in weir.conf:3 (weir does not have it)"
    );
    assert!(
        build(&in_server(
            "location @a {} location @a {} location @a/b {} location = / {} location / {} location ^~ /a {}"
        ))
        .is_ok()
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
    let built = super::http("upstream u { upsync [::1]:8500/v1/kv/a/b/; }");
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

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth| {
        let open = "location / {".repeat(depth);
        format!(
            "events {{}} http {{ server {{ {open} {} }} }}",
            "}".repeat(depth)
        )
    };
    assert!(build(&nested(50)).is_ok());
    assert!(refused(&nested(5000)).starts_with("blocks and includes are nested too deeply"));
    let loops = "# configuration file a.conf:\ninclude b.conf;\n# configuration file b.conf:\ninclude a.conf;\n";
    assert_eq!(refused(loops), "\"a.conf\" includes itself in b.conf:1");
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
