//! What nginx's directives say of a client's connection: how its requests are read, how it is
//! kept and how it ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::backend::{Backend, Then, answer};
use crate::support::client::{Failure, Response};
use crate::support::process::{Process, guarded, read_lossy};
use crate::support::weir::{Setup, Weir, in_server};
use crate::support::{PATIENCE, holds_for, tool, wait_until};

use super::http_basic::forwarding;

const ECHO: &str = "location / { return 200 $uri; }";

fn one(directives: &str, locations: &str) -> Weir {
    Setup::http(&format!("{directives}\n{}", in_server(locations)))
        .workers(1)
        .start()
}

/// The answer to bytes sent on a connection of their own.
#[track_caller]
fn raw(weir: &Weir, bytes: &str) -> Response {
    let mut client = weir.connect();
    client.send(bytes.as_bytes()).unwrap();
    client.response("GET").unwrap()
}

/// A request with a field of so many bytes, its CRLF included.
fn with_field(host: &str, length: usize) -> String {
    let value = "v".repeat(length - "X: \r\n".len());
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {value}\r\n\r\n")
}

/// How a connection ended for its client: `Ok` in order, else with an error such as a reset.
fn end_of(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all)
}

#[test]
fn a_request_that_does_not_come_is_ended_without_an_answer() {
    let weir = one("client_header_timeout 200ms;", ECHO);
    let mut silent = weir.connect();
    assert!(silent.closed().unwrap());
    weir.wait_log("client timed out (110: Connection timed out) while waiting for request, client: 127.0.0.1, server: 127.0.0.1:");
    assert_eq!(weir.access_log(), "", "there was no request");

    for (begun, doing, line) in [
        ("GET /half", "line", "GET /half"),
        (
            "GET /head HTTP/1.1\r\nHost: a\r\n",
            "headers",
            "GET /head HTTP/1.1",
        ),
    ] {
        let mut slow = weir.connect();
        slow.send(begun.as_bytes()).unwrap();
        assert!(slow.closed().unwrap());
        weir.wait_log(&format!(
            "client timed out (110: Connection timed out) while reading client request {doing}, \
             client: 127.0.0.1, server: , request: \"{line}\""
        ));
        wait_until(PATIENCE, "it is logged as 408", || {
            weir.access_log().contains(&format!("\"{line}\" 408 0 "))
        });
    }
}

#[test]
fn the_time_for_a_head_is_not_prolonged_by_its_bytes() {
    let weir = one("client_header_timeout 300ms;", ECHO);
    let mut client = weir.connect();
    client.send(b"GET / HTTP/1.1\r\n").unwrap();
    let begun = Instant::now();
    client.set_timeout(Duration::from_millis(20));
    loop {
        // One byte after the other, well within the time of each.
        match client.send(b"X").and_then(|()| client.fill()) {
            Ok(0) => break,
            Err(Failure::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) => panic!("{:?}", client.rest()),
            Err(_) => break,
        }
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(begun.elapsed() >= Duration::from_millis(250));
}

#[test]
fn a_client_that_leaves_is_logged_by_how_far_it_came() {
    let weir = one("", ECHO);
    for (begun, doing) in [("GE", "line"), ("GET / HTTP/1.1\r\nHo", "headers")] {
        weir.connect().send(begun.as_bytes()).unwrap();
        weir.wait_log(&format!(
            "client prematurely closed connection while reading client request {doing}, client: 127.0.0.1, server: , request: \"GE"
        ));
    }
}

#[test]
fn header_buffers_are_filled_as_nginx_fills_them() {
    let weir = one(
        "client_header_buffer_size 64; large_client_header_buffers 2 1k;",
        ECHO,
    );
    let line = |length: usize| {
        let path = "a".repeat(length - "GET / HTTP/1.1\r\n".len());
        raw(&weir, &format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")).status
    };
    assert_eq!((line(1024), line(1025)), (200, 414));
    weir.wait_log("client sent too long URI while reading client request line");
    let field = |length: usize| raw(&weir, &with_field("a", length));
    assert_eq!(field(1024).status, 200);
    let refused = field(1025);
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .text()
            .contains("<center>Request Header Or Cookie Too Large</center>")
    );
    assert!(!refused.keeps());
    weir.wait_log("client sent too long header line");
    // Two lines take the large buffers, and the second leaves no room for the empty one.
    let two = |second: usize| {
        let first = "x".repeat(600);
        let second = "y".repeat(second - "Y: \r\n".len());
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {first}\r\nY: {second}\r\n\r\n");
        raw(&weir, &text).status
    };
    assert_eq!((two(1022), two(1023)), (200, 400));
    wait_until(PATIENCE, "it is logged as 400", || {
        weir.access_log().contains("\" 400 ") && !weir.access_log().contains("\" 494 ")
    });
}

#[test]
fn the_named_server_says_what_is_taken_of_fields() {
    let server = |name: &str, directives: &str| {
        format!(
            "server {{ listen 127.0.0.1:@PORT@; server_name {name}; {directives}
             location / {{ return 200 $http_x_y; }} }}"
        )
    };
    let weir = Setup::http(&format!(
        "client_header_buffer_size 64; large_client_header_buffers 4 1k;\n{}{}",
        server("small", ""),
        server(
            "large",
            "large_client_header_buffers 4 4k; underscores_in_headers on; max_headers 3;"
        ),
    ))
    .workers(1)
    .start();
    let status = |host: &str| raw(&weir, &with_field(host, 4000)).status;
    assert_eq!((status("small"), status("large")), (400, 200));
    let text = |host: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX_Y: 1\r\n\r\n");
        raw(&weir, &text).text()
    };
    assert_eq!((text("small").as_str(), text("large").as_str()), ("", "1"));
    let fields = |target: &str| {
        let more = "A: b\r\n".repeat(3);
        let text = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
        raw(&weir, &text).status
    };
    assert_eq!((fields("/"), fields("http://large/")), (200, 400));
    weir.wait_log("client sent too many header lines while reading client request headers");
}

