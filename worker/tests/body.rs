//! Big bodies, slow readers: nothing is lost, and no more is held than the buffers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{ErrorKind, Write};

use common::Worker;
use common::backend::Backend;
use common::client::Client;
use common::settings::{edit, edit_proxy};

/// More than all buffers on the way, sockets included, could hold.
const BIG: usize = 64 << 20;

/// A byte sequence that shows when a piece is missing, doubled or out of place.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

fn write_pattern(mut to: &std::net::TcpStream, length: usize) {
    let piece: Vec<u8> = (0..251 * 256).map(pattern).collect();
    let mut left = length;
    while left > 0 {
        let now = left.min(piece.len());
        to.write_all(&piece[..now]).unwrap();
        left -= now;
    }
}

fn read_pattern(from: &mut Client, length: usize) {
    let mut at = 0;
    while at < length {
        let piece = from.take(from.unread.len().clamp(1, length - at));
        for (offset, byte) in piece.iter().enumerate() {
            assert_eq!(*byte, pattern(at + offset), "at {}", at + offset);
        }
        at += piece.len();
    }
}

/// Writes until nothing more goes in, and says how much did.
fn fill(stream: &std::net::TcpStream) -> usize {
    stream.set_nonblocking(true).unwrap();
    let piece: Vec<u8> = (0..251 * 256).map(pattern).collect();
    let (mut written, mut idle) = (0, 0);
    // Full is when it stays full while the other processes had their turns.
    while idle < 2000 && written < BIG {
        match (&*stream).write(&piece[written % 251..]) {
            Ok(count) => {
                written += count;
                idle = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                idle += 1;
                std::thread::yield_now();
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    written
}

#[test]
fn a_big_answer_waits_for_a_slow_client() {
    let backend = Backend::start();
    // A temporary file would take all of it.
    let worker = Worker::with(&[backend.address], |settings| {
        edit_proxy(settings, |proxy| proxy.buffering.max_temp_file_size = 0);
    });
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n"));
    let written = fill(&server.stream);
    assert!(written < BIG, "nobody held it back");
    let rest = std::thread::spawn(move || {
        let piece: Vec<u8> = (0..251 * 256).map(pattern).collect();
        let mut at = written;
        while at < BIG {
            let now = (piece.len() - 251).min(BIG - at);
            let from = at % 251;
            server.stream.write_all(&piece[from..from + now]).unwrap();
            at += now;
        }
        server
    });
    client.head();
    read_pattern(&mut client, BIG);
    let mut server = rest.join().unwrap();
    client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(
        server.head().starts_with("GET /next "),
        "the connection is kept"
    );
}

#[test]
fn a_big_request_waits_for_a_slow_server() {
    let backend = Backend::start();
    let worker = Worker::with(&[backend.address], |settings| {
        edit(settings, |location| location.client_max_body_size = 0);
        edit_proxy(settings, |proxy| proxy.buffering.request = false);
    });
    let mut client = worker.connect();
    client.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {BIG}\r\n\r\n"
    ));
    let mut server = backend.accept();
    server.head();
    let written = fill(&client.stream);
    assert!(written < BIG, "nobody held it back");
    let sender = std::thread::spawn(move || {
        let piece: Vec<u8> = (0..251 * 256).map(pattern).collect();
        let mut at = written;
        while at < BIG {
            let now = (piece.len() - 251).min(BIG - at);
            let from = at % 251;
            client.stream.write_all(&piece[from..from + now]).unwrap();
            at += now;
        }
        client
    });
    read_pattern(&mut server, BIG);
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let mut client = sender.join().unwrap();
    assert_eq!(client.message().status(), 200);
}

#[test]
fn both_directions_flow_at_once() {
    let backend = Backend::start();
    let worker = Worker::with(&[backend.address], |settings| {
        edit(settings, |location| location.client_max_body_size = 0);
        edit_proxy(settings, |proxy| proxy.buffering.request = false);
    });
    const LENGTH: usize = 8 << 20;
    let mut client = worker.connect();
    client.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {LENGTH}\r\n\r\n"
    ));
    let mut server = backend.accept();
    server.head();
    // The last word of the answer waits for the end of the request.
    let length = LENGTH + 4;
    server.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
    ));
    let to_worker = client.stream.try_clone().unwrap();
    let from_server = server.stream.try_clone().unwrap();
    let threads = [
        std::thread::spawn(move || write_pattern(&to_worker, LENGTH)),
        std::thread::spawn(move || {
            let answer = std::thread::spawn(move || write_pattern(&from_server, LENGTH));
            read_pattern(&mut server, LENGTH);
            answer.join().unwrap();
            server.send("last");
        }),
    ];
    client.head();
    read_pattern(&mut client, LENGTH);
    assert_eq!(client.take(4), b"last");
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn big_chunked_bodies_arrive_whole() {
    let worker = Worker::with(
        &[Backend::serve(|client, request| {
            let length = request.body.len();
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in request.body.chunks(7919) {
                client.send(format!("{:x}\r\n", piece.len()));
                client.send(piece);
                client.send("\r\n");
            }
            client.send(format!(
                "{:x}\r\n{length}\r\n0\r\n\r\n",
                length.to_string().len()
            ));
        })],
        |settings| edit(settings, |location| location.client_max_body_size = 0),
    );
    let body: Vec<u8> = (0..1 << 20).map(pattern).collect();
    let mut client = worker.connect();
    client.send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.chunks(1021) {
        client.send(format!("{:x}\r\n", piece.len()));
        client.send(piece);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    let answer = client.message();
    assert_eq!(&answer.body[..body.len()], body);
    assert_eq!(
        &answer.body[body.len()..],
        body.len().to_string().as_bytes()
    );
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let backend = Backend::start();
    let worker = Worker::with(&[backend.address], |settings| {
        edit(settings, |location| location.client_max_body_size = 10);
    });
    for (length, refused) in [(9, false), (10, false), (11, true)] {
        let mut client = worker.connect();
        client.send(format!(
            "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.send(vec![b'x'; length]);
        if refused {
            assert_eq!(client.message().status(), 413);
            assert_eq!(client.rest(), b"");
            continue;
        }
        let mut server = backend.accept();
        assert_eq!(server.message().body.len(), length);
        server.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.message().status(), 200);
    }
    let mut client = worker.connect();
    client.send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("b\r\n01234567890\r\n0\r\n\r\n");
    assert_eq!(client.message().status(), 413);
}
