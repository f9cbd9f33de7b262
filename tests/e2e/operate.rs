//! What an operator sees, waits for and undoes: weirctl on a running weir, the control socket, the
//! state on disk, upsync_log.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::backend::{Backend, Then, ok};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::process::{self, Finished, read_lossy};
use crate::support::weir::{SOON, Setup, Weir, in_http, in_server, weirctl};
use crate::support::{PATIENCE, wait_for, wait_until};

const PROXY: &str = "location / { proxy_pass http://test; }";

/// An upstream `test` that learns from `folder` of the Consul at `address`.
fn http(address: &str, folder: &str) -> String {
    format!(
        "upsync_log logs/upsync.log; upstream test {{ server 127.0.0.1:11111; \
         upsync {address}/v1/kv/{folder} upsync_interval=200ms; }}\n{}",
        in_server(PROXY)
    )
}

fn shared(folder: &str) -> Setup {
    Setup::http(&http(&Consul::shared().address(), folder))
}

/// What a command said that has to end well.
#[track_caller]
fn told(weir: &Weir, arguments: &[&str]) -> String {
    let done = weir.weirctl(arguments);
    assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
    assert!(done.stderr.is_empty(), "{done:?}");
    done.stdout
}

#[track_caller]
fn fails(done: &Finished, code: i32, text: &str) {
    assert_eq!(done.code, Some(code), "{done:?}");
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(said.contains(text), "{done:?}");
}

fn addresses(weir: &Weir) -> Vec<String> {
    let value = weir.weirctl_json(&["table", "test"]);
    let servers = value["upstreams"][0]["servers"].as_array().unwrap();
    let servers = servers.iter().map(|server| &server["address"]);
    servers.map(|a| a.as_str().unwrap().to_owned()).collect()
}

fn state(weir: &Weir) -> Value {
    let value = weir.weirctl_json(&["table", "test"]);
    value["upstreams"][0]["status"].clone()
}

fn version(weir: &Weir) -> u64 {
    weir.weirctl_json(&["table"])["version"].as_u64().unwrap()
}

#[track_caller]
fn wait_has(weir: &Weir, address: &str) {
    told(weir, &["wait", "--has", &format!("test/{address}")]);
}

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

    let back = told(&weir, &["rollback", &before.to_string()]);
    assert!(
        back.contains(&format!("pinned to what version {before} had")),
        "{back}"
    );
    wait_has(&weir, &first);
    assert_eq!(addresses(&weir), std::slice::from_ref(&first));
    assert_eq!(weir.get("/").text(), "old\n");
    assert!(version(&weir) > now, "the old content is a new version");
    wait_until(SOON, "it is shown", || state(&weir)["state"] == "pinned");
    // What Consul says meanwhile is learned, and not in force.
    consul.put(&format!("{folder}/192.0.2.7:1"), ENTRY);
    told(&weir, &["unpin", "test"]);
    wait_has(&weir, "192.0.2.7:1");
    assert_eq!(addresses(&weir).len(), 2);
    wait_until(SOON, "it is fresh again", || {
        state(&weir)["state"] == "fresh"
    });
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

/// The inodes of the sockets that a process has open.
fn sockets(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

#[test]
fn the_control_socket_is_its_owners_alone() {
    let folder = consul::folder();
    let mut weir = shared(&folder).workers(2).start();
    let path = weir.path("weir.control");
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(found.uid(), nix::unistd::geteuid().as_raw());
    let named = read_lossy("/proc/net/unix".as_ref());
    let line = named
        .lines()
        .find(|line| line.ends_with(&path.display().to_string()));
    // It was bound under another name.
    let temporary = format!("{}~", path.display());
    let line = line.or_else(|| named.lines().find(|line| line.ends_with(&temporary)));
    let inode = line.unwrap().split_whitespace().nth(6).unwrap();
    let socket = format!("socket:[{inode}]");
    assert!(sockets(weir.pid()).contains(&socket), "the master has it");
    for pid in weir.workers().into_iter().chain([weir.syncer()]) {
        assert!(!sockets(pid).contains(&socket), "{pid} has it too");
    }
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"{\"command\":\"halt\"}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(
        answer.contains("\"ok\":false") && answer.contains("halt"),
        "{answer}"
    );
    // Many who say nothing keep nobody out.
    let silent: Vec<_> = (0..10)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    fails(
        &weir.weirctl(&["pin", "none"]),
        1,
        "there is no upstream \"none\"",
    );
    drop(silent);
    weir.stop();
    assert!(!path.exists(), "the end takes it away");
    fails(&weir.weirctl(&["pin"]), 1, "No such file or directory");
}

