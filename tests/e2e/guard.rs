//! upsync_guard: what Consul may not do to an upstream at once.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::backend::Backend;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::process::{self, read_lossy};
use crate::support::weir::{SOON, Setup, Weir, in_server};
use crate::support::{holds_for, unique, wait_until};

/// So long an answer is seen not to be applied.
const STAYS: Duration = Duration::from_millis(300);
const SHOW: &str =
    "location = /upstream_show { upstream_show; } location / { proxy_pass http://test; }";

/// An upstream `test` that learns from `folder`, with more in its block and in `http`.
fn text(folder: &str, more: &str, http: &str) -> String {
    format!(
        "{http} upstream test {{ upsync {}/v1/kv/{folder} upsync_interval=200ms; {more} }}\n{}",
        Consul::shared().address(),
        in_server(SHOW)
    )
}

fn servers(weir: &Weir) -> usize {
    weir.shown("test").lines().skip(1).count()
}

#[track_caller]
fn wait_servers(weir: &Weir, count: usize) {
    wait_until(SOON, &format!("{count} servers are shown"), || {
        servers(weir) == count
    });
}

fn many(count: usize, value: &str) -> Vec<(String, String)> {
    let entries = 1..=count;
    entries
        .map(|n| (format!("192.0.2.1:{n}"), value.to_owned()))
        .collect()
}

#[test]
fn a_wiped_folder_is_held_over_a_crash_of_the_syncer_until_the_guard_is_off() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("here");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let setup = text(&folder, "", "");
    let mut weir = Setup::http(&setup)
        .workers(1)
        .allow("syncer process")
        .start();
    assert_eq!(weir.get("/").text(), "here\n");
    consul.delete_folder(&folder);
    let held = "upstream \"test\": the answer of ";
    weir.wait_log(held);
    weir.wait_log("is held by upsync_guard: it has no server; the 1 servers stay");
    holds_for(STAYS, "the server stays", || servers(&weir) == 1);

    let count = || weir.error_log().matches("is held by upsync_guard").count();
    process::send(weir.syncer(), Signal::SIGKILL);
    wait_until(SOON, "the next syncer holds it too", || count() == 2);
    assert_eq!(weir.get("/").text(), "here\n");

    // A better answer releases it, and the same is held again.
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    weir.wait_log("a newer answer replaces the held one");
    consul.delete_folder(&folder);
    wait_until(SOON, "it is held again", || count() == 3);
    assert_eq!(weir.get("/").text(), "here\n");

    let off = weir.text().replace(
        "upsync_interval=200ms;",
        "upsync_interval=200ms; upsync_guard off;",
    );
    weir.rewrite(&off);
    weir.reload();
    wait_servers(&weir, 0);
    assert_eq!(weir.get("/").status, 502);
    weir.wait_log("no live upstreams while connecting to upstream");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    wait_until(SOON, "it is back", || weir.get("/").status == 200);
    consul.delete_folder(&folder);
    wait_servers(&weir, 0);
}

#[test]
fn all_down_or_refused_at_once_is_held_and_one_after_another_is_not() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put_many(&folder, &many(3, ENTRY));
    let weir = Setup::http(&text(&folder, "", "")).workers(1).start();
    wait_servers(&weir, 3);
    consul.put_many(&folder, &many(3, r#"{"down":1}"#));
    weir.wait_log("is held by upsync_guard: it takes all servers down; the 3 servers stay");
    holds_for(STAYS, "none is down", || {
        !weir.shown("test").contains("down")
    });
    consul.put_many(&folder, &many(3, "{bad"));
    weir.wait_log("is held by upsync_guard: every entry of it is refused");
    holds_for(STAYS, "the servers stay", || servers(&weir) == 3);
    consul.put_many(&folder, &many(3, ENTRY));
    weir.wait_log("a newer answer replaces the held one");
    for n in 1..=2 {
        consul.put(&format!("{folder}/192.0.2.1:{n}"), r#"{"down":1}"#);
        wait_until(SOON, "it is down", || {
            weir.shown("test").matches("down").count() == n
        });
    }
}

#[test]
fn a_large_removal_is_applied_after_a_second_read() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put_many(&folder, &many(9, ENTRY));
    let weir = Setup::http(&text(&folder, "", "upsync_guard on share=40% servers=2;"))
        .workers(1)
        .start();
    wait_servers(&weir, 9);
    // As one change: by single ones it would be small steps.
    consul.delete_many(&folder, &many(3, ""));
    wait_servers(&weir, 6);
    assert!(!weir.error_log().contains("it is read a second time"));
    consul.delete_many(&folder, &many(8, ""));
    weir.wait_log("removes 5 of 6 servers, it is read a second time");
    wait_servers(&weir, 1);
}

#[test]
fn what_an_earlier_run_learned_is_guarded_from_the_first_answer_on() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("here");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let mut weir = Setup::http(&text(&folder, "", "")).workers(1).start();
    wait_until(SOON, "it is learned", || weir.get("/").status == 200);
    weir.stop();
    consul.delete_folder(&folder);
    let count = |weir: &Weir| weir.error_log().matches("is held by upsync_guard").count();
    for (nth, from) in ["the region", "the state file"].into_iter().enumerate() {
        if nth > 0 {
            std::fs::remove_file(weir.path("weir.region")).unwrap();
        }
        weir.start_again();
        wait_until(SOON, from, || count(&weir) > nth);
        assert_eq!(weir.get("/").text(), "here\n", "from {from}");
        weir.stop();
    }
    // The negative control: a weir that has learned nothing has nothing to guard.
    let new = Setup::http(&text(&folder, "", "")).workers(1).start();
    new.wait_log("has no server");
    assert_eq!(count(&new), 0);
}

