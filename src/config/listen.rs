//! `listen` and `server_name`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weir_shm::Address;
use weir_worker::settings::ServerName;

use super::directive::{Directive, SERVER, Set, at_least, row};
use super::draft::Listen;
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;
use super::url::{self, Rules, UrlHost};

/// nginx's backlog on Linux.
const BACKLOG: i32 = 511;
/// Ports of all ranges in one `listen` at most.
const MOST_PORTS: usize = 1024;

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("listen", SERVER, at_least(1), Set::Call(listen)),
    row("server_name", SERVER, at_least(1), Set::Call(server_name)),
];

/// The parameters of a `listen`.
struct Options {
    default: bool,
    /// Options of the socket were given.
    set: bool,
    backlog: i32,
    ipv6only: bool,
}

impl Options {
    const NONE: Options = Options {
        default: false,
        set: false,
        backlog: BACKLOG,
        ipv6only: true,
    };
}

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
    let options = options(call)?;
    if usize::from(url.last_port - url.port) >= MOST_PORTS {
        return Err(refused("invalid port range"));
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

fn options(call: &Call) -> Result<Options, Fault> {
    let mut options = Options::NONE;
    for parameter in &call.values()[1..] {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name, parameter.contains('=')) {
            ("default_server" | "default", false) => {
                options.default = true;
                continue;
            }
            // One REUSEPORT socket a worker is how weir listens; the others only tune the socket.
            ("bind" | "reuseport" | "deferred", false) => {}
            ("backlog", true) => {
                let backlog = unit::number(value).and_then(|number| i32::try_from(number).ok());
                options.backlog = backlog
                    .filter(|&backlog| backlog > 0)
                    .ok_or_else(|| call.fault(format!("invalid backlog \"{parameter}\"")))?;
            }
            ("fastopen", true) if unit::number(value).is_some() => {}
            ("rcvbuf" | "sndbuf", true) if unit::size(value).is_some() => {}
            ("fastopen" | "rcvbuf" | "sndbuf", true) => {
                return Err(call.fault(format!("invalid {name} \"{parameter}\"")));
            }
            ("ipv6only", true) if value.starts_with('o') => {
                options.ipv6only = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(call.fault(format!("invalid ipv6only flags \"{value}\""))),
                };
            }
            _ => return Err(refused_parameter(call, name, parameter)),
        }
        options.set = true;
    }
    Ok(options)
}

/// nginx's parameters that weir does not have are refused by name.
fn refused_parameter(call: &Call, name: &str, parameter: &str) -> Fault {
    let module = match parameter {
        "ssl" => "ssl",
        "http2" => "v2",
        "quic" => "v3",
        "proxy_protocol" | "multipath" => return unsupported(call, name),
        _ if name == "so_keepalive" || name == "accept_filter" || name == "setfib" => {
            return unsupported(call, name);
        }
        _ => return call.invalid_parameter(parameter),
    };
    call.fault(format!(
        "the \"{parameter}\" parameter requires ngx_http_{module}_module"
    ))
    .with_note("weir does not have it")
}

/// A parameter of nginx's that weir does not have.
pub fn unsupported(call: &Call, parameter: &str) -> Fault {
    call.fault(format!(
        "the \"{parameter}\" parameter is not supported by weir"
    ))
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
