use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use proptest::prelude::*;
use std::collections::BTreeSet;

use weir_shm::{Address, CounterId, Server};

use super::model::Model;
use super::*;

fn server(weight: u32) -> Server {
    Server {
        address: Address::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 80))),
        weight,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    }
}

fn servers(weights: impl IntoIterator<Item = u32>) -> Vec<Server> {
    weights.into_iter().map(server).collect()
}

fn picks(balancer: &mut RoundRobin, count: usize) -> Vec<usize> {
    let none = Tried::new();
    (0..count)
        .map(|_| balancer.pick(1, &none).unwrap())
        .collect()
}

#[test]
fn weights_5_1_1_give_nginx_sequence() {
    let mut balancer = RoundRobin::new(&servers([5, 1, 1]));
    assert_eq!(
        picks(&mut balancer, 14),
        [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]
    );
}

#[test]
fn equal_weights_rotate() {
    let mut balancer = RoundRobin::new(&servers([7; 4]));
    assert_eq!(picks(&mut balancer, 9), [0, 1, 2, 3, 0, 1, 2, 3, 0]);
}

#[test]
fn down_servers_get_nothing_and_backups_wait() {
    let mut list = servers([1, 1, 1]);
    list[0].down = true;
    list[2].backup = true;
    let mut balancer = RoundRobin::new(&list);
    assert_eq!(picks(&mut balancer, 3), [1, 1, 1]);
    assert_eq!(balancer.failed(1, 5), Failed::Disabled);
    assert_eq!(balancer.pick(5, &Tried::new()), Some(2));
    assert_eq!(balancer.failed(2, 6), Failed::Disabled);
    assert_eq!(balancer.pick(6, &Tried::new()), None);
    assert_eq!(balancer.pick(10_006, &Tried::new()), Some(1));
}

#[test]
fn fail_timeout_is_exact_and_one_probe_goes_out() {
    let mut balancer = RoundRobin::new(&servers([1, 1]));
    let none = Tried::new();
    assert_eq!(balancer.failed(0, 1_000), Failed::Disabled);
    for now in [1_000, 11_000] {
        assert_eq!(balancer.pick(now, &none), Some(1));
    }
    // Its weight grows back from nothing, so that it is not the first at once.
    let round: Vec<_> = (0..4)
        .map(|_| balancer.pick(11_001, &none).unwrap())
        .collect();
    assert_eq!(
        round.iter().filter(|&&peer| peer == 0).count(),
        1,
        "{round:?}"
    );
    balancer.succeeded(0);
    let round: Vec<_> = (0..4)
        .map(|_| balancer.pick(11_002, &none).unwrap())
        .collect();
    assert_eq!(
        round.iter().filter(|&&peer| peer == 0).count(),
        2,
        "{round:?}"
    );
}

#[test]
fn the_only_server_is_never_given_up() {
    let mut balancer = RoundRobin::new(&servers([1]));
    assert_eq!(balancer.failed(0, 1), Failed::Counted);
    assert_eq!(balancer.pick(1, &Tried::new()), Some(0));
    let mut tried = Tried::new();
    tried.insert(0);
    assert_eq!(balancer.pick(1, &tried), None);
    assert_eq!(RoundRobin::new(&[]).pick(1, &Tried::new()), None);
}

#[test]
fn max_fails_0_counts_nothing() {
    let mut list = servers([1, 1]);
    list[0].max_fails = 0;
    let mut balancer = RoundRobin::new(&list);
    for now in 1..100 {
        assert_eq!(balancer.failed(0, now), Failed::Counted);
    }
    assert_eq!(picks(&mut balancer, 4), [0, 1, 0, 1]);
}

#[test]
fn a_retry_goes_to_each_server_once() {
    for count in [2, 7, 9, 300, 1_000] {
        let mut balancer = RoundRobin::new(&servers((0..count).map(|at| 1 + at % 90)));
        let mut tried = Tried::new();
        while let Some(peer) = balancer.pick(1, &tried) {
            assert!(!tried.contains(peer));
            tried.insert(peer);
        }
        assert_eq!(tried.len(), count as usize);
    }
}

#[test]
fn a_new_table_goes_on_where_the_old_one_was() {
    let mut old = RoundRobin::new(&servers([1, 1, 1]));
    assert_eq!(picks(&mut old, 1), [0]);
    old.failed(2, 1);
    // A server is put first, the others move down by one.
    let mut new = RoundRobin::following(&servers([1; 4]), &old, |at| at.checked_sub(1));
    let round = picks(&mut new, 6);
    assert!(
        !round.contains(&3),
        "the failed one stays on the bench: {round:?}"
    );
    assert_eq!(round[..2], [2, 0], "who was next is next: {round:?}");
}

/// What happens to a balancer, with time going on.
#[derive(Clone, Debug)]
enum Event {
    Request {
        ok: bool,
    },
    /// Fails until nobody is left or this many have failed.
    Retries(usize),
    Remote(usize),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any::<bool>().prop_map(|ok| Event::Request { ok }),
        6 => Just(Event::Request { ok: true }),
        2 => (1usize..7).prop_map(Event::Retries),
        1 => (0usize..12).prop_map(Event::Remote),
        2 => (0u64..300).prop_map(Event::Pass),
    ]
}

