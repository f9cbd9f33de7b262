use std::sync::Arc;

use proptest::prelude::*;
use weir_shm::Address;

use super::*;
use crate::settings::LocationSettings;

fn settings(handler: Handler) -> Arc<LocationSettings> {
    Arc::new(LocationSettings {
        handler,
        ..LocationSettings::default()
    })
}

fn proxy() -> Handler {
    Handler::Proxy(Box::default())
}

fn server(names: Vec<ServerName>) -> VirtualServer {
    VirtualServer {
        names,
        ..VirtualServer::default()
    }
}

fn names(servers: &[VirtualServer], default: ServerId) -> Names {
    let address = Address::Ip(([127, 0, 0, 1], 80).into());
    Names::new(
        &Listener {
            address,
            servers: (0..servers.len()).collect(),
            default,
        },
        servers,
    )
}

#[test]
fn names_are_found_in_nginx_order() {
    let exact = |name: &str| ServerName::Exact(name.to_owned());
    let leading = |name: &str| ServerName::Leading(name.to_owned());
    let servers = [
        server(vec![exact("a.example.com"), exact("")]),
        server(vec![leading("example.com")]),
        server(vec![leading("b.example.com"), exact("a.example.com")]),
        server(vec![ServerName::Dotted("dot.org".to_owned())]),
        server(vec![ServerName::Trailing("www".to_owned())]),
        server(vec![ServerName::Trailing("www.shop".to_owned())]),
        server(vec![exact("default")]),
    ];
    let names = names(&servers, 6);
    for (host, id) in [
        ("a.example.com", 0),
        ("", 0),
        ("c.example.com", 1),
        ("d.c.example.com", 1),
        ("x.b.example.com", 2),
        ("b.example.com", 1),
        ("example.com", 6),
        (".example.com", 6),
        ("dot.org", 3),
        ("a.b.dot.org", 3),
        ("adot.org", 6),
        ("www.other", 4),
        ("www.shop.de", 5),
        ("www.shop", 4),
        ("www", 6),
        ("www.", 6),
        ("www.example.com", 1),
        ("nothing", 6),
    ] {
        assert_eq!(names.find(host.as_bytes()), id, "{host}");
    }
}

fn location(kind: LocationKind, path: &str, handler: Handler) -> Location {
    Location {
        kind,
        path: path.as_bytes().to_vec(),
        settings: settings(handler),
        inner: Vec::new(),
    }
}

/// Names each location by its number, so that it is known when it is found.
fn numbered(mut locations: Vec<Location>) -> Vec<Location> {
    for (number, location) in locations.iter_mut().enumerate() {
        Arc::make_mut(&mut location.settings).name = number.to_string().into_bytes();
    }
    locations
}

/// What is found: `3`, `3/` for a redirect, or nothing.
fn found(locations: &Locations, path: &str) -> String {
    let name = |location: &LocationSettings| String::from_utf8(location.name.clone()).unwrap();
    match locations.find(path.as_bytes()) {
        Found::Location(location) => name(location),
        Found::Redirect(location) => name(location) + "/",
        Found::Nothing => String::new(),
    }
}

#[test]
fn locations_are_found_in_nginx_order() {
    use LocationKind::{Exact, Prefix, PrefixNoRegex};
    let locations = numbered(vec![
        location(Prefix, "/", Handler::None),
        location(Exact, "/", Handler::None),
        location(Prefix, "/proxy_test", proxy()),
        location(PrefixNoRegex, "/a/b", Handler::None),
        location(Prefix, "/a/", Handler::None),
        location(Prefix, "/p/", proxy()),
        location(Prefix, "/q/", proxy()),
        location(Exact, "/q", Handler::None),
        location(Prefix, "/r/", proxy()),
        location(Prefix, "/r", Handler::None),
        location(Exact, "/s/", proxy()),
    ]);
    let locations = Locations::new(&locations);
    for (path, expected) in [
        ("/", "1"),
        ("/x", "0"),
        ("/proxy_test", "2"),
        ("/proxy_tests/1", "2"),
        ("/proxy_tes", "0"),
        ("/a", "0"),
        ("/a/", "4"),
        ("/a/bc", "3"),
        ("/a/c", "4"),
        ("/p", "5/"),
        ("/p/", "5"),
        ("/pp", "0"),
        ("/q", "7"),
        ("/r", "9"),
        ("/s", "10/"),
        ("/s/x", "0"),
    ] {
        assert_eq!(found(&locations, path), expected, "{path}");
    }
    assert_eq!(Locations::new(&[]).find(b"/"), Found::Nothing);
}

#[test]
fn locations_within_one_are_looked_for_only_there() {
    use LocationKind::{Exact, Prefix};
    let mut locations = numbered(vec![
        location(Prefix, "/a", Handler::None),
        location(Prefix, "/a/b/c", Handler::None),
        location(Prefix, "/d/", Handler::None),
    ]);
    let named = |mut location: Location, name: &str| {
        Arc::make_mut(&mut location.settings).name = name.as_bytes().to_vec();
        location
    };
    locations[0].inner = vec![
        named(location(Prefix, "/a/b", Handler::None), "0.0"),
        named(location(Exact, "/a/b/c", Handler::None), "0.1"),
        named(location(Prefix, "/a/p/", proxy()), "0.2"),
    ];
    let locations = Locations::new(&locations);
    for (path, expected) in [
        ("/a", "0"),
        ("/ab", "0"),
        ("/a/b", "0.0"),
        ("/a/bx", "0.0"),
        // The outer level has the longer prefix, and nothing within it.
        ("/a/b/c", "1"),
        ("/a/p", "0.2/"),
        ("/a/p/x", "0.2"),
        ("/d/x", "2"),
        ("/x", ""),
    ] {
        assert_eq!(found(&locations, path), expected, "{path}");
    }
}

proptest! {
    #![proptest_config(crate::testing::cases(256))]

    #[test]
    fn the_longest_prefix_is_found_as_by_trying_all(
        paths in prop::collection::vec("/[ab/]{0,6}", 0..20),
        asked in prop::collection::vec("/[ab/]{0,8}", 1..20),
    ) {
        let locations = paths
            .iter()
            .map(|path| location(LocationKind::Prefix, path, Handler::None))
            .collect();
        let locations = Locations::new(&numbered(locations));
        for path in asked {
            let length = paths.iter().filter(|prefix| path.starts_with(*prefix)).map(String::len).max();
            let expected = length.and_then(|length| {
                let first = |prefix: &String| prefix.len() == length && path.starts_with(prefix);
                paths.iter().position(first)
            });
            let expected = expected.map_or(String::new(), |number| number.to_string());
            prop_assert_eq!(found(&locations, &path), expected, "{}", path);
        }
    }
}
