//! `host:port`, `[::1]:port`, `unix:/path`, with a URI where one may follow: nginx's rules and words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir_shm::Address;

/// The longest path of a unix socket, in bytes.
const LONGEST_UNIX_PATH: usize = 107;

/// What is being read.
#[derive(Clone, Copy)]
pub struct Rules {
    /// `listen`: a port alone and `*` are addresses.
    pub listen: bool,
    /// A URI may follow.
    pub uri: bool,
    /// The port when none is given.
    pub default_port: u16,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Where it is.
    pub host: UrlHost,
    /// The host as written; IPv6 in brackets, the path of a unix socket.
    pub text: String,
    /// Its port; 0 for a unix socket.
    pub port: u16,
    /// The last port of a range in `listen`.
    pub last_port: u16,
    /// No port was written.
    pub no_port: bool,
    /// What follows the host.
    pub uri: Option<String>,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlHost {
    /// A name to resolve.
    Name(String),
    /// An address.
    Ip(IpAddr),
    /// A unix socket.
    Unix(String),
}

impl Url {
    /// The address, unless it is a name.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match &self.host {
            UrlHost::Ip(ip) => Some(Address::Ip(SocketAddr::new(*ip, self.port))),
            UrlHost::Unix(path) => Some(Address::Unix(path.into())),
            UrlHost::Name(_) => None,
        }
    }

    /// `$proxy_host`: the host, with its port unless that is HTTP's own.
    #[must_use]
    pub fn host_header(&self) -> String {
        match self.host {
            UrlHost::Unix(_) => "localhost".into(),
            _ if self.port == 80 => self.text.clone(),
            _ => format!("{}:{}", self.text, self.port),
        }
    }
}

/// Reads one.
///
/// # Errors
/// nginx's reason why it is none.
pub fn parse(text: &str, rules: Rules) -> Result<Url, &'static str> {
    if text
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("unix:"))
    {
        return unix(&text[5..], rules);
    }
    if let Some(rest) = text.strip_prefix('[') {
        return inet6(rest, rules);
    }
    inet(text, rules)
}

fn unix(text: &str, rules: Rules) -> Result<Url, &'static str> {
    let (path, uri) = match text.split_once(':') {
        Some((path, uri)) if rules.uri => (path, Some(uri.to_owned())),
        _ => (text, None),
    };
    if path.is_empty() {
        return Err("no path in the unix domain socket");
    }
    if path.len() > LONGEST_UNIX_PATH {
        return Err("too long path in the unix domain socket");
    }
    let host = UrlHost::Unix(path.to_owned());
    let uri = uri.filter(|uri| !uri.is_empty());
    Ok(Url {
        host,
        text: path.to_owned(),
        port: 0,
        last_port: 0,
        no_port: false,
        uri,
    })
}

fn inet6(text: &str, rules: Rules) -> Result<Url, &'static str> {
    let (address, rest) = text.split_once(']').ok_or("invalid host")?;
    let (rest, uri) = split_uri(rest, rest.find('/'), rules)?;
    let ports = match rest {
        "" => None,
        _ => Some(ports(rest.strip_prefix(':').ok_or("invalid host")?, rules)?),
    };
    if address.is_empty() {
        return Err("no host");
    }
    let ip: Ipv6Addr = address.parse().map_err(|_| "invalid IPv6 address")?;
    let host = UrlHost::Ip(ip.into());
    Ok(with_ports(host, format!("[{address}]"), ports, uri, rules))
}

fn inet(text: &str, rules: Rules) -> Result<Url, &'static str> {
    let (authority, uri) = split_uri(text, text.find(['/', '?']), rules)?;
    let (host, ports) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(ports(port, rules)?)),
        None if rules.listen && uri.is_none() => match port_alone(authority)? {
            Some(ports) => ("*", Some(ports)),
            None => (authority, None),
        },
        None => (authority, None),
    };
    let place = match host {
        "" => return Err("no host"),
        "*" if rules.listen => UrlHost::Ip(Ipv4Addr::UNSPECIFIED.into()),
        _ => match host.parse::<Ipv4Addr>() {
            Ok(ip) => UrlHost::Ip(ip.into()),
            Err(_) => UrlHost::Name(host.to_owned()),
        },
    };
    Ok(with_ports(place, host.to_owned(), ports, uri, rules))
}

fn split_uri(
    text: &str,
    start: Option<usize>,
    rules: Rules,
) -> Result<(&str, Option<String>), &'static str> {
    match start {
        None => Ok((text, None)),
        Some(_) if rules.listen || !rules.uri => Err("invalid host"),
        Some(start) => Ok((&text[..start], Some(text[start..].to_owned()))),
    }
}

fn with_ports(
    host: UrlHost,
    text: String,
    ports: Option<(u16, u16)>,
    uri: Option<String>,
    rules: Rules,
) -> Url {
    let (port, last_port) = ports.unwrap_or((rules.default_port, rules.default_port));
    Url {
        host,
        text,
        port,
        last_port,
        no_port: ports.is_none(),
        uri,
    }
}

