//! Consul's catalog and health checks.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;

use super::{shown, upstream, wait_servers};
use crate::support::consul::Consul;
use crate::support::weir::{SOON, Setup, in_server};
use crate::support::{free_port, unique, wait_until};

#[track_caller]
fn put(consul: &Consul, target: &str, body: &serde_json::Value) {
    let answer = consul.request("PUT", target, &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn register(consul: &Consul, name: &str, number: u16, tags: &[&str]) {
    let service = json!({
        "ID": format!("{name}-{number}"), "Name": name, "Address": "192.0.2.1", "Port": number,
        "Tags": tags, "Weights": {"Passing": 7, "Warning": 1},
        "Check": {"TTL": "1h", "Status": "passing"},
    });
    put(consul, "/v1/agent/service/register", &service);
}

fn deregister(consul: &Consul, name: &str, number: u16) {
    let target = format!("/v1/agent/service/deregister/{name}-{number}");
    put(consul, &target, &json!(null));
}

#[test]
fn instances_of_a_service_come_change_and_go() {
    let consul = Consul::shared();
    let name = unique("web");
    register(
        consul,
        &name,
        8001,
        &["weight=5", "max_fails=3", "fail_timeout=20s"],
    );
    let address = consul.address();
    let weir = upstream(&format!(
        "upsync {address}/v1/catalog/service/{name} upsync_type=consul_services;"
    ))
    .allow("is skipped")
    .start();
    wait_servers(
        &weir,
        &["192.0.2.1:8001 weight=5 max_fails=3 fail_timeout=20s"],
    );
    register(consul, &name, 8002, &["backup"]);
    register(consul, &name, 8003, &["down"]);
    register(consul, &name, 8004, &["weight=0"]);
    weir.wait_log(&format!("{name}-8004\" is skipped: weight is \"0\""));
    let first = "192.0.2.1:8001 weight=5";
    wait_servers(
        &weir,
        &[first, "192.0.2.1:8002 weight=1", "192.0.2.1:8003 weight=1"],
    );
    assert!(shown(&weir)[2].ends_with(" down"), "{:?}", shown(&weir));
    register(consul, &name, 8003, &[]);
    wait_until(SOON, "it is up", || !shown(&weir)[2].ends_with(" down"));
    deregister(consul, &name, 8002);
    wait_servers(&weir, &[first, "192.0.2.1:8003"]);
}

#[test]
fn a_check_that_does_not_pass_sets_a_server_down() {
    let consul = Consul::shared();
    let name = unique("web");
    register(consul, &name, 8001, &[]);
    register(consul, &name, 8002, &["weight=2"]);
    let address = consul.address();
    let weir = upstream(&format!(
        "upsync {address}/v1/health/service/{name} upsync_type=consul_health;"
    ))
    .start();
    wait_servers(
        &weir,
        &["192.0.2.1:8001 weight=7", "192.0.2.1:8002 weight=2"],
    );
    for state in ["fail", "warn"] {
        put(
            consul,
            &format!("/v1/agent/check/{state}/service:{name}-8001"),
            &json!(null),
        );
        wait_until(SOON, "it is down", || {
            let shown = shown(&weir);
            shown.len() == 2 && shown[0].ends_with(" down") && !shown[1].ends_with(" down")
        });
        put(
            consul,
            &format!("/v1/agent/check/pass/service:{name}-8001"),
            &json!(null),
        );
        wait_until(SOON, "it is up", || !shown(&weir)[0].ends_with(" down"));
    }
    deregister(consul, &name, 8001);
    wait_servers(&weir, &["192.0.2.1:8002 weight=2"]);
}

/// Connections that a process has to a port of this machine.
fn connections(pid: u32, port: u16) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets: Vec<String> = descriptors
        .filter_map(|entry| {
            let link = std::fs::read_link(entry.ok()?.path()).ok()?;
            let link = link.to_str()?.strip_prefix("socket:[")?;
            Some(link.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let is_one = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[2].ends_with(&format!(":{port:04X}")) && sockets.iter().any(|own| own == fields[9])
    };
    table.lines().skip(1).filter(is_one).count()
}

#[test]
fn more_services_than_consul_takes_connections_are_all_watched() {
    const SERVICES: u16 = 300;
    /// What Consul lets one client have.
    const LIMIT: usize = 200;
    /// How soon each change is to be seen, on a machine that is busy with other things.
    const SEEN: Duration = Duration::from_secs(20);
    let port = free_port();
    let consul = Consul::start_at(port);
    let server = |service: u16, nth: u8| format!("192.0.2.{nth}:{}", 1000 + service);
    let blocks = (0..SERVICES).map(|service| {
        consul.register(&format!("s{service}"), &server(service, 1));
        format!(
            "upstream s{service} {{ upsync 127.0.0.1:{port}/v1/catalog/service/s{service} \
             upsync_type=consul_services; }}\n"
        )
    });
    let show = in_server("location / { upstream_show; }");
    let text = blocks.collect::<String>() + &show;
    let weir = Setup::http(&text).workers(1).start();
    let (syncer, most) = (weir.syncer(), Cell::new(0));
    let wait = |what: &str, expected: usize| {
        wait_until(SEEN, what, || {
            most.set(most.get().max(connections(syncer, port)));
            weir.get("/").text().matches("192.0.2.").count() == expected
        });
    };
    wait("each has its server", SERVICES.into());
    for nth in 2..4 {
        for service in (0..SERVICES).step_by(7) {
            consul.register(&format!("s{service}"), &server(service, nth));
        }
        let changed = usize::from(SERVICES.div_ceil(7)) * usize::from(nth - 1);
        wait("each change is seen", usize::from(SERVICES) + changed);
    }
    let most = most.get();
    assert!((100..LIMIT).contains(&most), "{most} connections");
    assert!(!weir.error_log().contains("recv error"));
}
