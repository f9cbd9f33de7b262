//! Consul's catalog and health checks.

use serde_json::json;

use super::{shown, upstream, wait_servers};
use crate::support::consul::Consul;
use crate::support::weir::SOON;
use crate::support::{unique, wait_until};

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
