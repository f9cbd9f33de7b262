use proptest::prelude::*;
use serde_json::{Value, json};
use weir_shm::Server;

use super::super::{Decoded, Refused};
use super::{catalog, health};

fn listed(id: &str, address: &str, port: i64, tags: &[&str]) -> Value {
    json!({
        "ID": "40e4a748", "Node": "n1", "Address": "10.0.0.9", "Datacenter": "dc1",
        "TaggedAddresses": {"lan": "10.0.0.9"}, "NodeMeta": null, "ServiceKind": "",
        "ServiceID": id, "ServiceName": "web", "ServiceTags": tags, "ServiceAddress": address,
        "ServiceWeights": {"Passing": 1, "Warning": 1}, "ServiceMeta": {}, "ServicePort": port,
        "ServiceEnableTagOverride": false, "CreateIndex": 5, "ModifyIndex": 7,
    })
}

fn checked(id: &str, address: &str, tags: &[&str], statuses: &[&str]) -> Value {
    let checks: Vec<Value> = statuses
        .iter()
        .map(|status| json!({"Node": "n1", "CheckID": "c", "Status": status, "Output": "x"}))
        .collect();
    json!({
        "Node": {"ID": "40e4a748", "Node": "n1", "Address": "10.0.0.9", "Meta": null},
        "Service": {
            "ID": id, "Service": "web", "Tags": tags, "Address": address, "Port": 80,
            "Weights": {"Passing": 5, "Warning": 1}, "CreateIndex": 5, "ModifyIndex": 7,
        },
        "Checks": checks,
    })
}

fn of(decode: fn(&[u8]) -> Result<Decoded, String>, list: &[Value]) -> Decoded {
    decode(json!(list).to_string().as_bytes()).unwrap()
}

fn shown(server: &Server) -> String {
    let down = if server.down { " down" } else { "" };
    let backup = if server.backup { " backup" } else { "" };
    format!(
        "{} {} {} {}{down}{backup}",
        server.address, server.weight, server.max_fails, server.fail_timeout_ms
    )
}

fn all(decoded: &Decoded) -> Vec<String> {
    decoded.servers.iter().map(shown).collect()
}

fn reasons(decoded: &Decoded) -> Vec<(&str, &str)> {
    let refused = decoded.refused.iter();
    refused
        .map(|entry| (entry.key.as_str(), entry.reason.as_str()))
        .collect()
}

#[test]
fn an_instance_is_a_server_with_what_its_tags_say() {
    let tags = [
        "v2",
        "weight=5",
        "max_fails=3",
        "fail_timeout=10s",
        "backup",
    ];
    let decoded = of(
        catalog,
        &[
            listed("b", "10.0.0.1", 8001, &tags),
            listed("a", "", 8002, &["weight", "down=1", "Down", "primary"]),
            listed("c", "2001:db8::1", 8003, &["down", "fail_timeout=1m"]),
        ],
    );
    let expected = [
        "10.0.0.9:8002 1 2 10000",
        "10.0.0.1:8001 5 3 10000 backup",
        "[2001:db8::1]:8003 1 2 60000 down",
    ];
    assert_eq!(all(&decoded), expected);
    assert_eq!(decoded.refused, []);
    assert_eq!(of(catalog, &[]), Decoded::default());
}

#[test]
fn a_bad_instance_is_refused_and_named_and_the_others_count() {
    let decoded = of(
        catalog,
        &[
            listed("a", "10.0.0.1", 80, &["weight=0"]),
            listed("b", "10.0.0.1", 80, &["fail_timeout=soon"]),
            listed("c", "10.0.0.1", 0, &[]),
            listed("d", "10.0.0.1", 70_000, &[]),
            listed("e", "10.0.0.1", -1, &[]),
            listed("f", "web.example", 80, &[]),
            listed("g", "10.0.0.1", 80, &["max_fails=-1"]),
            listed("h", "10.0.0.1", 80, &["weight=9999999999"]),
            listed("i", "10.0.0.1", 80, &[]),
            listed("j", "10.0.0.1", 80, &[]),
        ],
    );
    assert_eq!(all(&decoded), ["10.0.0.1:80 1 2 10000"]);
    let expected = [
        ("n1/a", "weight is \"0\", not 1 to 65535"),
        ("n1/b", "fail_timeout is \"soon\", not 0 to 2147483"),
        ("n1/c", "address \"10.0.0.1:0\" has port 0"),
        ("n1/d", "address \"10.0.0.1:70000\" is not IP:PORT"),
        ("n1/e", "address \"10.0.0.1:-1\" is not IP:PORT"),
        ("n1/f", "address \"web.example:80\" is not IP:PORT"),
        ("n1/g", "max_fails is \"-1\", not 0 to 2147483647"),
        ("n1/h", "weight is \"9999999999\", not 1 to 65535"),
        ("n1/j", "10.0.0.1:80 is already at key \"n1/i\""),
    ];
    assert_eq!(reasons(&decoded), expected);
    let Refused { modify_index, .. } = decoded.refused[0];
    assert_eq!(modify_index, 7);
}

