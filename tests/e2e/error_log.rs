//! What the error log says of clients and servers, in nginx's words, which operators search for.

use std::io::{Read, Write};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::Linger};

use crate::support::backend::{Backend, Stream};
use crate::support::weir::{Setup, Weir, in_server};
use crate::support::{PATIENCE, free_port, wait_for, wait_until};

/// Reads the head of a request and says what it asks for.
fn target(stream: &mut Stream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    text.split(' ').nth(1).map(str::to_owned)
}

/// The close that follows is a reset.
fn reset(stream: &Stream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    if let Stream::Tcp(stream) = stream {
        setsockopt(stream, Linger, &linger).unwrap();
    }
}

/// A server that misbehaves as the path says.
fn unreliable() -> Backend {
    Backend::raw(|stream, _| {
        let Some(target) = target(stream) else {
            return;
        };
        let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345";
        let (answer, wait): (&[u8], bool) = match target.as_str() {
            "/silent" | "/full" => (b"", true),
            "/stalled-head" => (b"HTTP/1.1 200 OK\r\nX-A", true),
            "/stalled-body" => (begun, true),
            "/closed-head" => (b"HTTP/1.1 200 OK\r\nX-A", false),
            "/closed-body" | "/reset-body" => (begun, false),
            "/no-http" => (b"220 mail.example ESMTP\r\n", false),
            "/bad-chunk" => (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nx\r\n",
                false,
            ),
            "/surplus" => (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n12345", false),
            "/big-head" => (b"HTTP/1.1 200 OK\r\nX-Big: ", false),
            _ => (b"", false),
        };
        let _ = stream.write_all(answer);
        if target == "/big-head" {
            let _ = stream.write_all(&vec![b'x'; 100_000]);
        }
        if target.starts_with("/reset") {
            // What was sent is to be read before the reset.
            std::thread::sleep(Duration::from_millis(50));
            reset(stream);
        }
        match target.as_str() {
            // Held open and left unread for longer than any test looks at it.
            "/full" => std::thread::sleep(PATIENCE),
            _ if wait => {
                let mut rest = [0; 1];
                while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
            }
            _ => {}
        }
    })
}

fn proxied(backend: &str) -> Weir {
    Setup::server(&format!(
        "proxy_read_timeout 200ms; proxy_send_timeout 200ms; proxy_next_upstream off;
         location / {{ proxy_pass http://{backend}; }}"
    ))
    .workers(1)
    .start()
}

/// The level and the message of the first line with these words, once it is there.
#[track_caller]
fn line(weir: &Weir, words: &str) -> (String, String) {
    wait_for(PATIENCE, words, || {
        let log = weir.error_log();
        let line = log.lines().find(|line| line.contains(words))?;
        let (_, rest) = line.split_once(" [")?;
        let (level, rest) = rest.split_once("] ")?;
        let (_, message) = rest.split_once("#0: *")?;
        let (_, message) = message.split_once(' ')?;
        Some((level.to_owned(), message.to_owned()))
    })
}

#[test]
fn what_a_server_does_wrong() {
    let backend = unreliable();
    let weir = proxied(backend.address());
    let head = "while reading response header from upstream";
    let body = "while reading upstream";
    for (path, status, expected) in [
        (
            "/silent",
            504,
            format!("upstream timed out (110: Connection timed out) {head}"),
        ),
        (
            "/stalled-head",
            504,
            format!("upstream timed out (110: Connection timed out) {head}"),
        ),
        (
            "/stalled-body",
            200,
            format!("upstream timed out (110: Connection timed out) {body}"),
        ),
        (
            "/closed",
            502,
            format!("upstream prematurely closed connection {head}"),
        ),
        (
            "/closed-head",
            502,
            format!("upstream prematurely closed connection {head}"),
        ),
        (
            "/closed-body",
            200,
            format!("upstream prematurely closed connection {body}"),
        ),
        (
            "/reset",
            502,
            format!("recv() failed (104: Connection reset by peer) {head}"),
        ),
        (
            "/reset-body",
            200,
            format!("recv() failed (104: Connection reset by peer) {body}"),
        ),
        (
            "/no-http",
            502,
            format!("upstream sent no valid HTTP/1.0 header {head}"),
        ),
        (
            "/big-head",
            502,
            format!("upstream sent too big header {head}"),
        ),
        (
            "/bad-chunk",
            0,
            format!("upstream sent invalid chunked response {body}"),
        ),
        (
            "/surplus",
            200,
            format!("upstream sent more data than specified in \"Content-Length\" header {body}"),
        ),
    ] {
        let mut client = weir.connect();
        let fields = "Host: h.example\r\nReferer: http://r.example/\r\n";
        client
            .send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n").as_bytes())
            .unwrap();
        if status != 0 {
            assert_eq!(client.head().unwrap().status, status, "{path}");
        }
        let (level, message) = line(&weir, &format!("\"GET {path} "));
        let (server, path) = (backend.address(), path.to_owned());
        assert_eq!(
            message,
            format!(
                "{expected}, client: 127.0.0.1, server: , request: \"GET {path} HTTP/1.1\", \
                 upstream: \"http://{server}{path}\", host: \"h.example\", referrer: \"http://r.example/\""
            )
        );
        let warned = path == "/surplus";
        assert_eq!(level, if warned { "warn" } else { "error" }, "{path}");
    }
}

#[test]
fn a_server_that_takes_nothing_times_out_while_being_sent_to() {
    let backend = unreliable();
    let weir = Setup::server(&format!(
        "proxy_send_timeout 200ms; client_max_body_size 64m;
         location / {{ proxy_pass http://{}; }}",
        backend.address()
    ))
    .start();
    let mut client = weir.connect();
    let body = vec![b'x'; 24 << 20];
    let response = client.request("PUT", "/full", "", &body).unwrap();
    assert_eq!(response.status, 504);
    let (level, message) = line(&weir, "timed out");
    assert_eq!(level, "error");
    assert!(
        message.starts_with(
            "upstream timed out (110: Connection timed out) while sending request to upstream, \
             client: 127.0.0.1, server: , request: \"PUT /full HTTP/1.1\", upstream: \"http://"
        ),
        "{message}"
    );
}

#[test]
fn servers_that_cannot_be_reached() {
    let port = free_port();
    let weir = Setup::http(&format!(
        "upstream none {{ server 127.0.0.1:{port} down; }}
         upstream failing {{ server 127.0.0.1:{port}; server 127.0.0.1:{port} backup down; }}
         upstream two {{ server 127.0.0.1:{port}; server 127.0.0.2:{port}; }}
         {}",
        in_server(
            "location /none { proxy_pass http://none; }
             location /two { proxy_pass http://two; }
             location /unix { proxy_pass http://unix:@DIR@/none.sock:/up; }"
        )
    ))
    .workers(1)
    .start();
    assert_eq!(weir.get("/none").status, 502);
    let (level, message) = line(&weir, "\"GET /none ");
    assert_eq!(level, "error");
    let start = "no live upstreams while connecting to upstream, client: 127.0.0.1, server: , \
        request: \"GET /none HTTP/1.1\", upstream: \"http://none/none\", host: \"";
    assert!(message.starts_with(start), "{message}");

    assert_eq!(weir.get("/unix/x").status, 502);
    let (level, message) = line(&weir, "\"GET /unix/x ");
    assert_eq!(level, "crit");
    let path = weir.path("none.sock");
    let path = path.display();
    let start = format!(
        "connect() to unix:{path} failed (2: No such file or directory) while connecting to \
         upstream, client: 127.0.0.1, server: , request: \"GET /unix/x HTTP/1.1\", \
         upstream: \"http://unix:{path}:/up/x\", host: \""
    );
    assert!(message.starts_with(&start), "{message}");

    assert_eq!(weir.get("/two").status, 502);
    let (level, message) = line(&weir, "temporarily disabled");
    assert_eq!(level, "warn");
    let start = "upstream server temporarily disabled while connecting to upstream, client: ";
    assert!(message.starts_with(start), "{message}");
    assert_eq!(weir.get("/two?later").status, 502);
    let (_, message) = line(&weir, "GET /two?later");
    let start = "no live upstreams while connecting to upstream, client: ";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn what_clients_do() {
    let backend = unreliable();
    let weir = Setup::server(&format!(
        "client_max_body_size 10; location / {{ proxy_pass http://{}; }}
         location = /own {{ return 204; }}",
        backend.address()
    ))
    .workers(1)
    .start();
    let response = weir
        .connect()
        .request("POST", "/large", "", b"more than ten");
    assert_eq!(response.unwrap().status, 413);
    let (level, message) = line(&weir, "\"POST /large ");
    assert_eq!(level, "error");
    let start = "client intended to send too large body: 13 bytes, client: 127.0.0.1, server: , \
        request: \"POST /large HTTP/1.1\", host: \"";
    assert!(message.starts_with(start), "{message}");

    let mut client = weir.connect();
    let before = backend.connections();
    client
        .send(b"GET /silent HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "the server has the request", || {
        backend.connections() > before
    });
    // The request is written with the connection; the answer never comes.
    drop(client);
    let (level, message) = line(&weir, "epoll_wait()");
    assert_eq!(level, "info");
    let start = "epoll_wait() reported that client prematurely closed connection, so upstream \
        connection is closed too while sending request to upstream, client: 127.0.0.1, server: , \
        request: \"GET /silent HTTP/1.1\", upstream: \"http://";
    assert!(message.starts_with(start), "{message}");

    let mut client = weir.connect();
    assert_eq!(client.get("/own").unwrap().status, 204);
    drop(client);
    let (level, message) = line(&weir, "keepalive connection");
    assert_eq!(level, "info");
    assert_eq!(message, "client 127.0.0.1 closed keepalive connection");

    drop(weir.connect());
    let (level, message) = line(&weir, "waiting for request");
    assert_eq!(level, "info");
    let listener = weir.address();
    assert_eq!(
        message,
        format!(
            "client closed connection while waiting for request, client: 127.0.0.1, server: {listener}"
        )
    );
}

#[test]
fn each_level_of_the_configuration_has_logs_of_its_own() {
    let port = free_port();
    let weir = Setup::http(&format!(
        "error_log logs/http.log error;
         server {{ listen 127.0.0.1:@PORT@; proxy_pass_request_headers on;
           location /http {{ proxy_pass http://127.0.0.1:{port}; }}
           location /quiet {{ error_log logs/quiet.log crit; proxy_pass http://127.0.0.1:{port}; }}
           location /two {{ error_log logs/a.log info; error_log logs/b.log error; proxy_pass http://127.0.0.1:{port}; }}
           location /crit {{ error_log logs/quiet.log crit; proxy_pass http://unix:@DIR@/none.sock; }} }}"
    ))
    .start();
    for path in ["/quiet", "/http", "/two", "/crit"] {
        assert_eq!(weir.get(path).status, 502);
    }
    let log = |name: &str| {
        let path = weir.path(&format!("logs/{name}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    };
    wait_until(PATIENCE, "all lines are there", || {
        log("quiet").contains("/crit")
    });
    assert!(log("http").contains("\"GET /http ") && log("http").lines().count() == 1);
    assert!(log("a").contains("\"GET /two ") && log("b").contains("\"GET /two "));
    assert!(!log("quiet").contains("/quiet"), "{}", log("quiet"));
    assert!(
        !weir.error_log().contains("upstream"),
        "{}",
        weir.error_log()
    );
}
