//! What each command prints.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::Value;

use super::region::{Fixture, PATIENCE, program, run, shown, weirctl};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn table_shows_all_upstreams_or_one() {
    let fixture = Fixture::new();
    let test = "\nupstream test: servers 1, changed in version 3\n        \
                server 127.0.0.1:8001 weight=1 max_fails=2 fail_timeout=10s;\n";
    let other = "\nupstream other: servers 3, changed in version 1\n        \
                 server [::1]:80 weight=1 max_fails=2 fail_timeout=10s backup;\n        \
                 server 10.0.0.1:80 weight=1 max_fails=2 fail_timeout=1500ms down;\n        \
                 server unix:/run/a.sock weight=1 max_fails=2 fail_timeout=10s backup;\n";
    let head = "table version 3: upstreams 2, servers 4\n";
    assert_eq!(
        shown(&fixture.path(), &["table"]),
        format!("{head}{test}{other}")
    );
    assert_eq!(
        shown(&fixture.path(), &["table", "test"]),
        format!("{head}{test}")
    );

    let value = json(&shown(&fixture.path(), &["table", "--json"]));
    assert_eq!(value["version"], 3);
    assert_eq!(
        value["upstreams"][1]["servers"][2]["address"],
        "unix:/run/a.sock"
    );
    assert_eq!(value["upstreams"][1]["servers"][1]["down"], true);

    let output = run(weirctl(&fixture.path(), &["table", "tes\x1bt"]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "weirctl: table version 3 has no upstream \"tes\\u{1b}t\"\n"
    );
}

#[test]
fn workers_shows_what_each_routes_by() {
    let fixture = Fixture::new();
    let pid = std::process::id();
    let text = shown(&fixture.path(), &["workers"]);
    let row = text
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .collect::<Vec<_>>();
    assert_eq!(
        row,
        ["0", &pid.to_string(), "parked", "3", "7", "2", "0", "41"],
        "{text}"
    );

    let value = json(&shown(&fixture.path(), &["--json", "workers"]));
    let worker = &value["workers"][0];
    assert_eq!(
        (&worker["pid"], &worker["alive"]),
        (&pid.into(), &true.into())
    );
    assert_eq!(
        (&worker["generation"], &worker["table_version"]),
        (&7.into(), &3.into())
    );
}

#[test]
fn a_worker_without_a_process_is_shown_as_gone() {
    let fixture = Fixture::new();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    fixture.worker.scoreboard().set_pid(child.id());
    child.wait().unwrap();
    let text = shown(&fixture.path(), &["workers"]);
    assert!(text.contains("parked (gone)"), "{text}");
}

#[test]
fn counters_shows_sums_and_each_worker() {
    let fixture = Fixture::new();
    let text = shown(&fixture.path(), &["counters"]);
    let row = text
        .lines()
        .find(|line| line.contains("127.0.0.1:8001"))
        .unwrap();
    let row = row.split_whitespace().collect::<Vec<_>>();
    assert_eq!(
        row,
        ["test", "127.0.0.1:8001", "0", "3", "0", "3000", "300"],
        "{text}"
    );

    let value = json(&shown(&fixture.path(), &["counters", "--json"]));
    let server = &value["servers"][0];
    assert_eq!(server["requests"], 3);
    assert_eq!(server["workers"][0]["requests"], 3);
}

#[test]
fn verify_says_good_and_the_dead_can_be_read() {
    let fixture = Fixture::new();
    let path = fixture.path();
    let Fixture {
        publisher,
        worker,
        region,
        folder,
    } = fixture;
    drop((publisher, worker, region));
    let text = shown(&path, &["verify"]);
    assert!(
        text.contains("table version 3\n") && text.ends_with("good\n"),
        "{text}"
    );
    let value = json(&shown(&path, &["verify", "--json"]));
    assert_eq!(
        (&value["good"], &value["version"]),
        (&true.into(), &3.into())
    );
    drop(folder);
    let output = run(weirctl(&path, &["verify"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("No such file"),
        "{output:?}"
    );
}

#[test]
fn a_configuration_leads_to_the_region() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    fs::create_dir(folder.join("conf")).unwrap();
    let file = folder.join("conf/weir.conf");
    fs::write(&file, "region weir.region;\nevents {}\n").unwrap();
    let weirctl = |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments);
        run(command)
    };
    let prefix = folder.to_str().unwrap();
    let expected = shown(&fixture.path(), &["table"]);
    for arguments in [
        &["-p", prefix, "table"][..],
        &["table", "-p", prefix, "-c", "conf/weir.conf"],
        &["-c", file.to_str().unwrap(), "-p", prefix, "table"],
    ] {
        let output = weirctl(arguments);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            expected,
            "{output:?}"
        );
    }

    fs::write(&file, "events {}\nregiom weir.region;\n").unwrap();
    let output = weirctl(&["-p", prefix, "table"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("\"regiom\"") && errors.contains("weir.conf:2"),
        "{errors}"
    );
    assert!(errors.contains("--region"), "{errors}");

    let output = weirctl(&["-p", prefix, "--region", "x", "table"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn an_empty_region_is_no_fault() {
    let fixture = Fixture::bare(tempfile::tempdir().unwrap());
    assert_eq!(
        shown(&fixture.path(), &["table"]),
        "table version 0: upstreams 0, servers 0\n"
    );
    assert!(shown(&fixture.path(), &["verify"]).ends_with("good\n"));
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let fixture = Fixture::new();
    for command in ["table", "workers", "counters", "verify"] {
        let mut child = weirctl(&fixture.path(), &[command]).spawn().unwrap();
        drop(child.stdout.take());
        let mut errors = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        assert!(
            child.wait().unwrap().success() && errors.is_empty(),
            "{command}: {errors}"
        );
    }
}

/// Kills what it watches when the test is over, however it ends.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(fixture: &Fixture, arguments: &[&str]) -> (Watching, Receiver<String>) {
    let arguments = [&["watch"], arguments].concat();
    let mut child = weirctl(&fixture.path(), &arguments).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .all(|line| sender.send(line).is_ok())
    });
    (Watching(child), receiver)
}

