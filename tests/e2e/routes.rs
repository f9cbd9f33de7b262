//! Which server and location a request falls to, and what they say themselves.

use std::io::Write;

use crate::support::backend::{Backend, Then, answer};
use crate::support::client::Client;
use crate::support::weir::{Setup, in_server};
use crate::support::{PATIENCE, wait_until};

#[test]
fn locations_match_as_in_nginx() {
    let weir = Setup::server(
        "location / { return 200 root; }
         location = / { return 200 exact-root; }
         location /images/ { return 200 images; }
         location ^~ /images/big/ { return 200 big; }
         location = /images/logo { return 200 logo; }",
    )
    .start();
    let mut client = weir.connect();
    for (target, expected) in [
        ("/", "exact-root"),
        ("/?x", "exact-root"),
        ("/other", "root"),
        ("/images", "root"),
        ("/images/", "images"),
        ("/images/logo", "logo"),
        ("/images/logo/x", "images"),
        ("/images/big/x", "big"),
        ("/%69mages/x", "images"),
        ("/a/../images//x", "images"),
        ("http://other.example/images/x", "images"),
    ] {
        assert_eq!(client.get(target).unwrap().text(), expected, "{target}");
    }
    assert_eq!(client.get("/../x").unwrap().status, 400);
}

#[test]
fn server_names_match_as_in_nginx() {
    let weir = Setup::http(
        "server { listen 127.0.0.1:@PORT@; server_name first.example; return 200 first; }
         server { listen 127.0.0.1:@PORT@; server_name exact.example *.wild.example; return 200 named; }
         server { listen 127.0.0.1:@PORT@; server_name www.example.*; return 200 trailing; }
         server { listen 127.0.0.1:@PORT@; server_name .dot.example; return 200 dotted; }
         server { listen 127.0.0.1:@PORT@ default_server; server_name _; return 200 default; }
         server { listen 127.0.0.1:@PORT2@; server_name other; return 200 other-port; }",
    )
    .start();
    let mut client = weir.connect();
    for (host, expected) in [
        ("first.example", "first"),
        ("EXACT.example:99", "named"),
        ("a.wild.example", "named"),
        ("a.b.wild.example", "named"),
        ("wild.example", "default"),
        ("www.example.org", "trailing"),
        ("dot.example", "dotted"),
        ("x.dot.example", "dotted"),
        ("nobody", "default"),
        ("127.0.0.1", "default"),
    ] {
        let response = client
            .request("GET", "/", &format!("Host: {host}\r\n"), b"")
            .unwrap();
        assert_eq!(response.text(), expected, "{host}");
    }
    let mut other = Client::connect(format!("127.0.0.1:{}", weir.port("PORT2")));
    assert_eq!(
        other.get("/").unwrap().text(),
        "other-port",
        "the first server is the default"
    );
}

