//! A request whose server's name has to be resolved first.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Far, World};
use crate::proxy::client::Event;
use crate::resolver::{Failure, Found, Outcome};
use crate::settings::{Part, ProxyTarget, Resolver, Template};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn world() -> World {
    World::with(1, |_, proxied| {
        let text = Part::Text(b"http://back.test:81".to_vec());
        proxied.target = ProxyTarget::Named(Template { parts: vec![text] });
        proxied.resolver_timeout = Duration::from_secs(3);
        proxied.resolver = Some(Arc::new(Resolver {
            servers: vec![([127, 0, 0, 1], 53).into()],
            valid: None,
            ipv4: true,
            ipv6: true,
        }));
    })
}

fn tell(world: &mut World, far: &Far, found: Result<&[&str], Failure>) {
    let found = found.map(|list| {
        let addresses: Vec<IpAddr> = list.iter().map(|ip| ip.parse().unwrap()).collect();
        Found {
            addresses: Rc::from(addresses),
            until_ms: 0,
        }
    });
    let who = far.key.unwrap();
    world.proxy.resolved(Outcome { who, found });
}

#[test]
fn it_waits_and_then_goes_there() {
    let mut world = world();
    let client = world.accept(GET);
    assert_eq!(world.state(&client), "resolving");
    world.send(&client, b"");
    world.proxy.client(client.key.unwrap(), Event::PeerTimeout);
    world.proxy.client(client.key.unwrap(), Event::Quit);
    assert_eq!(world.state(&client), "resolving");
    assert!(world.proxy.shared.net.made.is_empty());
    tell(&mut world, &client, Ok(&["192.0.2.1", "2001:db8::1"]));
    assert_eq!(world.state(&client), "proxying");
    // Its time to resolve is no limit of what follows.
    world.pass(5_000);
    let server = world.server(0);
    assert!(server.got().starts_with("GET / HTTP/1.1\r\n"));
    world.send(&server, ANSWER);
    assert!(client.got().starts_with("HTTP/1.1 200"));
    assert!(server.wire.borrow().closed, "such connections are not kept");
    // The quit was not forgotten: no further request is taken.
    assert_eq!(world.state(&client), "lingering");
}

#[test]
fn what_has_no_address_and_what_takes_too_long_is_502() {
    let mut world = world();
    let client = world.accept(GET);
    tell(&mut world, &client, Err(Failure::NotFound));
    assert!(client.got().starts_with("HTTP/1.1 502"));
    assert_eq!(world.state(&client), "idle");
    // Late news are for nobody.
    tell(&mut world, &client, Ok(&["192.0.2.1"]));
    assert_eq!(world.state(&client), "idle");
    assert!(world.proxy.shared.net.made.is_empty());

    let client = world.accept(GET);
    world.pass(2_900);
    assert_eq!(world.state(&client), "resolving");
    world.pass(200);
    assert!(client.got().starts_with("HTTP/1.1 502"));
    assert_eq!(world.state(&client), "idle");
}

#[test]
fn a_client_that_goes_waits_for_nothing() {
    let mut world = world();
    let client = world.accept(GET);
    world.end(&client);
    assert_eq!(world.state(&client), "gone");
    assert_eq!(client.got(), "");
    tell(&mut world, &client, Ok(&["192.0.2.1"]));
    let client = world.accept(GET);
    world.proxy.close_all();
    assert_eq!(world.state(&client), "gone");
    tell(&mut world, &client, Ok(&["192.0.2.1"]));
    assert!(world.proxy.shared.net.made.is_empty());
}
