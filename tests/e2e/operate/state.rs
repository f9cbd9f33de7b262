//! The table on disk, over restarts and reboots.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{addresses, fails, http, state, told, wait_has};
use crate::support::backend::Backend;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::weir::{SOON, Setup, in_http};
use crate::support::{PATIENCE, wait_until};

#[test]
fn the_table_is_there_after_a_reboot_without_consul_and_stale_until_it_answers() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("here");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let mut weir = Setup::http(&http(proxy.address(), &folder))
        .workers(1)
        .start();
    wait_has(&weir, backend.address());
    wait_until(SOON, "it is fresh", || state(&weir)["state"] == "fresh");
    weir.stop();
    proxy.refuse();
    fs::remove_file(weir.path("weir.region")).unwrap();
    weir.start_again();
    assert_eq!(weir.get("/").text(), "here\n");
    let table = told(&weir, &["table"]);
    assert!(table.contains(", stale for "), "{table}");
    assert!(table.contains(", from the state file\n"), "{table}");
    let status = state(&weir);
    assert!(
        status["confirmed_ms"].as_u64().unwrap() > 1_600_000_000_000,
        "{status}"
    );
    fails(&weir.weirctl(&["check"]), 1, "WARNING stale: test");

    // A second time the region has it, and its age is still known.
    weir.stop();
    weir.start_again();
    let again = state(&weir);
    assert_eq!(
        (&again["state"], &again["from"]),
        (&"stale".into(), &"region".into())
    );
    assert_eq!(again["confirmed_ms"], status["confirmed_ms"]);

    proxy.listen();
    wait_until(PATIENCE, "it is fresh again", || {
        state(&weir)["state"] == "fresh"
    });
    wait_until(SOON, "check is content", || {
        weir.weirctl(&["check"]).code == Some(0)
    });
    let line = told(&weir, &["check"]);
    assert!(
        line.starts_with("OK table version ") && line.lines().count() == 1,
        "{line}"
    );
}

#[test]
fn a_damaged_state_is_named_and_not_used() {
    let folder = consul::folder();
    let consul = Consul::shared();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let text = http(proxy.address(), &folder);
    let mut weir = Setup::http(&text).workers(1).start();
    wait_has(&weir, "192.0.2.1:1");
    let file = weir.path("state/weir.state");
    wait_until(SOON, "the state is written", || file.exists());
    // Workers run as its user, and have no need of it; neither has anybody else.
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    let region = fs::metadata(weir.path("weir.region")).unwrap();
    assert_eq!(region.mode() & 0o7777, 0o644);
    assert_eq!((found.uid(), found.gid()), (region.uid(), region.gid()));
    weir.stop();
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::remove_file(weir.path("weir.region")).unwrap();
    proxy.refuse();
    weir.start_again();
    assert_eq!(addresses(&weir), ["127.0.0.1:11111"]);
    let name = file.display();
    weir.wait_log("[warn] ");
    weir.wait_log(&format!(
        "state file \"{name}\" is not used: its checksum is "
    ));
}

#[test]
fn without_upsync_state_a_reboot_forgets() {
    let folder = consul::folder();
    let consul = Consul::shared();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let text = in_http(&http(proxy.address(), &folder));
    let text = text.replacen("events", "upsync_state off; events", 1);
    let mut weir = Setup::whole(&text).workers(1).start();
    wait_has(&weir, "192.0.2.1:1");
    weir.stop();
    assert!(!weir.path("state").exists());
    fs::remove_file(weir.path("weir.region")).unwrap();
    proxy.refuse();
    weir.start_again();
    assert_eq!(addresses(&weir), ["127.0.0.1:11111"]);
}
