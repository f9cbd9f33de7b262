//! Variables, seen through logs and through what servers get.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use crate::support::backend::{Backend, Then, answer, ok};
use crate::support::weir::{Setup, Weir, in_server};
use crate::support::{PATIENCE, free_port, wait_for};

/// A log of JSON with these variables, and what else stands in `http {}`.
fn logging(variables: &[&str], body: &str) -> Setup {
    let members: Vec<_> = variables
        .iter()
        .map(|name| format!("\"{name}\":\"${name}\""))
        .collect();
    Setup::http(&format!(
        "log_format all escape=json '{{{}}}';\naccess_log logs/all.log all;\n{body}",
        members.join(",")
    ))
    .workers(1)
}

/// The line of the log that comes as the `nth`, from 0.
#[track_caller]
fn line(weir: &Weir, nth: usize) -> Value {
    wait_for(PATIENCE, "the request is logged", || {
        let text = std::fs::read_to_string(weir.path("logs/all.log")).unwrap_or_default();
        let line = text.lines().nth(nth).filter(|_| text.ends_with('\n'))?;
        Some(serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
    })
}

fn seconds(value: &Value) -> f64 {
    let text = value.as_str().unwrap();
    let (_, fraction) = text.split_once('.').unwrap();
    assert_eq!(fraction.len(), 3, "{text}");
    text.parse().unwrap()
}

#[test]
fn tries_are_lists_in_their_order() {
    const DELAY: Duration = Duration::from_millis(120);
    let backend = Backend::answering(|_, out| {
        std::thread::sleep(DELAY);
        let _ = out.write_all(&answer("201 Created", "", b"12345"));
        Then::Keep
    });
    let (dead, good) = (format!("127.0.0.1:{}", free_port()), backend.address());
    let names = [
        "upstream_addr",
        "upstream_status",
        "upstream_connect_time",
        "upstream_header_time",
        "upstream_response_time",
        "upstream_response_length",
        "upstream_bytes_received",
        "upstream_bytes_sent",
        "request_time",
        "body_bytes_sent",
        "bytes_sent",
        "status",
    ];
    let weir = logging(
        &names,
        &format!(
            "upstream two {{ server {dead} max_fails=0; server {good} backup; }}
             upstream none {{ server {dead} down; }}
             {}",
            in_server(
                "location /two { proxy_pass http://two; } location /none { proxy_pass http://none; }
                 location /own { return 204; }"
            )
        ),
    )
    .start();
    let mut client = weir.connect();
    let response = client.get("/two").unwrap();
    assert_eq!(response.status, 201);
    let logged = line(&weir, 0);
    assert_eq!(logged["upstream_addr"], format!("{dead}, {good}"));
    assert_eq!(logged["upstream_status"], "502, 201");
    assert_eq!(logged["upstream_response_length"], "0, 5");
    let received = answer("201 Created", "", b"12345").len();
    assert_eq!(logged["upstream_bytes_received"], format!("0, {received}"));
    let sent = backend.requests()[0].head.len();
    assert_eq!(logged["upstream_bytes_sent"], format!("0, {sent}"));
    let times = |name: &str| {
        let (first, second) = logged[name].as_str().unwrap().split_once(", ").unwrap();
        (first.to_owned(), seconds(&second.into()))
    };
    assert_eq!(times("upstream_connect_time").0, "-");
    assert_eq!(times("upstream_header_time").0, "-");
    let (first, whole) = times("upstream_response_time");
    assert!(seconds(&first.into()) < 1.0);
    let (connect, header) = (
        times("upstream_connect_time").1,
        times("upstream_header_time").1,
    );
    let delay = DELAY.as_secs_f64() - 0.005;
    assert!(
        connect < header && header >= delay && whole >= header,
        "{logged}"
    );
    // As in nginx it is of the clock on the wall, the others of one that cannot be set: either drops
    // its part of a millisecond.
    assert!(
        seconds(&logged["request_time"]) >= header - 0.0015,
        "{logged}"
    );
    assert_eq!(logged["body_bytes_sent"], "5");
    let bytes = response.head.len() + 5;
    assert!(
        [bytes, bytes + 2, bytes + 4]
            .map(|bytes| bytes.to_string())
            .contains(&logged["bytes_sent"].as_str().unwrap().to_owned()),
        "{logged}"
    );

    assert_eq!(client.get("/none").unwrap().status, 502);
    let logged = line(&weir, 1);
    assert_eq!(logged["upstream_addr"], "none");
    assert_eq!(logged["upstream_status"], "502");
    assert_eq!(logged["upstream_connect_time"], "-");
    assert_eq!(logged["upstream_response_time"], "0.000");

    assert_eq!(client.get("/own").unwrap().status, 204);
    let logged = line(&weir, 2);
    assert_eq!(
        (&logged["upstream_addr"], &logged["status"]),
        (&"".into(), &"204".into())
    );
}

#[test]
fn a_request_that_is_served_again_within_weir_divides_the_lists() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&ok("found"));
        Then::Keep
    });
    let (dead, good) = (format!("127.0.0.1:{}", free_port()), backend.address());
    let weir = logging(
        &[
            "upstream_addr",
            "upstream_status",
            "upstream_bytes_sent",
            "request_uri",
            "request_id",
        ],
        &in_server(&format!(
            "location / {{ error_page 502 = @other; proxy_pass http://{dead}; }}
             location @other {{ add_header X-Id $request_id; proxy_pass http://{good}; }}"
        )),
    )
    .start();
    let response = weir.get("/x");
    assert_eq!(response.text(), "found");
    let logged = line(&weir, 0);
    assert_eq!(logged["upstream_addr"], format!("{dead} : {good}"));
    assert_eq!(logged["upstream_status"], "502 : 200");
    let sent = backend.requests()[0].head.len();
    assert_eq!(logged["upstream_bytes_sent"], format!("0 : {sent}"));
    assert_eq!(logged["request_uri"], "/x");
    assert_eq!(logged["request_id"], response.field("x-id").unwrap());
}

#[test]
fn families_are_looked_up_by_name() {
    let backend = Backend::answering(|_, out| {
        let fields = "Content-Type: text/x\r\nSet-Cookie: sid=42; Path=/\r\nSet-Cookie: other=1\r\n\
            X-One: 1\r\nX-One: 2\r\nCache-Control: no-cache\r\nCache-Control: private\r\n\
            Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nLink: <a>\r\n";
        let _ = out.write_all(&answer("200 OK", fields, b"12345"));
        Then::Keep
    });
    let expected = [
        ("arg_a", "1"),
        ("arg_none", ""),
        ("args", "a=1&b="),
        ("query_string", "a=1&b="),
        ("is_args", "?"),
        ("cookie_c", "two"),
        ("http_x_list", "a, b"),
        ("http_cookie", "b=1; c=two"),
        ("http_host", "example.com:81"),
        ("host", "example.com"),
        ("is_request_port", ":"),
        ("request_port", "81"),
        ("request", "POST /p%20q?a=1&b= HTTP/1.1"),
        ("request_method", "POST"),
        ("request_uri", "/p%20q?a=1&b="),
        ("uri", "/p q"),
        ("document_uri", "/p q"),
        ("server_protocol", "HTTP/1.1"),
        ("server_name", "first.example"),
        ("scheme", "http"),
        ("https", ""),
        ("remote_addr", "127.0.0.1"),
        ("remote_user", "me"),
        ("server_addr", "127.0.0.1"),
        ("content_length", "3"),
        ("content_type", "a/b"),
        ("request_completion", "OK"),
        ("pipe", "."),
        ("limit_rate", "0"),
        ("connection_requests", "1"),
        ("connections_active", "1"),
        ("connections_reading", "0"),
        ("connections_writing", "1"),
        ("connections_waiting", "0"),
        ("proxy_add_x_forwarded_for", "10.0.0.1, 127.0.0.1"),
        ("proxy_host", "backend"),
        ("proxy_port", "80"),
        ("nginx_version", "1.29.7"),
        ("sent_http_content_type", "text/x"),
        ("sent_http_content_length", "5"),
        ("sent_http_cache_control", "no-cache, private"),
        ("sent_http_last_modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("sent_http_link", "<a>"),
        ("sent_http_connection", "keep-alive"),
        ("sent_http_keep_alive", "timeout=20"),
        ("sent_http_transfer_encoding", ""),
        ("sent_http_location", ""),
        ("sent_http_x_one", "1, 2"),
        ("sent_http_x_added", "yes"),
        ("upstream_http_x_one", "1, 2"),
        ("upstream_http_x_added", ""),
        ("upstream_cookie_sid", "42"),
        ("upstream_cookie_other", "1"),
        ("upstream_status", "200"),
    ];
    let names: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
    let more = [
        "request_id",
        "hostname",
        "pid",
        "msec",
        "time_iso8601",
        "time_local",
    ];
    let more = [
        &more[..],
        &[
            "connection",
            "connection_time",
            "remote_port",
            "server_port",
        ],
    ]
    .concat();
    let more = [&more[..], &["request_length", "binary_remote_addr"]].concat();
    let weir = logging(
        &[&names[..], &more[..]].concat(),
        &format!(
            "upstream backend {{ server {}; }} keepalive_timeout 75s 20s;
             server {{ listen 127.0.0.1:@PORT@; server_name first.example second.example;
               add_header X-Added yes;
               location / {{ proxy_pass http://backend; proxy_set_header X-Id $request_id; }} }}",
            backend.address()
        ),
    )
    .start();
    let mut client = weir.connect();
    let fields = "Host: example.com:81\r\nX-List: a\r\nx_ignored: z\r\nX-List: b\r\nCookie: b=1\r\n\
        Cookie: c=two\r\nContent-Type: a/b\r\nX-Forwarded-For: 10.0.0.1\r\n\
        Authorization: Basic bWU6c2VjcmV0\r\n";
    let response = client.request("POST", "/p%20q?a=1&b=", fields, b"xyz");
    assert_eq!(response.unwrap().status, 200);
    let logged = line(&weir, 0);
    for (name, value) in expected {
        assert_eq!(logged[name], value, "{name} in {logged}");
    }
    let id = logged["request_id"].as_str().unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(backend.requests()[0].field("x-id"), Some(id));
    let pid: u32 = logged["pid"].as_str().unwrap().parse().unwrap();
    assert!(weir.workers().contains(&pid));
    assert_eq!(logged["server_port"], weir.port("PORT").to_string());
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    assert!((now - seconds(&logged["msec"])).abs() < PATIENCE.as_secs_f64());
    assert!(seconds(&logged["connection_time"]) < PATIENCE.as_secs_f64());
    assert_eq!(logged["binary_remote_addr"], "\u{7f}\0\0\u{1}");
    let head = format!("POST /p%20q?a=1&b= HTTP/1.1\r\n{fields}Content-Length: 3\r\n\r\nxyz");
    assert_eq!(logged["request_length"], head.len().to_string());
}

#[test]
fn each_request_has_an_id_of_its_own_and_keeps_it() {
    let weir = logging(
        &["request_id", "sent_http_x_id", "pipe"],
        &in_server("location / { add_header X-Id $request_id; return 200 x; }"),
    )
    .start();
    let mut client = weir.connect();
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(request.repeat(300).as_bytes()).unwrap();
    let mut seen = BTreeSet::new();
    for nth in 0..300 {
        let response = client.response("GET").unwrap();
        let id = response.field("x-id").unwrap().to_owned();
        let logged = line(&weir, nth);
        assert_eq!(logged["request_id"], id);
        assert_eq!(logged["sent_http_x_id"], id);
        assert!(seen.insert(id), "twice the same");
    }
    assert_eq!(line(&weir, 0)["pipe"], ".");
    assert_eq!(line(&weir, 1)["pipe"], "p");
}

#[test]
fn a_request_that_never_came_whole_shows_what_came() {
    let weir = logging(
        &[
            "request",
            "status",
            "request_method",
            "uri",
            "request_completion",
            "request_length",
        ],
        &in_server("client_header_timeout 100ms; location / { return 200 x; }"),
    )
    .start();
    let mut client = weir.connect();
    client.send(b"GET /half").unwrap();
    assert!(client.response("GET").is_err());
    let logged = line(&weir, 0);
    assert_eq!(logged["request"], "GET /half");
    assert_eq!(logged["status"], "408");
    for name in ["request_method", "uri", "request_completion"] {
        assert_eq!(logged[name], "", "{name}");
    }
}

#[test]
fn a_name_that_weir_does_not_have_is_refused_with_its_place() {
    for (name, message) in [
        ("nothing", "unknown \"nothing\" variable"),
        (
            "tcpinfo_rtt",
            "the \"tcpinfo_rtt\" variable is not supported by weir",
        ),
    ] {
        let mut setup = logging(&[name], &in_server(""));
        let run = setup.run(&["-t"]);
        let output = run.stderr;
        assert!(
            output.contains(message) && output.contains("conf/weir.conf:"),
            "{output}"
        );
    }
}

#[test]
fn counts_of_connections_are_those_of_all_workers() {
    let weir = Setup::server(
        "location /n { return 200 $connections_active/$connections_reading/$connections_writing/$connections_waiting; }",
    )
    .workers(2)
    .start();
    let mut held: Vec<_> = weir.each_worker(2).into_values().collect();
    let reading = {
        let mut client = weir.connect();
        client.send(b"GET /").unwrap();
        client
    };
    wait_for(PATIENCE, "all are counted", || {
        let text = held[0].get("/n").unwrap().text();
        (text == "3/1/1/1").then_some(())
    });
    drop(reading);
    wait_for(PATIENCE, "one is gone", || {
        let text = held[1].get("/n").unwrap().text();
        (text == "2/0/1/1").then_some(())
    });
}

#[test]
fn a_unix_socket_has_no_port() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&ok("x"));
        Then::Keep
    });
    let weir = logging(
        &[
            "remote_addr",
            "remote_port",
            "server_addr",
            "server_port",
            "binary_remote_addr",
        ],
        &format!(
            "server {{ listen unix:@DIR@/weir.sock; location / {{ proxy_pass http://{}; }} }}",
            backend.address()
        ),
    )
    .start();
    let mut client = crate::support::client::Client::connect_unix(&weir.path("weir.sock"));
    assert_eq!(client.get("/").unwrap().status, 200);
    let logged = line(&weir, 0);
    assert_eq!(logged["remote_addr"], "unix:");
    assert_eq!(logged["binary_remote_addr"], "unix:");
    assert_eq!(logged["remote_port"], "");
    assert_eq!(logged["server_port"], "");
    let path = weir.path("weir.sock");
    assert_eq!(logged["server_addr"], format!("unix:{}", path.display()));
}
