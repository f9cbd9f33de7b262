//! What is known and what was counted lives through an upgrade; both masters follow Consul.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::New;
use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::process::{alive, read_lossy};
use crate::support::weir::{SOON, Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, wait_until};

const LOCATIONS: &str =
    "location = /upstream_show { upstream_show; } location = /stub { stub_status; }
    location / { add_header X-Pid $pid; proxy_pass http://test; }";

fn fed(folder: &str) -> Setup {
    let address = Consul::shared().address();
    Setup::http(&format!(
        "upstream test {{ upsync {address}/v1/kv/{folder} upsync_type=consul; \
         upsync_dump_path @DIR@/dump/test.conf; }}\n{}",
        in_server(LOCATIONS)
    ))
}

/// What one worker routes by.
fn seen(client: &mut Client) -> BTreeSet<String> {
    let text = client.get("/upstream_show?test").unwrap().text();
    let lines = text.lines().skip(1);
    lines
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(str::to_owned)
        .collect()
}

/// The requests to all servers.
fn counted(weir: &Weir) -> u64 {
    let counters = weir.weirctl_json(&["counters"]);
    let servers = counters["servers"].as_array().cloned().unwrap_or_default();
    servers
        .iter()
        .filter_map(|server| server["requests"].as_u64())
        .sum()
}

/// All requests, as `stub_status` has them.
fn served(weir: &Weir) -> u64 {
    let text = weir.get("/stub").text();
    let line = text.lines().nth(2).unwrap_or_default();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn old_and_new_workers_follow_consul_while_both_serve() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backends = ["a", "b", "c"].map(Backend::named);
    let key = |number: usize| format!("{folder}/{}", backends[number].address());
    consul.put(&key(0), ENTRY);
    let weir = fed(&folder).start();
    wait_until(SOON, "the first server is there", || {
        weir.get("/").status == 200
    });
    let mut old = weir.each_worker(2);
    let new = New::start(&weir, weir.pid());
    // Connections come to old and new workers alike.
    let mut all = weir.each_worker(4);
    all.retain(|pid, _| new.workers().contains(pid));
    assert_eq!(all.len(), 2);
    all.append(&mut old);
    let expect = |all: &mut BTreeMap<u32, Client>, numbers: &[usize]| {
        let addresses = numbers
            .iter()
            .map(|&number| backends[number].address().to_owned());
        let expected: BTreeSet<String> = addresses.collect();
        wait_until(SOON, &format!("all have {expected:?}"), || {
            all.values_mut().all(|client| seen(client) == expected)
        });
    };
    consul.put(&key(1), ENTRY);
    expect(&mut all, &[0, 1]);
    consul.delete(&key(0));
    expect(&mut all, &[1]);
    // After WINCH the old syncer goes on: its workers have to be right when they come back.
    weir.signal(Signal::SIGWINCH);
    all.retain(|pid, _| new.workers().contains(pid));
    consul.put(&key(2), ENTRY);
    expect(&mut all, &[1, 2]);
    let former = weir.workers();
    weir.signal(Signal::SIGHUP);
    wait_until(PATIENCE, "the old one has workers again", || {
        let now = weir.workers();
        now.len() == 2 && !now.iter().any(|pid| former.contains(pid))
    });
    new.end(Signal::SIGQUIT);
    let mut back = weir.each_worker(2);
    expect(&mut back, &[1, 2]);
    // The syncer of the old one is started again beside the new one's region, and takes its own.
    let new = New::start(&weir, weir.pid());
    let syncer = weir.syncer();
    crate::support::process::send(syncer, Signal::SIGTERM);
    wait_until(PATIENCE, "it is replaced", || {
        !alive(syncer) && weir.syncer() != syncer
    });
    consul.delete(&key(1));
    expect(&mut back, &[2]);
    drop(new);
}

#[test]
fn counters_pins_and_history_go_on() {
    let folder = consul::folder();
    let weir = goes_on(fed(&folder), &folder);
    assert!(!weir.error_log().contains("handover"));
}

#[test]
fn what_a_region_of_another_layout_has_is_handed_over() {
    let folder = consul::folder();
    let weir = goes_on(of_another_layout(fed(&folder), ""), &folder);
    weir.wait_log("is taken from its handover: region has layout version 2, this release reads 3");
}

/// A weir whose next binary finds a region as if the running one were of another release: layout
/// version 2. `more` is done before that is started.
fn of_another_layout(setup: Setup, more: &str) -> Setup {
    let next = setup.dir().join("next");
    let region = setup.dir().join("weir.region");
    let script = format!(
        "#!/bin/sh\n\
         printf '\\002' | dd of={} bs=1 seek=8 conv=notrunc 2>/dev/null || exit 9\n{more}\n\
         exec {} \"$@\"\n",
        region.display(),
        env!("CARGO_BIN_EXE_weir")
    );
    fs::write(&next, script).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
    let named = format!("exec -a {} \"$@\"", next.display());
    setup.under(&["bash", "-c", &named, "bash"])
}

/// Upgrades a weir that is fed by a folder, and sees that all it has goes on.
#[track_caller]
fn goes_on(setup: Setup, folder: &str) -> Weir {
    let consul = Consul::shared();
    let backends = ["a", "b"].map(Backend::named);
    for backend in &backends {
        consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    }
    let mut weir = setup.start();
    wait_until(SOON, "both servers are there", || {
        weir.shown("test").contains("server count: 2")
    });
    assert_eq!(weir.weirctl(&["pin", "test"]).code, Some(0));
    for _ in 0..30 {
        assert_eq!(weir.get("/").status, 200);
    }
    wait_until(PATIENCE, "they are counted", || counted(&weir) == 30);
    let history = weir.weirctl_json(&["history"]);
    let before = history.to_string().matches("\"version\"").count();
    let old = weir.pid();

    let new = New::start(&weir, old);
    wait_until(PATIENCE, "the new one has the numbers", || {
        counted(&weir) >= 30 && served(&weir) >= 30
    });
    // Through old and new workers.
    let mut clients = weir.each_worker(4);
    let start = counted(&weir);
    for client in clients.values_mut() {
        for _ in 0..5 {
            assert_eq!(client.get("/").unwrap().status, 200);
        }
    }
    drop(clients);
    wait_until(PATIENCE, "what the old workers count is added", || {
        counted(&weir) == start + 20
    });
    weir.signal(Signal::SIGQUIT);
    weir.process().wait(PATIENCE);
    weir.wait_log(&format!("old master process {old} is gone"));
    wait_until(
        PATIENCE,
        "nothing is lost or counted twice at the end",
        || counted(&weir) == start + 20,
    );
    for _ in 0..10 {
        assert_eq!(weir.get("/").status, 200);
    }
    wait_until(PATIENCE, "the new one counts on", || {
        counted(&weir) == start + 30
    });

    let history = weir.weirctl_json(&["history"]).to_string();
    assert!(history.matches("\"version\"").count() > before, "{history}");
    // The pin holds: a change in Consul is not followed.
    consul.delete(&format!("{folder}/{}", backends[0].address()));
    let pinned = weir.weirctl(&["table", "test"]).stdout;
    assert!(pinned.contains("pinned"), "{pinned}");
    assert_eq!(weir.weirctl(&["unpin", "test"]).code, Some(0));
    wait_until(SOON, "it follows again", || {
        weir.shown("test").contains("server count: 1")
    });
    new.end(Signal::SIGTERM);
    assert!(!weir.path("weir.region.handover").exists());
    weir
}

#[test]
fn without_a_handover_the_saved_state_is_used() {
    let consul = Consul::start();
    let backend = Backend::named("saved");
    consul.put(&format!("upstreams/{}", backend.address()), ENTRY);
    let address = consul.address();
    let text = in_http(&format!(
        "upsync_start_timeout 100ms;
         upstream test {{ upsync {address}/v1/kv/upstreams upsync_type=consul \
         strong_dependency=off; }}\n{}",
        in_server(LOCATIONS)
    ));
    let state = "upsync_state @DIR@/dump/weir.state;";
    let setup = Setup::whole(&format!("{state}\n{text}"));
    let lost = format!("rm {}", setup.dir().join("weir.region.handover").display());
    let mut weir = of_another_layout(setup, &lost).start();
    wait_until(SOON, "the server is there", || weir.get("/").status == 200);
    assert_eq!(weir.weirctl(&["pin", "test"]).code, Some(0));
    wait_until(PATIENCE, "the pin is saved", || {
        read_lossy(&weir.path("dump/weir.state")).contains("pinned")
    });
    drop(consul);
    let new = New::start(&weir, weir.pid());
    weir.wait_log("is not used: region has layout version 2, this release reads 3");
    weir.signal(Signal::SIGQUIT);
    weir.process().wait(PATIENCE);
    assert_eq!(weir.get("/").text(), "saved\n");
    let table = weir.weirctl(&["table", "test"]).stdout;
    assert!(table.contains("pinned"), "{table}");
    new.end(Signal::SIGTERM);
}
