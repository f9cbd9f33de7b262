use super::*;
use crate::balance::Tried;
use weir_shm::{Address, Server, SnapshotUpstream};

fn server(port: u16, index: u32, weight: u32) -> Server {
    Server {
        address: Address::Ip(([127, 0, 0, 1], port).into()),
        weight,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId {
            index,
            incarnation: 1,
        },
    }
}

fn snapshot(version: u64, upstreams: &[(&str, Option<Vec<Server>>)]) -> Snapshot {
    Snapshot {
        version,
        upstreams: upstreams
            .iter()
            .map(|(name, servers)| SnapshotUpstream {
                name: (*name).to_owned(),
                changed: version,
                template: None,
                servers: servers.clone(),
            })
            .collect(),
        ..Snapshot::default()
    }
}

fn build(old: &Rc<Plan>, mut snapshot: Snapshot, numbering: &mut Numbering) -> Rc<Plan> {
    build_with(old, &mut snapshot, numbering, 2, |_| {}).plan
}

fn build_with(
    old: &Rc<Plan>,
    snapshot: &mut Snapshot,
    numbering: &mut Numbering,
    budget: usize,
    mut between: impl FnMut(usize),
) -> Built {
    let mut builder = Builder::new(old, snapshot);
    for step in 0..10_000 {
        if let Some(built) = builder.step(budget, snapshot, numbering) {
            return built;
        }
        between(step);
    }
    panic!("no plan after 10,000 slices")
}

#[test]
fn an_unchanged_upstream_is_shared_and_numbers_stay() {
    let mut numbering = Numbering::default();
    let (a, b) = (
        vec![server(1, 0, 1), server(2, 1, 1)],
        vec![server(3, 2, 1)],
    );
    let table = snapshot(1, &[("a", Some(a)), ("b", Some(b))]);
    let one = build(&Rc::default(), table, &mut numbering);
    let changed = vec![server(2, 1, 5), server(4, 3, 1)];
    let mut table = snapshot(2, &[("b", None), ("a", Some(changed))]);
    let built = build_with(&one, &mut table, &mut numbering, 2, |_| {});
    let two = built.plan;
    assert_eq!(two.version, 2);
    assert!(Rc::ptr_eq(
        one.upstream("b").unwrap(),
        two.upstream("b").unwrap()
    ));
    assert_eq!(
        two.upstream("a").unwrap().number,
        one.upstream("a").unwrap().number
    );
    assert_eq!(&*two.upstream("a").unwrap().addresses[1], "127.0.0.1:4");
    let (upstream, at) = two.find(server(2, 1, 1).counter).unwrap();
    assert_eq!(
        (upstream.name.as_str(), upstream.servers[at].weight),
        ("a", 5)
    );
    let gone: Vec<u32> = built
        .dropped
        .iter()
        .map(|(_, counter)| counter.index)
        .collect();
    assert_eq!(gone, [0]);
}

#[test]
fn names_that_come_and_go_take_no_more_numbers_than_there_are_at_once() {
    let mut numbering = Numbering::default();
    let mut plan = Rc::default();
    for version in 1..100 {
        // Two of three stay each time.
        let names: Vec<_> = (version..version + 3).map(|at| at.to_string()).collect();
        let servers = (0..3).map(|at| Some(vec![server(1, version as u32 + at, 1)]));
        let upstreams: Vec<_> = names.iter().map(String::as_str).zip(servers).collect();
        let next = build(&plan, snapshot(version, &upstreams), &mut numbering);
        let mut numbers: Vec<_> = next.upstreams.iter().map(|one| one.number).collect();
        for stays in &next.upstreams[..2] {
            let was = plan.upstream(&stays.name);
            assert!(was.is_none_or(|was| was.number == stays.number));
            let (found, _) = next.find(stays.servers[0].counter).unwrap();
            assert_eq!(found.name, stays.name);
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 3);
        assert!(numbers.iter().all(|number| *number <= 3), "{numbers:?}");
        plan = next;
    }
}

#[test]
fn failures_stay_with_a_server_that_stays() {
    let mut numbering = Numbering::default();
    let table = snapshot(1, &[("a", Some(vec![server(1, 0, 1), server(2, 1, 1)]))]);
    let one = build(&Rc::default(), table, &mut numbering);
    one.upstream("a").unwrap().failed(0, 100);
    let more = vec![server(9, 7, 1), server(2, 1, 1), server(1, 0, 1)];
    let two = build(&one, snapshot(2, &[("a", Some(more))]), &mut numbering);
    let picked: Vec<_> = (0..6)
        .map(|_| two.upstream("a").unwrap().pick(200, &Tried::new()).unwrap())
        .collect();
    assert!(!picked.contains(&2), "{picked:?}");
}

