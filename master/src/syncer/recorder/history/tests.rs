use super::*;
use proptest::prelude::*;

fn server() -> impl Strategy<Value = Server> {
    let address = prop_oneof![
        (0u8..6, 1u16..3).prop_map(|(ip, port)| Address::Ip(([10, 0, 0, ip], port).into())),
        Just(Address::Ip("[2001:db8::1]:80".parse().unwrap())),
        Just(Address::Unix("/run/a.sock".into())),
    ];
    let numbers = (1u32..3, 0u32..2, prop_oneof![Just(10_000u64), Just(1500)]);
    (address, numbers, any::<bool>(), any::<bool>()).prop_map(|(address, numbers, down, backup)| {
        Server {
            address,
            weight: numbers.0,
            max_fails: numbers.1,
            fail_timeout_ms: numbers.2,
            down,
            backup,
            counter: CounterId::default(),
        }
    })
}

/// Names are unique in a table; addresses need not be in an upstream.
fn table() -> impl Strategy<Value = Vec<Upstream>> {
    let content = (
        0u64..3,
        any::<bool>(),
        proptest::collection::vec(server(), 0..8),
    );
    let upstreams = proptest::collection::hash_map("[a-e]", content, 0..5);
    upstreams.prop_map(|upstreams| {
        let upstream = |(name, (changed, learned, servers))| Upstream {
            name,
            changed,
            learned,
            template: None,
            servers,
        };
        upstreams.into_iter().map(upstream).collect()
    })
}

fn record(changes: Changes) -> Record {
    let source = "consul 127.0.0.1:8500/v1/kv/test".to_owned();
    Record {
        version: 2,
        before: 1,
        time_ms: 1_700_000_000_000,
        cause: Cause::answers([(source, 7), ("etcd 127.0.0.1:2379".to_owned(), 9)]),
        held: 0,
        refused: 3,
        changes,
    }
}

proptest! {
    #[test]
    fn what_is_undone_is_what_was(before in table(), after in table()) {
        let changes = Changes::between(&before, &after);
        prop_assert_eq!(changes.is_empty(), before == after);
        prop_assert_eq!(changes.undo(after.clone()), Some(before.clone()));
        prop_assert_eq!(changes.apply(before), Some(after));
    }

    #[test]
    fn a_record_survives_its_text(before in table(), after in table()) {
        let record = record(Changes::between(&before, &after));
        let text = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{}", text);
    }

    #[test]
    fn changes_of_another_table_neither_panic_nor_lie(
        before in table(), after in table(), other in table()
    ) {
        let _ = Changes::between(&before, &after).undo(other);
    }
}

fn plain(name: &str, ports: impl Iterator<Item = u16>) -> Upstream {
    let servers = ports.map(|port| Server {
        address: Address::Ip(([127, 0, 0, 1], port).into()),
        weight: 1,
        max_fails: 2,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    });
    Upstream {
        name: name.into(),
        changed: 1,
        learned: true,
        template: None,
        servers: servers.collect(),
    }
}

#[test]
fn one_server_among_many_is_a_short_record() {
    let before = [plain("test", 1..20_001)];
    let mut after = before.clone();
    let last = after[0].servers.pop().unwrap();
    after[0].servers.insert(0, last);
    after[0].servers.extend(plain("", 30_000..30_001).servers);
    after[0].changed = 2;
    let text = serde_json::to_string(&record(Changes::between(&before, &after))).unwrap();
    assert!(text.len() < 500, "{} bytes: {text:.600}", text.len());
}
