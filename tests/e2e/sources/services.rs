//! Consul's catalog and health checks.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;

use super::{shown, upstream, wait_servers};
use crate::support::client::Client;
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

/// Others on this machine may have most of the connections that Consul lets it have. What is beyond
/// that it closes without a word.
#[test]
fn a_consul_that_closes_a_connection_too_many_has_its_services_watched() {
    const SERVICES: u16 = 60;
    const LIMIT: usize = 20;
    /// A request that was made before the limit was known may wait for ten seconds.
    const FIRST: Duration = Duration::from_secs(30);
    /// Each is asked every three seconds or so, on a machine that has other things to do too. A
    /// service that kept its connection instead would keep it for ten.
    const SEEN: Duration = Duration::from_secs(8);
    /// The changes come in so many parts.
    const PARTS: u16 = 4;
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("consul.sock");
    let settings = json!({
        "limits": {"http_max_conns_per_client": LIMIT},
        "addresses": {"http": format!("127.0.0.1 unix://{}", socket.display())},
    });
    let _consul = Consul::start_with(port, settings, None);
    // While weir has all connections to the port there is none for the test.
    let register = |service: u16, nth: u8| {
        let instance = json!({
            "ID": format!("s{service}-{nth}"), "Name": format!("s{service}"),
            "Address": format!("192.0.2.{nth}"), "Port": 1000 + service,
        });
        let target = "/v1/agent/service/register";
        let mut client = Client::connect_unix(&socket);
        let answer = client.request("PUT", target, "", instance.to_string().as_bytes());
        assert_eq!(answer.unwrap().status, 200);
    };
    let blocks = (0..SERVICES).map(|service| {
        register(service, 1);
        let kind = ["health", "catalog"][usize::from(service % 2)];
        let asks = ["consul_health", "consul_services"][usize::from(service % 2)];
        format!(
            "upstream s{service} {{ upsync 127.0.0.1:{port}/v1/{kind}/service/s{service} \
             upsync_type={asks}; }}\n"
        )
    });
    let show = in_server("location / { upstream_show; }");
    let text = blocks.collect::<String>() + &show;
    let weir = Setup::http(&text).workers(1).start();
    let is_shown = |service: u16, nth: u8| {
        let server = format!("192.0.2.{nth}:{} ", 1000 + service);
        move |text: &str| text.contains(&server)
    };
    wait_until(FIRST, "each has its server", || {
        let text = weir.get("/").text();
        (0..SERVICES).all(|service| is_shown(service, 1)(&text))
    });
    let full = "no room for one more connection or request";
    weir.wait_log(full);

    let (syncer, looks, beyond) = (weir.syncer(), Cell::new(0), Cell::new(0));
    for part in 0..PARTS {
        let changed = || (part..SERVICES).step_by(PARTS.into());
        changed().for_each(|service| register(service, 2));
        wait_until(SEEN, "each change is seen", || {
            looks.set(looks.get() + 1);
            beyond.set(beyond.get() + usize::from(connections(syncer, port) > LIMIT));
            let text = weir.get("/").text();
            changed().all(|service| is_shown(service, 2)(&text))
        });
    }
    // One too many is tried now and then.
    let (looks, beyond) = (looks.get(), beyond.get());
    assert!(beyond * 5 <= looks, "{beyond} of {looks}");

    let log = weir.error_log();
    assert_eq!(log.matches(full).count(), 1, "for all of them");
    let errors = log.matches("recv error").count();
    assert!(errors > 0, "it was turned away, or this shows nothing");
    assert!(errors <= usize::from(SERVICES) + 30, "{errors} lines");
}