#[test]
fn no_slice_of_a_big_upstream_does_more_than_its_budget() {
    let servers: Vec<_> = (0..100).map(|at| server(at as u16 + 1, at, 1)).collect();
    let mut table = snapshot(1, &[("a", Some(servers))]);
    let mut numbering = Numbering::default();
    let mut slices = 1;
    let built = build_with(&Rc::default(), &mut table, &mut numbering, 30, |_| {
        slices += 1
    });
    assert_eq!(built.plan.upstream("a").unwrap().servers.len(), 100);
    // Named, made a peer, dealt to a tier, ordered and settled.
    assert!((13..=18).contains(&slices), "{slices}");
}

#[test]
fn upstreams_that_go_take_their_servers_with_them() {
    let mut numbering = Numbering::default();
    let a = vec![server(1, 0, 1), server(2, 1, 1)];
    let table = snapshot(1, &[("a", Some(a)), ("b", Some(vec![server(3, 2, 1)]))]);
    let one = build(&Rc::default(), table, &mut numbering);
    let mut table = snapshot(2, &[("c", Some(vec![server(9, 1, 1)])), ("b", None)]);
    // Row 1 has another tenant now.
    table.upstreams[0].servers.as_mut().unwrap()[0]
        .counter
        .incarnation = 2;
    let built = build_with(&one, &mut table, &mut numbering, 1, |_| {});
    let two = built.plan;
    assert!(two.upstream("a").is_none());
    let gone: Vec<_> = built
        .dropped
        .iter()
        .map(|(upstream, counter)| (upstream.name.as_str(), counter.index))
        .collect();
    assert_eq!(gone, [("a", 0), ("a", 1)]);
    assert!(two.find(server(1, 0, 1).counter).is_none());
    assert!(two.find(server(2, 1, 1).counter).is_none());
    let next = CounterId {
        index: 1,
        incarnation: 2,
    };
    assert_eq!(two.find(next).unwrap().0.name, "c");
    assert_eq!(two.find(server(3, 2, 1).counter).unwrap().0.name, "b");
    assert_eq!(one.find(server(2, 1, 1).counter).unwrap().1, 1);
}

#[test]
fn what_fails_while_a_plan_is_made_is_not_forgotten() {
    let mut numbering = Numbering::default();
    let table = snapshot(1, &[("a", Some(vec![server(1, 0, 1), server(2, 1, 1)]))]);
    let one = build(&Rc::default(), table, &mut numbering);
    let more = vec![server(9, 7, 1), server(2, 1, 1), server(1, 0, 1)];
    let mut fails_at = 0;
    // Whichever slice it happens before, down to the very last.
    loop {
        let mut slices = 0;
        let mut table = snapshot(2, &[("a", Some(more.clone()))]);
        let built = build_with(&one, &mut table, &mut numbering, 1, |step| {
            slices = step + 1;
            if step == fails_at {
                one.upstream("a").unwrap().failed(0, 100);
            }
        });
        let upstream = Rc::clone(built.plan.upstream("a").unwrap());
        let picked: Vec<_> = (0..6)
            .map(|_| upstream.pick(200, &Tried::new()).unwrap())
            .collect();
        assert!(!picked.contains(&2), "{fails_at}: {picked:?}");
        fails_at += 1;
        if fails_at == slices {
            break;
        }
        // Good again.
        one.upstream("a").unwrap().pick(20_000, &Tried::new());
        one.upstream("a").unwrap().pick(20_000, &Tried::new());
        one.upstream("a").unwrap().succeeded(0);
    }
    assert!(fails_at > 10);
}

#[test]
fn a_row_of_another_incarnation_is_another_server() {
    let mut numbering = Numbering::default();
    let table = snapshot(1, &[("a", Some(vec![server(1, 0, 1)]))]);
    let plan = build(&Rc::default(), table, &mut numbering);
    let next = CounterId {
        index: 0,
        incarnation: 2,
    };
    assert!(plan.find(next).is_none());
    assert!(plan.find(CounterId::default()).is_none());
}
