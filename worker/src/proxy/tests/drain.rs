//! What becomes of requests whose server is removed while they are in flight.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use weir_shm::{CounterId, Publisher, Upstream as Published};

use super::{Far, World};
use crate::conf::Conf;
use crate::log::Files;
use crate::settings::{Part, ProxyTarget, Settings, Template};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";

/// Servers 1 and 2, and a removed one has five seconds.
fn world() -> World {
    World::whose(2, Some(Duration::from_secs(5)), |_, _| {})
}

/// A request that is at server 1, which is removed then.
fn removed(world: &mut World, request: &[u8]) -> (Far, Far) {
    let client = world.accept(request);
    let server = world.server(0);
    assert!(!std::mem::take(&mut server.wire.borrow_mut().output).is_empty());
    world.publish(&[2]);
    (client, server)
}

fn is_closed(server: &Far) -> bool {
    server.wire.borrow().closed
}

#[test]
fn a_request_without_an_answer_goes_to_another_server_when_the_time_is_over() {
    let mut world = world();
    let (client, server) = removed(&mut world, GET);
    world.pass(4_999);
    assert!(!is_closed(&server));
    world.pass(1);
    assert!(is_closed(&server));
    assert_eq!(world.state(&client), "proxying");
    world.send(&world.server(1), ANSWER);
    assert!(client.got().starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_must_not_be_repeated_is_answered_with_502() {
    let mut world = world();
    let (client, server) = removed(&mut world, POST);
    world.pass(5_000);
    assert!(is_closed(&server));
    assert!(client.got().starts_with("HTTP/1.1 502 "));
}

#[test]
fn what_is_answered_in_time_is_answered() {
    let mut world = world();
    let (client, server) = removed(&mut world, GET);
    world.pass(4_999);
    world.send(&server, ANSWER);
    assert!(client.got().starts_with("HTTP/1.1 200 "));
    assert!(
        is_closed(&server),
        "no connection to a removed server is kept"
    );
    world.pass(5_000);
    assert_eq!(world.state(&client), "idle");
}

#[test]
fn an_answer_that_is_not_whole_breaks_off() {
    let mut world = world();
    let (client, server) = removed(&mut world, GET);
    world.send(&server, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    world.pass(5_000);
    assert!(is_closed(&server));
    assert_eq!(world.state(&client), "gone");
    assert!(client.got().ends_with("half"));
}

#[test]
fn a_tunnel_is_closed() {
    let mut world = World::whose(2, Some(Duration::from_secs(5)), |_, proxied| {
        let value = |text: &str| Template {
            parts: vec![Part::Text(text.into())],
        };
        proxied.set_headers = vec![
            (b"Upgrade".to_vec(), value("x")),
            (b"Connection".to_vec(), value("upgrade")),
        ];
    });
    let (client, server) = removed(&mut world, UPGRADE);
    world.send(&server, SWITCHED);
    assert!(client.got().starts_with("HTTP/1.1 101 "));
    world.pass(4_999);
    assert_eq!(world.state(&client), "proxying");
    world.pass(1);
    assert!(is_closed(&server));
    assert_eq!(world.state(&client), "gone");
}

#[test]
fn a_server_that_comes_back_keeps_its_requests_and_a_later_removal_has_its_own_time() {
    let mut world = world();
    let (client, server) = removed(&mut world, GET);
    world.pass(3_000);
    world.publish(&[1, 2]);
    world.pass(1_000);
    world.publish(&[2]);
    world.pass(4_999);
    assert_eq!(world.state(&client), "proxying");
    assert!(!is_closed(&server));
    world.pass(1);
    assert!(is_closed(&server));

    let mut world = self::world();
    let (client, server) = removed(&mut world, GET);
    world.publish(&[1, 2]);
    world.pass(20_000);
    assert!(!is_closed(&server));
    world.send(&server, ANSWER);
    assert!(client.got().starts_with("HTTP/1.1 200 "));
}

#[test]
fn without_the_directive_it_has_as_long_as_it_takes() {
    let mut world = World::new(2);
    let (client, server) = removed(&mut world, GET);
    world.pass(50_000);
    assert!(!is_closed(&server));
    world.send(&server, ANSWER);
    assert!(client.got().starts_with("HTTP/1.1 200 "));
}

/// Where requests are in flight, by the numbers of counter rows.
fn in_flight(world: &World) -> Vec<u32> {
    let counters = world.proxy.shared.region.counters();
    let at = |index: &u32| CounterId {
        index: *index,
        incarnation: 1,
    };
    let rows = 0..8;
    rows.filter(|row| counters.in_flight(at(row)) > 0).collect()
}

#[test]
fn no_retry_goes_to_a_server_that_was_removed() {
    let mut world = World::new(3);
    let client = world.accept(GET);
    assert_eq!(in_flight(&world), [0]);
    // Server 2 would be next.
    world.publish(&[1, 3]);
    world.end(&world.server(0));
    assert_eq!(in_flight(&world), [2]);
    world.send(&world.server(1), ANSWER);
    assert!(client.got().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_server_that_was_tried_is_not_tried_again_wherever_it_is_in_a_later_table() {
    let mut world = World::new(3);
    let client = world.accept(GET);
    world.publish(&[2, 1, 3]);
    world.end(&world.server(0));
    let next = in_flight(&world);
    assert!(next == [1] || next == [2], "{next:?}");
    world.publish(&[3, 2, 1]);
    world.end(&world.server(1));
    assert_eq!(in_flight(&world), [3 - next[0]]);
    world.publish(&[1, 2, 3]);
    world.end(&world.server(2));
    assert!(client.got().starts_with("HTTP/1.1 502 "));
    assert_eq!(world.proxy.shared.net.made.len(), 3);
}

#[test]
fn what_a_removed_server_did_not_take_on_a_kept_connection_goes_elsewhere() {
    let mut world = World::with(2, |_, proxied| proxied.next_upstream_tries = 1);
    for server in 0..2 {
        let client = world.accept(GET);
        world.send(&world.server(server), ANSWER);
        assert!(client.got().starts_with("HTTP/1.1 200 "));
    }
    let client = world.accept(GET);
    assert_eq!(in_flight(&world), [0]);
    world.publish(&[2]);
    world.server(1).got();
    world.end(&world.server(0));
    assert_eq!(in_flight(&world), [1]);
    world.send(&world.server(1), ANSWER);
    assert!(client.got().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_retry_within_an_upstream_that_a_reload_has_removed_goes_on_there() {
    for between in [&[][..], &[3, 1]] {
        let mut world = World::new(3);
        let client = world.accept(GET);
        if !between.is_empty() {
            world.publish(between);
        }
        let without = conf(&world, |settings| settings.upstreams.clear());
        world.proxy.set_conf(without);
        world.publish_nothing();
        world.end(&world.server(0));
        let left = if between.is_empty() { 1 } else { 2 };
        assert_eq!(in_flight(&world), [left]);
        world.send(&world.server(1), ANSWER);
        assert!(client.got().starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn a_retry_within_a_discovered_upstream_that_is_gone_has_no_server() {
    let mut world = World::with(2, |_, proxied| {
        let text = Part::Text(b"http://found".to_vec());
        proxied.target = ProxyTarget::Named(Template { parts: vec![text] });
    });
    let writer = world.region.writer_file().unwrap();
    let publisher = Publisher::new(&world.region, writer).unwrap();
    let like = publisher.table().upstreams[0].clone();
    let found = Published {
        name: "found".to_owned(),
        template: Some("backend".into()),
        ..like.clone()
    };
    world.publish_table(publisher, vec![like.clone(), found]);
    let client = world.accept(GET);
    assert_eq!(in_flight(&world), [2]);
    let writer = world.region.writer_file().unwrap();
    let publisher = Publisher::new(&world.region, writer).unwrap();
    world.publish_table(publisher, vec![like]);
    world.end(&world.server(0));
    assert!(client.got().starts_with("HTTP/1.1 502 "));
    assert_eq!(world.proxy.shared.net.made.len(), 1);
}

/// The settings in force, adjusted.
fn conf(world: &World, adjust: impl FnOnce(&mut Settings)) -> Rc<Conf> {
    let mut settings = world.proxy.shared.conf.settings.clone();
    adjust(&mut settings);
    let listener = settings.listeners[0].address.clone();
    let conf = Conf::new(settings, 2, Arc::new(Files::default()), &[Some(listener)]);
    Rc::new(conf)
}

#[test]
fn an_upstream_that_a_reload_removes_serves_who_began_before() {
    // Whoever comes first: the table without the upstream, or the settings.
    for table_first in [true, false] {
        let mut world = World::new(2);
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
        let client = world.accept(head);
        let (same, without) = (
            conf(&world, |_| {}),
            conf(&world, |settings| settings.upstreams.clear()),
        );
        if table_first {
            world.publish_nothing();
            // As with sockets that are taken over.
            world.proxy.set_conf(same);
            let other = world.accept(GET);
            world.send(&world.server(0), ANSWER);
            assert!(other.got().starts_with("HTTP/1.1 200 "), "{}", other.got());
            world.proxy.set_conf(without);
        } else {
            world.proxy.set_conf(without);
            world.publish_nothing();
        }
        let late = world.accept(GET);
        assert!(late.got().starts_with("HTTP/1.1 502 "), "{}", late.got());
        world.send(&client, b"body-body");
        world.send(&world.server(usize::from(table_first)), ANSWER);
        assert!(
            client.got().starts_with("HTTP/1.1 200 "),
            "{}",
            client.got()
        );
    }
}

#[test]
fn a_worker_on_its_way_out_goes_on_with_an_upstream_that_is_removed() {
    let mut world = World::with(1, |location, _| {
        location.keepalive_min_timeout = Duration::from_secs(10);
    });
    let client = world.accept(b"");
    world.proxy.quit();
    world.publish_nothing();
    world.send(&client, GET);
    world.send(&world.server(0), ANSWER);
    assert!(
        client.got().starts_with("HTTP/1.1 200 "),
        "{}",
        client.got()
    );
}
