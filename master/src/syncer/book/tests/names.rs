//! Addresses of names that are asked for at run time.

use std::net::IpAddr;

use super::*;

/// One upstream `a` with a fixed server and one of the name `back.test`, asked of `resolver`.
fn with_name(resolver: u16, table: &[&str]) -> (Settings, Vec<ResolvedUpstream>, Table) {
    let (mut settings, mut resolved) = configuration(&[("a", &[1], None, None)]);
    let upstream = &mut settings.upstreams[0];
    upstream.resolver = Some(std::sync::Arc::new(weir_worker::settings::Resolver {
        servers: vec![([127, 0, 0, 1], resolver).into()],
        valid: None,
        ipv4: true,
        ipv6: true,
    }));
    upstream.servers = vec![settings::Server {
        host: settings::Host::Name {
            host: "Back.test".into(),
            port: 80,
            written: "Back.test".into(),
        },
        weight: 3,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        resolve: true,
        place: Place::default(),
    }];
    resolved[0].names = crate::resolve::named(upstream);
    let named = &resolved[0].names[0];
    let known = table.iter().map(|ip| named.at(ip.parse().unwrap()));
    let servers = resolved[0].servers.iter().cloned().chain(known).collect();
    let upstream = Upstream {
        name: "a".into(),
        changed: 1,
        learned: false,
        template: None,
        servers,
    };
    let table = Table {
        version: 1,
        upstreams: vec![upstream],
        ..Table::default()
    };
    (settings, resolved, table)
}

fn addresses(book: &Book) -> Vec<String> {
    let table = book.table();
    let servers = table[0].servers.iter();
    servers.map(|server| server.address.to_string()).collect()
}

fn ips(list: &[&str]) -> Option<Vec<IpAddr>> {
    Some(list.iter().map(|ip| ip.parse().unwrap()).collect())
}

#[test]
fn a_names_addresses_follow_the_configured_servers() {
    let (settings, resolved, table) = with_name(53, &[]);
    let mut book = Book::new(&settings, resolved, &table);
    let id = book.ids()[0];
    assert!(book.is_waiting(&[id]));
    assert_eq!(addresses(&book), ["10.0.0.1:1"]);
    let before = book.resolve(id, ips(&["192.0.2.1", "192.0.2.2", "192.0.2.1"]));
    assert_eq!(before, Some(Vec::new()));
    assert!(!book.is_waiting(&[id]));
    let both = ["10.0.0.1:1", "192.0.2.1:80", "192.0.2.2:80"];
    assert_eq!(addresses(&book), both);
    assert_eq!(book.table()[0].servers[1].weight, 3);
    // The same in another order is the same, and a failure changes nothing.
    assert_eq!(book.resolve(id, ips(&["192.0.2.2", "192.0.2.1"])), None);
    assert_eq!(book.resolve(id, None), None);
    assert_eq!(addresses(&book), both);
    let before = book.resolve(id, ips(&["192.0.2.3", "192.0.2.2"]));
    assert_eq!(addresses(&book)[1..], ["192.0.2.2:80", "192.0.2.3:80"]);
    book.unresolve(id, before.unwrap());
    assert_eq!(addresses(&book), both);
    // A name that is gone has no address.
    assert!(book.resolve(id, ips(&[])).is_some());
    assert_eq!(addresses(&book), ["10.0.0.1:1"]);
}

#[test]
fn a_failed_first_resolution_ends_the_waiting() {
    let (settings, resolved, table) = with_name(53, &[]);
    let mut book = Book::new(&settings, resolved, &table);
    let id = book.ids()[0];
    assert_eq!(book.resolve(id, None), None);
    assert!(!book.is_waiting(&[id]));
}

#[test]
fn a_syncer_that_starts_again_keeps_a_names_addresses() {
    let (settings, resolved, table) = with_name(53, &["192.0.2.7", "192.0.2.8"]);
    let mut book = Book::new(&settings, resolved, &table);
    let seen = ["10.0.0.1:1", "192.0.2.7:80", "192.0.2.8:80"];
    assert_eq!(addresses(&book), seen);
    let id = book.ids()[0];
    assert_eq!(book.resolve(id, None), None);
    assert_eq!(addresses(&book), seen);
}

#[test]
fn a_name_goes_on_over_reloads_and_begins_with_what_is_known_of_it() {
    let (settings, resolved, table) = with_name(53, &[]);
    let mut book = Book::new(&settings, resolved.clone(), &table);
    let id = book.ids()[0];
    book.resolve(id, ips(&["192.0.2.1"]));
    assert!(
        book.prepare(&settings, resolved, &HashMap::new())
            .is_empty()
    );
    assert!(book.commit().0.is_empty());
    assert_eq!(book.ids(), [id]);

    // Another resolver is asked anew.
    let (other, resolved, _) = with_name(54, &[]);
    let new = book.prepare(&other, resolved, &HashMap::new());
    assert_eq!(new.len(), 1);
    assert!(book.is_waiting(&new));
    let name = book.names(new[0]).next().unwrap().1;
    assert_eq!(
        (name.name.as_str(), name.resolver.servers[0].port()),
        ("back.test", 54)
    );
    assert_eq!(book.commit().0, [id]);
    assert_eq!(addresses(&book), ["10.0.0.1:1", "192.0.2.1:80"]);
    let (none, resolved) = configuration(&[("a", &[1], None, None)]);
    book.prepare(&none, resolved.clone(), &HashMap::new());
    assert!(book.abort().is_empty());
    book.prepare(&none, resolved, &HashMap::new());
    assert_eq!(book.commit().0, new);
    assert_eq!(addresses(&book), ["10.0.0.1:1"]);
}
