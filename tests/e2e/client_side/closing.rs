//! How a connection is closed: lingering, or reset.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::weir::Weir;
use crate::support::{PATIENCE, wait_until};

use super::one;

/// How a connection ended for its client: `Ok` in order, else with an error such as a reset.
fn end_of(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all)
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