#[test]
fn watch_follows_publishes_and_a_new_start() {
    let mut fixture = Fixture::new();
    let (_watching, lines) = watch(&fixture, &[]);
    let next = || lines.recv_timeout(PATIENCE).unwrap();
    let line = next();
    let master = std::process::id();
    assert!(
        line.contains(&format!(
            " version 3 of master {master}: upstreams 2, servers 4"
        )),
        "{line}"
    );
    fixture.publish(&[8002]);
    let line = next();
    assert!(
        line.ends_with(" version 4: test +127.0.0.1:8002 -127.0.0.1:8001"),
        "{line}"
    );

    let Fixture { folder, .. } = fixture;
    let mut fixture = Fixture::bare(folder);
    let line = next();
    assert!(line.contains(" version 0 of master 0"), "{line}");
    fixture.publish(&[8003]);
    let line = next();
    assert!(
        line.contains(" version 1: test (new) +127.0.0.1:8003; other (new)"),
        "{line}"
    );
}

#[test]
fn watch_writes_json_and_tells_of_the_masters_end() {
    let mut fixture = Fixture::new();
    let mut master = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    fixture.region.set_master(master.id());
    let (watching, lines) = watch(&fixture, &["--json"]);
    let next = || json(&lines.recv_timeout(PATIENCE).unwrap());
    assert_eq!(
        (&next()["event"], master.try_wait().unwrap()),
        (&"opened".into(), None)
    );
    fixture.publish(&[8001, 8002]);
    let value = next();
    assert_eq!(value["version"], 4);
    assert_eq!(value["changes"][0]["added"][0], "127.0.0.1:8002");
    master.kill().unwrap();
    master.wait().unwrap();
    let value = next();
    assert_eq!(
        (&value["event"], &value["master_pid"]),
        (&"ended".into(), &master.id().into())
    );
    drop(watching);
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let commands = [
        "table", "workers", "counters", "watch", "history", "diff", "sources", "errors", "latency",
        "wait", "pin", "unpin", "rollback", "guard", "try", "check", "top", "verify",
    ];
    let said = |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments);
        let output = run(command);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        for command in commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    assert!(said(&["man"]).contains(".TH weirctl 1"));
    let folder = tempfile::tempdir().unwrap();
    said(&["man", folder.path().to_str().unwrap()]);
    for command in commands {
        let page = fs::read_to_string(folder.path().join(format!("weirctl-{command}.1"))).unwrap();
        assert!(page.contains(&format!("weirctl\\-{command}")), "{page}");
    }
}

#[test]
fn a_region_without_a_report_is_no_fault() {
    let fixture = Fixture::new();
    let path = fixture.path();
    assert_eq!(shown(&path, &["history"]), "no changes are recorded\n");
    assert_eq!(shown(&path, &["errors"]), "refused entries 0\n");
    assert!(shown(&path, &["sources"]).starts_with("syncer 0: sources 0\n"));
    assert_eq!(shown(&path, &["guard", "list"]), "held answers 0\n");
    assert!(shown(&path, &["latency"]).contains("published to worker 0"));
    let output = run(weirctl(&path, &["diff", "1"]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("reaches back to version 3, not to 1"),
        "{output:?}"
    );
    assert!(shown(&path, &["wait", "3"]).starts_with("1 worker routes by table version 3"));
    let output = run(weirctl(&path, &["wait", "4", "--timeout", "20ms"]));
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    // Nobody writes it: neither master nor syncer are there.
    let output = run(weirctl(Path::new("/nonexistent"), &["check"]));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.starts_with("CRITICAL ") && text.lines().count() == 1,
        "{text}"
    );
}
