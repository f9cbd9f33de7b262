//! Sources, latencies, the log, the live view.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::sync::mpsc;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{addresses, fails, http, shared, told, wait_has};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::process::{self, read_lossy};
use crate::support::weir::{SOON, Setup, in_server, weirctl};
use crate::support::{PATIENCE, wait_for, wait_until};

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
    script.env("TERM", "xterm").stdin(Stdio::piped());
    script.stdout(Stdio::piped());
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

#[test]
fn top_prints_a_line_for_each_look() {
    let weir = Setup::server("location / { return 200; }")
        .workers(2)
        .start();
    let region = weir.path("weir.region").display().to_string();
    let mut command = process::guarded(env!("CARGO_BIN_EXE_weirctl"));
    command.args(["--region", &region, "top", "--json", "--interval", "50"]);
    command.stdout(Stdio::piped());
    let mut process = process::Process::spawn(&mut command);
    let output = process.child().stdout.take().unwrap();
    let mut lines = BufReader::new(output).lines();
    for _ in 0..3 {
        let look: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(look["master"], weir.pid(), "{look}");
        assert_eq!(look["workers"].as_array().unwrap().len(), 2, "{look}");
        assert!(look["workers"][1]["requests_per_s"].is_number(), "{look}");
    }
    // Nobody reads any more.
    drop(lines);
    assert!(process.wait(PATIENCE).success());
}

#[test]
fn a_version_of_several_sources_names_them_all() {
    let consul = Consul::shared();
    let (one, two) = (consul::folder(), consul::folder());
    consul.put(&format!("{one}/192.0.2.1:1"), ENTRY);
    consul.put(&format!("{two}/192.0.2.2:2"), ENTRY);
    let more = format!(
        "upstream two {{ server 127.0.0.1:11111; upsync {}/v1/kv/{two}; }}",
        consul.address()
    );
    let weir = Setup::http(&(http(&consul.address(), &one) + &more))
        .workers(1)
        .start();
    wait_has(&weir, "192.0.2.1:1");
    told(&weir, &["wait", "--has", "two/192.0.2.2:2"]);
    // However many versions it took: who is said to have changed an upstream has done so.
    let history = wait_for(SOON, "it is recorded", || {
        let history = told(&weir, &["history"]);
        (history.contains(" two +") && history.contains(" test +")).then_some(history)
    });
    for (folder, change) in [(&one, " test +192.0.2.1:1"), (&two, " two +192.0.2.2:2")] {
        let line = history.lines().find(|line| line.contains(change)).unwrap();
        let parent = folder.rsplit_once('/').unwrap().0;
        assert!(line.contains(parent), "{line}");
    }
}

#[test]
fn a_transaction_about_several_upstreams_is_one_version() {
    const UPSTREAMS: usize = 4;
    const ROUNDS: usize = 5;
    let consul = Consul::shared();
    let parent = consul::folder();
    let name = |number: usize| format!("u{number}");
    let block = |number: usize| {
        let (name, address) = (name(number), consul.address());
        format!("upstream {name} {{ upsync {address}/v1/kv/{parent}/{name}; }}\n")
    };
    let entries = |round: usize| -> Vec<(String, String)> {
        let key = |number| format!("{}/192.0.2.1:{round}", name(number));
        (0..UPSTREAMS)
            .map(|number| (key(number), ENTRY.to_owned()))
            .collect()
    };
    consul.put_many(&parent, &entries(1));
    let blocks: String = (0..UPSTREAMS).map(block).collect();
    let weir = Setup::http(&(blocks + &in_server(""))).workers(1).start();
    for round in 1..=ROUNDS {
        consul.put_many(&parent, &entries(round));
        for number in 0..UPSTREAMS {
            told(
                &weir,
                &[
                    "wait",
                    "--has",
                    &format!("{}/192.0.2.1:{round}", name(number)),
                ],
            );
        }
    }
    let history = wait_for(SOON, "all is recorded", || {
        let history = weir.weirctl_json(&["history"])["history"].clone();
        let records = history.as_array().unwrap().clone();
        let changed = |record: &Value| record["upstreams"].as_array().map_or(0, Vec::len);
        let versions: Vec<usize> = records
            .iter()
            .map(changed)
            .filter(|count| *count > 0)
            .collect();
        (versions.iter().sum::<usize>() == UPSTREAMS * ROUNDS).then_some(versions)
    });
    assert_eq!(history, [UPSTREAMS; ROUNDS]);
}
