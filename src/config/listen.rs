//! `listen` and `server_name`.

mod options;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weir_shm::Address;
use weir_worker::settings::ServerName;

use super::directive::{Directive, SERVER, Set, at_least, row};
use super::draft::Listen;
use super::error::Fault;
use super::parser::{Call, Parser};
use super::url::{self, Rules, UrlHost};
use options::Options;
pub use options::unsupported;

/// Ports of all ranges in one `listen` at most.
const MOST_PORTS: usize = 1024;

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("listen", SERVER, at_least(1), Set::Call(listen)),
    row("server_name", SERVER, at_least(1), Set::Call(server_name)),
];

fn listen(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    parser.draft.level().listens = true;
    let text = call.value();
    let refused = |reason: &str| {
        call.fault(format!(
            "{reason} in \"{text}\" of the \"listen\" directive"
        ))
    };
    let url = url::parse(
        text,
        Rules {
            listen: true,
            uri: false,
            default_port: 80,
        },
    )
    .map_err(refused)?;
    let options = options::read(call)?;
    if usize::from(url.last_port - url.port) >= MOST_PORTS {
        return Err(refused(&format!(
            "port range of more than {MOST_PORTS} ports"
        )));
    }
    let hosts = match &url.host {
        UrlHost::Unix(path) => {
            return add(parser, call, Address::Unix(path.into()), &options);
        }
        UrlHost::Ip(ip) => vec![*ip],
        UrlHost::Name(name) => parser
            .source
            .host(name)
            .ok_or_else(|| refused("host not found"))?,
    };
    for ip in hosts {
        for port in url.port..=url.last_port {
            add(
                parser,
                call,
                Address::Ip(SocketAddr::new(ip, port)),
                &options,
            )?;
        }
    }
    Ok(())
}

/// What a server without `listen` listens on.
pub fn default(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let port = if parser.source.root() { 80 } else { 8000 };
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    add(parser, call, Address::Ip(address), &Options::NONE)
}

fn add(parser: &mut Parser, call: &Call, address: Address, options: &Options) -> Result<(), Fault> {
    let http = parser.draft.http();
    let server = http.servers.len();
    let Some(listen) = http
        .listens
        .iter_mut()
        .find(|listen| listen.address == address)
    else {
        http.listens.push(Listen {
            address,
            servers: vec![server],
            default: options.default.then_some(server),
            set: options.set,
            backlog: options.backlog,
            ipv6only: options.ipv6only,
            options: options.socket,
            place: call.place(),
        });
        return Ok(());
    };
    if listen.servers.contains(&server) {
        return Err(call.fault(format!("a duplicate listen {address}")));
    }
    listen.servers.push(server);
    if options.set {
        if listen.set {
            return Err(call.fault(format!("duplicate listen options for {address}")));
        }
        listen.set = true;
        listen.backlog = options.backlog;
        listen.ipv6only = options.ipv6only;
        listen.options = options.socket;
    }
    if options.default {
        if listen.default.is_some() {
            return Err(call.fault(format!("a duplicate default server for {address}")));
        }
        listen.default = Some(server);
    }
    Ok(())
}

fn server_name(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    for value in call.values() {
        let bytes = value.as_bytes();
        if value.starts_with('~') {
            return Err(call.fault(format!(
                "regular expressions in server names are not supported by weir: \"{value}\""
            )));
        }
        let bad_star = bytes.first() == Some(&b'*') && (bytes.len() < 3 || bytes[1] != b'.');
        if bad_star || value == "." {
            return Err(call.fault(format!("server name \"{value}\" is invalid")));
        }
        if value.contains('/') {
            parser
                .warnings
                .push(call.fault(format!("server name \"{value}\" has suspicious symbols")));
        }
        let name = if value.eq_ignore_ascii_case("$hostname") {
            parser.source.hostname().to_owned()
        } else {
            value.to_ascii_lowercase()
        };
        let parsed = name_of(&name);
        parser.draft.level().names.push((name, parsed));
    }
    Ok(())
}

/// What a name matches; a `*` in any other place is only found when names are told apart.
fn name_of(name: &str) -> ServerName {
    if let Some(rest) = name.strip_prefix("*.") {
        ServerName::Leading(rest.to_owned())
    } else if let Some(rest) = name.strip_prefix('.') {
        ServerName::Dotted(rest.to_owned())
    } else if let Some(rest) = name.strip_suffix(".*").filter(|rest| !rest.is_empty()) {
        ServerName::Trailing(rest.to_owned())
    } else {
        ServerName::Exact(name.to_owned())
    }
}
