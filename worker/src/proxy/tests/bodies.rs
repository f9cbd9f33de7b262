//! Requests' bodies that are read whole before a server is asked.

use std::sync::Arc;

use super::{Connecting, Far, World};
use crate::settings::{InFileOnly, TempFolder};
use crate::transport::Readiness;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A body that has a different byte at every place of a period that no buffer's size divides.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + (at % 23) as u8).collect()
}

fn put(length: usize) -> Vec<u8> {
    format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// What a server got: its head, and the body behind it.
fn request(server: &Far) -> (String, String) {
    let got = server.got();
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Whether the body of the request at work is in a file.
fn is_in_file(world: &World, client: &Far) -> bool {
    use crate::proxy::client::State;
    let state = &world.proxy.clients.get(client.key.unwrap()).unwrap().state;
    match state {
        State::Receiving(exchange) | State::Proxying(exchange) => exchange.upload.has_file(),
        other => panic!("{}", other.name()),
    }
}

#[test]
fn no_server_is_asked_before_the_body_is_whole() {
    for length in [5, 30_000, 200_000] {
        let mut world = World::new(1);
        let client = world.accept(&put(length));
        let whole = body(length);
        for part in whole[..length - 1].chunks(1 + length / 7) {
            world.send(&client, part);
        }
        assert_eq!(world.state(&client), "receiving");
        assert!(world.proxy.shared.net.made.is_empty());
        // The next request may come with the end of the body.
        world.send(
            &client,
            &[&whole[length - 1..], &put(3)[..], b"xyz"].concat(),
        );
        let server = world.server(0);
        assert_eq!(is_in_file(&world, &client), length > 32 * 1024);
        let (head, got) = request(&server);
        assert!(
            head.contains(&format!("Content-Length: {length}")),
            "{head}"
        );
        assert!(got.as_bytes() == whole, "{length}");
        world.send(&server, OK);
        assert_eq!(request(&server).1, "xyz");
    }
}

#[test]
fn a_chunked_body_goes_on_with_its_length() {
    for (length, size, minor) in [
        (0, 1, 1),
        (7, 3, 1),
        (7, 3, 0),
        (90_000, 1000, 0),
        (20_000, 1, 1),
    ] {
        let mut world = World::with(1, |_, proxied| proxied.http_minor = minor);
        let whole = body(length);
        let client =
            world.accept(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in chunked(&whole, size).chunks(977) {
            world.send(&client, part);
        }
        let (head, got) = request(&world.server(0));
        assert!(
            head.contains(&format!("Content-Length: {length}")),
            "{head}"
        );
        assert!(!head.contains("Transfer-Encoding"), "{head}");
        assert!(head.contains(&format!("HTTP/1.{minor}")), "{head}");
        assert!(got.as_bytes() == whole, "{length} in chunks of {size}");
    }
}

#[test]
fn every_server_gets_all_of_it_from_memory_or_file() {
    for length in [10, 100_000] {
        for sendfile in [false, true] {
            let mut world = World::with(3, |location, _| location.sendfile = sendfile);
            let client = world.accept(&[put(length), body(length)].concat());
            let first = world.server(0);
            world.end(&first);
            let second = world.server(1);
            assert!(request(&second).1.as_bytes() == body(length));
            world.end(&second);
            let third = world.server(2);
            assert!(request(&third).1.as_bytes() == body(length));
            world.send(&third, OK);
            assert!(client.got().ends_with("ok"));
            assert_eq!(world.state(&client), "idle");
        }
    }
}

#[test]
fn a_server_takes_a_file_at_its_own_pace() {
    for sendfile in [false, true] {
        let mut world = World::with(1, |location, _| location.sendfile = sendfile);
        world.proxy.shared.net.connecting = Connecting::Pending;
        let length = 100_000;
        let client = world.accept(&[put(length), body(length)].concat());
        let server = world.server(0);
        assert_eq!(server.got(), "");
        let mut got = String::new();
        for _ in 0..60 {
            world.room(&server, 2_003);
            got += &server.got();
        }
        assert!(got.ends_with(std::str::from_utf8(&body(length)).unwrap()));
        world.send(&server, OK);
        assert_eq!(world.state(&client), "idle");
    }
}

#[test]
fn a_large_buffer_keeps_the_body_in_memory() {
    for head in [
        &put(300_000)[..],
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut world = World::with(1, |location, _| location.client_body.buffer_size = 1 << 20);
        let whole = body(300_000);
        let sent = if head.starts_with(b"PUT") {
            whole.clone()
        } else {
            chunked(&whole, 4096)
        };
        let client = world.accept(&[head, &sent].concat());
        assert!(!is_in_file(&world, &client));
        assert!(request(&world.server(0)).1.as_bytes() == whole);
    }
}

#[test]
fn in_file_only_has_a_file_for_every_body() {
    for (kind, left) in [(InFileOnly::On, 1), (InFileOnly::Clean, 0)] {
        let mut world = World::with(1, |location, _| location.client_body.in_file_only = kind);
        let files = |world: &World| {
            let entries = std::fs::read_dir(world.folder.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name != "region").count()
        };
        let client = world.accept(&[&put(3)[..], b"abc"].concat());
        assert!(is_in_file(&world, &client));
        assert_eq!(files(&world), 1);
        let server = world.server(0);
        assert_eq!(request(&server).1, "abc");
        world.send(&server, OK);
        assert_eq!(files(&world), left);
        // An empty body has one, no body has none.
        for (method, length, more) in [("PUT", "Content-Length: 0\r\n", 1), ("GET", "", 0)] {
            let before = files(&world);
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n");
            world.send(&client, head.as_bytes());
            assert_eq!(files(&world), before + more);
            assert_eq!(request(&server).1, "");
            world.send(&server, OK);
            assert_eq!(files(&world), before + more * left);
            assert_eq!(world.state(&client), "idle");
        }
    }
}

#[test]
fn a_body_that_no_server_gets_is_read_all_the_same() {
    for kind in [InFileOnly::Off, InFileOnly::Clean] {
        for length in [3, 100_000] {
            let mut world = World::with(2, |location, proxied| {
                location.client_body.in_file_only = kind;
                proxied.pass_request_body = false;
            });
            let client = world.accept(&put(length));
            world.send(&client, &body(length - 1));
            assert_eq!(world.state(&client), "receiving");
            world.send(&client, &[b"x", &put(1)[..], b"y"].concat());
            world.end(&world.server(0));
            let server = world.server(1);
            assert_eq!(request(&server).1, "");
            world.send(&server, OK);
            assert_eq!(request(&server).1, "", "the next one");
        }
    }
}

#[test]
fn continue_is_said_before_the_body_is_read() {
    let mut world = World::new(1);
    let client = world
        .accept(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.got(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(world.proxy.shared.net.made.is_empty());
    world.send(&client, b"abc");
    assert_eq!(request(&world.server(0)).1, "abc");
}

#[test]
fn a_chunked_body_beyond_the_limit_is_refused_at_once() {
    for (at, status, buffering) in [
        (10, 200, true),
        (11, 413, true),
        (10, 200, false),
        (11, 413, false),
    ] {
        let mut world = World::with(1, |location, proxied| {
            location.client_max_body_size = 10;
            proxied.buffering.request = buffering;
        });
        let client = world.accept(
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        );
        world.send(&client, format!("{:x}\r\n", at - 4).as_bytes());
        world.send(&client, b"12");
        if status == 200 {
            world.send(&client, b"3456\r\n0\r\n\r\n");
            world.send(&world.server(0), OK);
        }
        assert!(client.got().starts_with(&format!("HTTP/1.1 {status} ")));
    }
}

#[test]
fn a_file_that_cannot_be_made_is_this_requests_500_alone() {
    let mut world = World::with(1, |location, _| {
        location.client_body.temp = Arc::new(TempFolder {
            path: "/nonexistent".into(),
            levels: Vec::new(),
        });
    });
    let client = world.accept(&[put(100_000), body(100_000)].concat());
    assert!(client.got().starts_with("HTTP/1.1 500 "));
    assert!(world.proxy.shared.net.made.is_empty());
    let other = world.accept(&[&put(3)[..], b"abc"].concat());
    world.send(&world.server(0), OK);
    assert!(other.got().ends_with("ok"));
}

#[test]
fn a_streamed_body_is_passed_on_as_it_comes() {
    let mut world = World::with(2, |_, proxied| proxied.buffering.request = false);
    let client = world.accept(&[&put(6)[..], b"abc"].concat());
    let server = world.server(0);
    assert_eq!(request(&server).1, "abc");
    world.send(&client, b"def");
    assert_eq!(server.got(), "def");
    world.send(&server, OK);
    assert_eq!(world.state(&client), "idle");
}

#[test]
fn buffers_and_files_go_with_the_client() {
    for end in [
        (|world: &mut World, client: &Far| world.end(client)) as fn(&mut World, &Far),
        |world, client| {
            client.wire.borrow_mut().broken = Some(std::io::ErrorKind::ConnectionReset);
            world.event(client, Readiness::FRESH);
        },
        |world, _| world.pass(61_000),
        |world, _| world.proxy.close_all(),
    ] {
        let mut world = World::with(1, |location, _| {
            location.client_body.in_file_only = InFileOnly::Clean;
        });
        let client = world.accept(&[put(100_000), body(90_000)].concat());
        assert!(is_in_file(&world, &client));
        end(&mut world, &client);
        assert_eq!(world.state(&client), "gone");
        assert_eq!(
            std::fs::read_dir(world.folder.path()).unwrap().count(),
            1,
            "only the region"
        );
        assert!(world.proxy.shared.pool.free() > 0);
    }
}
