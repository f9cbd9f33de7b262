//! `resolver` and `resolver_timeout`: who tells the addresses of names, at run time.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_worker::settings::{Proxy, Resolver};

use super::directive::{Directive, LEVELS, Set, UPSTREAM, at_least, once, row, take};
use super::draft::Common;
use super::error::Fault;
use super::listen::unsupported;
use super::parser::{Call, Parser};
use super::unit;
use super::upstream::open;
use super::url::{self, Rules, UrlHost};

/// The port of a name server.
const PORT: u16 = 53;

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "resolver",
        LEVELS.or(UPSTREAM),
        at_least(1),
        Set::Call(resolver),
    ),
    row(
        "resolver_timeout",
        LEVELS.or(UPSTREAM),
        take(1),
        Set::Call(resolver_timeout),
    ),
];

/// What a `proxy_pass` takes over of them.
pub fn settings(proxy: &mut Proxy, common: &Common) {
    proxy.resolver.clone_from(&common.resolver);
    if let Some(timeout) = common.resolver_timeout {
        proxy.resolver_timeout = timeout;
    }
}

fn resolver(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let resolver = Arc::new(read(parser, call)?);
    let place = match call.context {
        UPSTREAM => &mut open(&mut parser.draft).resolver,
        _ => &mut parser.draft.common().resolver,
    };
    once(place, call, || Ok(resolver))
}

fn resolver_timeout(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = match call.context {
        UPSTREAM => &mut open(&mut parser.draft).resolver_timeout,
        _ => &mut parser.draft.common().resolver_timeout,
    };
    once(place, call, || {
        unit::millis(call.value()).ok_or_else(|| call.blame("invalid value"))
    })
}

fn read(parser: &mut Parser, call: &Call) -> Result<Resolver, Fault> {
    let mut resolver = Resolver {
        servers: Vec::new(),
        valid: None,
        ipv4: true,
        ipv6: true,
    };
    for value in call.values() {
        let invalid = || call.fault(format!("invalid parameter: {value}"));
        let flag = |text| match text {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(invalid()),
        };
        match value.split_once('=') {
            Some(("valid", time)) => {
                let time = unit::seconds(time).ok_or_else(invalid)?;
                // As in nginx, 0 goes by the answers' own times.
                resolver.valid = Some(time).filter(|time| !time.is_zero());
            }
            Some(("ipv4", text)) => resolver.ipv4 = flag(text)?,
            Some(("ipv6", text)) => resolver.ipv6 = flag(text)?,
            Some(("status_zone", _)) => return Err(unsupported(call, value)),
            _ => resolver.servers.extend(servers(parser, call, value)?),
        }
    }
    if !resolver.ipv4 && !resolver.ipv6 {
        return Err(call.fault("\"ipv4\" and \"ipv6\" cannot both be \"off\""));
    }
    if resolver.servers.is_empty() {
        return Err(call.fault("no name servers defined"));
    }
    Ok(resolver)
}

/// The addresses of a name server: of a name, all that the system knows when the configuration is
/// read.
fn servers(parser: &mut Parser, call: &Call, text: &str) -> Result<Vec<SocketAddr>, Fault> {
    let refused = |reason: &str| call.fault(format!("{reason} in resolver \"{text}\""));
    let rules = Rules {
        listen: false,
        uri: false,
        default_port: PORT,
    };
    let url = url::parse(text, rules).map_err(refused)?;
    let hosts = match &url.host {
        UrlHost::Unix(_) => return Err(refused("unix domain socket")),
        UrlHost::Ip(ip) => vec![*ip],
        UrlHost::Name(name) => parser
            .source
            .host(name)
            .ok_or_else(|| refused("host not found"))?,
    };
    let addresses = hosts.into_iter().map(|ip| SocketAddr::new(ip, url.port));
    Ok(addresses.collect())
}
