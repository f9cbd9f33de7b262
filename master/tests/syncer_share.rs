//! Upstreams that share a watch, and those that take turns.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::time::{Duration, Instant};

use common::scripted::{Consul, Fault};
use common::{CAPACITY, Options, Syncer, poll};
use weir_shm::Capacity;
use weir_worker::channel::{Answer, Order};

const FAKE: &str = "127.0.0.1:11111";

/// A line of the configuration, with an interval of 100 ms.
fn line(name: &str, consul: &Consul, prefix: &str) -> String {
    format!("{name} {FAKE} {} {prefix} 5000 100 off -", consul.port)
}

fn text(consul: &Consul, upstreams: &[(&str, &str)]) -> String {
    let lines = upstreams
        .iter()
        .map(|(name, prefix)| line(name, consul, prefix));
    lines.collect::<Vec<_>>().join("\n")
}

const A_AND_B: [(&str, &str); 2] = [("a", "up/a"), ("b", "up/b")];

/// A Consul with a server of each, and a syncer that has learned them.
fn started(fault: Fault) -> (Consul, Syncer) {
    let consul = Consul::start(fault);
    consul.put("up/a/1.1.1.1:1", "");
    consul.put("up/b/2.2.2.2:2", "");
    let syncer = Syncer::start(Options::new(text(&consul, &A_AND_B))).ready();
    syncer.wait_for("a", &["1.1.1.1:1"]);
    syncer.wait_for("b", &["2.2.2.2:2"]);
    (consul, syncer)
}

/// Both still learn, each by itself.
fn each_learns(consul: &Consul, syncer: &Syncer) {
    consul.put("up/a/1.1.1.1:9", "");
    consul.put("up/b/2.2.2.2:9", "");
    syncer.wait_for("a", &["1.1.1.1:9", "1.1.1.1:1"]);
    syncer.wait_for("b", &["2.2.2.2:9", "2.2.2.2:2"]);
}

#[test]
fn two_below_one_parent_have_one_connection_and_one_version() {
    let (consul, syncer) = started(Fault::None);
    each_learns(&consul, &syncer);
    assert_eq!(consul.connections(), 1);
    assert_eq!(
        (consul.asked_for("up/a/"), consul.asked_for("up/b/")),
        (0, 0)
    );
    let before = syncer.table("a").0;
    consul.transaction(&[("up/a/1.1.1.1:5", Some("")), ("up/b/2.2.2.2:9", None)]);
    let version = syncer.wait_for("a", &["1.1.1.1:5", "1.1.1.1:9", "1.1.1.1:1"]);
    assert_eq!(syncer.wait_for("b", &["2.2.2.2:2"]), version);
    assert_eq!(version, before + 1);
}

#[test]
fn a_folder_that_may_not_be_read_is_watched_by_upstream_until_it_may() {
    let (consul, syncer) = started(Fault::Denied("up/"));
    syncer.wait_for_log("2 upstreams cannot share up/: answered with status 403");
    each_learns(&consul, &syncer);
    consul.fault(Fault::None, false);
    syncer.wait_for_log("up/ is shared again");
    consul.put("up/b/2.2.2.2:7", "");
    syncer.wait_for("b", &["2.2.2.2:7", "2.2.2.2:9", "2.2.2.2:2"]);
    // Only the shared watch goes on.
    poll("the end of the others", || {
        let singles = || consul.asked_for("up/a/") + consul.asked_for("up/b/");
        let (asked, before) = (consul.asked_for("up/"), singles());
        consul.put("up/other", "");
        poll("another answer", || {
            (consul.asked_for("up/") > asked).then_some(())
        });
        (singles() == before).then_some(())
    });
    assert!(!syncer.log().contains("has no server"), "{}", syncer.log());
}

