//! Comparing, pinning and going back.

use std::fs;

use nix::sys::signal::Signal;

use super::{addresses, fails, http, shared, state, told, version, wait_has};
use crate::support::backend::Backend;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::process::{self, read_lossy};
use crate::support::wait_until;
use crate::support::weir::{SOON, Setup, Weir};

#[test]
fn a_change_is_waited_for_compared_and_undone() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let (first, second) = (old.address().to_owned(), new.address().to_owned());
    consul.put(&format!("{folder}/{first}"), ENTRY);
    let weir = shared(&folder).workers(3).start();
    wait_has(&weir, &first);
    let before = version(&weir);

    consul.put(&format!("{folder}/{second}"), ENTRY);
    consul.delete(&format!("{folder}/{first}"));
    wait_has(&weir, &second);
    let gone = told(&weir, &["wait", "--gone", &format!("test/{first}")]);
    assert!(
        gone.starts_with("3 workers route by table version "),
        "{gone}"
    );
    assert!(gone.ends_with("; nothing is in flight to it\n"), "{gone}");
    // Every worker, whichever takes the connection, routes by it now.
    for _ in 0..20 {
        assert_eq!(weir.get("/").text(), "new\n");
    }
    let now = version(&weir);
    told(&weir, &["wait", &now.to_string()]);

    let at = told(&weir, &["table", "--at", &before.to_string()]);
    assert!(at.contains(&first) && !at.contains(&second), "{at}");
    let diff = told(&weir, &["diff", &before.to_string()]);
    assert!(
        diff.contains(&format!("- server {first} weight=1")),
        "{diff}"
    );
    assert!(
        diff.contains(&format!("+ server {second} weight=1")),
        "{diff}"
    );
    let history = told(&weir, &["history"]);
    assert!(history.contains(&format!("test +{second}")), "{history}");
    assert!(
        history.contains(&format!("/v1/kv/{folder} index ")),
        "{history}"
    );
    let records = weir.weirctl_json(&["history"]);
    assert!(
        records["history"].as_array().unwrap().len() >= 3,
        "{records}"
    );
    fails(
        &weir.weirctl(&["table", "--at", "99999"]),
        1,
        "there is no table version 99999 yet",
    );

    told(&weir, &["pin", "test"]);
    let again = told(&weir, &["pin", "test"]);
    assert!(
        again.ends_with(": 0 upstreams pinned\nupstream \"test\" is pinned already\n"),
        "{again}"
    );
    let back = told(&weir, &["rollback", &before.to_string()]);
    assert!(
        back.contains(&format!("pinned to what version {before} had")),
        "{back}"
    );
    wait_has(&weir, &first);
    assert_eq!(addresses(&weir), std::slice::from_ref(&first));
    assert_eq!(weir.get("/").text(), "old\n");
    assert!(version(&weir) > now, "the old content is a new version");
    assert_eq!(state(&weir)["state"], "pinned");
    // What Consul says meanwhile is learned, and not in force.
    consul.put(&format!("{folder}/192.0.2.7:1"), ENTRY);
    let index = consul.index(&folder).to_string();
    let kept = ["wait", "--index", &index, "--timeout", "500ms"];
    fails(&weir.weirctl(&kept), 3, "upstream \"test\": it is pinned");
    told(&weir, &["unpin", "test"]);
    // Who asks after a command sees what it did.
    assert_eq!(state(&weir)["state"], "fresh");
    told(&weir, &["wait", "--index", &index]);
    assert_eq!(addresses(&weir).len(), 2);
    for _ in 0..20 {
        told(&weir, &["pin", "test"]);
        assert_eq!(state(&weir)["state"], "pinned");
        told(&weir, &["unpin", "test"]);
        assert_eq!(state(&weir)["state"], "fresh");
    }
    fails(
        &weir.weirctl(&["unpin", "test"]),
        1,
        "upstream \"test\" is not pinned",
    );
    fails(
        &weir.weirctl(&["pin", "other"]),
        1,
        "there is no upstream \"other\"",
    );
    fails(
        &weir.weirctl(&["rollback", "99999"]),
        1,
        "no table version 99999 yet",
    );
    let log = read_lossy(&weir.path("logs/upsync.log"));
    assert!(
        log.contains(&format!("source=\"rollback to {before}\"")),
        "{log}"
    );
    assert!(log.contains(" pinned=test content_of="), "{log}");
    assert!(log.contains(" unpinned=test\n"), "{log}");
}