#[test]
fn odd_names_are_passed_on_when_they_are_wanted() {
    let backend = Backend::named("a");
    let ask = |directives: &str| {
        let weir = Setup::http(&format!(
            "{directives}\n{}",
            in_server(&format!(
                "location / {{ proxy_pass http://{}; }}",
                backend.address()
            ))
        ))
        .workers(1)
        .start();
        let before = backend.count();
        let answered = weir
            .connect()
            .request("GET", "/", "A_b: 1\r\nC.d: 2\r\nE-f: 3\r\n", b"")
            .unwrap();
        assert_eq!(answered.status, 200);
        let bad = weir
            .connect()
            .request("GET", "/", "A@b: 1\r\n", b"")
            .unwrap();
        assert_eq!(bad.status, 400);
        let request = &backend.requests()[before];
        let named = ["A_b", "C.d", "E-f"].map(|name| request.field(name).is_some());
        (
            named,
            weir.error_log()
                .contains("client sent invalid header line: \"A_b: 1\""),
        )
    };
    assert_eq!(ask(""), ([false, false, true], true));
    assert_eq!(
        ask("underscores_in_headers on;"),
        ([true, false, true], false)
    );
    assert_eq!(
        ask("ignore_invalid_headers off;"),
        ([true, true, true], false)
    );
}

#[test]
fn slashes_stay_where_they_are_to() {
    let ask = |directives: &str| {
        let weir = one(
            directives,
            "location /a/ { return 200 $uri; } location //a { return 200 two; }",
        );
        weir.get("//a//b").text()
    };
    assert_eq!(ask(""), "/a/b");
    assert_eq!(ask("merge_slashes off;"), "two");
}

#[test]
fn the_version_is_told_unless_it_must_not_be() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&answer("200 OK", "Server: hidden\r\n", b"x"));
        Then::Keep
    });
    let weir = one(
        "",
        &format!(
            "location /on {{ return 404; }}
             location /off {{ server_tokens off; return 404; }}
             location /build {{ server_tokens build; return 404; }}
             location /proxied {{ server_tokens off; proxy_pass http://{}; }}",
            backend.address()
        ),
    );
    let version = concat!("weir/", env!("CARGO_PKG_VERSION"));
    for (path, product) in [("/on", version), ("/off", "weir"), ("/build", version)] {
        let response = weir.get(path);
        assert_eq!(response.field("server"), Some(product), "{path}");
        let footer = format!("<hr><center>{product}</center>");
        assert!(
            response.text().contains(&footer),
            "{path}: {}",
            response.text()
        );
    }
    assert_eq!(weir.get("/proxied").fields_named("server"), ["weir"]);
}

#[test]
fn without_chunks_an_answer_lasts_until_the_end_of_the_connection() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        );
        Then::Keep
    });
    let ask = |directives: &str| {
        let weir = forwarding(&backend, directives).start();
        weir.get("/")
    };
    let chunked = ask("");
    assert_eq!(chunked.field("transfer-encoding"), Some("chunked"));
    assert!(chunked.keeps());
    let plain = ask("chunked_transfer_encoding off;");
    assert_eq!(
        (plain.field("transfer-encoding"), plain.keeps()),
        (None, false)
    );
    assert_eq!(
        (chunked.text(), plain.text()),
        ("abcde".into(), "abcde".into())
    );
}