#[test]
fn a_dead_masters_socket_is_replaced_and_off_is_off() {
    let folder = consul::folder();
    let mut weir = shared(&folder).workers(1).start();
    let path = weir.path("weir.control");
    let before = fs::symlink_metadata(&path).unwrap().ino();
    weir.signal(Signal::SIGKILL);
    weir.process().wait(PATIENCE);
    assert!(path.exists());
    weir.start_again();
    assert_ne!(fs::symlink_metadata(&path).unwrap().ino(), before);
    told(&weir, &["pin"]);

    let text = in_http(&http(&Consul::shared().address(), &folder));
    let text = text.replacen("events", "control off; events", 1);
    let weir = Setup::whole(&text).workers(1).start();
    assert!(!weir.path("weir.control").exists());
    fails(&weir.weirctl(&["pin"]), 1, "weir.control\": No such file");
}

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
    assert!(told(&weir, &["table"]).contains("an answer is held for "));
    let told_of = told(&weir, &["guard", "accept", "test"]);
    assert!(told_of.contains("1 upstream accepted"), "{told_of}");
    wait_until(SOON, "nothing is held", || {
        told(&weir, &["guard", "list"]) == "held answers 0\n"
    });
    assert!(addresses(&weir).is_empty());
    let log = read_lossy(&weir.path("logs/upsync.log"));
    assert!(log.contains(" held=test removes=1 reason="), "{log}");
    assert!(log.contains(" source=accept index=- "), "{log}");
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
        1,
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
fn entries_are_tried_without_being_applied() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    consul.put(&format!("{folder}/bad"), "{");
    let weir = shared(&folder).workers(1).start();
    wait_has(&weir, "192.0.2.1:1");
    let tried = told(
        &weir,
        &["try", &format!("{folder}/192.0.2.2:2={{\"weight\":3}}")],
    );
    assert_eq!(
        tried,
        "upstream test +192.0.2.2:2\n        servers 1 to 2, 75.0% of the requests move\n"
    );
    fails(
        &weir.weirctl(&["try", &format!("{folder}/x={{")]),
        1,
        "refused",
    );
    fails(
        &weir.weirctl(&["try", "elsewhere/192.0.2.2:2="]),
        1,
        "no upstream has a folder",
    );
    let file = weir.path("entries.json");
    let entries = format!(
        r#"[{{"key":"{folder}/192.0.2.5:5","flags":0,"value":"eyJ3ZWlnaHQiOjJ9"}},
            {{"Key":"{folder}/192.0.2.6:0","Value":null}}]"#
    );
    fs::write(&file, entries).unwrap();
    let done = weir.weirctl(&["try", file.to_str().unwrap()]);
    fails(&done, 1, "upstream test +192.0.2.5:5 -192.0.2.1:1\n");
    fails(&done, 1, "has port 0");
    assert_eq!(addresses(&weir), ["192.0.2.1:1"]);

    wait_until(SOON, "the bad entry is listed", || {
        let errors = weir.weirctl_json(&["errors"]);
        errors["refused_total"] == 1 && errors["refused"][0]["key"] == format!("{folder}/bad")
    });
    assert!(told(&weir, &["errors"]).contains("value is not JSON"));
    fails(&weir.weirctl(&["check"]), 1, "refused: 1 entry");
}