#[test]
fn a_pin_survives_a_crash_of_the_syncer_a_restart_and_a_reboot() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let mut weir = shared(&folder).workers(1).allow("syncer process").start();
    wait_has(&weir, "192.0.2.1:1");
    told(&weir, &["pin"]);
    let pinned = |weir: &Weir| {
        wait_until(SOON, "it is pinned", || state(weir)["state"] == "pinned");
        assert_eq!(addresses(weir), ["192.0.2.1:1"]);
    };
    pinned(&weir);
    consul.put(&format!("{folder}/192.0.2.2:2"), ENTRY);
    let syncer = weir.syncer();
    process::send(syncer, Signal::SIGKILL);
    wait_until(SOON, "there is another", || {
        let report = weir.weirctl_json(&["sources"]);
        report["syncer_pid"]
            .as_u64()
            .is_some_and(|pid| pid != u64::from(syncer) && pid != 0)
    });
    pinned(&weir);
    let before = version(&weir);
    weir.stop();
    weir.start_again();
    pinned(&weir);
    assert!(version(&weir) > before, "versions go on");
    assert!(told(&weir, &["table", "--at", &before.to_string()]).contains("192.0.2.1:1"));
    weir.stop();
    fs::remove_file(weir.path("weir.region")).unwrap();
    weir.start_again();
    pinned(&weir);
    assert!(version(&weir) > before + 1, "versions go on");
    told(&weir, &["unpin"]);
    wait_has(&weir, "192.0.2.2:2");
}

#[test]
fn a_rollback_stays_over_a_restart_and_a_reboot_until_it_is_taken_back() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let (first, second) = (old.address().to_owned(), new.address().to_owned());
    consul.put(&format!("{folder}/{first}"), ENTRY);
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let mut weir = Setup::http(&http(proxy.address(), &folder))
        .workers(1)
        .start();
    wait_has(&weir, &first);
    let good = version(&weir);
    consul.put(&format!("{folder}/{second}"), ENTRY);
    consul.delete(&format!("{folder}/{first}"));
    told(&weir, &["wait", "--gone", &format!("test/{first}")]);
    told(&weir, &["rollback", &good.to_string()]);
    proxy.refuse();
    let rolled_back = |weir: &Weir| {
        let status = state(weir);
        assert_eq!(status["state"], "pinned", "{status}");
        assert_eq!(status["pinned"]["version"], good, "{status}");
        assert_eq!(addresses(weir), std::slice::from_ref(&first));
        assert_eq!(weir.get("/").text(), "old\n");
    };
    rolled_back(&weir);
    weir.stop();
    weir.start_again();
    rolled_back(&weir);
    let history = told(&weir, &["history", "-n", "1"]);
    assert!(history.ends_with(" start: the same servers\n"), "{history}");
    let diff = told(&weir, &["diff", &good.to_string()]);
    assert!(diff.ends_with("\nnothing is different\n"), "{diff}");
    weir.stop();
    fs::remove_file(weir.path("weir.region")).unwrap();
    weir.start_again();
    rolled_back(&weir);
    // Without a source, what was in force stays.
    told(&weir, &["unpin"]);
    assert_eq!(state(&weir)["state"], "stale");
    assert_eq!(weir.get("/").text(), "old\n");
    proxy.listen();
    told(&weir, &["wait", "--gone", &format!("test/{first}")]);
    assert_eq!(addresses(&weir), std::slice::from_ref(&second));
    assert_eq!(weir.get("/").text(), "new\n");
}