/// A port, or in `listen` a range of ports.
fn ports(text: &str, rules: Rules) -> Result<(u16, u16), &'static str> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) if rules.listen => (port(first)?, port(last)?),
        _ => (port(text)?, port(text)?),
    };
    if first > last {
        return Err("invalid port range");
    }
    Ok((first, last))
}

/// A `listen` value that is a port or a range of them; `None` if it is a host.
fn port_alone(text: &str) -> Result<Option<(u16, u16)>, &'static str> {
    let digits = |part: &str| number(part).is_some();
    let is_port = match text.split_once('-') {
        Some((first, last)) => digits(first) && digits(last),
        None => digits(text),
    };
    let rules = Rules {
        listen: true,
        uri: false,
        default_port: 0,
    };
    if is_port {
        ports(text, rules).map(Some)
    } else {
        Ok(None)
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    let number = number(text).and_then(|number| u16::try_from(number).ok());
    number.filter(|&port| port > 0).ok_or("invalid port")
}

/// Decimal digits only.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LISTEN: Rules = Rules {
        listen: true,
        uri: false,
        default_port: 80,
    };
    const PASS: Rules = Rules {
        listen: false,
        uri: true,
        default_port: 80,
    };
    const PEER: Rules = Rules {
        listen: false,
        uri: false,
        default_port: 80,
    };

    #[test]
    fn listen_addresses() {
        let shown = |text| parse(text, LISTEN).map(|url| url.address().unwrap().to_string());
        assert_eq!(shown("8080").unwrap(), "0.0.0.0:8080");
        assert_eq!(shown("*:81").unwrap(), "0.0.0.0:81");
        assert_eq!(shown("*").unwrap(), "0.0.0.0:80");
        assert_eq!(shown("127.0.0.1").unwrap(), "127.0.0.1:80");
        assert_eq!(shown("[::]:80").unwrap(), "[::]:80");
        assert_eq!(shown("[::1]").unwrap(), "[::1]:80");
        assert_eq!(shown("unix:/run/weir.sock").unwrap(), "unix:/run/weir.sock");
        let range = parse("127.0.0.1:80-82", LISTEN).unwrap();
        assert_eq!((range.port, range.last_port), (80, 82));
        assert_eq!(parse("8000-8001", LISTEN).unwrap().last_port, 8001);
        assert_eq!(
            parse("localhost", LISTEN).unwrap().host,
            UrlHost::Name("localhost".into())
        );
        for (text, reason) in [
            ("", "no host"),
            (":80", "no host"),
            ("0", "invalid port"),
            ("65536", "invalid port"),
            ("127.0.0.1:", "invalid port"),
            ("127.0.0.1:x", "invalid port"),
            ("82-81", "invalid port range"),
            ("80/x", "invalid host"),
            ("[::1", "invalid host"),
            ("[::1]80", "invalid host"),
            ("[]:80", "no host"),
            ("[::g]:80", "invalid IPv6 address"),
            ("unix:", "no path in the unix domain socket"),
        ] {
            assert_eq!(parse(text, LISTEN).unwrap_err(), reason, "{text:?}");
        }
    }

    #[test]
    fn proxy_targets() {
        let url = parse("test", PASS).unwrap();
        assert_eq!((url.no_port, url.port, url.uri), (true, 80, None));
        let url = parse("a.example:8080/x?y", PASS).unwrap();
        assert_eq!(
            (url.text.as_str(), url.port, url.uri.as_deref()),
            ("a.example", 8080, Some("/x?y"))
        );
        let url = parse("a?b:c/d", PASS).unwrap();
        assert_eq!(
            (url.text.as_str(), url.uri.as_deref()),
            ("a", Some("?b:c/d"))
        );
        let url = parse("unix:/run/a.sock:/x/", PASS).unwrap();
        assert_eq!(
            (url.text.as_str(), url.uri.as_deref()),
            ("/run/a.sock", Some("/x/"))
        );
        let url = parse("[::1]:81/", PASS).unwrap();
        assert_eq!(
            (url.text.as_str(), url.uri.as_deref()),
            ("[::1]", Some("/"))
        );
        assert_eq!(parse("a/b", PEER).unwrap_err(), "invalid host");
        assert_eq!(parse("80", PEER).unwrap().host, UrlHost::Name("80".into()));
    }

    #[test]
    fn unix_paths_have_the_kernels_limit() {
        let path = |length| format!("unix:{}", "a".repeat(length));
        assert!(parse(&path(107), LISTEN).is_ok());
        assert_eq!(
            parse(&path(108), LISTEN).unwrap_err(),
            "too long path in the unix domain socket"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(unix:)?[a0-9:/?\\[\\]*.ä-]{0,24}") {
            for rules in [LISTEN, PASS, PEER] {
                let _ = parse(&text, rules);
            }
        }
    }
}
