//! The syncer's life: start, strong_dependency, taking over, reload, dumps, a region that is full.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::scripted::{Consul, Fault};
use common::{CAPACITY, Options, PATIENCE, Syncer, poll};
use weir_master::syncer::dump;
use weir_shm::{Capacity, Publisher, Region};
use weir_worker::channel::{Answer, Order};

const FAKE: &str = "127.0.0.1:11111";
const OTHER: &str = "127.0.0.1:22222";

/// A port on which nobody listens.
fn closed_port() -> u16 {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    gone.local_addr().unwrap().port()
}

fn line(name: &str, servers: &str, port: u16, strong: &str) -> String {
    format!("{name} {servers} {port} up/{name} 5000 500 {strong} -")
}

fn put(consul: &Consul, upstream: &str, addresses: &[&str]) {
    for address in addresses {
        consul.put(&format!("up/{upstream}/{address}"), "");
    }
}

fn refusal(syncer: &Syncer, generation: u64) -> String {
    match syncer.answer() {
        Answer::Refused {
            generation: refused,
            message,
        } if refused == generation => message,
        other => panic!("{other:?}; {}", syncer.log()),
    }
}

#[test]
fn ready_comes_with_the_first_answer_or_when_the_time_is_up() {
    let consul = Consul::start(Fault::None);
    put(&consul, "a", &["1.1.1.1:1"]);
    let syncer = Syncer::start(Options::new(line("a", FAKE, consul.port, "off"))).ready();
    assert_eq!(
        syncer.table("a").1.unwrap(),
        ["1.1.1.1:1"],
        "published before it is ready"
    );
    syncer.end().unwrap();

    let silent = Consul::start(Fault::Silent);
    let began = Instant::now();
    let syncer = Syncer::start(Options::new(line("a", FAKE, silent.port, "off"))).ready();
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert_eq!(syncer.table("a").1.unwrap(), [FAKE]);
    let ending = Instant::now();
    syncer.end().unwrap();
    assert!(
        ending.elapsed() < Duration::from_secs(2),
        "a parked watch does not delay the end"
    );

    let nothing = Syncer::start(Options::new(format!("a {FAKE} - - 0 0 off -"))).ready();
    nothing.end().unwrap();
}

#[test]
fn the_end_of_the_master_ends_the_syncer() {
    let mut syncer = Syncer::start(Options::new(format!("a {FAKE} - - 0 0 off -"))).ready();
    let (ours, _theirs) = weir_worker::channel::Channel::pair().unwrap();
    drop(std::mem::replace(&mut syncer.channel, ours));
    syncer.ended().unwrap();
}

#[test]
fn strong_dependency_needs_an_answer_or_servers_from_before() {
    let text = line("a", FAKE, closed_port(), "on");
    let failed = Syncer::start(Options::new(text.clone()));
    let message = failed.ended().unwrap_err();
    assert!(message.contains("upstream \"a\"") && message.contains("strong_dependency=on"));

    let learned = Options {
        learned: true,
        ..Options::new(text.clone())
    };
    Syncer::start(learned).ready();
    let respawned = Options {
        respawned: true,
        ..Options::new(text)
    };
    Syncer::start(respawned).ready();

    let empty = Consul::start(Fault::None);
    Syncer::start(Options::new(line("a", FAKE, empty.port, "on"))).ready();
    let nobody = Syncer::start(Options::new(line("a", "-", empty.port, "on")));
    assert!(nobody.ended().is_err());
}

#[test]
fn a_successor_waits_for_the_lock_and_goes_on_from_the_table() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let region = Region::create(&folder.path().join("region"), CAPACITY).unwrap();
    let mut orphan = Publisher::new(&region, region.writer_file().unwrap()).unwrap();
    let servers = dump::parse("server 1.1.1.1:3;\nserver 1.1.1.1:1 weight=5;\n").unwrap();
    let upstream = weir_shm::Upstream {
        name: "a".into(),
        changed: 0,
        learned: true,
        template: None,
        servers,
    };
    orphan
        .publish(vec![upstream.clone()], weir_shm::Seen::NOBODY)
        .unwrap();

    let consul = Consul::start(Fault::None);
    let options = Options {
        respawned: true,
        ..Options::new(line("a", FAKE, consul.port, "on"))
    };
    let syncer = Syncer::on(region, Arc::clone(&folder), options);
    syncer.channel.set_nonblocking(true).unwrap();
    let version = orphan.publish(
        vec![weir_shm::Upstream {
            servers: vec![],
            ..upstream.clone()
        }],
        weir_shm::Seen::NOBODY,
    );
    orphan
        .publish(vec![upstream], weir_shm::Seen::NOBODY)
        .unwrap();
    assert!(version.unwrap().changed);
    assert!(
        syncer.channel.recv::<Answer>().is_err(),
        "it has no lock yet"
    );
    assert!(consul.asked().is_empty());
    drop(orphan);
    syncer.channel.set_nonblocking(false).unwrap();
    let syncer = syncer.ready();
    let (version, servers) = syncer.table("a");
    assert_eq!(
        (version, servers.unwrap()),
        (3, vec!["1.1.1.1:3".into(), "1.1.1.1:1".into()])
    );
    let keys = ["up/a/1.1.1.1:1", "up/a/1.1.1.1:2", "up/a/1.1.1.1:3"];
    consul.transaction(&keys.map(|key| (key, Some(""))));
    poll("the order of before", || {
        let servers = syncer.table("a").1.unwrap();
        (servers == ["1.1.1.1:2", "1.1.1.1:3", "1.1.1.1:1"]).then_some(())
    });
}