#[test]
fn sources_tell_how_they_do_and_an_index_is_waited_for() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let weir = Setup::http(&http(proxy.address(), &folder))
        .workers(2)
        .start();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let index = consul.index(&folder).to_string();
    told(&weir, &["wait", "--index", &index, "--upstream", "test"]);
    assert_eq!(addresses(&weir), ["192.0.2.1:1"]);
    let late = weir.weirctl(&["wait", "--index", "9999999999", "--timeout", "20ms"]);
    fails(&late, 3, "no source has answered with it");
    let source = weir.weirctl_json(&["sources"])["sources"][0].clone();
    assert_eq!(source["upstreams"][0], "test", "{source}");
    assert!(
        source["path"].as_str().unwrap().contains(&folder),
        "{source}"
    );
    assert!(source["version"].as_u64().unwrap() > 0, "{source}");
    let text = told(&weir, &["sources"]);
    assert!(
        text.contains(&format!("consul {}", proxy.address())),
        "{text}"
    );
    proxy.refuse();
    wait_until(SOON, "it fails", || {
        let source = weir.weirctl_json(&["sources"])["sources"][0].clone();
        source["state"] == "failing" && source["error"]["text"].is_string()
    });
    fails(&weir.weirctl(&["check"]), 1, "failing: consul ");
}

#[test]
fn latencies_are_counted() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let weir = shared(&folder).workers(2).start();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    wait_has(&weir, "192.0.2.1:1");
    let value = weir.weirctl_json(&["latency"]);
    assert!(
        value["published"]["count"].as_u64().unwrap() >= 1,
        "{value}"
    );
    assert_eq!(value["used"].as_array().unwrap().len(), 2);
    assert!(value["used"][1]["count"].as_u64().unwrap() >= 1, "{value}");
    let text = told(&weir, &["latency"]);
    assert!(
        text.contains("seen to published") && text.contains('#'),
        "{text}"
    );
}

#[test]
fn upsync_log_has_a_line_for_each_change_and_is_opened_anew() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let text = http(&consul.address(), &folder).replacen("upsync.log", "upsync.log json", 1);
    let weir = Setup::http(&text).workers(1).start();
    wait_has(&weir, "192.0.2.1:1");
    let log = weir.path("logs/upsync.log");
    let lines = |text: String| -> Vec<Value> {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let first = wait_for(SOON, "the line is there", || {
        let lines = lines(read_lossy(&log));
        lines
            .into_iter()
            .find(|line| line["added"][0] == "test/192.0.2.1:1")
    });
    assert_eq!(first["removed"][0], "test/127.0.0.1:11111", "{first}");
    assert!(first["index"].as_u64().unwrap() > 0, "{first}");
    assert!(
        first["source"].as_str().unwrap().contains(&folder),
        "{first}"
    );
    assert!(first["version"].as_u64().unwrap() >= 2, "{first}");

    fs::rename(&log, weir.path("logs/old.log")).unwrap();
    weir.signal(Signal::SIGUSR1);
    wait_until(SOON, "it is opened anew", || log.exists());
    // The order reaches the syncer a moment after the master has made the file.
    wait_until(PATIENCE, "a change is in the new one", || {
        consul.put(&format!("{folder}/192.0.2.1:1"), r#"{"weight":7}"#);
        consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
        let lines = lines(read_lossy(&log));
        lines
            .iter()
            .any(|line| line["changed"][0] == "test/192.0.2.1:1")
    });
}

#[test]
fn top_draws_and_gives_the_terminal_back() {
    let weir = Setup::server("location / { return 200; }")
        .workers(1)
        .start();
    let region = weir.path("weir.region");
    let command = format!(
        "stty rows 12 cols 60; {} --region {} top --interval 50",
        env!("CARGO_BIN_EXE_weirctl"),
        region.display()
    );
    let mut script = process::guarded(crate::support::tool("script"));
    script.args(["-qefc", &command, "/dev/null"]);
    script
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::piped());
    script.stdout(std::process::Stdio::piped());
    let mut process = process::Process::spawn(&mut script);
    let mut output = process.child().stdout.take().unwrap();
    let (sender, seen) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
            let _ = sender.send(String::from_utf8_lossy(&all).into_owned());
        }
    });
    wait_until(PATIENCE, "it draws", || {
        seen.try_iter()
            .last()
            .is_some_and(|text| text.contains("WORKER"))
    });
    process
        .child()
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"q")
        .unwrap();
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{status:?}");
    reader.join().unwrap();
    // Without a terminal there is an error, and nothing else.
    let done = weirctl(&["--region", &region.display().to_string(), "top"]);
    assert_eq!(done.code, Some(1), "{done:?}");
}
