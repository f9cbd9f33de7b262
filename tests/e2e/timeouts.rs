//! nginx's timeouts towards clients and servers, the limit of connections, and switched protocols.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::client::{Client, Failure};
use crate::support::weir::{Setup, in_server};
use crate::support::{PATIENCE, wait_until};

use super::http_basic::forwarding;

/// A listening socket whose queue is full, so that the kernel drops who else wants to connect.
struct Full {
    _socket: socket2::Socket,
    _queue: Vec<socket2::Socket>,
    address: String,
}

fn full() -> Full {
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let socket = new();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let queue = (0..4)
        .map(|_| {
            let waiting = new();
            waiting.set_nonblocking(true).unwrap();
            let _ = waiting.connect(&address);
            waiting
        })
        .collect();
    let address = address.as_socket().unwrap().to_string();
    Full {
        _socket: socket,
        _queue: queue,
        address,
    }
}

#[test]
fn proxy_connect_timeout_goes_to_the_next_server() {
    let stuck = full();
    let live = Backend::named("live");
    let setup = |servers: &str| {
        let location = "location / { proxy_pass http://back; proxy_connect_timeout 200ms; }";
        Setup::http(&format!(
            "upstream back {{ {servers} }}\n{}",
            in_server(location)
        ))
        .workers(1)
    };
    let weir = setup(&format!(
        "server {} max_fails=1; server {};",
        stuck.address,
        live.address()
    ))
    .start();
    let mut client = weir.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").unwrap().text(), "live\n");
    }
    weir.wait_log("upstream timed out (110: Connection timed out) while connecting to upstream");
    let weir = setup(&format!("server {};", stuck.address)).start();
    assert_eq!(weir.get("/").status, 504);
}

#[test]
fn proxy_send_timeout_is_504() {
    let backend = Backend::raw(|stream, _| {
        let mut first = [0; 1];
        let _ = stream.read(&mut first);
        std::thread::park_timeout(PATIENCE);
    });
    let weir = forwarding(
        &backend,
        "client_max_body_size 0; proxy_send_timeout 300ms;",
    )
    .start();
    let address = weir.address();
    let sender = std::thread::spawn(move || {
        let mut client = Client::connect(address);
        let length = 64 << 20;
        client.send(
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        )?;
        let part = vec![b'x'; 65_536];
        // What cannot be sent any more ends the body; the answer is there all the same.
        while client.send(&part).is_ok() {}
        client.response("POST")
    });
    weir.wait_log(
        "upstream timed out (110: Connection timed out) while sending request to upstream",
    );
    match sender.join().unwrap() {
        Ok(response) => assert_eq!(response.status, 504),
        Err(Failure::Io(_) | Failure::Closed) => {}
        Err(other) => panic!("{other}"),
    }
    wait_until(PATIENCE, "it is logged as 504", || {
        weir.access_log().contains("\" 504 ")
    });
}

#[test]
fn client_body_timeout_ends_a_request() {
    let backend = Backend::named("a");
    let weir = forwarding(&backend, "client_body_timeout 200ms;").start();
    let mut client = weir.connect();
    client
        .send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
        .unwrap();
    match client.response("POST") {
        Ok(response) => assert_eq!(response.status, 408),
        Err(error) => assert!(matches!(error, Failure::Closed | Failure::Io(_)), "{error}"),
    }
    wait_until(PATIENCE, "it is logged as 408", || {
        weir.access_log().contains("\" 408 ")
    });
    assert_eq!(
        backend.count(),
        0,
        "half a request was never taken for a whole one"
    );
}

#[test]
fn send_timeout_ends_an_answer_that_nobody_reads() {
    let backend = Backend::raw(|stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let length = 96 << 20;
        let _ = stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        let part = vec![b'x'; 65_536];
        while stream.write_all(&part).is_ok() {}
    });
    let weir = forwarding(&backend, "send_timeout 300ms;").start();
    let mut stream = TcpStream::connect(weir.address()).unwrap();
    stream
        .write_all(b"GET /unread HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "the request is ended and logged", || {
        weir.access_log().contains("/unread")
    });
    wait_until(PATIENCE, "the server's connection is closed too", || {
        backend.open() == 0
    });
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    const CONNECTIONS: usize = 24;
    let text = crate::support::weir::in_http(&in_server("location = /x { return 200 x; }"));
    let text = text.replace(
        "worker_connections 2048",
        &format!("worker_connections {CONNECTIONS}"),
    );
    let weir = Setup::whole(&text).workers(1).start();
    let mut held = Vec::new();
    for number in 0..3 * CONNECTIONS {
        let mut client = weir.connect();
        let response = client
            .get("/x")
            .unwrap_or_else(|error| panic!("client {number}: {error}"));
        assert_eq!(response.status, 200);
        held.push(client);
    }
    assert!(
        weir.error_log()
            .contains("worker_connections are not enough, reusing connections")
    );
    assert_eq!(held.last_mut().unwrap().get("/x").unwrap().status, 200);
}

#[test]
fn switched_protocols_pass_both_ways() {
    let backend = Backend::raw(|stream, _| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if !(text.contains("upgrade: echo") && text.contains("connection: upgrade")) {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhello ");
        let mut part = [0; 4096];
        while let Ok(count) = stream.read(&mut part) {
            if count == 0 || stream.write_all(&part[..count]).is_err() {
                return;
            }
        }
    });
    let fields = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";";
    let weir = forwarding(&backend, fields).start();
    let mut client = weir.connect();
    client
        .send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status, head.field("upgrade")), (101, Some("echo")));
    let mut sent = b"hello ".to_vec();
    for number in 0..50 {
        let bytes = format!("<{number}>").repeat(100).into_bytes();
        client.send(&bytes).unwrap();
        sent.extend(bytes);
        while client.rest().len() < sent.len() {
            assert!(client.fill().unwrap() > 0);
        }
        assert_eq!(client.rest(), sent);
    }
    drop(client);
    wait_until(PATIENCE, "the end passes too", || backend.open() == 0);
}
