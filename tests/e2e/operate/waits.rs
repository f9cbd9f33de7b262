//! What is waited for, what leaves, what is held.

use std::io::Write;
use std::sync::mpsc;

use serde_json::Value;

use super::{addresses, fails, http, shared, told, wait_has};
use crate::support::backend::{Backend, Then, ok};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::process::read_lossy;
use crate::support::wait_until;
use crate::support::weir::{SOON, Setup};

#[test]
fn a_held_answer_is_shown_and_accepted() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let weir = shared(&folder).workers(1).start();
    wait_has(&weir, "192.0.2.1:1");
    assert_eq!(told(&weir, &["guard", "list"]), "held answers 0\n");
    fails(&weir.weirctl(&["guard", "accept", "test"]), 1, "test");
    consul.delete_folder(&folder);
    wait_until(SOON, "it is held", || {
        weir.weirctl_json(&["guard", "list"])["held"][0]["upstream"] == "test"
    });
    assert_eq!(addresses(&weir), ["192.0.2.1:1"]);
    fails(&weir.weirctl(&["check"]), 2, "CRITICAL held: test");
    let index = consul.index(&folder).to_string();
    let late = weir.weirctl(&["wait", "--index", &index, "--timeout", "500ms"]);
    fails(&late, 3, "\"test\": an answer is held: it has no server");
    assert!(told(&weir, &["table"]).contains("an answer is held for "));
    told(&weir, &["pin", "test"]);
    let told_of = told(&weir, &["guard", "accept", "test"]);
    assert!(told_of.contains("\"test\" is pinned: "), "{told_of}");
    assert_eq!(addresses(&weir), ["192.0.2.1:1"]);
    told(&weir, &["unpin", "test"]);
    assert!(told_of.contains("1 upstream accepted"), "{told_of}");
    assert_eq!(told(&weir, &["guard", "list"]), "held answers 0\n");
    assert!(addresses(&weir).is_empty());
    let log = read_lossy(&weir.path("logs/upsync.log"));
    assert!(log.contains(" held=test removes=1 reason="), "{log}");
    assert!(log.contains(" source=unpin index=- "), "{log}");
}

#[test]
fn waiting_ends_in_time_and_says_what_leaves() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let slow = Backend::answering(move |_, stream| {
        let _ = receiver.lock().unwrap().recv();
        let _ = stream.write_all(&ok("late"));
        Then::Keep
    });
    let address = slow.address().to_owned();
    consul.put(&format!("{folder}/{address}"), ENTRY);
    consul.put(&format!("{folder}/192.0.2.1:1"), r#"{"backup":1}"#);
    let weir = shared(&folder).workers(2).start();
    wait_has(&weir, &address);
    let late = weir.weirctl(&["wait", "--has", "test/192.0.2.9:9", "--timeout", "50ms"]);
    fails(&late, 3, "the upstream does not have it");
    fails(
        &weir.weirctl(&["wait", "--has", "test"]),
        2,
        "is not UPSTREAM/IP:PORT",
    );
    fails(&weir.weirctl(&["wait"]), 2, "required");
    let json = weir.weirctl(&["wait", "99999", "--timeout", "10ms", "--json"]);
    let value: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &value["reached"]), (Some(3), &false.into()));

    let mut client = weir.connect();
    let waiting = std::thread::spawn(move || client.get("/").map(|answer| answer.text()));
    wait_until(SOON, "the request is there", || slow.count() == 1);
    consul.delete(&format!("{folder}/{address}"));
    let gone = told(&weir, &["wait", "--gone", &format!("test/{address}")]);
    assert!(
        gone.ends_with("; it is leaving with 1 in flight\n"),
        "{gone}"
    );
    let table = told(&weir, &["table"]);
    assert!(
        table.contains(&format!("leaving {address} in flight 1")),
        "{table}"
    );
    sender.send(()).unwrap();
    assert_eq!(waiting.join().unwrap().unwrap(), "late");
    wait_until(SOON, "it has left", || {
        !told(&weir, &["table"]).contains("leaving")
    });
}

#[test]
fn a_server_of_an_upstream_that_is_none_is_gone_and_that_is_said() {
    let weir = Setup::server("").workers(1).start();
    let gone = told(&weir, &["wait", "--gone", "tset/192.0.2.1:1"]);
    assert!(
        gone.ends_with("; nothing is in flight to it, there is no upstream \"tset\"\n"),
        "{gone}"
    );
}

#[test]
fn an_index_is_reached_when_the_second_read_has_agreed() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let entry = |n: usize| (format!("192.0.2.1:{n}"), ENTRY.to_owned());
    let all: Vec<_> = (1..=8).map(entry).collect();
    consul.put_many(&folder, &all);
    let weir = shared(&folder).workers(1).start();
    wait_has(&weir, "192.0.2.1:8");
    consul.delete_many(&folder, &all[1..]);
    let index = consul.index(&folder).to_string();
    told(&weir, &["wait", "--index", &index, "--upstream", "test"]);
    assert_eq!(addresses(&weir), ["192.0.2.1:1"]);
    weir.wait_log("it is read a second time");
}

#[test]
fn a_server_that_leaves_is_shown_until_its_time_is_over() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let (_sender, receiver) = mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let stuck = Backend::answering(move |_, _| {
        let _ = receiver.lock().unwrap().recv();
        Then::Close
    });
    let other = Backend::named("other");
    let address = stuck.address().to_owned();
    consul.put(&format!("{folder}/{address}"), ENTRY);
    consul.put(&format!("{folder}/{}", other.address()), r#"{"backup":1}"#);
    let text = format!(
        "upsync_drain_timeout 2s; {}",
        http(&consul.address(), &folder)
    );
    let weir = Setup::http(&text).workers(2).start();
    wait_has(&weir, &address);
    let mut client = weir.connect();
    let waiting = std::thread::spawn(move || client.get("/").map(|answer| answer.text()));
    wait_until(SOON, "the request is there", || stuck.count() == 1);
    consul.delete(&format!("{folder}/{address}"));
    let gone = told(&weir, &["wait", "--gone", &format!("test/{address}")]);
    assert!(
        gone.ends_with("; it is leaving with 1 in flight\n"),
        "{gone}"
    );
    assert_eq!(addresses(&weir), [other.address()]);
    let leaving = || weir.weirctl_json(&["table", "test"])["upstreams"][0]["leaving"].clone();
    let shown = leaving();
    assert_eq!(
        (&shown[0]["address"], &shown[0]["in_flight"]),
        (&address.as_str().into(), &1.into())
    );
    let counters = told(&weir, &["counters"]);
    assert!(
        counters.contains(&format!("{address} (leaving)")),
        "{counters}"
    );
    assert!(!waiting.is_finished());
    // The client gets its answer from another one.
    assert_eq!(waiting.join().unwrap().unwrap(), "other\n");
    weir.wait_log("upstream server was removed and upsync_drain_timeout has passed");
    wait_until(SOON, "it has left", || leaving() == Value::Array(vec![]));
    let gone = told(&weir, &["wait", "--gone", &format!("test/{address}")]);
    assert!(gone.ends_with("; nothing is in flight to it\n"), "{gone}");
}
