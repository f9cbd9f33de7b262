//! What is easily lost between two events, and what has to hold where two features meet.

use super::{Connecting, Far, World};
use crate::buffer::BUFFER_SIZE;
use crate::proxy::slow::SLOW_MS;
use crate::settings::{Part, Template};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Long enough for a slot of the wheel to pass.
const SLACK_MS: u64 = 20;

/// A client that asks for another protocol, and has sent `early` of it already.
fn upgrading(early: &[u8]) -> (World, Far, Far) {
    let mut world = World::with(1, |_, proxied| {
        let value = |text: &str| Template {
            parts: vec![Part::Text(text.into())],
        };
        proxied.set_headers = vec![
            (b"Upgrade".to_vec(), value("echo")),
            (b"Connection".to_vec(), value("upgrade")),
        ];
    });
    let mut request =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n".to_vec();
    request.extend_from_slice(early);
    let client = world.accept(&request);
    let server = world.server(0);
    server.got();
    (world, client, server)
}

const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

#[test]
fn what_a_client_sends_before_the_switch_reaches_the_server_with_it() {
    let (mut world, client, server) = upgrading(b"behind the head");
    world.send(&server, SWITCH);
    assert!(client.got().starts_with("HTTP/1.1 101 "));
    assert_eq!(server.got(), "behind the head");

    let (mut world, client, server) = upgrading(b"");
    // This event is the only one that there is.
    world.send(&client, b"later");
    assert_eq!(server.got(), "");
    world.send(&server, SWITCH);
    assert!(client.got().starts_with("HTTP/1.1 101 "));
    assert_eq!(server.got(), "later");
}

#[test]
fn a_connection_that_was_due_while_idle_is_not_late_for_whom_it_serves_now() {
    for first in [0, 1] {
        let mut world = World::new(2);
        let asked = [world.accept(GET), world.accept(GET)];
        let idle = 1 - first;
        world.send(&world.server(idle), ANSWER);
        assert!(asked[idle].got().ends_with("ok"));
        // Of one server the read timeout, of the other the idle one: both at once.
        world.pass(60_000 + SLACK_MS);
        let client = &asked[first];
        assert_eq!(client.got(), "");
        assert_eq!(world.state(client), "proxying");
        let asked_next = world.proxy.shared.net.made.len() - 1;
        let server = world.server(asked_next);
        world.send(&server, ANSWER);
        assert!(client.got().ends_with("ok"));
    }
}

#[test]
fn who_has_more_to_do_waits_in_one_place() {
    let length = 12_000_000;
    let mut world = World::new(1);
    let client = world.accept(GET);
    let server = world.server(0);
    client.wire.borrow_mut().room = 0;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    world.send(&server, head.as_bytes());
    world.send(&server, &vec![b'a'; length / 2]);
    world.pass(SLOW_MS + SLACK_MS);
    for _ in 0..100 {
        world.proxy.go_on();
    }
    // From here on both sides have as much as anyone can want.
    world.send(&server, &vec![b'a'; length / 2]);
    world.room(&client, usize::MAX);
    for _ in 0..100 {
        assert!(world.proxy.shared.again.len() <= 1);
        world.proxy.go_on();
    }
    assert_eq!(world.state(&client), "idle");
    assert!(client.got().len() > length);
}

/// A request whose head has exactly so many bytes.
fn request_of(length: usize, first: &str) -> Vec<u8> {
    let mut head = format!("{first}Host: a\r\n");
    let end = "\r\n";
    while head.len() + end.len() < length {
        let left = length - head.len() - end.len();
        let field = left.min(4096);
        // What is left has to be enough for a field.
        let field = if left - field < 100 && left > field {
            field - 100
        } else {
            field
        };
        head += &format!("X: {}\r\n", "x".repeat(field - "X: \r\n".len()));
    }
    head += end;
    assert_eq!(head.len(), length);
    head.into_bytes()
}

#[test]
fn a_head_that_fills_its_buffer_leaves_room_for_the_body() {
    for length in [BUFFER_SIZE - 1, BUFFER_SIZE] {
        let mut world = World::with(1, |_, proxied| proxied.buffering.request = false);
        let client = world.accept(&request_of(
            length,
            "PUT / HTTP/1.1\r\nContent-Length: 20000\r\n",
        ));
        let server = world.server(0);
        let calls = client.wire.borrow().calls;
        world.send(&client, &vec![b'b'; 20_000]);
        assert!(server.got().ends_with(&"b".repeat(20_000)));
        assert!(client.wire.borrow().calls - calls < 5);
        world.send(&server, ANSWER);
        assert!(client.got().ends_with("ok"));
    }
}

#[test]
fn a_stale_connection_gives_no_server_beyond_the_tries() {
    let mut world = World::with(2, |_, proxied| proxied.next_upstream_tries = 1);
    let clients = [world.accept(GET), world.accept(GET)];
    for (number, client) in clients.iter().enumerate() {
        let server = world.server(number);
        world.send(&server, ANSWER);
        assert!(client.got().ends_with("ok"));
    }
    // The first is down, as shows once its kept connection is used.
    let client = world.accept(GET);
    let first = world.server(0);
    world.proxy.shared.net.connecting = Connecting::Refused;
    let second = world.server(1);
    second.got();
    world.end(&first);
    assert_eq!(second.got(), "");
    assert!(client.got().starts_with("HTTP/1.1 502 "));
}

#[test]
fn a_body_that_nobody_wants_is_not_read_in_one_turn() {
    let mut world = World::with(1, |_, proxied| proxied.buffering.request = false);
    world.proxy.shared.net.connecting = Connecting::Refused;
    let length = 1_000_000;
    let client = world.accept(
        format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
    );
    assert!(client.got().starts_with("HTTP/1.1 502 "));
    world.send(&client, &vec![b'b'; length]);
    assert!(world.proxy.is_busy());
    while world.proxy.is_busy() {
        world.proxy.go_on();
    }
    assert_eq!(world.state(&client), "idle");
}

#[test]
fn an_answer_that_a_forced_end_cuts_is_reset() {
    for (head, is_cut) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", false),
    ] {
        let mut world = World::new(1);
        let client = world.accept(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        let server = world.server(0);
        world.send(&server, head.as_bytes());
        world.send(&server, b"half");
        world.proxy.close_all();
        assert!(client.wire.borrow().closed);
        assert_eq!(client.wire.borrow().aborted, is_cut);
    }
}

#[test]
fn a_client_that_has_ended_its_direction_gets_what_is_already_here() {
    let length = 300_000;
    let mut world = World::new(1);
    let client = world.accept(GET);
    let server = world.server(0);
    client.wire.borrow_mut().room = 1000;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    world.send(&server, head.as_bytes());
    world.send(&server, &vec![b'a'; length]);
    world.pass(SLOW_MS + SLACK_MS);
    while world.proxy.is_busy() {
        world.proxy.go_on();
    }
    world.end(&client);
    assert_eq!(world.state(&client), "proxying");
    world.room(&client, usize::MAX);
    assert!(client.got().ends_with(&"a".repeat(length)));
    assert_eq!(world.state(&client), "gone");
}
