//! Consul's ACL tokens: from the configuration, the URL and a file, never shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::{shown, upstream, wait_servers};
use crate::support::consul::{Consul, ENTRY};
use crate::support::weir::{SOON, Weir};
use crate::support::{free_port, holds_for, wait_until};

/// Longer than it takes until what is removed is read a second time.
const STAYS: Duration = Duration::from_millis(1500);
const MANAGEMENT: &str = "5ec7e7a1-0000-4000-8000-00000000000a";
const UNKNOWN: &str = "5ec7e7a1-0000-4000-8000-0000000000ff";

/// A Consul that lets nobody read without a token.
fn guarded() -> Consul {
    let acl = json!({"acl": {
        "enabled": true, "default_policy": "deny", "tokens": {"master": MANAGEMENT},
    }});
    let consul = Consul::start_with(free_port(), acl, Some(MANAGEMENT));
    consul.put("up/test/192.0.2.1:1", ENTRY);
    consul
}

/// A token that may read the folder and nothing else.
fn reader(consul: &Consul) -> String {
    let rules = r#"key_prefix "up/test/" { policy = "read" }"#;
    let policy = json!({"Name": "reader", "Rules": rules}).to_string();
    assert_eq!(consul.request("PUT", "/v1/acl/policy", &policy).status, 200);
    reader_again(consul).1
}

#[track_caller]
fn hides(weir: &Weir, secret: &str) {
    let log = weir.error_log();
    assert!(!log.contains(secret), "{log}");
    let dumped = weir.command(&["-T"]);
    assert!(!dumped.stdout.contains(secret) && !dumped.stderr.contains(secret));
    assert!(dumped.stdout.contains("upsync"), "{dumped:?}");
    for what in ["sources", "errors", "table", "history"] {
        for told in [weir.weirctl(&[what]), weir.weirctl(&[what, "--json"])] {
            assert!(
                !told.stdout.contains(secret) && !told.stderr.contains(secret),
                "{what}"
            );
        }
    }
    let region = std::fs::read(weir.path("weir.region")).unwrap();
    assert!(
        !String::from_utf8_lossy(&region).contains(secret),
        "the region"
    );
}

#[test]
fn a_token_lets_weir_read_and_is_shown_nowhere() {
    let consul = guarded();
    let (address, token) = (consul.address(), reader(&consul));
    for directives in [
        format!("upsync {address}/v1/kv/up/test; upsync_token {token};"),
        format!("upsync {address}/v1/kv/up/test?token={token};"),
    ] {
        let weir = upstream(&directives).start();
        wait_servers(&weir, &["192.0.2.1:1"]);
        hides(&weir, &token);
        assert!(weir.command(&["-T"]).stdout.contains("***"));
    }
    let unknown = upstream(&format!(
        "upsync {address}/v1/kv/up/test; upsync_token {UNKNOWN};"
    ));
    let weir = unknown.start();
    weir.wait_log("answered with status 403");
    wait_servers(&weir, &["127.0.0.1:11111"]);
    hides(&weir, UNKNOWN);
}

fn replace(path: &Path, content: &str) {
    let other = path.with_extension("new");
    std::fs::write(&other, content).unwrap();
    std::fs::rename(other, path).unwrap();
}

#[test]
fn a_token_file_is_followed_without_a_reload() {
    let consul = guarded();
    let (address, token) = (consul.address(), reader(&consul));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, UNKNOWN).unwrap();
    let shown = path.display();
    let weir = upstream(&format!(
        "upsync {address}/v1/kv/up/test upsync_interval=100ms; upsync_token_file {shown};"
    ))
    .start();
    weir.wait_log("answered with status 403");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    wait_servers(&weir, &["192.0.2.1:1"]);
    replace(&path, UNKNOWN);
    consul.put("up/test/192.0.2.1:2", ENTRY);
    replace(&path, &token);
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
    // The token that is in use ends; the next one finds what has changed meanwhile.
    let (_, next) = reader_again(&consul);
    replace(&path, &next);
    consul.put("up/test/192.0.2.1:3", ENTRY);
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"]);
    hides(&weir, &token);
    // No worker has the file.
    for worker in weir.workers() {
        let open = opened(worker);
        assert!(!open.contains(&path), "worker {worker} has {open:?}");
    }
    wait_until(SOON, "the master holds it", || {
        opened(weir.pid()).contains(&path)
    });
}

/// Another token that may read the same; its accessor, and itself.
fn reader_again(consul: &Consul) -> (String, String) {
    let token = json!({"Policies": [{"Name": "reader"}]}).to_string();
    let answer = consul.request("PUT", "/v1/acl/token", &token);
    let made: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("AccessorID"), text("SecretID"))
}

#[test]
fn a_large_removal_is_not_believed_when_the_token_has_died() {
    let consul = guarded();
    reader(&consul);
    let (accessor, token) = reader_again(&consul);
    let entries = 1..=9;
    let entries: Vec<_> = entries
        .map(|n| (format!("192.0.2.1:{n}"), ENTRY.to_owned()))
        .collect();
    consul.put_many("up/test", &entries);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &token).unwrap();
    let weir = upstream(&format!(
        "upsync {}/v1/kv/up/test upsync_interval=100ms; upsync_token_file {};",
        consul.address(),
        file.path().display()
    ))
    .start();
    let servers = || shown(&weir).len();
    wait_until(SOON, "nine servers", || servers() == 9);
    // The request under way is answered by the rights that it began with.
    let target = format!("/v1/acl/token/{accessor}");
    assert_eq!(consul.request("DELETE", &target, "").status, 200);
    consul.delete_many("up/test", &entries[1..]);
    weir.wait_log("answered with status 403");
    holds_for(STAYS, "the servers stay", || servers() == 9);
    let sources = weir.weirctl(&["sources"]).stdout;
    assert!(sources.contains("403"), "{sources}");
    hides(&weir, &token);
    // A token that is alive confirms it.
    std::fs::write(file.path(), reader_again(&consul).1).unwrap();
    wait_servers(&weir, &["192.0.2.1:1"]);
}

fn opened(pid: u32) -> Vec<PathBuf> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let target =
        |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
    descriptors.filter_map(target).collect()
}

#[test]
fn a_token_file_that_is_missing_or_empty_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let shown = path.display();
    let directives = format!("upsync 127.0.0.1:1/v1/kv/x;\nupsync_token_file {shown};");
    let refused = || upstream(&directives).run(&["-t"]).stderr;
    let message = refused();
    let missing = format!("open() \"{shown}\" failed (2: No such file or directory) in ");
    assert!(message.contains(&missing), "{message}");
    std::fs::write(&path, "\n").unwrap();
    let message = refused();
    let empty = format!("there is no token in \"{shown}\" in ");
    assert!(message.contains(&empty), "{message}");
    std::fs::write(&path, "fine").unwrap();
    assert!(refused().contains("test is successful"));
}