#[test]
fn a_check_that_does_not_pass_sets_down_and_the_server_stays() {
    let decoded = of(
        health,
        &[
            checked("a", "10.0.0.1", &[], &["passing", "passing"]),
            checked("b", "10.0.0.2", &["weight=9"], &["passing", "warning"]),
            checked("c", "10.0.0.3", &[], &["critical"]),
            checked("d", "", &["down", "backup"], &[]),
            checked("e", "10.0.0.5", &[], &["maintenance"]),
        ],
    );
    let expected = [
        "10.0.0.1:80 5 2 10000",
        "10.0.0.2:80 9 2 10000 down",
        "10.0.0.3:80 5 2 10000 down",
        "10.0.0.9:80 5 2 10000 down backup",
        "10.0.0.5:80 5 2 10000 down",
    ];
    assert_eq!(all(&decoded), expected);
    let bare = r#"[{"Node":{"Node":"n","Address":"10.0.0.1"},"Service":{"ID":"a","Port":1,"Tags":null},"Checks":null}]"#;
    assert_eq!(
        all(&health(bare.as_bytes()).unwrap()),
        ["10.0.0.1:1 1 2 10000"]
    );
}

#[test]
fn what_is_no_list_of_instances_is_an_error() {
    for decode in [catalog, health] {
        for body in [
            "",
            "null",
            "{}",
            "[1]",
            "[{\"Node\":7}]",
            "[",
            "[]x",
            "[[[[[[[[",
        ] {
            assert!(decode(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(decode(b"[]"), Ok(Decoded::default()));
    }
    assert!(health(b"[{}]").is_err(), "neither node nor service");
}

/// A list that is an answer but for one place.
fn damaged(list: &str, at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = list.as_bytes().to_vec();
    let at = at % bytes.len();
    let end = (at + with.len()).min(bytes.len());
    bytes[at..end].copy_from_slice(&with[..end - at]);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_instance_is_a_server_or_refused(
        instances in proptest::collection::vec(
            (0u8..40, "[0-9]{1,3}\\.0\\.0\\.[0-9]{1,2}|[a-z:.]{0,9}", -2i64..70_000, proptest::collection::vec("(weight=|max_fails=|down|backup|fail_timeout=)?[0-9a-z.-]{0,4}", 0..4)),
            0..30,
        ),
    ) {
        let list: Vec<Value> = instances.iter().map(|(id, address, port, tags)| {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            listed(&id.to_string(), address, *port, &tags)
        }).collect();
        let decoded = of(catalog, &list);
        prop_assert_eq!(decoded.servers.len() + decoded.refused.len(), list.len());
        let mut addresses: Vec<_> = decoded.servers.iter().map(|server| &server.address).collect();
        addresses.sort();
        addresses.dedup();
        prop_assert_eq!(addresses.len(), decoded.servers.len());
        for server in &decoded.servers {
            prop_assert!((1..=65_535).contains(&server.weight));
        }
    }

    #[test]
    fn damage_never_panics(at in any::<usize>(), with in proptest::collection::vec(any::<u8>(), 1..6)) {
        let listed = json!([listed("a", "10.0.0.1", 80, &["weight=3"])]).to_string();
        let _ = catalog(&damaged(&listed, at, &with));
        let checked = json!([checked("a", "10.0.0.1", &["down"], &["critical"])]).to_string();
        let _ = health(&damaged(&checked, at, &with));
    }
}
