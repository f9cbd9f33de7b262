//! etcd by both APIs.

use super::tls::Authority;
use super::{upstream, wait_servers};
use crate::support::etcd::Etcd;
use crate::support::fault::{Fault, FaultProxy};
use crate::support::free_port;
use crate::support::weir::Setup;

fn third(address: &str) -> Setup {
    upstream(&format!(
        "upsync {address}/v3/kv/up/test upsync_type=etcd3 upsync_interval=100ms; upsync_guard off;"
    ))
}

#[test]
fn keys_of_the_third_api_come_change_and_go() {
    let etcd = Etcd::start();
    etcd.put("up/test/192.0.2.1:1", r#"{"weight":3}"#);
    etcd.put("up/test2/192.0.2.9:9", "");
    let weir = third(&etcd.address()).start();
    wait_servers(&weir, &["192.0.2.1:1 weight=3"]);
    for number in 2..6 {
        etcd.put(&format!("up/test/192.0.2.1:{number}"), "");
        let all: Vec<_> = (1..=number)
            .map(|number| format!("192.0.2.1:{number}"))
            .collect();
        wait_servers(&weir, &all.iter().map(String::as_str).collect::<Vec<_>>());
    }
    etcd.put("up/test/192.0.2.1:1", r#"{"weight":4,"down":1}"#);
    for number in 2..6 {
        etcd.delete(&format!("up/test/192.0.2.1:{number}"));
    }
    wait_servers(&weir, &["192.0.2.1:1 weight=4"]);
}

#[test]
fn changes_that_were_compacted_away_are_found() {
    let mut etcd = Etcd::start();
    etcd.put("up/test/192.0.2.1:1", "");
    let weir = third(&etcd.address()).start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    let home = etcd.move_to(free_port());
    weir.wait_log("recv error with upsync_server");
    etcd.put("up/test/192.0.2.1:2", "");
    etcd.delete("up/test/192.0.2.1:1");
    etcd.compact();
    etcd.move_to(home);
    wait_servers(&weir, &["192.0.2.1:2"]);
    etcd.put("up/test/192.0.2.1:3", "");
    wait_servers(&weir, &["192.0.2.1:2", "192.0.2.1:3"]);
}

#[test]
fn a_restart_and_a_wiped_store_are_lived_through() {
    let mut etcd = Etcd::start();
    for number in 0..50 {
        etcd.put("moves/the/revision", &number.to_string());
    }
    etcd.put("up/test/192.0.2.1:1", "");
    let weir = third(&etcd.address()).start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    etcd.kill();
    weir.wait_log("recv error with upsync_server");
    etcd.start_again();
    etcd.put("up/test/192.0.2.1:2", "");
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
    etcd.wipe();
    etcd.start_again();
    etcd.put("up/test/192.0.2.1:3", "");
    wait_servers(&weir, &["192.0.2.1:3"]);
    etcd.put("up/test/192.0.2.1:4", "");
    wait_servers(&weir, &["192.0.2.1:3", "192.0.2.1:4"]);
}

#[test]
fn keys_of_the_second_api_come_and_go_and_forgotten_events_are_found() {
    let etcd = Etcd::start();
    etcd.put_old("up/test/192.0.2.1:1", "%7B%22weight%22%3A3%7D");
    let proxy = FaultProxy::start(&etcd.address(), Fault::None);
    let address = proxy.address();
    let weir = upstream(&format!(
        "upsync {address}/v2/keys/up/test upsync_type=etcd upsync_interval=100ms; upsync_guard off;"
    ))
    .start();
    wait_servers(&weir, &["192.0.2.1:1 weight=3"]);
    etcd.put_old("up/test/192.0.2.1:2", "");
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
    etcd.delete_old("up/test/192.0.2.1:1");
    wait_servers(&weir, &["192.0.2.1:2"]);
    proxy.set(Fault::ResetAtOnce);
    proxy.reset_open();
    weir.wait_log("recv error with upsync_server");
    etcd.put_old("up/test/192.0.2.1:3", "");
    // It remembers the last thousand events.
    for number in 0..1100 {
        etcd.put_old("other", &number.to_string());
    }
    proxy.set(Fault::None);
    wait_servers(&weir, &["192.0.2.1:2", "192.0.2.1:3"]);
    etcd.delete_old("up/test/192.0.2.1:2");
    wait_servers(&weir, &["192.0.2.1:3"]);
}

#[test]
fn a_token_is_shown_over_tls() {
    let authority = Authority::new();
    let certificate = authority.path("dc1-server-consul-0.pem");
    let (mut etcd, port) =
        Etcd::start_secure(&certificate, &authority.path("dc1-server-consul-0-key.pem"));
    etcd.put("up/test/192.0.2.1:1", "");
    let token = etcd.secure("up/test/", "up/test0");
    let trusted = authority.trusted().display().to_string();
    let asking = |more: &str| {
        upstream(&format!(
            "upsync https://127.0.0.1:{port}/v3/kv/up/test upsync_type=etcd3;\n\
             upsync_ssl_trusted_certificate {trusted}; {more}"
        ))
    };
    let weir = asking(&format!("upsync_token {token};")).start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    for number in 2..4 {
        etcd.put(&format!("up/test/192.0.2.1:{number}"), "");
    }
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"]);
    assert!(!weir.error_log().contains(&token));
    drop(weir);
    let stranger = asking("").start();
    stranger.wait_log("answered with status 4");
    wait_servers(&stranger, &["127.0.0.1:11111"]);
}
