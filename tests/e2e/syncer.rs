//! Consul's keys, and a connection to Consul that breaks in every way.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use crate::support::backend::{Backend, Then, ok};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Ending, Fault, FaultProxy, Upto};
use crate::support::weir::{SOON, Setup, Weir, in_server};
use crate::support::{PATIENCE, free_port, holds_for, wait_until};

const SHOW: &str =
    "location = /upstream_show { upstream_show; } location / { proxy_pass http://test; }";

/// An upstream `test` that watches `folder` at a Consul's address.
fn watching(address: &str, folder: &str) -> Setup {
    Setup::http(&format!(
        "upstream test {{ server 127.0.0.1:11111; upsync {address}/v1/kv/{folder} upsync_timeout=6m \
         upsync_interval=500ms upsync_type=consul strong_dependency=off; }}\n{}",
        in_server(SHOW)
    ))
    .workers(1)
}

/// The addresses that are shown, in order.
fn shown(weir: &Weir) -> Vec<String> {
    let text = weir.shown("test");
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn wait_servers(weir: &Weir, expected: &[&str]) {
    wait_until(SOON, &format!("{expected:?} are shown"), || {
        shown(weir) == expected
    });
}

/// How often each index was asked for.
fn askings(proxy: &FaultProxy) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for target in proxy.requests() {
        let index = target
            .split(['?', '&'])
            .find_map(|part| part.strip_prefix("index="));
        *counts
            .entry(index.unwrap_or("none").to_owned())
            .or_default() += 1;
    }
    counts
}

/// Puts keys one at a time, each of which must appear by itself.
#[track_caller]
fn each_put_appears(fault: Fault) -> FaultProxy {
    let consul = Consul::shared();
    let folder = consul::folder();
    let proxy = FaultProxy::start(&consul.address(), fault);
    let weir = watching(proxy.address(), &folder).start();
    let mut expected: Vec<String> = Vec::new();
    for number in 1..=6 {
        expected.insert(0, format!("192.0.2.1:800{number}"));
        consul.put(&format!("{folder}/{}", expected[0]), ENTRY);
        wait_servers(
            &weir,
            &expected.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }
    proxy
}

#[test]
fn each_single_put_appears() {
    each_put_appears(Fault::None);
}

#[test]
fn each_single_put_appears_with_a_reset_after_every_answer() {
    let proxy = each_put_appears(Fault::ResetAfterAnswer);
    let worst = askings(&proxy)
        .into_iter()
        .max_by_key(|(_, times)| *times)
        .unwrap();
    assert!(
        worst.1 <= 3,
        "index {} was asked for {} times",
        worst.0,
        worst.1
    );
}

#[test]
fn each_single_put_appears_with_a_reset_of_every_reused_connection() {
    let proxy = each_put_appears(Fault::ResetOnReuse);
    let worst = askings(&proxy)
        .into_iter()
        .max_by_key(|(_, times)| *times)
        .unwrap();
    assert!(
        worst.1 <= 6,
        "index {} was asked for {} times",
        worst.0,
        worst.1
    );
}

/// The article's log: one index asked for again and again, a reset each time, nothing learnt.
#[test]
fn the_articles_stall_does_not_happen() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.168.56.12:8001"), ENTRY);
    let proxy = FaultProxy::start(&consul.address(), Fault::ResetAfterAnswer);
    let weir = watching(proxy.address(), &folder).start();
    wait_servers(&weir, &["192.168.56.12:8001"]);
    consul.put(&format!("{folder}/192.168.56.12:8002"), ENTRY);
    wait_servers(&weir, &["192.168.56.12:8002", "192.168.56.12:8001"]);
    // The same value again moves the index without a change, and must not cause a hot loop.
    for _ in 0..5 {
        consul.put(&format!("{folder}/192.168.56.12:8002"), ENTRY);
    }
    let index = consul.index(&folder);
    wait_until(SOON, "the last index is waited for", || {
        askings(&proxy).contains_key(&index.to_string())
    });
    holds_for(
        Duration::from_secs(1),
        "no index is asked for in a loop",
        || askings(&proxy).values().all(|times| *times <= 3),
    );
    assert_eq!(shown(&weir), ["192.168.56.12:8002", "192.168.56.12:8001"]);
}

