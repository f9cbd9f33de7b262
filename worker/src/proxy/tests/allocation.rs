//! What a warm request costs.

use allocation_counter::measure;

use super::World;

const GET: &[u8] =
    b"GET /some/path?x=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nAccept: */*\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
const REQUESTS: usize = 1000;

#[test]
fn a_warm_request_allocates_nothing_and_costs_four_calls() {
    let mut world = World::new(1);
    let client = world.accept(GET);
    let server = world.server(0);
    let round = |world: &mut World| {
        world.send(&server, ANSWER);
        server.wire.borrow_mut().output.clear();
        client.wire.borrow_mut().output.clear();
        world.send(&client, GET);
    };
    // The first request of a connection is number 1; it may carry 1000.
    for _ in 0..10 {
        round(&mut world);
    }
    let calls = || client.wire.borrow().calls + server.wire.borrow().calls;
    let before = calls();
    let rounds = REQUESTS - 20;
    let allocated = measure(|| {
        for _ in 0..rounds {
            round(&mut world);
        }
    });
    assert_eq!(allocated.count_total, 0, "allocations in {rounds} requests");
    assert_eq!(calls() - before, 4 * rounds);
    assert_eq!(
        world.proxy.shared.net.made.len(),
        1,
        "one connection did it all"
    );
}

#[test]
fn an_idle_client_holds_no_buffer() {
    let mut world = World::new(1);
    let clients: Vec<_> = (0..100).map(|_| world.accept(GET)).collect();
    for number in 0..100 {
        let server = world.server(number);
        world.send(&server, ANSWER);
    }
    for client in &clients {
        assert_eq!(world.state(client), "idle");
    }
    // All that were lent have come back.
    let free = world.proxy.shared.pool.free();
    assert!((100..=200).contains(&free), "{free}");
}
