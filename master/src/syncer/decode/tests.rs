use super::*;
use proptest::prelude::*;

fn entry(key: &str, value: &str, modify_index: u64) -> Entry<'static> {
    Entry {
        key: Cow::Owned(key.to_owned()),
        value: (!value.is_empty()).then(|| Cow::Owned(STANDARD.encode(value))),
        modify_index,
    }
}

fn one(name: &str, value: &str) -> Result<Server, String> {
    let mut decoded = decode("test", &[entry(&format!("test/{name}"), value, 1)]);
    assert_eq!(decoded.servers.len() + decoded.refused.len(), 1);
    match decoded.servers.pop() {
        Some(server) => Ok(server),
        None => Err(decoded.refused[0].reason.clone()),
    }
}

fn addresses(decoded: &Decoded) -> Vec<String> {
    decoded
        .servers
        .iter()
        .map(|s| s.address.to_string())
        .collect()
}

#[test]
fn defaults_are_upsyncs() {
    for value in ["", " \n", "{}", r#"{"weight":null,"other":[1]}"#] {
        let server = one("10.0.0.1:80", value).unwrap();
        assert_eq!(server.address.to_string(), "10.0.0.1:80");
        assert_eq!(
            (server.weight, server.max_fails, server.fail_timeout_ms),
            (1, 2, 10_000)
        );
        assert!(!server.down && !server.backup);
    }
}

#[test]
fn every_field_counts_as_number_and_as_string() {
    for value in [
        r#"{"weight":7,"max_fails":0,"fail_timeout":30,"down":1,"backup":1}"#,
        r#"{"weight":"7","max_fails":"0","fail_timeout":"30","down":"1","backup":"1"}"#,
        r#"{"weight":7.0,"max_fails":0,"fail_timeout":3e1,"down":true,"backup":true}"#,
    ] {
        let server = one("10.0.0.1:80", value).unwrap();
        assert_eq!(
            (server.weight, server.max_fails, server.fail_timeout_ms),
            (7, 0, 30_000)
        );
        assert!(server.down && server.backup, "{value}");
    }
}

#[test]
fn limits_hold_at_one_below_at_and_one_above() {
    for (field, min, max) in [
        ("weight", 1, WEIGHT_MAX),
        ("max_fails", 0, MAX_FAILS_MAX),
        ("fail_timeout", 0, FAIL_TIMEOUT_MAX_S),
        ("down", 0, 1),
        ("backup", 0, 1),
    ] {
        for (number, good) in [
            (min as i64 - 1, false),
            (min as i64, true),
            (max as i64, true),
            (max as i64 + 1, false),
        ] {
            for value in [format!("{number}"), format!("\"{number}\"")] {
                let value = format!("{{\"{field}\":{value}}}");
                let result = one("10.0.0.1:80", &value);
                assert_eq!(result.is_ok(), good, "{value}: {result:?}");
                assert!(good || result.unwrap_err().starts_with(field));
            }
        }
    }
}

