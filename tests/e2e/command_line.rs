//! nginx's command line and the words of its errors.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::support::process::{Finished, finish};
use crate::support::weir::{Setup, bare, in_http, in_server};

#[track_caller]
fn run(arguments: &[&str]) -> Finished {
    finish(bare().args(arguments))
}

#[test]
fn versions_and_help() {
    let version = concat!("weir version: weir/", env!("CARGO_PKG_VERSION"), "\n");
    let short = run(&["-v"]);
    assert_eq!(
        (short.code, short.stdout.as_str(), short.stderr.as_str()),
        (Some(0), "", version)
    );
    let long = run(&["-V"]);
    assert_eq!(long.code, Some(0));
    let lines: Vec<_> = long.stderr.lines().collect();
    assert_eq!(lines[0], version.trim_end());
    assert!(
        lines.contains(&"nginx version: nginx/1.29.7"),
        "{}",
        long.stderr
    );
    let built = lines
        .iter()
        .find_map(|line| line.strip_prefix("configure arguments:"))
        .unwrap();
    assert!(
        built.contains(" --without-http_rewrite_module")
            || built.contains(" --without-http_fastcgi_module"),
        "{built}"
    );
    let help = run(&["-h"]);
    let said = help.stdout + &help.stderr;
    assert_eq!(help.code, Some(0));
    for option in [
        "-c", "-p", "-e", "-g", "-t", "-T", "-q", "-s", "-v", "-V", "-h",
    ] {
        assert!(said.contains(option), "{option} in {said}");
    }
    let wrong = run(&["-z"]);
    assert!(
        wrong.code == Some(1) && wrong.stderr.contains("invalid option: \"z\""),
        "{wrong:?}"
    );
}

#[test]
fn an_argument_that_is_no_text_is_refused() {
    let argument = OsStr::from_bytes(b"-c\xff");
    let done = finish(bare().arg(argument));
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            Some(1),
            "weir: invalid option: \"-c\u{fffd}\" is not UTF-8\n"
        )
    );
}

#[test]
fn what_does_not_fit_the_region_is_told_by_t() {
    for (text, message) in [
        (
            "region @DIR@/r servers=1; events {} http { upstream a { server 127.0.0.1:1; server 127.0.0.1:2; } }",
            "2 configured servers do not fit \"region\", which has room for 1 (see \"region ... servers=\")",
        ),
        (
            "region @DIR@/r workers=1; worker_processes 2; events {}",
            "2 worker_processes do not fit \"region\", which has room for 1 (see \"region ... workers=\")",
        ),
    ] {
        let mut setup = Setup::whole(text);
        for arguments in [&["-t"][..], &["-g", "daemon off;"]] {
            let done = setup.run(arguments);
            let line = format!("weir: [emerg] {message}\n");
            assert!(
                done.code == Some(1) && done.stderr.contains(&line),
                "{done:?}"
            );
        }
    }
}

