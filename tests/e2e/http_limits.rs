//! Bounded buffers, limits and timeouts.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::http_basic::forwarding;
use crate::support::backend::{Backend, Then, ok};
use crate::support::process::read_lossy;
use crate::support::{PATIENCE, wait_for, wait_until};

/// More than all socket buffers on the way and weir's own hold together.
const BIG: usize = 96 << 20;
/// What they may hold at most, on a kernel whose buffers grow to its default limits.
const HELD: usize = 48 << 20;

/// The resident memory of a process in KiB.
fn resident(pid: u32) -> usize {
    let status = read_lossy(format!("/proc/{pid}/status").as_ref());
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Waits until a count stands still, and returns it.
fn settled(count: &AtomicUsize) -> usize {
    let mut before = (usize::MAX, 0);
    wait_for(PATIENCE, "the flow stands still", || {
        let now = count.load(Ordering::Acquire);
        before = if now == before.0 {
            (now, before.1 + 1)
        } else {
            (now, 0)
        };
        (before.1 == 60 && now > 0).then_some(now)
    })
}

#[test]
fn a_slow_reader_holds_its_server_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let backend = Backend::answering(move |_, out| {
        let _ =
            out.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n").as_bytes());
        let part = vec![b'x'; 65_536];
        for _ in 0..BIG / part.len() {
            if out.write_all(&part).is_err() {
                return Then::Close;
            }
            counter.fetch_add(part.len(), Ordering::AcqRel);
        }
        Then::Keep
    });
    let weir = forwarding(&backend, "proxy_buffering off;").start();
    let mut client = weir.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    let held = settled(&sent);
    assert!(
        held < HELD,
        "{held} bytes were taken from the server while nobody read"
    );
    let memory = resident(weir.workers()[0]);
    assert!(memory < 32 << 10, "the worker holds {memory} KiB");
    // Others are served meanwhile, and the slow one gets all of it in the end.
    assert_eq!(weir.get("/who").status, 200);
    let mut got = client.rest().len();
    while got < BIG {
        let count = client.fill().unwrap();
        assert!(count > 0, "ended after {got} bytes");
        got += count;
    }
    assert_eq!(got, BIG);
}

#[test]
fn a_slow_server_holds_its_client_back() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let backend = Backend::raw(move |stream, _| {
        while !gate.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (mut total, mut part) = (0, vec![0; 65_536]);
        while total < BIG {
            match stream.read(&mut part) {
                Ok(count) if count > 0 => total += count,
                _ => return,
            }
        }
        let _ = stream.write_all(&ok("got it"));
        let _ = stream.read(&mut part);
    });
    let weir = forwarding(
        &backend,
        "client_max_body_size 0; proxy_request_buffering off;",
    )
    .start();
    let mut client = weir.connect();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let sender = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {BIG}\r\n\r\n");
        client.send(head.as_bytes()).unwrap();
        let part = vec![b'x'; 65_536];
        for _ in 0..BIG / part.len() {
            client.send(&part).unwrap();
            counter.fetch_add(part.len(), Ordering::AcqRel);
        }
        client.response("POST").unwrap()
    });
    let held = settled(&sent);
    assert!(
        held < HELD,
        "{held} bytes were taken from the client while nobody read"
    );
    assert!(resident(weir.workers()[0]) < 32 << 10);
    open.store(true, Ordering::Release);
    assert_eq!(sender.join().unwrap().text(), "got it");
}

#[test]
fn client_max_body_size_is_413() {
    let backend = Backend::named("a");
    let weir = forwarding(&backend, "client_max_body_size 1k;").start();
    let at = weir
        .connect()
        .request("POST", "/", "", &[b'x'; 1024])
        .unwrap();
    assert_eq!(at.status, 200);
    let above = weir
        .connect()
        .request("POST", "/", "", &[b'x'; 1025])
        .unwrap();
    assert_eq!(above.status, 413);
    let mut client = weir.connect();
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025));
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}{chunk}").as_bytes()).unwrap();
    assert_eq!(client.response("POST").unwrap().status, 413);
    // The client is told before it sends a body that nobody wants.
    let mut client = weir.connect();
    client
        .send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let response = client.response("POST").unwrap();
    assert_eq!((response.status, response.interim.len()), (413, 0));
    weir.wait_log("client intended to send too large body");
}

#[test]
fn a_silent_server_is_504_and_a_refusing_one_502() {
    let backend = Backend::raw(|stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.read(&mut [0; 4096]);
    });
    let weir = forwarding(&backend, "proxy_read_timeout 200ms;").start();
    assert_eq!(weir.get("/").status, 504);
    weir.wait_log("upstream timed out (110: Connection timed out) while reading response header from upstream");
    drop(backend);
    assert_eq!(weir.get("/").status, 502);
    weir.wait_log("connect() failed (111: Connection refused) while connecting to upstream");
}

#[test]
fn a_damaged_answer_is_502() {
    let backend = Backend::answering(|request, out| {
        let text: &[u8] = match request.target.as_str() {
            "/garbage" => b"this is not HTTP\r\n\r\n",
            "/framing" => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "/header" => b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            _ => b"",
        };
        let _ = out.write_all(text);
        Then::Close
    });
    let weir = forwarding(&backend, "").start();
    for target in ["/garbage", "/framing", "/header", "/nothing"] {
        assert_eq!(weir.get(target).status, 502, "{target}");
    }
    weir.wait_log(
        "upstream prematurely closed connection while reading response header from upstream",
    );
}

#[test]
fn a_truncated_answer_is_not_made_whole() {
    let backend = Backend::answering(|request, out| {
        let text: &[u8] = match request.target.as_str() {
            "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        };
        let _ = out.write_all(text);
        Then::Close
    });
    let weir = forwarding(&backend, "").start();
    for target in ["/length", "/chunked"] {
        let mut client = weir.connect();
        assert!(
            client.get(target).is_err(),
            "{target}: the client sees that it is not whole"
        );
    }
}

#[test]
fn a_request_in_flight_when_its_client_leaves_is_ended() {
    let waiting = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicBool::new(false));
    let (here, gone) = (Arc::clone(&waiting), Arc::clone(&ended));
    let backend = Backend::raw(move |stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        here.store(true, Ordering::Release);
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        gone.store(true, Ordering::Release);
    });
    let weir = forwarding(&backend, "").start();
    let mut client = weir.connect();
    client
        .send(b"GET /left HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "the server has it", || {
        waiting.load(Ordering::Acquire)
    });
    drop(client);
    wait_until(PATIENCE, "the server's connection ends", || {
        ended.load(Ordering::Acquire)
    });
    wait_until(PATIENCE, "it is logged as 499", || {
        weir.access_log()
            .lines()
            .any(|line| line.contains("\"GET /left HTTP/1.1\" 499 "))
    });
}

#[test]
fn a_half_sent_header_times_out() {
    let weir = crate::support::weir::Setup::http(
        "client_header_timeout 200ms; server { listen 127.0.0.1:@PORT@; location / { return 200 x; } }",
    )
    .start();
    let mut client = weir.connect();
    client.send(b"GET / HTTP/1.1\r\nHo").unwrap();
    match client.response("GET") {
        Ok(response) => assert_eq!(response.status, 408),
        Err(error) => assert!(
            matches!(error, crate::support::client::Failure::Closed),
            "{error}"
        ),
    }
}