#[test]
fn what_a_parents_answer_hides_is_read_directly_and_nothing_is_removed() {
    for marked in [false, true] {
        let (consul, syncer) = started(Fault::None);
        let hides = Fault::Hidden {
            folder: "up/",
            hidden: "up/b/",
            marked,
        };
        consul.fault(hides, true);
        consul.put("up/a/1.1.1.1:2", "");
        let why = match marked {
            false => "2 upstreams cannot share up/: it hides up/b",
            true => "2 upstreams cannot share up/: the token may not read all of it",
        };
        syncer.wait_for_log(why);
        syncer.wait_for("a", &["1.1.1.1:2", "1.1.1.1:1"]);
        syncer.wait_for("b", &["2.2.2.2:2"]);
        consul.put("up/b/2.2.2.2:3", "");
        syncer.wait_for("b", &["2.2.2.2:3", "2.2.2.2:2"]);
        assert!(!syncer.log().contains("has no server"), "{}", syncer.log());
    }
}

#[test]
fn what_is_really_gone_is_found_gone_by_a_direct_read() {
    let (consul, syncer) = started(Fault::None);
    assert_eq!(consul.asked_for("up/b/"), 0);
    consul.delete("up/b/2.2.2.2:2");
    syncer.wait_for_log("upstream \"b\": has no server");
    assert_eq!(consul.asked_for("up/b/"), 1);
    // It is known to be empty: no further one.
    let asked = consul.asked_for("up/");
    consul.put("up/a/1.1.1.1:2", "");
    syncer.wait_for("a", &["1.1.1.1:2", "1.1.1.1:1"]);
    poll("the next query", || {
        (consul.asked_for("up/") > asked).then_some(())
    });
    assert_eq!(consul.asked_for("up/b/"), 1);
    consul.put("up/b/2.2.2.2:3", "");
    syncer.wait_for("b", &["2.2.2.2:3", "2.2.2.2:2"][..1]);
    assert!(!syncer.log().contains("cannot share"), "{}", syncer.log());
}

/// Most servers of one upstream go at once: that is read a second time, by itself, and other changes
/// do not wait for it.
#[test]
fn a_large_removal_is_read_a_second_time() {
    let (consul, syncer) = started(Fault::None);
    let keys: Vec<_> = (3..9).map(|port| format!("up/b/2.2.2.2:{port}")).collect();
    let came: Vec<_> = keys.iter().map(|key| (key.as_str(), Some(""))).collect();
    consul.transaction(&came);
    poll("seven servers", || {
        (syncer.table("b").1?.len() == 7).then_some(())
    });
    assert_eq!(consul.asked_for("up/b/"), 0);

    let gone: Vec<_> = keys.iter().map(|key| (key.as_str(), None)).collect();
    let removed = Instant::now();
    consul.transaction(&gone);
    syncer.wait_for_log("it is read a second time");
    consul.put("up/a/1.1.1.1:2", "");
    syncer.wait_for("a", &["1.1.1.1:2", "1.1.1.1:1"]);
    syncer.wait_for("b", &["2.2.2.2:2"]);
    assert!(removed.elapsed() >= Duration::from_millis(400));
    assert_eq!(consul.asked_for("up/b/"), 1);
    assert_eq!(consul.connections(), 1);
}

#[test]
fn much_of_others_below_the_parent_ends_the_sharing() {
    let consul = Consul::start(Fault::None);
    consul.put("up/a/1.1.1.1:1", "");
    consul.put("up/b/2.2.2.2:2", "");
    let large = " ".repeat(500_000);
    for number in 0..14 {
        consul.put(&format!("up/photos/{number}"), &large);
    }
    let syncer = Syncer::start(Options::new(text(&consul, &A_AND_B))).ready();
    syncer.wait_for("b", &["2.2.2.2:2"]);
    syncer.wait_for_log("2 upstreams cannot share up/: it has 93");
    each_learns(&consul, &syncer);
}

