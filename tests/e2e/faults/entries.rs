//! Entries of Consul's that are no servers: each is named and left out, and all others count.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::row::{How, Row, check};
use crate::support::fault::Fault;

const OTHER: &str = "192.0.2.1:1";

/// A bad entry, and what the log says of it.
fn bad(name: &'static str, key: &str, value: &str, says: &str) -> Row {
    let row = Row::new(name, How::Entries).entry(key, value).passes();
    row.says(&[says])
}

fn nested(depth: usize) -> String {
    format!("{{\"weight\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
}

/// A value of so many bytes that is an object with a member nobody knows.
fn padded(size: usize) -> String {
    format!("{{\"weight\":1,\"note\":\"{}\"}}", "x".repeat(size))
}

#[test]
fn bad_entries_are_named_and_others_applied() {
    let weight = |name, value: &str| {
        bad(
            name,
            OTHER,
            &format!("{{\"weight\":{value}}}"),
            "is skipped: weight is",
        )
    };
    // Consul gives no such base64: on its way it is damaged.
    let value = STANDARD.encode("{\"weight\":77}");
    let damage = Fault::Replace(value, "%%%".to_owned());
    let base64 = Row::new("bad_base64", How::Standing(damage))
        .entry(OTHER, "{\"weight\":77}")
        .passes()
        .says(&["is skipped: value is not base64"]);
    check(&[
        base64,
        weight("weight_0", "0"),
        weight("weight_negative", "-1"),
        weight("weight_1e9", "1e9"),
        bad("port_0", "192.0.2.1:0", "", "\" is skipped: key has port 0"),
        bad(
            "port_70000",
            "192.0.2.1:70000",
            "",
            "192.0.2.1:70000\" is skipped: key is not IP:PORT",
        ),
        bad(
            "no_address",
            "web",
            "{}",
            "web\" is skipped: key is not IP:PORT",
        ),
        bad(
            "not_json",
            OTHER,
            "{\"weight\":",
            "is skipped: value is not JSON",
        ),
        bad(
            "no_object",
            OTHER,
            "weight=1",
            "\"weight=1\" is not a JSON object",
        ),
        bad(
            "deep_value",
            OTHER,
            &nested(10_000),
            "is skipped: value is not JSON",
        ),
        bad(
            "kib_60_garbage",
            OTHER,
            &"x".repeat(60_000),
            "is not a JSON object",
        ),
        bad(
            "key_of_8_kib",
            &"k".repeat(8192),
            "{}",
            "is skipped: key is not IP:PORT",
        ),
        // Both are for one address, and the first key has it.
        bad(
            "duplicate",
            "x",
            "{\"server\":\"192.0.2.1:1\"}",
            "is skipped: 192.0.2.1:1 is already at key",
        )
        .entry("a", "{\"server\":\"192.0.2.1:1\",\"down\":1}"),
        // Large, but right.
        Row::new("kib_60", How::Entries)
            .value(&padded(60_000))
            .passes(),
        Row::new("kib_500", How::Entries)
            .value(&padded(500_000))
            .passes(),
    ]);
}