#[test]
fn truncated_answers_are_errors_that_change_nothing() {
    let consul = Consul::shared();
    for ending in [Ending::Fin, Ending::Reset] {
        let folder = consul::folder();
        consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
        let proxy = FaultProxy::start(&consul.address(), Fault::None);
        let weir = watching(proxy.address(), &folder).start();
        wait_servers(&weir, &["192.0.2.1:1"]);
        proxy.set(Fault::Cut(Upto::Missing(5), ending));
        let before = proxy.requests().len();
        consul.put(&format!("{folder}/192.0.2.1:2"), ENTRY);
        weir.wait_log(&format!(
            "upsync_recv: recv error with upsync_server: {}",
            proxy.address()
        ));
        wait_until(SOON, "it is asked again", || {
            proxy.requests().len() > before + 3
        });
        assert_eq!(shown(&weir), ["192.0.2.1:1"]);
        proxy.set(Fault::None);
        wait_servers(&weir, &["192.0.2.1:2", "192.0.2.1:1"]);
    }
}

#[test]
fn a_damaged_answer_is_asked_for_again() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let weir = watching(proxy.address(), &folder).start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    // Only one answer, the one with the news, is damaged; its index must not count as seen.
    proxy.once(Fault::Body("[{\"damaged\":".to_owned()));
    consul.put(&format!("{folder}/192.0.2.1:2"), ENTRY);
    wait_servers(&weir, &["192.0.2.1:2", "192.0.2.1:1"]);
    proxy.once(Fault::Answer(
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops".to_owned(),
    ));
    consul.put(&format!("{folder}/192.0.2.1:3"), ENTRY);
    wait_servers(&weir, &["192.0.2.1:3", "192.0.2.1:2", "192.0.2.1:1"]);
}

#[test]
fn consul_that_is_away_for_a_while() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let weir = watching(&address, &folder).start();
    weir.wait_log(&format!("upsync_server: {address}"));
    assert_eq!(
        shown(&weir),
        ["127.0.0.1:11111"],
        "the configured server serves meanwhile"
    );
    let proxy = FaultProxy::start_at(port, &consul.address(), Fault::None);
    wait_servers(&weir, &["192.0.2.1:1"]);
    proxy.set(Fault::ResetAtOnce);
    proxy.reset_open();
    weir.wait_log(&format!(
        "upsync_recv: recv error with upsync_server: {address}"
    ));
    consul.put(&format!("{folder}/192.0.2.1:2"), ENTRY);
    let asked = proxy.accepted();
    wait_until(SOON, "it is tried again and again", || {
        proxy.accepted() > asked + 2
    });
    assert_eq!(shown(&weir), ["192.0.2.1:1"], "what was known stays");
    proxy.set(Fault::None);
    wait_servers(&weir, &["192.0.2.1:2", "192.0.2.1:1"]);
}

#[test]
fn a_mute_consul_is_noticed() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let proxy = FaultProxy::start(&consul.address(), Fault::Mute);
    // wait + wait/16 + 2 s is the deadline of a long poll; upsync_timeout caps a request here.
    let text = format!(
        "upstream test {{ server 127.0.0.1:11111; upsync {}/v1/kv/{folder} upsync_timeout=1s \
         upsync_interval=100ms upsync_type=consul; }}\n{}",
        proxy.address(),
        in_server(SHOW)
    );
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let weir = Setup::http(&text).workers(1).start();
    weir.wait_log(&format!(
        "upsync_recv: recv error with upsync_server: {}",
        proxy.address()
    ));
    proxy.set(Fault::None);
    wait_servers(&weir, &["192.0.2.1:1"]);
}

#[test]
fn an_index_that_goes_backwards_starts_again() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let first = Consul::start_at(port);
    for number in 0..300 {
        first.put("moves/the/index", &number.to_string());
    }
    first.put("up/test/192.0.2.1:1", ENTRY);
    let weir = watching(&address, "up/test").start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    drop(first);
    // A new agent counts from the beginning, far below the index that weir waits for.
    let second = Consul::start_at(port);
    second.put("up/test/192.0.2.1:2", ENTRY);
    wait_until(PATIENCE, "the new Consul's list is taken", || {
        shown(&weir) == ["192.0.2.1:2"]
    });
    second.put("up/test/192.0.2.1:3", ENTRY);
    wait_servers(&weir, &["192.0.2.1:3", "192.0.2.1:2"]);
}

