//! The demo's parts: its KV endpoint beside a real Consul, and how it ends.

use std::process::Stdio;

use serde_json::Value;

use crate::support::client::{Client, Response};
use crate::support::consul::{self, Consul};
use crate::support::process::{Process, finish, guarded, read_lossy};
use crate::support::weir::bare;
use crate::support::{PATIENCE, wait_for};

fn ask(address: &str, method: &str, target: &str, body: &str) -> Response {
    let mut client = Client::connect(address);
    client
        .request(method, target, "", body.as_bytes())
        .unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

/// A body without what differs between two stores: each index of a listing as its rank, and JSON
/// by value (Consul in development mode ends it with a newline).
fn content(answer: &Response) -> Value {
    let mut entries = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(Value::Array(entries)) => entries,
        Ok(value) => return value,
        Err(_) => return Value::String(answer.text()),
    };
    let indexes = ["CreateIndex", "ModifyIndex"];
    let index = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_u64);
    let mut ranks: Vec<u64> = entries
        .iter()
        .flat_map(|entry| indexes.iter().filter_map(|name| index(entry, name)))
        .collect();
    ranks.sort_unstable();
    ranks.dedup();
    for entry in &mut entries {
        for name in indexes {
            if let Some(value) = index(entry, name) {
                entry[name] = ranks.binary_search(&value).unwrap().into();
            }
        }
    }
    Value::Array(entries)
}

/// Starts the demo; the address of its endpoint, once it has printed it.
fn start(folder: &std::path::Path) -> (Process, String) {
    let output = folder.join("output");
    let mut process = Process::start(bare().arg("demo").env("TMPDIR", folder), &output);
    let said = wait_for(PATIENCE, "the demo says what to try", || {
        let said = read_lossy(&output);
        if let Some(status) = process.ended() {
            panic!("it has ended, {status}: {said}");
        }
        said.contains("Ctrl-C").then_some(said)
    });
    let put = said.lines().find(|line| line.contains("-X PUT")).unwrap();
    let target = put.split("http://").nth(1).unwrap();
    let address = target.split('/').next().unwrap().to_owned();
    assert!(
        address.starts_with("127.0.0.1:"),
        "loopback only: {address}"
    );
    (process, address)
}

#[test]
fn the_demos_endpoint_answers_as_consul_does() {
    let consul = Consul::shared().address();
    let folder = tempfile::tempdir().unwrap();
    let (process, demo) = start(folder.path());
    let list = "/a/?recurse";
    let mut before: [Option<String>; 2] = [None, None];
    let prefix = format!("/v1/kv/{}", consul::folder());
    for (method, rest, body) in [
        ("GET", "?recurse", ""),
        ("PUT", "/a/one", "{\"weight\":1}"),
        ("PUT", "/a/two", ""),
        ("PUT", "/b", "x"),
        ("GET", "?recurse", ""),
        ("GET", list, ""),
        ("GET", "/?keys", ""),
        ("GET", "/a/one", ""),
        ("GET", "/a/one?raw", ""),
        ("GET", "/a/none", ""),
        ("GET", "/a/none?raw", ""),
        ("PUT", "/a/two", "again"),
        ("GET", list, ""),
        ("GET", "/b?recurse", ""),
        ("DELETE", "/a/two", ""),
        ("DELETE", "/a/two", ""),
        ("GET", list, ""),
        ("GET", "/a/?recurse&index=1&wait=1s", ""),
        ("DELETE", list, ""),
        ("GET", list, ""),
        ("GET", "/?recurse&wait=soon&index=1", ""),
    ] {
        let target = format!("{prefix}{rest}");
        let [theirs, ours] = [&consul, &demo].map(|address| ask(address, method, &target, body));
        let what = format!("{method} {rest}: Consul {theirs:?}, the demo {ours:?}");
        assert_eq!(theirs.status, ours.status, "{what}");
        let index = |answer: &Response| answer.field("x-consul-index").map(str::to_owned);
        assert_eq!(index(&theirs).is_some(), index(&ours).is_some(), "{what}");
        if theirs.status == 200 {
            assert_eq!(content(&theirs), content(&ours), "{what}");
            let media = |answer: &Response| {
                let kind = answer.field("content-type").unwrap_or_default();
                kind.split(';').next().map(str::to_owned)
            };
            assert_eq!(media(&theirs), media(&ours), "{what}");
        }
        // The stores count differently, but an index moves in both or in neither.
        if method == "GET" && rest == list {
            let now = [index(&theirs), index(&ours)];
            assert_eq!(before[0] == now[0], before[1] == now[1], "{what}");
            before = now;
        }
    }
    drop(process);
}

#[test]
fn the_demos_endpoint_holds_a_query_until_its_prefix_moves() {
    let folder = tempfile::tempdir().unwrap();
    let (process, demo) = start(folder.path());
    let list = "/v1/kv/upstreams/test?recurse";
    let index = |answer: &Response| answer.field("x-consul-index").unwrap().to_owned();
    let first = index(&ask(&demo, "GET", list, ""));
    let blocking = format!("{list}&index={first}&wait=200ms");
    assert_eq!(index(&ask(&demo, "GET", &blocking, "")), first);
    let waiting = {
        let (demo, blocking) = (demo.clone(), format!("{list}&index={first}&wait=5m"));
        std::thread::spawn(move || ask(&demo, "GET", &blocking, ""))
    };
    ask(&demo, "PUT", "/v1/kv/elsewhere", "x");
    ask(&demo, "PUT", "/v1/kv/upstreams/test/other", "x");
    let answer = waiting.join().unwrap();
    assert_ne!(index(&answer), first);
    assert!(answer.text().contains("upstreams/test/other"));
    drop(process);
}

#[test]
fn the_demo_and_the_line_for_weirctl_work_in_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("it's; {a} folder");
    std::fs::create_dir(&odd).unwrap();
    let (process, _) = start(&odd);
    let said = read_lossy(&odd.join("output"));
    let watch = said.lines().find(|line| line.ends_with(" watch")).unwrap();
    let table = watch.replace(" watch", " table test");
    let done = finish(guarded("sh").args(["-c", &table]));
    assert!(done.stdout.contains("upstream test: "), "{table}: {done:?}");
    drop(process);
}

#[test]
fn the_demo_ends_when_nobody_reads_it() {
    let mut command = bare();
    let mut process = Process::spawn(command.arg("demo").stdout(Stdio::piped()));
    drop(process.child().stdout.take());
    assert!(process.wait(PATIENCE).success());
}

#[test]
fn the_demo_takes_no_argument() {
    let done = finish(bare().args(["demo", "now"]));
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("\"now\""), "{done:?}");
}
