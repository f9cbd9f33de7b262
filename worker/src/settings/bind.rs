//! `proxy_bind`

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Template;

/// The address that connections to servers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Bind {
    /// Always the same one.
    Address(SocketAddr),
    /// Given by variables; none where that is empty.
    Value(Template),
}

impl Bind {
    /// An address, with a port or port 0, which is any.
    #[must_use]
    pub fn parse(text: &str) -> Option<SocketAddr> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some((ip, 0).into());
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(ip) = bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()) {
            return Some((ip, 0).into());
        }
        let address = text.parse::<SocketAddr>().ok();
        address.filter(|address| address.port() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port_or_none() {
        for (text, shown) in [
            ("127.0.0.1", "127.0.0.1:0"),
            ("127.0.0.1:81", "127.0.0.1:81"),
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::1]:65535", "[::1]:65535"),
        ] {
            let parsed = Bind::parse(text).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "localhost",
            "127.0.0.1:0",
            "127.0.0.1:",
            "[::1",
            "127.0.0.1:65536",
            "unix:/x",
        ] {
            assert_eq!(Bind::parse(text), None, "{text}");
        }
    }
}