#[test]
fn only_whole_segments_and_good_entries_count() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let other = format!("{folder}2");
    consul.put(&format!("{other}/192.0.2.9:9"), ENTRY);
    consul.put(&format!("{folder}/nested/192.0.2.8:8"), ENTRY);
    consul.put(&format!("{folder}/192.0.2.1:1"), "");
    consul.put(
        &format!("{folder}/[2001:db8::1]:80"),
        r#"{"weight":"3","max_fails":"0","down":"1"}"#,
    );
    consul.put(
        &format!("{folder}/any-name"),
        r#"{"server":"192.0.2.3:3","fail_timeout":30,"backup":1}"#,
    );
    consul.put(&format!("{folder}/192.0.2.4:4"), "{not json");
    consul.put(&format!("{folder}/no-address"), ENTRY);
    consul.put(&format!("{folder}/192.0.2.5:5"), r#"{"weight":-1}"#);
    let weir = watching(&consul.address(), &folder).start();
    let line = |rest: &str| format!("        server {rest};");
    let expected = [
        line("192.0.2.3:3 weight=1 max_fails=2 fail_timeout=30s backup"),
        line("[2001:db8::1]:80 weight=3 max_fails=0 fail_timeout=10s down"),
        line("192.0.2.1:1 weight=1 max_fails=2 fail_timeout=10s"),
    ];
    wait_until(SOON, "three servers are shown", || shown(&weir).len() == 3);
    let text = weir.shown("test").replace(" backup;", ";");
    for line in &expected {
        assert!(
            text.contains(&line.replace(" backup", "")),
            "{line}\n{text}"
        );
    }
    for bad in ["192.0.2.4:4", "no-address", "192.0.2.5:5"] {
        let logged = || {
            weir.error_log()
                .lines()
                .filter(|line| line.contains(&format!("{folder}/{bad}")))
                .count()
        };
        wait_until(SOON, &format!("{bad} is logged"), || logged() > 0);
    }
    // Each is logged once, not again with every answer.
    for number in 0..3 {
        consul.put(
            &format!("{folder}/192.0.2.1:1"),
            &format!(r#"{{"weight":{}}}"#, number + 2),
        );
        wait_until(SOON, "the good one follows", || {
            weir.shown("test")
                .contains(&format!("192.0.2.1:1 weight={} ", number + 2))
        });
    }
    let lines = weir
        .error_log()
        .lines()
        .filter(|line| line.contains(&format!("{folder}/192.0.2.4:4")))
        .count();
    assert_eq!(lines, 1, "once per ModifyIndex");
    consul.put(&format!("{folder}/192.0.2.4:4"), "{still not json");
    wait_until(SOON, "its next value is logged", || {
        weir.error_log()
            .lines()
            .filter(|line| line.contains(&format!("{folder}/192.0.2.4:4")))
            .count()
            == 2
    });
}

/// Consul takes 200 connections from one address unless it is told otherwise.
#[test]
fn many_upstreams_share_one_consul_and_workers_add_no_connections() {
    let consul = Consul::shared();
    for (count, most) in [(5, 5), (300, 1)] {
        let root = consul::folder();
        let proxy = FaultProxy::start(&consul.address(), Fault::None);
        let address = proxy.address();
        let upstream = |number: usize| {
            format!(
                "upstream u{number} {{ upsync {address}/v1/kv/{root}/u{number} upsync_type=consul; }}\n"
            )
        };
        let text: String = (0..count).map(upstream).collect();
        let entry = |number: usize| {
            (
                format!("u{number}/192.0.2.1:{}", number + 1),
                ENTRY.to_owned(),
            )
        };
        consul.put_many(&root, &(0..count).map(entry).collect::<Vec<_>>());
        let text = text + &in_server("location = /upstream_show { upstream_show; }");
        let weir = Setup::http(&text).workers(4).start();
        let has = |number: usize, port: usize| {
            weir.shown(&format!("u{number}"))
                .contains(&format!("192.0.2.1:{port} "))
        };
        wait_until(SOON, "each has its own server", || {
            (0..count).all(|number| has(number, number + 1))
        });
        let last = count - 1;
        consul.put(&format!("{root}/u{last}/192.0.2.1:9999"), ENTRY);
        wait_until(SOON, "one more is seen", || has(last, 9999));
        let connections = proxy.accepted();
        assert!(
            connections <= most,
            "{connections} connections for {count} upstreams and 4 workers"
        );
    }
}

#[test]
fn one_put_reaches_a_live_request() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let [a, b] = ["a", "b"].map(Backend::named);
    consul.put(&format!("{folder}/{}", a.address()), ENTRY);
    let weir = watching(&consul.address(), &folder).start();
    let mut client = weir.connect();
    wait_until(SOON, "the first serves", || {
        client.get("/").unwrap().text() == "a\n"
    });
    consul.put(&format!("{folder}/{}", b.address()), ENTRY);
    wait_until(SOON, "the second serves on the same connection", || {
        client.get("/").unwrap().text() == "b\n"
    });
    consul.put(&format!("{folder}/{}", a.address()), r#"{"down":1}"#);
    wait_until(SOON, "the first is down", || {
        weir.shown("test").contains(" down;")
    });
    wait_until(SOON, "only the second serves", || {
        (0..6).all(|_| client.get("/").unwrap().text() == "b\n")
    });
}

#[test]
fn a_request_in_flight_at_a_removed_server_finishes_there() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let (sender, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let leaving = Backend::answering(move |request, out| {
        if request.target == "/slow" {
            let _ = gate.lock().unwrap().recv();
        }
        let _ = out.write_all(&ok("leaving\n"));
        Then::Keep
    });
    let staying = Backend::named("staying");
    consul.put(&format!("{folder}/{}", leaving.address()), ENTRY);
    let weir = watching(&consul.address(), &folder).start();
    wait_servers(&weir, &[leaving.address()]);
    let mut slow = weir.connect();
    slow.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    wait_until(SOON, "it is in flight", || leaving.count() == 1);
    consul.put(&format!("{folder}/{}", staying.address()), ENTRY);
    consul.delete(&format!("{folder}/{}", leaving.address()));
    wait_servers(&weir, &[staying.address()]);
    let counted = || {
        let counters = weir.weirctl_json(&["counters"]);
        let rows = counters["servers"].as_array().unwrap().clone();
        rows.into_iter()
            .find(|row| row["address"] == leaving.address())
    };
    let row = counted().expect("it is listed until nothing is in flight");
    assert_eq!(
        (&row["leaving"], &row["in_flight"]),
        (&true.into(), &1.into())
    );
    assert_eq!(weir.get("/").text(), "staying\n");
    sender.send(()).unwrap();
    assert_eq!(slow.response("GET").unwrap().text(), "leaving\n");
    assert_eq!(slow.get("/").unwrap().text(), "staying\n");
}

#[test]
fn equal_content_is_not_published_again() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let entry = format!("{folder}/192.0.2.1:1");
    consul.put(&entry, ENTRY);
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let weir = watching(proxy.address(), &folder).start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    let version = || weir.weirctl_json(&["table"])["version"].as_u64();
    let before = version();
    for _ in 0..3 {
        consul.put(&entry, ENTRY);
        let index = consul.index(&folder).to_string();
        wait_until(SOON, "the new index is asked for", || {
            askings(&proxy).contains_key(&index)
        });
    }
    assert_eq!(version(), before);
    consul.put(&entry, r#"{"weight":2}"#);
    wait_until(SOON, "a change is published", || version() > before);
}

/// wait + wait/16 + 2 s, with a wait of 10 s.
const HALF_OPEN: Duration = Duration::from_millis(12_625);

#[test]
fn a_half_open_consul_is_noticed_in_time() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let weir = watching(proxy.address(), &folder).start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    // One answer, with the only news, gets lost, and the connection stays open.
    proxy.once(Fault::Mute);
    consul.put(&format!("{folder}/192.0.2.1:2"), ENTRY);
    wait_until(HALF_OPEN + SOON, "the news is asked for again", || {
        shown(&weir).len() == 2
    });
}