#[test]
fn connections_are_kept_as_long_as_they_may_be() {
    let weir = one(
        "",
        "location / { return 200 x; }
         location /named { keepalive_timeout 75s 20s; return 200 x; }
         location /off { keepalive_timeout 0; return 200 x; }
         location /three { keepalive_requests 3; return 200 x; }
         location /short { keepalive_timeout 200ms; return 200 x; }
         location /young { keepalive_time 300ms; keepalive_requests 1000000; return 200 x; }",
    );
    let named = weir.get("/named");
    assert_eq!(named.field("keep-alive"), Some("timeout=20"));
    assert_eq!(weir.get("/").field("keep-alive"), None);
    assert!(!weir.get("/off").keeps());

    let mut client = weir.connect();
    let kept = [(); 3].map(|()| client.get("/three").unwrap().keeps());
    assert_eq!(kept, [true, true, false]);
    assert!(client.closed().unwrap());

    let mut client = weir.connect();
    assert!(client.get("/short").unwrap().keeps());
    assert!(client.closed().unwrap());

    let mut client = weir.connect();
    let begun = Instant::now();
    while client.get("/young").unwrap().keeps() {
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(begun.elapsed() >= Duration::from_millis(290));
    assert!(client.closed().unwrap());
}

#[test]
fn old_browsers_connections_are_not_kept() {
    const MSIE6: &str = "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)\r\n";
    const SAFARI: &str = "User-Agent: Mozilla/5.0 (Macintosh; Mac OS X) Version/17 Safari/605\r\n";
    let weir = one(
        "",
        "location / { return 200 x; }
         location /none { keepalive_disable none; return 200 x; }
         location /safari { keepalive_disable safari; return 200 x; }",
    );
    let keeps = |method: &str, path: &str, agent: &str| {
        let response = weir.connect().request(method, path, agent, b"");
        response.unwrap().keeps()
    };
    assert!(!keeps("POST", "/", MSIE6));
    assert!(keeps("GET", "/", MSIE6));
    assert!(keeps("POST", "/", SAFARI));
    assert!(keeps("POST", "/none", MSIE6));
    assert!(keeps("POST", "/safari", MSIE6));
    assert!(!keeps("GET", "/safari", SAFARI));
}

#[test]
fn a_kept_connection_outlives_the_worker_for_its_least_time() {
    let weir = Setup::server(
        "location / { return 200 x; }
         location /held { keepalive_min_timeout 8s; return 200 x; }",
    )
    .workers(1)
    .start();
    let (mut plain, mut held) = (weir.connect(), weir.connect());
    assert!(plain.get("/").unwrap().keeps());
    assert!(held.get("/held").unwrap().keeps());
    let begun = Instant::now();
    weir.signal(Signal::SIGQUIT);
    assert!(plain.closed().unwrap());
    // The worker ends, and still answers whom it keeps.
    assert!(held.get("/held").unwrap().keeps());
    assert!(!held.get("/").unwrap().keeps());
    assert!(begun.elapsed() < PATIENCE);
    assert!(held.closed().unwrap());
}

/// Sends a body that is refused: for how long more of it was taken after the answer.
fn taken_after_the_answer(weir: &Weir, path: &str) -> Duration {
    let mut stream = TcpStream::connect(weir.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nbegin");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 413 "), "{text:?}");
    let begun = Instant::now();
    wait_until(PATIENCE, "no more is taken", || {
        stream.write_all(b"more").is_err()
    });
    begun.elapsed()
}