#[test]
fn return_and_add_header() {
    let weir = Setup::server(
        "add_header X-Outer 1;
         location = /text { default_type text/plain; return 200 \"hello $arg_name\"; }
         location = /moved { return 301 http://new.example$request_uri; }
         location = /found { return https://new.example/; }
         location = /empty { return 204; }
         location = /gone { return 410; }
         location = /closed { return 444; }
         location = /own { add_header X-Inner $request_method; return 200 x; }
         location = /error { add_header X-Only ok; add_header X-Always yes always; return 403; }",
    )
    .start();
    let mut client = weir.connect();
    let text = client.get("/text?name=w").unwrap();
    assert_eq!((text.status, text.text().as_str()), (200, "hello w"));
    assert_eq!(
        (text.field("content-type"), text.field("x-outer")),
        (Some("text/plain"), Some("1"))
    );
    let moved = client.get("/moved?a=b").unwrap();
    assert_eq!(
        (moved.status, moved.field("location")),
        (301, Some("http://new.example/moved?a=b"))
    );
    assert!(moved.text().contains("301 Moved Permanently"));
    let found = client.get("/found").unwrap();
    assert_eq!(
        (found.status, found.field("location")),
        (302, Some("https://new.example/"))
    );
    assert_eq!(client.get("/empty").unwrap().status, 204);
    assert!(client.get("/gone").unwrap().text().contains("410 Gone"));
    let own = client.get("/own").unwrap();
    assert_eq!(
        (own.field("x-inner"), own.field("x-outer")),
        (Some("GET"), None)
    );
    let error = client.get("/error").unwrap();
    assert_eq!(
        (error.field("x-only"), error.field("x-always")),
        (None, Some("yes"))
    );
    assert!(
        client.get("/closed").is_err(),
        "444 closes without an answer"
    );
}

#[test]
fn allow_and_deny() {
    let backend = Backend::named("a");
    let weir = Setup::server(&format!(
        "location = /local {{ allow 127.0.0.0/8; deny all; proxy_pass http://{0}; }}
         location = /none {{ deny all; proxy_pass http://{0}; }}
         location = /not-me {{ deny 127.0.0.1; allow all; proxy_pass http://{0}; }}
         location = /six {{ allow ::1; deny all; proxy_pass http://{0}; }}",
        backend.address()
    ))
    .start();
    let mut client = weir.connect();
    for (target, status) in [
        ("/local", 200),
        ("/none", 403),
        ("/not-me", 403),
        ("/six", 403),
    ] {
        assert_eq!(client.get(target).unwrap().status, status, "{target}");
    }
    assert_eq!(backend.count(), 1);
    weir.wait_log("access forbidden by rule, client: 127.0.0.1, server: ");
}

#[test]
fn the_access_log_is_combined() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&answer("201 Created", "", b"12345"));
        Then::Keep
    });
    let off = "location = /quiet { access_log off; return 200 x; }";
    let forward = format!(
        "location / {{ proxy_pass http://{}; }} {off}",
        backend.address()
    );
    let weir = Setup::server(&forward).start();
    let mut client = weir.connect();
    assert_eq!(client.get("/quiet").unwrap().status, 200);
    let fields = "Referer: http://r.example/\r\nUser-Agent: a \"b\" \\ \x01c\r\n";
    let response = client.request("GET", "/a?b", fields, b"").unwrap();
    assert!([201, 400].contains(&response.status));
    let fields = "Referer: http://r.example/\r\nUser-Agent: a \"b\" \\c\r\n";
    let mut client = weir.connect();
    assert_eq!(
        client
            .request("GET", "/logged?b", fields, b"")
            .unwrap()
            .status,
        201
    );
    wait_until(PATIENCE, "it is logged", || {
        weir.access_log().contains("/logged")
    });
    let log = weir.access_log();
    let line = log.lines().find(|line| line.contains("/logged")).unwrap();
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    let rest = &line[line.find(']').unwrap()..];
    assert_eq!(
        rest,
        r#"] "GET /logged?b HTTP/1.1" 201 5 "http://r.example/" "a \x22b\x22 \x5Cc""#
    );
    assert!(!log.contains("/quiet"));
}

/// `2026/01/02 15:04:05 [error] PID#0: *CONN message`
#[test]
fn error_log_lines_are_in_nginxs_format() {
    let port = crate::support::free_port();
    let weir = Setup::server(&format!(
        "location / {{ proxy_pass http://127.0.0.1:{port}/up; }}"
    ))
    .start();
    let asked = weir
        .connect()
        .request("GET", "/a?b", "Host: h.example\r\n", b"")
        .unwrap();
    assert_eq!(asked.status, 502);
    weir.wait_log("Connection refused");
    let log = weir.error_log();
    let line = log
        .lines()
        .find(|line| line.contains("Connection refused"))
        .unwrap();
    let (time, rest) = line.split_at("2026/01/02 15:04:05".len());
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000/00/00 00:00:00", "{line}");
    let rest = rest
        .strip_prefix(" [error] ")
        .unwrap_or_else(|| panic!("{line}"));
    let (pid, rest) = rest.split_once("#0: *").unwrap();
    assert!(weir.workers().contains(&pid.parse().unwrap()), "{line}");
    let (connection, message) = rest.split_once(' ').unwrap();
    assert!(
        connection.parse::<u64>().is_ok_and(|number| number > 0),
        "{line}"
    );
    assert_eq!(
        message,
        format!(
            "connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, \
             server: , request: \"GET /a?b HTTP/1.1\", upstream: \"http://127.0.0.1:{port}/upa?b\", host: \"h.example\""
        )
    );
}

#[test]
fn quoting_escapes_and_variables() {
    let weir = Setup::server(
        r#"location = /q { return 200 "a;{b} # \"c\" ${request_method}${uri}\td"; } # a comment; }
         location = /s { return 200 'it is $host'; }
         location = /b { return 200 a\ b$is_args$args; }"#,
    )
    .start();
    assert_eq!(weir.get("/q").text(), "a;{b} # \"c\" GET/q\td");
    assert_eq!(weir.get("/s").text(), "it is 127.0.0.1");
    assert_eq!(weir.get("/b?x=1").text(), "a\\ b?x=1");
}

#[test]
fn stub_status_counts() {
    let weir = Setup::server("location = /status { stub_status; }")
        .workers(2)
        .start();
    let mut held: Vec<Client> = (0..3).map(|_| weir.connect()).collect();
    for client in &mut held {
        for _ in 0..2 {
            assert_eq!(client.get("/who").unwrap().status, 200);
        }
    }
    wait_until(PATIENCE, "the sums over both workers are right", || {
        let text = weir.get("/status").text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("Active connections: "), "{text}");
        assert_eq!(
            lines[1].trim_end(),
            "server accepts handled requests",
            "{text}"
        );
        let numbers: Vec<u64> = lines[2]
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        assert_eq!(numbers[0], numbers[1], "{text}");
        assert!(
            lines[3].starts_with("Reading: 0 Writing: 1 Waiting: "),
            "{text}"
        );
        lines[0].trim_end().ends_with(": 4")
            && lines[3].trim_end().ends_with("Waiting: 3")
            && numbers[2] >= 7
    });
}

#[test]
fn real_programs_as_servers() {
    use crate::support::process::{Process, guarded};
    use crate::support::{free_port, tool};
    let backend = Backend::named("behind");
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display();
    let (nginx_port, haproxy_port) = (free_port(), free_port());
    std::fs::create_dir(folder.path().join("html")).unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let page = "0123456789".repeat(100_000);
    std::fs::write(folder.path().join("html/page"), &page).unwrap();
    let nginx = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}}
         http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
           fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
           server {{ listen 127.0.0.1:{nginx_port}; root {dir}/html; }} }}"
    );
    std::fs::write(folder.path().join("nginx.conf"), nginx).unwrap();
    let haproxy = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         frontend f\n bind 127.0.0.1:{haproxy_port}\n default_backend b\n\
         backend b\n server s {}\n",
        backend.address()
    );
    std::fs::write(folder.path().join("haproxy.cfg"), haproxy).unwrap();
    let mut command = guarded(tool("nginx"));
    command.arg("-e").arg(folder.path().join("error.log"));
    command.arg("-c").arg(folder.path().join("nginx.conf"));
    let _nginx = Process::start(&mut command, &folder.path().join("nginx.out"));
    let mut command = guarded(tool("haproxy"));
    let _haproxy = Process::start(
        command
            .args(["-db", "-f"])
            .arg(folder.path().join("haproxy.cfg")),
        &folder.path().join("haproxy.out"),
    );
    for port in [nginx_port, haproxy_port] {
        wait_until(PATIENCE, "the server listens", || {
            Client::try_connect(format!("127.0.0.1:{port}")).is_ok()
        });
    }
    let body = in_server(&format!(
        "location /page {{ proxy_pass http://127.0.0.1:{nginx_port}; }}
         location /haproxy {{ proxy_pass http://127.0.0.1:{haproxy_port}; }}"
    ));
    let weir = Setup::http(&body).start();
    let mut client = weir.connect();
    for _ in 0..5 {
        let response = client.get("/page").unwrap();
        assert!(response.text() == page, "{}", response.head);
        let range = client
            .request("GET", "/page", "Range: bytes=5-9\r\n", b"")
            .unwrap();
        assert_eq!((range.status, range.text().as_str()), (206, "56789"));
        let tag = response.field("etag").unwrap();
        let same = client
            .request("GET", "/page", &format!("If-None-Match: {tag}\r\n"), b"")
            .unwrap();
        assert_eq!(same.status, 304);
        assert_eq!(
            client
                .request("HEAD", "/page", "", b"")
                .unwrap()
                .field("content-length"),
            Some("1000000")
        );
        assert_eq!(client.get("/page-missing").unwrap().status, 404);
        assert_eq!(client.get("/haproxy").unwrap().text(), "behind\n");
        assert_eq!(
            client
                .request("POST", "/haproxy", "", &[b'x'; 100_000])
                .unwrap()
                .status,
            200
        );
    }
}
