//! The configured servers of every upstream with their names resolved.

use std::net::{SocketAddr, ToSocketAddrs};

use weir_shm::{Address, CounterId, Server};

use crate::settings::{self, Host, Upstream};

/// An upstream's configured servers as the table takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUpstream {
    /// The key into the table.
    pub name: String,
    /// In configuration order; a name gives one server an address.
    pub servers: Vec<Server>,
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
            for server in &upstream.servers {
                for address in addresses(server)? {
                    servers.push(table_server(server, address));
                }
            }
            Ok(ResolvedUpstream {
                name: upstream.name.clone(),
                servers,
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
                place: Place {
                    file: "/etc/weir.conf".into(),
                    line: 12,
                },
            }],
            upsync: None,
            dump: None,
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
    fn addresses_come_once_and_ipv4_first() {
        let list = ["[::1]:1", "127.0.0.1:1", "[::1]:1", "127.0.0.2:1"];
        let found = in_order(list.iter().map(|text| text.parse().unwrap()));
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"]);
    }
}
