//! Every state of a client's connection, and every event in it.

use std::time::Duration;

use super::{Connecting, Far, World};
use crate::proxy::client::Event;
use crate::transport::Readiness;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
const BAD: &[u8] = b"BAD REQUEST\r\n\r\n";

/// A way into a state: the client, and the server if one is asked.
type Enter = fn(&mut World) -> (Far, Option<Far>);

/// What happens.
type Happen = fn(&mut World, &Far, Option<&Far>);

fn asked(world: &mut World, request: &[u8]) -> (Far, Option<Far>) {
    let client = world.accept(request);
    let server = world.server(0);
    (client, Some(server))
}

const STATES: &[(&str, Enter)] = &[
    ("new", |world| (world.accept(b""), None)),
    ("kept", |world| {
        let (client, server) = asked(world, GET);
        world.send(server.as_ref().unwrap(), ANSWER);
        (client, None)
    }),
    ("held", |world| {
        *world = World::with(1, |location, _| {
            location.keepalive_min_timeout = Duration::from_secs(10);
        });
        let (client, server) = asked(world, GET);
        world.send(server.as_ref().unwrap(), ANSWER);
        (client, None)
    }),
    ("half a head", |world| (world.accept(b"GET / HT"), None)),
    ("connecting", |world| {
        world.proxy.shared.net.connecting = Connecting::Pending;
        asked(world, GET)
    }),
    ("asked", |world| asked(world, GET)),
    ("half a body", |world| (world.accept(POST), None)),
    ("half a body sent", |world| {
        *world = World::with(1, |_, proxied| proxied.buffering.request = false);
        asked(world, POST)
    }),
    ("half an answer", |world| {
        let (client, server) = asked(world, GET);
        world.send(server.as_ref().unwrap(), HALF);
        (client, server)
    }),
    ("client full", |world| {
        let (client, server) = asked(world, GET);
        client.wire.borrow_mut().room = 3;
        world.send(server.as_ref().unwrap(), HALF);
        (client, server)
    }),
    ("refusing, client full", |world| {
        let client = world.accept(b"");
        client.wire.borrow_mut().room = 3;
        world.send(&client, BAD);
        (client, None)
    }),
    ("answered, body to drop", |world| {
        *world = World::with(1, |_, proxied| proxied.buffering.request = false);
        world.proxy.shared.net.connecting = Connecting::Refused;
        (world.accept(POST), None)
    }),
    ("lingering", |world| (world.accept(BAD), None)),
];

const EVENTS: &[(&str, Happen)] = &[
    ("spurious", |world, client, _| world.send(client, b"")),
    ("a request", |world, client, _| world.send(client, GET)),
    ("client ends", |world, client, _| world.end(client)),
    ("client breaks", |world, client, _| {
        client.wire.borrow_mut().broken = Some(std::io::ErrorKind::ConnectionReset);
        let all = Readiness {
            readable: true,
            writable: true,
            closed: true,
        };
        world.event(client, all);
    }),
    ("client has room", |world, client, _| {
        world.room(client, usize::MAX)
    }),
    ("server takes", |world, _, server| {
        if let Some(server) = server {
            world.room(server, usize::MAX);
        }
    }),
    ("server answers", |world, _, server| {
        if let Some(server) = server {
            world.send(server, ANSWER);
        }
    }),
    ("server ends", |world, _, server| {
        if let Some(server) = server {
            world.end(server);
        }
    }),
    ("client late", |world, client, _| {
        world
            .proxy
            .client(client.key.unwrap(), Event::ClientTimeout);
    }),
    ("server late", |world, client, _| {
        world.proxy.client(client.key.unwrap(), Event::PeerTimeout);
    }),
    ("quit", |world, client, _| {
        world.proxy.client(client.key.unwrap(), Event::Quit);
    }),
    ("server drained", |world, client, _| {
        world.proxy.client(client.key.unwrap(), Event::Drained);
    }),
];

/// By state, then event. With one server, a failed attempt is answered at once.
const EXPECTED: &[(&str, &str)] = &[
    // spurious, request, ends, breaks, room | takes, answers, ends | client late, server late, quit, drained
    (
        "new",
        "idle proxying gone gone idle idle idle idle gone idle idle idle",
    ),
    (
        "kept",
        "idle proxying gone gone idle idle idle idle gone idle gone idle",
    ),
    (
        "held",
        "kept proxying gone gone kept kept kept kept idle kept kept kept",
    ),
    (
        "half a head",
        "reading lingering gone gone reading reading reading reading gone reading reading reading",
    ),
    (
        "connecting",
        "proxying proxying gone gone proxying proxying idle idle gone idle proxying idle",
    ),
    (
        "asked",
        "proxying proxying gone gone proxying proxying idle idle gone idle proxying idle",
    ),
    (
        "half a body",
        "receiving proxying gone gone receiving receiving receiving receiving gone receiving receiving receiving",
    ),
    (
        "half a body sent",
        "proxying proxying gone gone proxying proxying lingering answering gone answering proxying answering",
    ),
    (
        "half an answer",
        "proxying proxying gone gone proxying proxying idle gone gone gone proxying gone",
    ),
    (
        "client full",
        "proxying proxying gone gone proxying proxying proxying proxying proxying proxying proxying proxying",
    ),
    (
        "refusing, client full",
        "answering answering answering gone lingering answering answering answering gone answering answering answering",
    ),
    (
        "answered, body to drop",
        "answering lingering gone gone answering answering answering answering gone answering answering answering",
    ),
    (
        "lingering",
        "lingering lingering gone gone lingering lingering lingering lingering gone lingering lingering lingering",
    ),
];

#[test]
fn every_event_in_every_state_leads_where_it_should() {
    let mut wrong = Vec::new();
    for ((state, enter), (named, expected)) in STATES.iter().zip(EXPECTED) {
        assert_eq!(state, named);
        for ((event, happen), expected) in EVENTS.iter().zip(expected.split(' ')) {
            let mut world = World::new(1);
            let (client, server) = enter(&mut world);
            assert!(client.key.is_some(), "{state}");
            happen(&mut world, &client, server.as_ref());
            let got = world.state(&client);
            if got != expected {
                wrong.push(format!("{state}: {event}: {got}, not {expected}"));
            }
            check(&mut world, &client);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What holds whatever happened.
fn check(world: &mut World, client: &Far) {
    let shared = &world.proxy.shared;
    let gone = world.state(client) == "gone";
    assert_eq!(client.wire.borrow().closed, gone);
    assert_eq!(shared.numbers.active(), u64::from(!gone));
    world.proxy.close_all();
    let counters = world.region.worker(0).unwrap();
    let counter = weir_shm::CounterId {
        index: 0,
        incarnation: 1,
    };
    assert_eq!(counters.counters().in_flight(counter), 0, "still in flight");
    assert_eq!(world.proxy.connections(), 0);
}