#[test]
fn a_good_configuration_tests_well() {
    let mut setup = Setup::server("location = /x { return 200 x; }");
    let file = setup.dir().join("conf/weir.conf").display().to_string();
    let done = setup.run(&["-t"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stderr
            .contains(&format!("the configuration file {file} syntax is ok\n")),
        "{done:?}"
    );
    assert!(
        done.stderr
            .contains(&format!("configuration file {file} test is successful\n")),
        "{done:?}"
    );
    assert!(!setup.dir().join("logs/weir.pid").exists());
    let quiet = setup.run(&["-t", "-q"]);
    assert_eq!(
        (quiet.code, quiet.stderr.as_str(), quiet.stdout.as_str()),
        (Some(0), "", "")
    );
    let relative = finish(
        bare()
            .arg("-p")
            .arg(setup.dir())
            .args(["-c", "conf/weir.conf", "-t"]),
    );
    assert_eq!(relative.code, Some(0), "{relative:?}");
}

#[test]
fn the_dump_of_t_has_every_file_once() {
    let text = in_http("include @DIR@/conf/sites/*.conf; include @DIR@/conf/sites/a.conf;");
    let mut setup = Setup::whole(&text);
    fs::create_dir(setup.dir().join("conf/sites")).unwrap();
    let site = |port: &str| {
        format!(
            "# of {port}\nserver {{ listen unix:{}/{port}.sock; }}\n",
            setup.dir().display()
        )
    };
    let [a, b] = ["a", "b"].map(site);
    fs::write(setup.dir().join("conf/sites/a.conf"), &a).unwrap();
    fs::write(setup.dir().join("conf/sites/b.conf"), &b).unwrap();
    let done = setup.run(&["-T"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let dir = setup.dir().display().to_string();
    let marks: Vec<_> = done
        .stdout
        .lines()
        .filter(|line| line.starts_with("# configuration file "))
        .collect();
    let expected: Vec<_> = ["weir.conf", "sites/a.conf", "sites/b.conf"]
        .iter()
        .map(|name| format!("# configuration file {dir}/conf/{name}:"))
        .collect();
    assert_eq!(marks, expected);
    assert!(
        done.stdout.contains(&a) && done.stdout.contains(&b),
        "{}",
        done.stdout
    );
}

/// Each configuration with the whole line that nginx would print, without the path.
const ERRORS: &[(&str, &str)] = &[
    (
        "events {} http { server { lisen 80; } }",
        "unknown directive \"lisen\" in FILE:1",
    ),
    (
        "events {}\nserver {}",
        "\"server\" directive is not allowed here in FILE:2",
    ),
    (
        "events {}\nhttp {\n  server { listen; } }",
        "invalid number of arguments in \"listen\" directive in FILE:3",
    ),
    (
        "events {} http {",
        "unexpected end of file, expecting \"}\" in FILE:1",
    ),
    ("events {} }", "unexpected \"}\" in FILE:1"),
    (
        "events {} http { server { listen 80 } }",
        "unexpected \"}\" in FILE:1",
    ),
    (
        "events {}\npid a;\npid b;",
        "\"pid\" directive is duplicate in FILE:3",
    ),
    (
        "events {} http { upstream a { server 127.0.0.1:1; }\nupstream a { server 127.0.0.1:1; } }",
        "duplicate upstream \"a\" in FILE:2",
    ),
    (
        "events {} http { upstream a {\n} }",
        "no servers are inside upstream in FILE:2",
    ),
    (
        "events {} http { server { location / {}\nlocation / {} } }",
        "duplicate location \"/\" in FILE:2",
    ),
    (
        "events {} http { server { listen 99999; } }",
        "invalid port in \"99999\" of the \"listen\" directive in FILE:1",
    ),
    (
        "events {} http { keepalive_timeout x; }",
        "\"keepalive_timeout\" directive invalid value in FILE:1",
    ),
    (
        "events {} http { sendfile maybe; }",
        "invalid value \"maybe\" in \"sendfile\" directive, it must be \"on\" or \"off\" in FILE:1",
    ),
    (
        "events {} http { server { location / { proxy_pass ftp://x; } } }",
        "invalid URL prefix in FILE:1",
    ),
    (
        "events {} http { upstream a { server 127.0.0.1:1 weight=x; } }",
        "invalid parameter \"weight=x\" in FILE:1",
    ),
    (
        "events {} http { server { return 200 $nothing; } }",
        "unknown \"nothing\" variable",
    ),
    (
        "include no-such-file.conf;",
        "no-such-file.conf\" failed (2: No such file or directory) in FILE:1",
    ),
    ("http {}", "no \"events\" section in configuration"),
    (
        "worker_processes none;",
        "\"worker_processes\" directive invalid value in FILE:1",
    ),
    (
        "user no-such-user-here;",
        "getpwnam(\"no-such-user-here\") failed in FILE:1",
    ),
    (
        "events {} http { upstream a { upsync 127.0.0.1:8500/v1/kv/a upsync_type=consul; upsync_lb ip_hash; } }",
        "upsync_lb",
    ),
    (
        "events {} http { upstream a { upsync 127.0.0.1:8500/v1/kv/a upsync_type=zookeeper; } }",
        "upsync_type",
    ),
];

#[test]
fn errors_name_file_and_line_in_nginxs_words() {
    let wrong: Vec<_> = ERRORS
        .iter()
        .filter_map(|(text, message)| misworded(text, message))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        misworded("pid a; x;", "unknown directive \"y\"").is_some(),
        "the check bites"
    );
}

/// What is wrong with the error for a configuration, if something is.
fn misworded(text: &str, message: &str) -> Option<String> {
    let mut setup = Setup::whole(text);
    let file = setup.dir().join("conf/weir.conf").display().to_string();
    let done = setup.run(&["-t"]);
    let quiet = setup.run(&["-t", "-q"]);
    let message = message.replace("FILE", &file);
    let failed = format!("configuration file {file} test failed");
    let right = [&done, &quiet]
        .iter()
        .all(|said| said.code == Some(1) && said.stderr.contains(&message))
        && done.stderr.contains("[emerg] ")
        && done.stderr.contains(&failed);
    (!right).then(|| format!("{text}\nsays {done:?}\nand not {message}\n"))
}

#[test]
fn directives_that_weir_lacks_are_all_listed_in_one_run() {
    let text = in_http(&in_server(
        "gzip on;\nlocation /a { proxy_cache zone; rewrite ^/a /b; }\nlocation /b { fastcgi_pass 127.0.0.1:9; }",
    ));
    let mut setup = Setup::whole(&text);
    let done = setup.run(&["-t"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    for name in ["gzip", "proxy_cache", "rewrite", "fastcgi_pass"] {
        let line = done
            .stderr
            .lines()
            .find(|line| line.contains(&format!("\"{name}\"")));
        assert!(
            line.is_some_and(|line| line.contains("weir.conf:")),
            "{name} with its place: {}",
            done.stderr
        );
    }
}

#[test]
fn g_and_e_set_directives_and_the_first_log() {
    let mut setup = Setup::whole(&in_http(&in_server("")).replace("daemon off;", ""));
    let log = setup.dir().join("logs/early.log");
    let bad = setup.run(&[
        "-e",
        &log.display().to_string(),
        "-g",
        "worker_processes nonsense;",
    ]);
    assert_eq!(bad.code, Some(1), "{bad:?}");
    assert!(bad.stderr.contains("in command line"), "{bad:?}");
    assert!(
        crate::support::process::read_lossy(&log).contains("[emerg]"),
        "-e names the log of the start"
    );
    let duplicate = setup.run(&["-t", "-g", "pid other.pid;"]);
    assert!(
        duplicate
            .stderr
            .contains("\"pid\" directive is duplicate in "),
        "{duplicate:?}"
    );
    let weir = Setup::whole(&in_http(&in_server("")).replace("worker_processes @WORKERS@;", ""))
        .argument("-g")
        .argument("worker_processes 3;")
        .start();
    assert_eq!(weir.workers().len(), 3);
}

#[test]
fn worker_connections_above_the_limit_is_a_warning() {
    let text = "worker_rlimit_nofile 512;\n".to_owned()
        + &in_http(&in_server("")).replace("2048", "100000");
    let mut setup = Setup::whole(&text);
    let done = setup.run(&["-t"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("[warn]"), "{done:?}");
    assert!(
        done.stderr
            .contains("100000 worker_connections exceed open file resource limit: "),
        "{done:?}"
    );
}

/// One of each directive that weir takes, most of them as an nginx user writes them.
const EVERYTHING: &str = r#"
user root;
worker_processes auto;
worker_rlimit_nofile 8192;
worker_shutdown_timeout 1m;
daemon on;
master_process on;
pid logs/weir.pid;
error_log logs/error.log warn;
error_log stderr crit;
region @DIR@/weir.region servers=1024 upstreams=64 workers=8 slots=4;
events { worker_connections 1024; use epoll; multi_accept on; accept_mutex off; }
http {
    include @DIR@/conf/types*.conf; # a glob that matches
    include @DIR@/conf/none*.conf;  # and one that does not
    default_type 'application/octet-stream';
    sendfile on; tcp_nopush on; tcp_nodelay on;
    access_log logs/access.log combined;
    client_body_temp_path body 1 2; proxy_temp_path proxy;
    client_max_body_size 8m; keepalive_timeout 65s 60; keepalive_requests 1000;
    upsync_start_timeout 2s;
    upstream one {
        server 127.0.0.1:1 weight=2 max_fails=0 fail_timeout=1h30m;
        server [::1]:2 backup; server unix:/tmp/three.sock down;
        keepalive 16;
    }
    upstream two {
        upsync 127.0.0.1:8500/v1/kv/upstreams/two/ upsync_timeout=6m upsync_interval=500ms upsync_type=consul strong_dependency=off;
        upsync_dump_path @DIR@/dump/two.conf; upsync_lb round_robin;
    }
    server {
        listen @PORT@ default_server reuseport backlog=1024; listen [::1]:@PORT2@ ipv6only=on;
        listen localhost:@PORT3@; listen unix:@DIR@/weir.sock;
        server_name example.com *.example.com .dot.example www.example.* "" _;
        allow 10.0.0.0/8; allow ::1; allow unix:; deny 192.0.2.1; deny all;
        location / { proxy_pass http://one; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_connect_timeout 500ms; proxy_read_timeout 1m; proxy_send_timeout 60; }
        location = /two { proxy_pass http://two/path?x=$arg_x; add_header X-A 'it\'s ${host}' always; }
        location ^~ /three { proxy_pass http://$host; access_log off; }
        location /show { upstream_show; } location /status { stub_status; }
        location /bye { return 301 https://$host$request_uri; }
    }
}
"#;

#[test]
fn every_directive_is_taken() {
    let types = "types { text/html html htm; text/plain txt; }\n";
    let mut setup = Setup::whole(EVERYTHING).file("conf/types.conf", types);
    let done = setup.run(&["-t"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr.contains("test is successful"),
        "{}",
        done.stderr
    );
}