#[test]
fn a_reload_takes_in_new_upstreams_and_lets_old_ones_go() {
    let consul = Consul::start(Fault::None);
    put(&consul, "a", &["1.1.1.1:1"]);
    put(&consul, "b", &["2.2.2.2:1", "2.2.2.2:2"]);
    let a = line("a", FAKE, consul.port, "off");
    let old = format!("{a}\ngone {OTHER} - - 0 0 off -\nstatic {FAKE} - - 0 0 off -");
    let syncer = Syncer::start(Options::new(old)).ready();
    let new = format!(
        "static {OTHER} - - 0 0 off -\n{}\n{}",
        line("b", FAKE, consul.port, "on"),
        line("a", OTHER, consul.port, "off")
    );
    syncer.prepare(2, &new);
    assert_eq!(
        syncer.answer(),
        Answer::Prepared { generation: 2 },
        "{}",
        syncer.log()
    );
    assert_eq!(syncer.table("b").1.unwrap(), ["2.2.2.2:2", "2.2.2.2:1"]);
    assert_eq!(
        syncer.table("static").1.unwrap(),
        [FAKE],
        "not in force yet"
    );
    assert_eq!(syncer.table("gone").1.unwrap(), [OTHER]);
    put(&consul, "a", &["1.1.1.1:2"]);
    syncer.wait_for("a", &["1.1.1.1:2", "1.1.1.1:1"]);

    syncer.order(&Order::Commit { generation: 2 });
    assert_eq!(syncer.answer(), Answer::Committed { generation: 2 });
    assert_eq!(syncer.table("static").1.unwrap(), [OTHER]);
    assert_eq!(syncer.table("gone").1, None);
    assert_eq!(
        syncer.table("a").1.unwrap(),
        ["1.1.1.1:2", "1.1.1.1:1"],
        "it keeps its servers"
    );
    let asked_for_a = consul
        .asked()
        .iter()
        .filter(|a| a.target.contains("up/a/") && a.index == 0)
        .count();
    assert_eq!(asked_for_a, 1, "its watch goes on");
    put(&consul, "b", &["2.2.2.2:3"]);
    syncer.wait_for("b", &["2.2.2.2:3", "2.2.2.2:2", "2.2.2.2:1"]);
    syncer.order(&Order::Commit { generation: 2 });
    assert!(refusal(&syncer, 2).contains("not prepared"));
}

#[test]
fn a_reload_that_is_refused_or_aborted_leaves_everything() {
    let consul = Consul::start(Fault::None);
    put(&consul, "a", &["1.1.1.1:1"]);
    put(&consul, "b", &["2.2.2.2:1"]);
    let a = line("a", FAKE, consul.port, "off");
    let syncer = Syncer::start(Options::new(a.clone())).ready();
    let as_before = |syncer: &Syncer| {
        poll("the old table", || {
            let a = syncer.table("a").1 == Some(vec!["1.1.1.1:1".into()]);
            (a && syncer.table("b").1.is_none()).then_some(())
        });
    };

    syncer.prepare(2, "nonsense");
    assert_eq!(
        refusal(&syncer, 2),
        "invalid line \"nonsense\" in test.conf:1"
    );
    syncer.prepare(3, &format!("{a}\n{}", line("b", FAKE, closed_port(), "on")));
    assert!(refusal(&syncer, 3).contains("strong_dependency=on"));
    as_before(&syncer);

    syncer.prepare(4, &format!("{a}\n{}", line("b", FAKE, consul.port, "on")));
    assert_eq!(syncer.answer(), Answer::Prepared { generation: 4 });
    assert_eq!(syncer.table("b").1.unwrap(), ["2.2.2.2:1"]);
    syncer.order(&Order::Abort { generation: 4 });
    as_before(&syncer);

    // The source of an upstream changes: the old list serves until commit, and without a new
    // answer also after it.
    syncer.prepare(5, &line("a", FAKE, closed_port(), "on"));
    assert_eq!(syncer.answer(), Answer::Prepared { generation: 5 });
    syncer.order(&Order::Commit { generation: 5 });
    assert_eq!(syncer.answer(), Answer::Committed { generation: 5 });
    as_before(&syncer);
}

