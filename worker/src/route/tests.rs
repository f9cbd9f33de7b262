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
    }
}

#[test]
fn locations_are_found_in_nginx_order() {
    use LocationKind::{Exact, Prefix, PrefixNoRegex};
    let locations = [
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
    ];
    let found = Locations::new(&locations);
    for (path, expected) in [
        ("/", Found::Location(1)),
        ("/x", Found::Location(0)),
        ("/proxy_test", Found::Location(2)),
        ("/proxy_tests/1", Found::Location(2)),
        ("/proxy_tes", Found::Location(0)),
        ("/a", Found::Location(0)),
        ("/a/", Found::Location(4)),
        ("/a/bc", Found::Location(3)),
        ("/a/c", Found::Location(4)),
        ("/p", Found::Redirect(5)),
        ("/p/", Found::Location(5)),
        ("/pp", Found::Location(0)),
        ("/q", Found::Location(7)),
        ("/r", Found::Location(9)),
        ("/s", Found::Redirect(10)),
        ("/s/x", Found::Location(0)),
    ] {
        assert_eq!(found.find(path.as_bytes()), expected, "{path}");
    }
    assert_eq!(Locations::new(&[]).find(b"/"), Found::Fallback);
}

proptest! {
    #![proptest_config(crate::testing::cases(256))]

    #[test]
    fn the_longest_prefix_is_found_as_by_trying_all(
        paths in prop::collection::vec("/[ab/]{0,6}", 0..20),
        asked in prop::collection::vec("/[ab/]{0,8}", 1..20),
    ) {
        let locations: Vec<Location> = paths
            .iter()
            .map(|path| location(LocationKind::Prefix, path, Handler::None))
            .collect();
        let found = Locations::new(&locations);
        for path in asked {
            let length = paths.iter().filter(|prefix| path.starts_with(*prefix)).map(String::len).max();
            let expected = length.and_then(|length| {
                let first = |prefix: &String| prefix.len() == length && path.starts_with(prefix);
                paths.iter().position(first)
            });
            let expected = expected.map_or(Found::Fallback, Found::Location);
            prop_assert_eq!(found.find(path.as_bytes()), expected, "{}", path);
        }
    }
}
