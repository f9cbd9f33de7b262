//! Deadlines: each fires when it should, and moving bytes move it.

use std::time::Duration;

use super::World;
use crate::settings::{Lingering, LingeringClose};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Long enough for a slot of the wheel to pass.
const SLACK_MS: u64 = 20;

#[test]
fn a_client_that_sends_nothing_goes_after_the_header_timeout() {
    let mut world = World::new(1);
    let client = world.accept(b"");
    world.pass(59_000);
    assert_eq!(world.state(&client), "idle");
    world.pass(1_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
    assert_eq!(client.got(), "");
}

#[test]
fn a_head_has_to_be_complete_in_time_however_its_bytes_come() {
    let mut world = World::new(1);
    let client = world.accept(b"GET /");
    for _ in 0..59 {
        world.pass(1_000);
        world.send(&client, b"a");
        assert_eq!(world.state(&client), "reading");
    }
    world.pass(1_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
    assert_eq!(client.got(), "", "as nginx, without a word");
}

#[test]
fn a_kept_client_goes_after_the_keepalive_timeout() {
    let mut world = World::new(1);
    let client = world.accept(GET);
    let server = world.server(0);
    world.pass(59_000);
    world.send(&server, ANSWER);
    world.pass(74_000);
    assert_eq!(world.state(&client), "idle");
    world.pass(1_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
}

#[test]
fn an_idle_server_connection_goes_after_its_own_timeout() {
    let mut world = World::new(1);
    let client = world.accept(GET);
    let server = world.server(0);
    world.send(&server, ANSWER);
    world.pass(59_000);
    assert!(!server.wire.borrow().closed);
    world.pass(1_000 + SLACK_MS);
    assert!(server.wire.borrow().closed);
    assert_eq!(world.state(&client), "idle");
}

#[test]
fn the_read_timeout_is_between_two_reads() {
    let mut world = World::new(1);
    let client = world.accept(GET);
    let server = world.server(0);
    world.send(&server, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    for _ in 0..10 {
        world.pass(50_000);
        // What only the client does, does not help the server.
        world.send(&client, b"G");
        world.send(&server, b"x");
        assert_eq!(world.state(&client), "proxying");
    }
    world.pass(30_000);
    world.send(&client, b"E");
    world.pass(30_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
    assert!(server.wire.borrow().closed);
}

#[test]
fn a_request_on_a_kept_connection_has_the_read_timeout_and_not_the_idle_one() {
    let mut world = World::new(1);
    let client = world.accept(GET);
    let server = world.server(0);
    world.send(&server, ANSWER);
    world.pass(50_000);
    client.got();
    world.send(&client, GET);
    world.pass(30_000);
    assert_eq!(world.state(&client), "proxying");
    assert_eq!(client.got(), "");
    world.pass(30_000 + SLACK_MS);
    assert!(client.got().starts_with("HTTP/1.1 504 "));
}

#[test]
fn a_body_that_does_not_come_is_not_the_servers_fault() {
    let mut world = World::with(1, |_, proxied| proxied.buffering.request = false);
    let client = world.accept(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    let server = world.server(0);
    world.pass(40_000);
    world.send(&client, b"d");
    world.pass(40_000);
    assert_eq!(world.state(&client), "proxying");
    world.pass(20_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
    assert!(server.wire.borrow().closed);
    assert_eq!(client.got(), "");
}

#[test]
fn a_body_that_is_read_first_has_its_timeout_between_two_reads() {
    let mut world = World::new(1);
    let client = world.accept(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    for _ in 0..3 {
        world.pass(40_000);
        world.send(&client, b"d");
        assert_eq!(world.state(&client), "receiving");
    }
    world.pass(60_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
    assert_eq!(client.got(), "", "as nginx, without a word");
    assert!(world.proxy.shared.net.made.is_empty());
}

#[test]
fn a_client_that_takes_nothing_has_the_send_timeout() {
    let mut world = World::new(1);
    let client = world.accept(GET);
    let server = world.server(0);
    client.wire.borrow_mut().room = 10;
    world.send(&server, ANSWER);
    world.pass(50_000);
    world.room(&client, 5);
    world.pass(50_000);
    assert_eq!(world.state(&client), "proxying");
    world.pass(10_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
}

#[test]
fn lingering_ends_after_a_while_whatever_comes() {
    let mut world = World::new(1);
    let client = world.accept(b"nonsense\r\n\r\n");
    assert_eq!(world.state(&client), "lingering");
    assert!(client.wire.borrow().shut);
    for _ in 0..9 {
        world.pass(3_000);
        world.send(&client, b"more");
        assert_eq!(world.state(&client), "lingering");
    }
    world.pass(3_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
}

#[test]
fn a_held_connection_is_closed_by_nobody_for_its_least_time() {
    let held = |timeout: u64, least: u64| {
        let mut world = World::with(1, |location, _| {
            location.keepalive_timeout = Duration::from_secs(timeout);
            location.keepalive_min_timeout = Duration::from_secs(least);
        });
        let client = world.accept(GET);
        let server = world.server(0);
        world.send(&server, ANSWER);
        // The connection to the server is idle too, and may go.
        while world.proxy.close_an_idle_one() {}
        assert_eq!(world.state(&client), "kept");
        (world, client)
    };
    let (mut world, client) = held(75, 10);
    world.pass(10_000 + SLACK_MS);
    assert_eq!(world.state(&client), "idle");
    world.pass(64_000);
    assert_eq!(world.state(&client), "idle");
    world.pass(1_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");

    let (mut world, client) = held(75, 10);
    world.pass(10_000 + SLACK_MS);
    assert!(world.proxy.close_an_idle_one());
    assert_eq!(world.state(&client), "gone");

    // The worker ends: another request is served, and the least time begins anew.
    let (mut world, client) = held(75, 10);
    world.proxy.quit();
    world.pass(9_000);
    world.send(&client, GET);
    let server = world.server(1);
    world.send(&server, ANSWER);
    world.pass(9_000);
    assert_eq!(world.state(&client), "kept");
    world.pass(1_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");

    let (mut world, client) = held(5, 10);
    world.pass(5_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
}

#[test]
fn closing_lingers_by_its_own_times() {
    let closing = |close: LingeringClose, request: &[u8]| {
        let mut world = World::with(1, |location, _| {
            location.keepalive_timeout = Duration::ZERO;
            location.lingering = Lingering {
                close,
                time: Duration::from_secs(10),
                timeout: Duration::from_secs(4),
            };
        });
        let client = world.accept(request);
        let server = world.server(0);
        world.send(&server, ANSWER);
        (world, client)
    };
    const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    for (close, request, lingers) in [
        (LingeringClose::Off, GET, false),
        (LingeringClose::Off, POST, false),
        (LingeringClose::On, GET, false),
        (LingeringClose::On, POST, true),
        (LingeringClose::Always, GET, true),
    ] {
        let (mut world, client) = closing(close, request);
        let state = if lingers { "lingering" } else { "gone" };
        assert_eq!(world.state(&client), state, "{close:?}");
        if lingers {
            world.pass(3_000);
            assert_eq!(world.state(&client), "lingering");
            world.pass(1_000 + SLACK_MS);
            assert_eq!(world.state(&client), "gone");
        }
    }
    let (mut world, client) = closing(LingeringClose::Always, GET);
    for _ in 0..3 {
        world.pass(3_000);
        world.send(&client, b"more");
        assert_eq!(world.state(&client), "lingering");
    }
    world.pass(1_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
}

#[test]
fn a_client_that_is_too_slow_is_reset_only_if_asked() {
    for reset in [false, true] {
        let mut world = World::with(1, |location, _| location.reset_timedout_connection = reset);
        let client = world.accept(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
        world.pass(60_000 + SLACK_MS);
        assert_eq!(world.state(&client), "gone");
        assert_eq!(client.wire.borrow().aborted, reset);

        let kept = world.accept(GET);
        let server = world.server(0);
        world.send(&server, ANSWER);
        world.pass(75_000 + SLACK_MS);
        assert_eq!(world.state(&kept), "gone");
        assert!(!kept.wire.borrow().aborted, "an idle one ends in order");
    }
}