#[test]
fn dumps_are_written_behind_publishes() {
    let consul = Consul::start(Fault::None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers_a.conf");
    let text = |dump: &std::path::Path| {
        format!(
            "a {FAKE} {} up/a 5000 500 off {}",
            consul.port,
            dump.display()
        )
    };
    let syncer = Syncer::start(Options::new(text(&path))).ready();
    assert!(!path.exists(), "nothing was learned");
    consul.put(
        "up/a/127.0.0.1:8088",
        r#"{"weight":40,"max_fails":3,"fail_timeout":20,"down":1}"#,
    );
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let line = "server 127.0.0.1:8088 weight=40 max_fails=3 fail_timeout=20s down;\n";
    poll("the dump", || (read(&path) == line).then_some(()));
    put(&consul, "a", &["127.0.0.1:8089"]);
    let lines = format!("server 127.0.0.1:8089 weight=1 max_fails=2 fail_timeout=10s;\n{line}");
    poll("the dump", || (read(&path) == lines).then_some(()));

    let moved = folder.path().join("moved.conf");
    syncer.prepare(2, &text(&moved));
    assert_eq!(syncer.answer(), Answer::Prepared { generation: 2 });
    syncer.order(&Order::Commit { generation: 2 });
    assert_eq!(syncer.answer(), Answer::Committed { generation: 2 });
    poll("the dump at its new path", || {
        (read(&moved) == lines).then_some(())
    });

    let nowhere = folder.path().join("absent/servers.conf");
    syncer.prepare(3, &text(&nowhere));
    assert_eq!(syncer.answer(), Answer::Prepared { generation: 3 });
    syncer.order(&Order::Commit { generation: 3 });
    assert_eq!(syncer.answer(), Answer::Committed { generation: 3 });
    syncer.wait_for_log("could not be written");
    put(&consul, "a", &["127.0.0.1:8090"]);
    syncer.wait_for("a", &["127.0.0.1:8090", "127.0.0.1:8089", "127.0.0.1:8088"]);
    assert_eq!(syncer.log().matches("could not be written").count(), 1);
}

#[test]
fn what_does_not_fit_the_region_is_held_alone() {
    let consul = Consul::start(Fault::None);
    let capacity = Capacity {
        servers: 4,
        ..CAPACITY
    };
    let lines = [
        line("a", FAKE, consul.port, "off"),
        line("b", FAKE, consul.port, "off"),
    ];
    let options = Options {
        capacity,
        ..Options::new(lines.join("\n"))
    };
    let syncer = Syncer::start(options).ready();
    put(&consul, "a", &["1.1.1.1:1", "1.1.1.1:2"]);
    syncer.wait_for("a", &["1.1.1.1:2", "1.1.1.1:1"]);
    put(&consul, "b", &["2.2.2.2:1"]);
    syncer.wait_for("b", &["2.2.2.2:1"]);
    put(&consul, "b", &["2.2.2.2:2", "2.2.2.2:3"]);
    syncer.wait_for_log(
        "upstream \"b\" with 3 servers waits for room: table with 5 servers does not fit",
    );
    consul.put("up/a/1.1.1.1:1", r#"{"weight":9}"#);
    poll("a change of the other upstream", || {
        let table = weir_shm::Reader::open(&syncer.region())
            .unwrap()
            .table()
            .unwrap();
        table.upstreams[0]
            .servers
            .iter()
            .any(|s| s.weight == 9)
            .then_some(())
    });
    consul.delete("up/a/1.1.1.1:2");
    syncer.wait_for("b", &["2.2.2.2:3", "2.2.2.2:2", "2.2.2.2:1"]);
    assert_eq!(
        syncer.log().matches("waits for room").count(),
        1,
        "{}",
        syncer.log()
    );
}

/// Room may come without a publish, when the workers have left what was removed; answers that
/// change nothing keep coming meanwhile and must not put the next try off.
#[test]
fn what_is_held_is_tried_again_although_answers_keep_coming() {
    let consul = Consul::start(Fault::None);
    let capacity = Capacity {
        servers: 4,
        ..CAPACITY
    };
    let lines = [
        line("a", FAKE, consul.port, "off"),
        line("b", "-", consul.port, "off"),
    ];
    let options = Options {
        capacity,
        ..Options::new(lines.join("\n"))
    };
    let syncer = Syncer::start(options).ready();
    put(&consul, "a", &["1.1.1.1:1", "1.1.1.1:2", "1.1.1.1:3"]);
    let old = syncer.wait_for("a", &["1.1.1.1:3", "1.1.1.1:2", "1.1.1.1:1"]);
    let worker = Region::open(&syncer.region()).unwrap().worker(0).unwrap();
    worker.scoreboard().set_table_version(old);
    consul.delete("up/a/1.1.1.1:3");
    let new = syncer.wait_for("a", &["1.1.1.1:2", "1.1.1.1:1"]);
    put(&consul, "b", &["2.2.2.2:1", "2.2.2.2:2"]);
    syncer.wait_for_log("upstream \"b\" with 2 servers waits for room");
    consul.fault(Fault::NoWait, true);
    let asked = consul.asked().len();
    poll("a row of answers", || {
        (consul.asked().len() > asked + 12).then_some(())
    });
    worker.scoreboard().set_table_version(new);
    syncer.wait_for("b", &["2.2.2.2:2", "2.2.2.2:1"]);
}

/// Consul closes what is beyond 200 connections from one address.
#[test]
fn hundreds_of_upstreams_share_a_connection() {
    const COUNT: usize = 300;
    let consul = Consul::start(Fault::None);
    let name = |number: usize| format!("u{number}");
    for number in 0..COUNT {
        put(
            &consul,
            &name(number),
            &[&format!("1.1.1.1:{}", number + 1)],
        );
    }
    put(&consul, "u7/nested", &["9.9.9.9:9"]);
    put(&consul, "u77x", &["9.9.9.9:9"]);
    let lines = |numbers: std::ops::Range<usize>| {
        let lines = numbers.map(|number| line(&name(number), FAKE, consul.port, "off"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let options = Options {
        capacity: Capacity {
            servers: 1024,
            upstreams: 1024,
            ..CAPACITY
        },
        ..Options::new(lines(0..COUNT - 1))
    };
    let syncer = Syncer::start(options).ready();
    for number in [0, 7, 77, COUNT - 2] {
        syncer.wait_for(&name(number), &[&format!("1.1.1.1:{}", number + 1)]);
    }
    put(&consul, "u7", &["2.2.2.2:2"]);
    syncer.wait_for("u7", &["2.2.2.2:2", "1.1.1.1:8"]);
    consul.put("up/u8/bad", "bad");
    syncer.wait_for_log("upstream \"u8\": key \"up/u8/bad\" is skipped");
    assert_eq!(consul.connections(), 1);

    // One comes, and all but one that shared the watch go: it stays for that one.
    syncer.prepare(2, &lines(COUNT - 2..COUNT));
    assert_eq!(syncer.answer(), Answer::Prepared { generation: 2 });
    syncer.order(&Order::Commit { generation: 2 });
    assert_eq!(syncer.answer(), Answer::Committed { generation: 2 });
    put(&consul, "u298", &["2.2.2.2:2"]);
    syncer.wait_for("u298", &["2.2.2.2:2", "1.1.1.1:299"]);
    put(&consul, "u299", &["2.2.2.2:2"]);
    syncer.wait_for("u299", &["2.2.2.2:2", "1.1.1.1:300"]);
    assert_eq!(consul.connections(), 2);
    assert!(!syncer.log().contains("recv error"), "{}", syncer.log());
}

#[test]
fn ten_thousand_servers_are_soon_published() {
    let consul = Consul::start(Fault::None);
    let text = line("a", FAKE, consul.port, "off");
    let capacity = Capacity {
        servers: 32_768,
        ..CAPACITY
    };
    for number in 0..10_000 {
        consul.put(
            &format!("up/a/10.0.{}.{}:80", number / 250, number % 250),
            "",
        );
    }
    let options = Options {
        capacity,
        ..Options::new(text)
    };
    let syncer = Syncer::start(options).ready();
    poll("10,000 servers", || {
        (syncer.table("a").1?.len() == 10_000).then_some(())
    });
    let put = Instant::now();
    consul.put("up/a/10.9.9.9:80", "");
    poll("one more", || {
        (syncer.table("a").1?.len() == 10_001).then_some(())
    });
    assert!(put.elapsed() < PATIENCE / 4);
}
