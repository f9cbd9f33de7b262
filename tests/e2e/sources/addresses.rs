//! Several addresses, unix sockets, another datacenter, and how fresh an answer has to be.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::{upstream, wait_servers};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::weir::SOON;
use crate::support::{free_port, wait_until};

#[test]
fn the_next_address_is_asked_when_one_fails() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let dead = free_port();
    let [one, two] = [0, 1].map(|_| FaultProxy::start(&consul.address(), Fault::None));
    let (first, second) = (one.address(), two.address());
    let weir = upstream(&format!(
        "upsync 127.0.0.1:{dead},{first},{second}/v1/kv/{folder};"
    ))
    .start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    weir.wait_log(&format!(
        "127.0.0.1:{dead} failed, another address is asked: connect() failed"
    ));
    one.set(Fault::ResetAtOnce);
    one.reset_open();
    consul.put(&format!("{folder}/192.0.2.1:2"), ENTRY);
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
    assert!(two.accepted() > 0);
}

#[test]
fn a_unix_socket_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    // The syncer is no root where the test is.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let socket = folder.path().join("consul.sock");
    let socket = socket.to_str().unwrap();
    let addresses = json!({
        "addresses": {"http": format!("127.0.0.1 unix://{socket}")},
        "unix_sockets": {"mode": "0777"},
    });
    let consul = Consul::start_with(free_port(), addresses, None);
    consul.put("up/test/192.0.2.1:1", ENTRY);
    let weir = upstream(&format!("upsync unix:{socket}:/v1/kv/up/test;")).start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    consul.put("up/test/192.0.2.1:2", ENTRY);
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
}

#[test]
fn datacenter_and_consistency_are_asked_for() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    for (parameter, query) in [
        ("datacenter=dc1", "&dc=dc1"),
        ("consistency=stale", "&stale"),
        ("consistency=consistent", "&consistent"),
    ] {
        let proxy = FaultProxy::start(&consul.address(), Fault::None);
        let address = proxy.address();
        let weir = upstream(&format!("upsync {address}/v1/kv/{folder} {parameter};")).start();
        wait_servers(&weir, &["192.0.2.1:1"]);
        wait_until(SOON, query, || {
            proxy
                .requests()
                .iter()
                .all(|target| target.ends_with(query))
        });
    }
    let address = consul.address();
    let weir = upstream(&format!("upsync {address}/v1/kv/{folder} datacenter=mars;")).start();
    weir.wait_log("No path to datacenter");
}