fn any_server() -> impl Strategy<Value = Server> {
    let down = prop::bool::weighted(0.1);
    let backup = prop::bool::weighted(0.2);
    (1u32..6, 0u32..4, 0u64..200, down, backup).prop_map(
        |(weight, max_fails, fail_timeout_ms, down, backup)| Server {
            max_fails,
            fail_timeout_ms,
            down,
            backup,
            ..server(weight)
        },
    )
}

proptest! {
    #![proptest_config(crate::testing::cases(256))]

    #[test]
    fn it_is_nginx_to_the_letter(
        list in prop::collection::vec(any_server(), 1..12),
        events in prop::collection::vec(event(), 1..300),
    ) {
        let (mut balancer, mut model) = (RoundRobin::new(&list), Model::new(&list));
        let mut now = 1_000;
        for event in events {
            let mut tried = Tried::new();
            let (tries, ok) = match event {
                Event::Pass(time) => {
                    now += time;
                    continue;
                }
                Event::Remote(peer) => {
                    let peer = peer % list.len();
                    balancer.failed(peer, now);
                    model.failed(peer, now);
                    continue;
                }
                Event::Request { ok } => (1, ok),
                Event::Retries(tries) => (tries, false),
            };
            for _ in 0..tries {
                let picked = balancer.pick(now, &tried);
                prop_assert_eq!(picked, model.pick(now, &tried));
                let Some(peer) = picked else { break };
                tried.insert(peer);
                if ok {
                    balancer.succeeded(peer);
                    model.succeeded(peer);
                } else {
                    balancer.failed(peer, now);
                    model.failed(peer, now);
                }
            }
        }
    }

    #[test]
    fn everyone_gets_its_share(weights in prop::collection::vec(1u32..200, 2..150)) {
        let mut balancer = RoundRobin::new(&servers(weights.iter().copied()));
        let total: usize = weights.iter().map(|&weight| weight as usize).sum();
        let mut got = vec![0u32; weights.len()];
        for peer in picks(&mut balancer, total) {
            got[peer] += 1;
        }
        let exact = weights.iter().collect::<BTreeSet<_>>().len() <= EXACT_WEIGHTS;
        for (got, weight) in got.iter().zip(&weights) {
            // Clusters round once more.
            prop_assert!(if exact { got == weight } else { got.abs_diff(*weight) <= 1 }, "{got} of {weight}");
        }
    }

}

proptest! {
    #![proptest_config(crate::testing::cases(8))]

    #[test]
    fn very_many_weights_are_dealt_fairly_around_failures(
        failing in prop::collection::btree_set(0usize..200, 0..150),
    ) {
        let list = servers(1..=200);
        let mut balancer = RoundRobin::new(&list);
        for &peer in &failing {
            balancer.failed(peer, 1);
        }
        let left: Vec<usize> = (0..200).filter(|peer| !failing.contains(peer)).collect();
        let total: usize = left.iter().map(|peer| peer + 1).sum();
        let mut got = vec![0usize; 200];
        for peer in picks(&mut balancer, total) {
            got[peer] += 1;
        }
        for (peer, got) in got.into_iter().enumerate() {
            let due = if failing.contains(&peer) { 0 } else { peer + 1 };
            prop_assert!(got.abs_diff(due) <= 1, "{peer}: {got} for {due}");
        }
        // And when they are back, they get their weight again.
        let mut later = vec![0usize; 200];
        let none = Tried::new();
        for at in 0..20_100 * 4 {
            let peer = balancer.pick(20_000 + at, &none).unwrap();
            balancer.succeeded(peer);
            later[peer] += 1;
        }
        for (peer, got) in later.into_iter().enumerate() {
            let due = (peer + 1) * 4;
            prop_assert!(got.abs_diff(due) <= due / 4 + 8, "{peer}: {got} for {due}");
        }
    }
}

/// The time of one pick must not grow with the number of servers as a walk over all does.
#[test]
fn a_pick_among_ten_thousand_is_no_walk_over_them() {
    let time = |count: u32, distinct: u32| {
        let mut balancer = RoundRobin::new(&servers((0..count).map(|at| 1 + at % distinct)));
        let none = Tried::new();
        let fastest = (0..5).map(|_| {
            let start = Instant::now();
            for _ in 0..2_000 {
                std::hint::black_box(balancer.pick(1, &none));
            }
            start.elapsed()
        });
        fastest.min().unwrap()
    };
    for distinct in [1, 10] {
        let (few, many) = (time(100, distinct), time(10_000, distinct));
        assert!(
            many < few * 20,
            "{distinct} weights: {few:?} for 100, {many:?} for 10,000"
        );
    }
}

#[test]
fn a_server_that_is_down_stays_so_however_often_it_failed() {
    let mut old = RoundRobin::new(&servers([1, 1]));
    for _ in 0..9 {
        old.failed(0, 1);
    }
    let mut list = servers([1, 1]);
    list[0].down = true;
    let mut new = RoundRobin::following(&list, &old, Some);
    for _ in 0..4 {
        assert_eq!(new.pick(1_000_000, &Tried::new()), Some(1));
    }
}