/// For how long weir holds a connection that it has answered, when its client does nothing more.
fn held_after_the_answer(weir: &Weir, request: &str) -> Duration {
    let mut stream = TcpStream::connect(weir.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    end_of(&mut stream).unwrap();
    let begun = Instant::now();
    let client = stream.local_addr().unwrap().port();
    wait_until(PATIENCE, "the other side is closed", || {
        !is_half_open(client, weir.port("PORT"))
    });
    begun.elapsed()
}

#[test]
fn closing_lingers_as_told() {
    let weir = one(
        "client_max_body_size 10; lingering_time 60s; lingering_timeout 60s;",
        "location /off { lingering_close off; return 200 x; }
         location /time { lingering_time 1s; return 200 x; }
         location /timeout { lingering_timeout 300ms; return 200 x; }
         location = /quiet { keepalive_timeout 0; return 200 x; }
         location = /always { keepalive_timeout 0; lingering_close always; lingering_timeout 300ms; return 200 x; }",
    );
    // Seconds are rounded as little as anything else: nearly the whole of each is there.
    assert!(taken_after_the_answer(&weir, "/off") < Duration::from_millis(900));
    assert!(taken_after_the_answer(&weir, "/time") >= Duration::from_millis(900));

    let post = "POST /timeout HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    assert!(held_after_the_answer(&weir, post) >= Duration::from_millis(200));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    held_after_the_answer(&weir, &get("/quiet"));
    let held = held_after_the_answer(&weir, &get("/always"));
    assert!(held >= Duration::from_millis(200));
}

/// Whether weir's end of a connection, of which it has ended its own direction, is still open.
fn is_half_open(client: u16, server: u16) -> bool {
    const FIN_WAIT: [&str; 2] = ["04", "05"];
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let port = |column: &str| u16::from_str_radix(&column[9..], 16).unwrap();
        // One that nobody holds any more has no inode.
        (port(columns[1]), port(columns[2])) == (server, client)
            && FIN_WAIT.contains(&columns[3])
            && columns[9] != "0"
    })
}

#[test]
fn connections_that_took_too_long_are_reset_if_asked() {
    let backend = Backend::raw(|stream, _| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        if head.starts_with(b"POST") {
            let _ = stream.read(&mut head);
        }
        let length = 96 << 20;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        let part = vec![b'x'; 65_536];
        while stream.write_all(&part).is_ok() {}
    });
    let start = |reset: &str| {
        one(
            &format!(
                "client_header_timeout 200ms; client_body_timeout 200ms; send_timeout 200ms; {reset}"
            ),
            &format!(
                "location = /silent {{ return 444; }}
                 location / {{ proxy_pass http://{}; }}",
                backend.address()
            ),
        )
    };
    let end = |weir: &Weir, bytes: &str| {
        let mut stream = TcpStream::connect(weir.address()).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        end_of(&mut stream).is_ok()
    };
    let (on, off) = (start("reset_timedout_connection on;"), start(""));
    for (bytes, resets) in [
        ("", false),
        ("GET / HTTP/1.1\r\nHost: ", true),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
            true,
        ),
        ("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n", true),
        (
            "GET /silent HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            true,
        ),
    ] {
        assert_eq!(end(&on, bytes), !resets, "{bytes}");
        assert!(end(&off, bytes), "{bytes}");
    }
    // One that takes nothing of an answer finds the reset when it does.
    let mut stream = TcpStream::connect(on.address()).unwrap();
    stream
        .write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    on.wait_log("client timed out (110: Connection timed out) while sending to client");
    assert!(end_of(&mut stream).is_err());
}

#[test]
fn nodelay_is_a_locations() {
    let weir = one(
        "",
        "location / { return 200 x; } location /off { tcp_nodelay off; return 200 x; }",
    );
    let mut client = weir.connect();
    let worker = weir.workers()[0];
    let log = weir.path("trace");
    let mut command = guarded(tool("strace"));
    command
        .args(["-qq", "-e", "trace=setsockopt", "-o"])
        .arg(&log)
        .args(["-p", &worker.to_string()]);
    let mut strace = Process::start(&mut command, &weir.path("strace"));
    let told = || read_lossy(&log);
    wait_until(PATIENCE, "the trace sees what is set", || {
        client.get("/off").unwrap();
        client.get("/").unwrap();
        told().contains("TCP_NODELAY, [1]")
    });
    assert!(told().contains("TCP_NODELAY, [0]"), "{}", told());
    let before = told().lines().count();
    holds_for(Duration::from_millis(50), "nothing is set again", || {
        client.get("/").unwrap();
        told().lines().count() == before
    });
    strace.signal(Signal::SIGINT);
    strace.wait(PATIENCE);
}
