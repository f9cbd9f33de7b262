//! `allow` and `deny`.

use std::net::IpAddr;

use crate::settings::{AccessFrom, AccessRule};

/// Whether a client may go on: the first rule that matches decides, none allows. `client` is `None`
/// on a unix socket.
pub fn is_allowed(rules: &[AccessRule], client: Option<IpAddr>) -> bool {
    // An IPv4 client of an IPv6 socket is meant by IPv4 rules, as in nginx.
    let client = client.map(|address| address.to_canonical());
    rules
        .iter()
        .find(|rule| matches(&rule.from, client))
        .is_none_or(|rule| rule.allow)
}

fn matches(from: &AccessFrom, client: Option<IpAddr>) -> bool {
    match (from, client) {
        (AccessFrom::All, _) | (AccessFrom::Unix, None) => true,
        (AccessFrom::Network(IpAddr::V4(network), prefix), Some(IpAddr::V4(address))) => {
            let differing = u32::from(*network) ^ u32::from(address);
            differing.leading_zeros() >= u32::from(*prefix).min(32)
        }
        (AccessFrom::Network(IpAddr::V6(network), prefix), Some(IpAddr::V6(address))) => {
            let differing = u128::from(*network) ^ u128::from(address);
            differing.leading_zeros() >= u32::from(*prefix).min(128)
        }
        (AccessFrom::Network(..), _) | (AccessFrom::Unix, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, from: &str) -> AccessRule {
        let from = match from {
            "all" => AccessFrom::All,
            "unix:" => AccessFrom::Unix,
            network => {
                let (address, prefix) = network.split_once('/').unwrap();
                AccessFrom::Network(address.parse().unwrap(), prefix.parse().unwrap())
            }
        };
        AccessRule { allow, from }
    }

    fn allowed(rules: &[AccessRule], client: &str) -> bool {
        is_allowed(rules, client.parse().ok())
    }

    #[test]
    fn the_first_match_decides() {
        let rules = [
            rule(false, "192.168.1.1/32"),
            rule(true, "192.168.0.0/16"),
            rule(true, "2001:db8::/32"),
            rule(true, "unix:"),
            rule(false, "all"),
        ];
        for (client, verdict) in [
            ("192.168.1.1", false),
            ("192.168.1.2", true),
            ("::ffff:192.168.1.2", true),
            ("192.169.0.0", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("a unix socket", true),
        ] {
            assert_eq!(allowed(&rules, client), verdict, "{client}");
        }
        assert!(allowed(&[], "10.0.0.1"));
    }

    #[test]
    fn prefixes_of_0_and_of_the_whole_address_work() {
        assert!(!allowed(&[rule(false, "0.0.0.0/0")], "8.8.8.8"));
        assert!(allowed(&[rule(false, "0.0.0.0/0")], "::1"));
        assert!(!allowed(&[rule(false, "::/0")], "::1"));
        assert!(!allowed(&[rule(false, "::1/128")], "::1"));
        assert!(allowed(&[rule(false, "::1/128")], "::2"));
    }
}
