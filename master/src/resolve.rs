//! The configured servers of every upstream with their names resolved.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use weir_shm::{Address, CounterId, Server};

use crate::settings::{self, Host, Upstream};

/// An upstream's configured servers as the table takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUpstream {
    /// The key into the table.
    pub name: String,
    /// In configuration order; a name gives one server an address.
    pub servers: Vec<Server>,
    /// Those whose names are resolved while weir runs.
    pub names: Vec<Named>,
}

/// `server NAME resolve`: each address of the name is a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name, in lower case.
    pub name: String,
    /// Its port.
    port: u16,
    /// Its parameters; the address means nothing.
    parameters: Server,
}

impl Named {
    fn new(server: &settings::Server) -> Option<Named> {
        match &server.host {
            Host::Name { host, port, .. } if server.resolve => Some(Named {
                name: host.trim_end_matches('.').to_ascii_lowercase(),
                port: *port,
                parameters: table_server(server, Address::Unix("".into())),
            }),
            _ => None,
        }
    }

    /// The server at one of the name's addresses.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Server {
        Server {
            address: Address::Ip(SocketAddr::new(ip, self.port)),
            ..self.parameters.clone()
        }
    }

    /// The address of a table's server, if the server may be one of the name's.
    #[must_use]
    pub fn address_of(&self, server: &Server) -> Option<IpAddr> {
        let Address::Ip(address) = &server.address else {
            return None;
        };
        let own = Server {
            counter: server.counter,
            ..self.at(address.ip())
        };
        (own == *server).then_some(address.ip())
    }
}

/// The servers of an upstream whose names are resolved while weir runs.
#[must_use]
pub fn named(upstream: &Upstream) -> Vec<Named> {
    upstream.servers.iter().filter_map(Named::new).collect()
}

/// Resolves the configured servers of `upstreams`, which blocks on the system's resolver.
///
/// # Errors
/// nginx's `host not found in upstream "x:8080" in FILE:LINE`.
pub fn resolve(upstreams: &[Upstream]) -> Result<Vec<ResolvedUpstream>, String> {
    upstreams
        .iter()
        .map(|upstream| {
            let mut servers = Vec::with_capacity(upstream.servers.len());
            let fixed = upstream.servers.iter();
            for server in fixed.filter(|server| !server.is_resolved()) {
                for address in addresses(server)? {
                    servers.push(table_server(server, address));
                }
            }
            Ok(ResolvedUpstream {
                name: upstream.name.clone(),
                servers,
                names: named(upstream),
            })
        })
        .collect()
}

fn addresses(server: &settings::Server) -> Result<Vec<Address>, String> {
    let (host, port, written) = match &server.host {
        Host::Address(address) => return Ok(vec![address.clone()]),
        Host::Name {
            host,
            port,
            written,
        } => (host, *port, written),
    };
    let found = (host.as_str(), port)
        .to_socket_addrs()
        .map(in_order)
        .unwrap_or_default();
    if found.is_empty() {
        let place = &server.place;
        return Err(format!(
            "host not found in upstream \"{written}\" in {}:{}",
            place.file, place.line
        ));
    }
    Ok(found.into_iter().map(Address::Ip).collect())
}

/// IPv4 before IPv6 as nginx has them, each address once.
fn in_order(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all.sort_by_key(SocketAddr::is_ipv6);
    all
}

fn table_server(server: &settings::Server, address: Address) -> Server {
    Server {
        address,
        weight: server.weight,
        max_fails: server.max_fails,
        fail_timeout_ms: server.fail_timeout_ms,
        down: server.down,
        backup: server.backup,
        counter: CounterId::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Place;

    fn upstream(host: Host) -> Upstream {
        Upstream {
            name: "test".into(),
            servers: vec![settings::Server {
                host,
                weight: 7,
                max_fails: 2,
                fail_timeout_ms: 10_000,
                down: false,
                backup: true,
                resolve: false,
                place: Place {
                    file: "/etc/weir.conf".into(),
                    line: 12,
                },
            }],
            upsync: None,
            dump: None,
            guard: Some(settings::Guard::default()),
            resolver: None,
            resolver_timeout: std::time::Duration::ZERO,
            place: Place::default(),
        }
    }

    fn name(host: &str, port: u16, written: &str) -> Host {
        Host::Name {
            host: host.into(),
            port,
            written: written.into(),
        }
    }

    #[test]
    fn a_name_resolves_and_keeps_its_parameters() {
        let found = resolve(&[upstream(name("localhost", 8088, "localhost:8088"))]).unwrap();
        let first = &found[0].servers[0];
        assert!(matches!(&first.address, Address::Ip(ip) if ip.port() == 8088));
        assert_eq!((first.weight, first.max_fails), (7, 2));
        assert!(first.backup && !first.down);
    }

    #[test]
    fn an_unknown_name_is_named_with_its_place() {
        for written in ["no-such-host.invalid", "no-such-host.invalid:80"] {
            let error = resolve(&[upstream(name("no-such-host.invalid", 80, written))]);
            let expected = format!("host not found in upstream \"{written}\" in /etc/weir.conf:12");
            assert_eq!(error.unwrap_err(), expected);
        }
    }

    #[test]
    fn a_name_to_resolve_while_running_is_left_alone() {
        let mut upstream = upstream(name("no-such-host.INVALID.", 81, "no-such-host.invalid:81"));
        upstream.servers[0].resolve = true;
        let found = resolve(&[upstream]).unwrap();
        assert_eq!(found[0].servers, []);
        let named = &found[0].names[0];
        assert_eq!(named.name, "no-such-host.invalid");
        let ip = "192.0.2.1".parse().unwrap();
        let mut server = named.at(ip);
        assert_eq!(server.address, Address::Ip(SocketAddr::new(ip, 81)));
        assert_eq!((server.weight, server.backup), (7, true));
        assert_eq!(named.address_of(&server), Some(ip));
        server.weight = 1;
        assert_eq!(named.address_of(&server), None);
        // One with an address has nothing to resolve.
        let mut upstream = self::upstream(Host::Address(named.at(ip).address));
        upstream.servers[0].resolve = true;
        let found = resolve(&[upstream]).unwrap();
        assert_eq!((found[0].servers.len(), found[0].names.len()), (1, 0));
    }

    #[test]
    fn addresses_come_once_and_ipv4_first() {
        let list = ["[::1]:1", "127.0.0.1:1", "[::1]:1", "127.0.0.2:1"];
        let found = in_order(list.iter().map(|text| text.parse().unwrap()));
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"]);
    }
}