/// What Consul says of an answer from which it left out what the token may not read. The Consul of
/// these tests may be too old to say so itself.
fn filtered() -> Fault {
    let name = "X-Consul-Results-Filtered-By-ACLs".to_owned();
    Fault::Fields(vec![(name, Some("true".to_owned()))])
}

#[track_caller]
fn told(weir: &Weir, arguments: &[&str]) -> String {
    let done = weir.weirctl(arguments);
    assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
    done.stdout
}

/// One server goes, which is too few for the guard to mind; `change` adds (`true`) or removes it.
fn filtered_answers_are_held(source: &str, change: impl Fn(&str, bool)) {
    const WHY: &str = "its source left out what the token may not read";
    for n in 1..=4 {
        change(&format!("192.0.2.1:{n}"), true);
    }
    let proxy = FaultProxy::start(&Consul::shared().address(), Fault::None);
    let http = format!(
        "upsync_log logs/upsync.log json; upstream test {{ upsync {}{source} \
         upsync_interval=200ms; }}\n{}",
        proxy.address(),
        in_server(SHOW)
    );
    let weir = Setup::http(&http).workers(1).start();
    wait_servers(&weir, 4);
    wait_until(SOON, "all is well", || {
        weir.weirctl(&["check"]).code == Some(0)
    });

    proxy.set(filtered());
    change("192.0.2.1:4", false);
    weir.wait_log(&format!(
        "is held by upsync_guard: {WHY}; the 4 servers stay"
    ));
    holds_for(STAYS, "the servers stay", || servers(&weir) == 4);
    wait_until(SOON, "it is shown", || {
        let held = weir.weirctl_json(&["guard", "list"])["held"].clone();
        held[0]["upstream"] == "test"
            && held[0]["held"]["reason"] == WHY
            && held[0]["held"]["servers"] == 3
            && held[0]["held"]["removes"] == 1
    });
    assert!(told(&weir, &["guard", "list"]).contains(WHY));
    assert!(told(&weir, &["table", "test"]).contains(WHY));
    let check = weir.weirctl(&["check"]);
    assert_eq!(
        (check.code, &*check.stdout),
        (Some(2), "CRITICAL held: test\n")
    );
    let log = weir.path("logs/upsync.log");
    wait_until(SOON, "upsync_log has it", || {
        let log = read_lossy(&log);
        log.contains("\"event\":\"held\"") && log.contains(WHY)
    });

    told(&weir, &["guard", "accept", "test"]);
    wait_servers(&weir, 3);
    // The same answer again changes nothing, and is not held again.
    holds_for(STAYS, "nothing is held", || {
        told(&weir, &["guard", "list"]).starts_with("held answers 0")
    });
    wait_until(SOON, "all is well again", || {
        weir.weirctl(&["check"]).code == Some(0)
    });

    // Also what adds a server is not the whole truth, until an answer is.
    change("192.0.2.1:5", true);
    let held = || weir.error_log().matches("is held by upsync_guard").count();
    wait_until(SOON, "it is held", || held() == 2);
    holds_for(STAYS, "the servers stay", || servers(&weir) == 3);
    proxy.set(Fault::None);
    wait_servers(&weir, 4);
    weir.wait_log("a newer answer replaces the held one");
}

#[test]
fn an_answer_that_was_filtered_is_held_until_it_is_accepted_or_whole() {
    let folder = consul::folder();
    filtered_answers_are_held(&format!("/v1/kv/{folder}"), |server, there| {
        let key = format!("{folder}/{server}");
        match there {
            true => Consul::shared().put(&key, ENTRY),
            false => Consul::shared().delete(&key),
        }
    });
}

#[test]
fn instances_that_were_filtered_are_held_until_accepted_or_whole() {
    for (endpoint, kind) in [("catalog", "consul_services"), ("health", "consul_health")] {
        let service = unique("web");
        let source = format!("/v1/{endpoint}/service/{service} upsync_type={kind}");
        filtered_answers_are_held(&source, |server, there| match there {
            true => Consul::shared().register(&service, server),
            false => Consul::shared().deregister(&service, server),
        });
    }
}