#[test]
fn bad_entries_are_refused_with_the_reason() {
    for (name, value, reason) in [
        ("10.0.0.1:0", "", "key has port 0"),
        ("10.0.0.1:70000", "", "key is not IP:PORT"),
        ("10.0.0.1", "", "key is not IP:PORT"),
        ("::1:80", "", "key is not IP:PORT"),
        ("[fe80::1%2]:80", "", "key has a scope"),
        ("web1", "", "names no server"),
        (
            "web1",
            r#"{"server":"web1:80"}"#,
            "server \"web1:80\" is not IP:PORT",
        ),
        ("web1", r#"{"server":80}"#, "server is not a string"),
        (
            "10.0.0.1:80",
            "weight=1",
            "value \"weight=1\" is not a JSON object",
        ),
        ("10.0.0.1:80", "[1,2]", "is not a JSON object"),
        ("10.0.0.1:80", "{\"weight\":1", "value is not JSON"),
        ("10.0.0.1:80", "{} {}", "value is not JSON"),
        (
            "10.0.0.1:80",
            "{\"weight\":1,\"weight\":2}",
            "duplicate field `weight`",
        ),
        (
            "10.0.0.1:80",
            "{\"weight\":1.5}",
            "weight is \"1.5\", not 1 to 65535",
        ),
        ("10.0.0.1:80", "{\"weight\":1e9}", "weight is"),
        ("10.0.0.1:80", "{\"weight\":[]}", "weight is"),
        ("10.0.0.1:80", "{\"down\":\"yes\"}", "down is"),
        ("10.0.0.1:80", "\u{7f}\n", "value \"\\u{7f}\" is not"),
    ] {
        let error = one(name, value).unwrap_err();
        assert!(error.contains(reason), "{name} {value}: {error}");
    }
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let error = one("10.0.0.1:80", &format!("{{\"weight\":{deep}}}")).unwrap_err();
    assert!(error.contains("not JSON"), "{error}");
    assert!(one("10.0.0.1:80", &format!("{{\"other\":{deep}}}")).is_ok());
    let mut bad = entry("test/10.0.0.1:80", "", 1);
    bad.value = Some("%%%".into());
    assert_eq!(
        decode("test", &[bad]).refused[0].reason,
        "value is not base64"
    );
    let long = one(&"k".repeat(5000), &"v".repeat(60_000)).unwrap_err();
    assert!(long.len() < 2 * EXCERPT + 100, "{}", long.len());
}

#[test]
fn only_whole_segments_directly_in_the_folder_count() {
    let keys = [
        "test/",
        "test",
        "test/1.1.1.1:1",
        "test2/1.1.1.1:2",
        "test/sub/1.1.1.1:3",
        "test/sub/",
        "test//1.1.1.1:4",
        "Test/1.1.1.1:5",
        "a/test/1.1.1.1:6",
    ];
    let entries: Vec<_> = keys.iter().map(|key| entry(key, "", 1)).collect();
    let decoded = decode("test", &entries);
    assert_eq!(addresses(&decoded), ["1.1.1.1:1"]);
    assert!(decoded.refused.is_empty());
    let decoded = decode(
        "",
        &[entry("1.1.1.1:1", "", 1), entry("a/1.1.1.1:2", "", 1)],
    );
    assert_eq!(addresses(&decoded), ["1.1.1.1:1"]);
}

#[test]
fn a_value_may_name_the_server() {
    let server = one("web-1", r#"{"server":"[2001:db8::1]:8080","weight":3}"#).unwrap();
    assert_eq!(server.address.to_string(), "[2001:db8::1]:8080");
    assert_eq!(server.weight, 3);
    assert_eq!(one("[::1]:80", "").unwrap().address.to_string(), "[::1]:80");
}

#[test]
fn of_one_address_the_first_key_wins() {
    let decoded = decode(
        "t",
        &[
            entry("t/b", r#"{"server":"1.1.1.1:1","weight":2}"#, 8),
            entry("t/1.1.1.1:1", r#"{"weight":1}"#, 9),
            entry("t/a", r#"{"server":"1.1.1.1:1","weight":3}"#, 7),
        ],
    );
    assert_eq!(addresses(&decoded), ["1.1.1.1:1"]);
    assert_eq!(decoded.servers[0].weight, 1);
    let refused: Vec<_> = decoded
        .refused
        .iter()
        .map(|r| (r.key.as_str(), r.modify_index))
        .collect();
    assert_eq!(refused, [("t/a", 7), ("t/b", 8)]);
    assert_eq!(
        decoded.refused[0].reason,
        "1.1.1.1:1 is already at key \"t/1.1.1.1:1\""
    );
}

#[test]
fn a_refused_entry_is_news_once_a_change() {
    let refused = |key: &str, modify_index| Refused {
        key: key.to_owned(),
        modify_index,
        reason: String::new(),
    };
    let mut known = Known::default();
    assert_eq!(known.news(&[refused("a", 1), refused("b", 1)]).len(), 2);
    assert_eq!(known.news(&[refused("a", 1), refused("b", 2)]).len(), 1);
    assert!(known.news(&[refused("a", 1), refused("b", 2)]).is_empty());
    assert!(known.news(&[]).is_empty());
    assert_eq!(known.news(&[refused("a", 1)]).len(), 1);
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("{}".to_owned()),
        "\\PC{0,30}",
        (-5i64..100_000, -5i64..100_000)
            .prop_map(|(w, m)| format!("{{\"weight\":{w},\"max_fails\":\"{m}\"}}")),
        (0u8..4, 0u16..4).prop_map(|(a, p)| format!("{{\"server\":\"10.0.0.{a}:{p}\"}}")),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u8..6, 0u16..6).prop_map(|(a, p)| format!("up/10.0.0.{a}:{p}")),
        "up/[a-c]{1,2}",
        "up/?x?/\\PC{0,8}",
        "\\PC{0,12}",
    ]
}

proptest! {
    #[test]
    fn whatever_consul_says_becomes_good_servers_or_reasons(
        entries in proptest::collection::vec((key(), value(), 0u64..5), 0..40)
    ) {
        let entries: Vec<_> = entries.iter().map(|(k, v, i)| entry(k, v, *i)).collect();
        let decoded = decode("up", &entries);
        let below = entries.iter().filter(|e| name_below("up", &e.key).is_some()).count();
        prop_assert_eq!(decoded.servers.len() + decoded.refused.len(), below);
        let mut seen = std::collections::HashSet::new();
        for server in &decoded.servers {
            prop_assert!(seen.insert(server.address.clone()));
            prop_assert!((1..=65535).contains(&server.weight));
            prop_assert!(matches!(server.address, Address::Ip(a) if a.port() > 0));
        }
        for refused in &decoded.refused {
            prop_assert!(!refused.reason.chars().any(char::is_control));
        }
        let mut shuffled = entries.clone();
        shuffled.reverse();
        let keys: std::collections::HashSet<_> = entries.iter().map(|e| e.key.clone()).collect();
        if keys.len() == entries.len() {
            prop_assert_eq!(decode("up", &shuffled), decoded);
        }
    }
}

#[test]
fn a_folder_is_found_among_sorted_entries() {
    let keys = [
        "a", "up", "up-", "up/", "up/a", "up/a/b", "up0", "up2/a", "upx",
    ];
    let entries: Vec<_> = keys.map(|key| entry(key, "", 1)).into();
    let found = |folder| -> Vec<&str> {
        let found = below(folder, &entries, |entry| &entry.key).iter();
        found.map(|entry| &*entry.key).collect()
    };
    assert_eq!(found("up"), ["up/", "up/a", "up/a/b"]);
    assert_eq!(found("up/a"), ["up/a/b"]);
    assert_eq!(found("up2"), ["up2/a"]);
    assert_eq!(found(""), keys);
    for none in ["b", "u", "upy", "~"] {
        assert!(found(none).is_empty(), "{none}");
    }
    assert_eq!(
        decode("up", below("up", &entries, |entry| &entry.key)),
        decode("up", &entries)
    );
}