#[test]
fn a_reload_changes_who_shares_and_loses_nothing() {
    let (consul, syncer) = started(Fault::None);
    consul.put("up/c/3.3.3.3:3", "");
    let mut generation = 1;
    let mut reload = |upstreams: &[(&str, &str)]| {
        generation += 1;
        syncer.prepare(generation, &text(&consul, upstreams));
        assert_eq!(syncer.answer(), Answer::Prepared { generation });
        syncer.order(&Order::Commit { generation });
        assert_eq!(syncer.answer(), Answer::Committed { generation });
    };
    let mut list = vec!["3.3.3.3:3".to_owned()];
    let mut changes = |count: usize| {
        for _ in 0..count {
            let port = 3 + list.len();
            list.insert(0, format!("3.3.3.3:{port}"));
            consul.put(&format!("up/c/{}", list[0]), "");
            syncer.wait_for("c", &list.iter().map(String::as_str).collect::<Vec<_>>());
        }
    };
    // It joins a parked watch, is left alone, and shares again.
    reload(&[("a", "up/a"), ("b", "up/b"), ("c", "up/c")]);
    changes(3);
    reload(&[("c", "up/c")]);
    changes(3);
    reload(&[("b", "up/b"), ("c", "up/c")]);
    changes(3);
    syncer.wait_for("b", &["2.2.2.2:2"]);
    let parked = consul.asked().last().unwrap().target.clone();
    assert!(parked.starts_with("/v1/kv/up/?"), "{parked}");
}

/// Consul takes 200 connections from one address.
#[test]
fn hundreds_with_a_parent_each_take_turns() {
    const COUNT: usize = 300;
    let consul = Consul::start(Fault::None);
    let name = |number: usize| format!("u{number}");
    let lines: Vec<_> = (0..COUNT)
        .map(|number| {
            consul.put(&format!("p{number}/x/1.1.1.1:{}", number + 1), "");
            line(&name(number), &consul, &format!("p{number}/x"))
        })
        .collect();
    let options = Options {
        capacity: Capacity {
            servers: 2048,
            upstreams: 512,
            ..CAPACITY
        },
        ..Options::new(lines.join("\n"))
    };
    let syncer = Syncer::start(options).ready();
    syncer.wait_for("u299", &["1.1.1.1:300"]);
    for number in [0, 150, 299, 77, 298] {
        let put = Instant::now();
        consul.put(&format!("p{number}/x/2.2.2.2:2"), "");
        let own = format!("1.1.1.1:{}", number + 1);
        syncer.wait_for(&name(number), &["2.2.2.2:2", &own]);
        let took = put.elapsed();
        assert!(took < Duration::from_secs(6), "{number}: {took:?}");
    }
    let most = consul.most_at_once();
    assert!((100..=128).contains(&most), "{most}");
    assert!(consul.connections() < 2 * COUNT, "{}", consul.connections());
}

/// However many watches it has, a Consul that is away gets few requests.
#[test]
fn watches_of_one_consul_share_the_back_off() {
    let consul = Consul::start(Fault::Status(500));
    let lines: Vec<_> = (0..40)
        .map(|number| line(&format!("u{number}"), &consul, &format!("p{number}/x")))
        .collect();
    let options = Options {
        capacity: Capacity {
            upstreams: 64,
            ..CAPACITY
        },
        ..Options::new(lines.join("\n"))
    };
    let syncer = Syncer::start(options).ready();
    let settled = poll("each to have failed", || {
        let asked = consul.asked();
        (asked.len() >= 50).then_some(asked.len())
    });
    let began = Instant::now();
    poll("two seconds", || {
        (began.elapsed() > Duration::from_secs(2)).then_some(())
    });
    let asked = consul.asked().len() - settled;
    assert!((8..=25).contains(&asked), "{asked} requests in two seconds");
    for number in 0..40 {
        consul.put(&format!("p{number}/x/1.1.1.1:1"), "");
    }
    consul.fault(Fault::None, true);
    for number in 0..40 {
        syncer.wait_for(&format!("u{number}"), &["1.1.1.1:1"]);
    }
}
