//! Where an upstream's servers come from: `upsync` and the directives around it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `upsync_interval=` unless given.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// `upsync_timeout=` unless given.
pub const TIMEOUT: Duration = Duration::from_secs(6 * 60);

/// `upsync ADDRESS[,ADDRESS…]/PATH …`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upsync {
    /// `upsync_type`: what answers, and how.
    pub kind: Kind,
    /// The addresses as written, for the log.
    pub host: String,
    /// Tried in turn; at least one.
    pub addresses: Vec<SourceAddress>,
    /// What follows [`Kind::path`]: a folder of keys or a service's name, without a `/` at its end,
    /// percent-encoding kept as written. Only etcd 3 has keys that begin with a `/`.
    pub prefix: String,
    /// `upsync_timeout`: caps one request.
    pub timeout: Duration,
    /// `upsync_interval`: caps the back-off.
    pub interval: Duration,
    /// `strong_dependency`.
    pub strong: bool,
    /// `datacenter=`: another one than that of the agent asked.
    pub datacenter: Option<String>,
    /// `consistency=`
    pub consistency: Consistency,
    /// `upsync_token`, `upsync_token_file` or `token=`.
    pub token: Option<Token>,
    /// `https://`, and how.
    pub tls: Option<Arc<Certificates>>,
    /// Every folder below the prefix is a list of its own: `upsync_discover`.
    pub folders: bool,
}

impl Upsync {
    /// A folder of Consul's key-value store at one address, everything else as by default.
    pub fn folder(name: &str, port: u16, prefix: &str) -> Upsync {
        let address = SourceAddress::tcp(name, port);
        Upsync {
            host: address.written.clone(),
            addresses: vec![address],
            prefix: prefix.to_owned(),
            timeout: TIMEOUT,
            interval: INTERVAL,
            ..Upsync::default()
        }
    }

    /// The private files that it needs.
    pub fn private(&self) -> Vec<&PathBuf> {
        let token = match &self.token {
            Some(Token::File(path)) => Some(path),
            _ => None,
        };
        let tls = self.tls.as_deref();
        let trusted = tls.and_then(|tls| tls.trusted.as_ref());
        let own = tls.and_then(|tls| tls.own.as_ref());
        let own = own
            .into_iter()
            .flat_map(|(certificate, key)| [certificate, key]);
        token.into_iter().chain(trusted).chain(own).collect()
    }
}

/// For people: address and path, no secret.
impl fmt::Display for Upsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https://" } else { "" };
        let unix = self.host.rsplit(',').next().unwrap_or_default();
        let colon = if unix.starts_with("unix:") { ":" } else { "" };
        let (host, path, prefix) = (&self.host, self.kind.path(), &self.prefix);
        write!(f, "{scheme}{host}{colon}{path}{prefix}")
    }
}

/// `upsync_type`: what keeps the list of servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Consul's key-value store.
    #[default]
    Consul,
    /// Consul's catalog: every instance of a service.
    ConsulServices,
    /// The same with its checks: an instance that fails one is down.
    ConsulHealth,
    /// etcd by its second API.
    Etcd,
    /// etcd by the JSON gateway of its third API.
    Etcd3,
}

impl Kind {
    /// All, in the order of their documentation.
    pub const ALL: [Kind; 5] = [
        Kind::Consul,
        Kind::ConsulServices,
        Kind::ConsulHealth,
        Kind::Etcd,
        Kind::Etcd3,
    ];

    /// The value of `upsync_type`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Consul => "consul",
            Kind::ConsulServices => "consul_services",
            Kind::ConsulHealth => "consul_health",
            Kind::Etcd => "etcd",
            Kind::Etcd3 => "etcd3",
        }
    }

    /// The path that a folder's or a service's name follows.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Consul => "/v1/kv/",
            Kind::ConsulServices => "/v1/catalog/service/",
            Kind::ConsulHealth => "/v1/health/service/",
            Kind::Etcd => "/v2/keys/",
            Kind::Etcd3 => "/v3/kv/",
        }
    }

    /// Whether it keeps folders of keys, which have a parent folder.
    pub fn has_folders(self) -> bool {
        matches!(self, Kind::Consul | Kind::Etcd | Kind::Etcd3)
    }

    /// Whether Consul answers.
    pub fn is_consul(self) -> bool {
        !matches!(self, Kind::Etcd | Kind::Etcd3)
    }
}

/// `consistency=`: how fresh an answer has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// As the source has it.
    #[default]
    Default,
    /// Any server of the source may answer, one without a leader too.
    Stale,
    /// The leader makes sure first that it is still the leader.
    Consistent,
}

/// One address of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceAddress {
    /// As written: `HOST:PORT` or `unix:PATH`.
    pub written: String,
    /// What is connected to.
    pub endpoint: Endpoint,
}

impl SourceAddress {
    /// A host by name or address, IPv6 without brackets, and its port.
    pub fn tcp(name: &str, port: u16) -> SourceAddress {
        let written = match name.contains(':') {
            true => format!("[{name}]:{port}"),
            false => format!("{name}:{port}"),
        };
        let endpoint = Endpoint::Tcp {
            name: name.to_owned(),
            port,
        };
        SourceAddress { written, endpoint }
    }

    /// What the Host field says.
    pub fn host(&self) -> &str {
        match &self.endpoint {
            Endpoint::Tcp { .. } => &self.written,
            Endpoint::Unix(_) => "localhost",
        }
    }
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host name or address, resolved for each connection.
    Tcp {
        /// IPv6 without brackets.
        name: String,
        /// Its port.
        port: u16,
    },
    /// A socket of this machine.
    Unix(PathBuf),
}

/// What shows that weir may read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// `upsync_token` or `token=`.
    Text(Secret),
    /// `upsync_token_file`: the path of a private file.
    File(PathBuf),
}

/// A text that is not shown.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `upsync_ssl_…`: how TLS is spoken with a source. Paths are those of private files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Certificates {
    /// `upsync_ssl_trusted_certificate`: who signs the source's certificate.
    pub trusted: Option<PathBuf>,
    /// `upsync_ssl_certificate` and `upsync_ssl_certificate_key`: what weir shows.
    pub own: Option<(PathBuf, PathBuf)>,
    /// `upsync_ssl_verify`
    pub verify: bool,
    /// `upsync_ssl_name`: whose certificate is expected; the host's unless given.
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_shown_without_its_secret() {
        let mut upsync = Upsync {
            host: "a:8501,b:8501".into(),
            prefix: "up/test".into(),
            token: Some(Token::Text(Secret("very-secret".into()))),
            tls: Some(Arc::default()),
            ..Upsync::default()
        };
        assert_eq!(upsync.to_string(), "https://a:8501,b:8501/v1/kv/up/test");
        assert!(!format!("{upsync:?}").contains("very-secret"));
        upsync.host = "unix:/run/consul.sock".into();
        upsync.tls = None;
        upsync.kind = Kind::ConsulHealth;
        let shown = "unix:/run/consul.sock:/v1/health/service/up/test";
        assert_eq!(upsync.to_string(), shown);
    }
}
