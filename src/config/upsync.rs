//! Directives of nginx's upsync module: servers from Consul.

use std::time::Duration;

use weir_master::settings::{Guard, Upsync};

use super::directive::{Directive, HTTP, Set, UPSTREAM, at_least, between, flag, once, row, take};
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;
use super::upstream::open;
use super::url::{self, Rules, UrlHost};

/// `upsync_interval=` unless given.
const INTERVAL: Duration = Duration::from_secs(5);
/// `upsync_timeout=` unless given.
const TIMEOUT: Duration = Duration::from_secs(6 * 60);
/// What follows the address of Consul.
const KV: &str = "/v1/kv/";

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("upsync", UPSTREAM, at_least(1), Set::Call(upsync)),
    row(
        "upsync_drain_timeout",
        HTTP.or(UPSTREAM),
        take(1),
        Set::Call(drain_timeout),
    ),
    row(
        "upsync_dump_path",
        UPSTREAM,
        take(1),
        Set::Text(|draft| &mut open(draft).dump),
    ),
    row(
        "upsync_guard",
        HTTP.or(UPSTREAM),
        between(1, 3),
        Set::Call(upsync_guard),
    ),
    row("upsync_lb", UPSTREAM, take(1), Set::Call(upsync_lb)),
];

fn upsync(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut open(&mut parser.draft).upsync, call, || {
        let mut upsync = source(call)?;
        for parameter in &call.values()[1..] {
            set_parameter(&mut upsync, call, parameter)?;
        }
        Ok(upsync)
    })
}

/// `HOST:PORT/v1/kv/PREFIX`
fn source(call: &Call) -> Result<Upsync, Fault> {
    let text = call.value();
    let form = |reason: &str| {
        call.fault(format!(
            "{reason} in upsync \"{text}\", it must be HOST:PORT{KV}PREFIX"
        ))
    };
    if text.contains("://") {
        return Err(form("unexpected scheme"));
    }
    let rules = Rules {
        listen: false,
        uri: true,
        default_port: 0,
    };
    let url = url::parse(text, rules).map_err(form)?;
    if url.no_port {
        return Err(form("no port"));
    }
    let name = match url.host {
        UrlHost::Unix(_) => return Err(form("unix domain socket")),
        UrlHost::Ip(ip) => ip.to_string(),
        UrlHost::Name(ref name) => name.clone(),
    };
    let key = url
        .uri
        .as_deref()
        .and_then(|uri| uri.strip_prefix(KV))
        .ok_or_else(|| form("invalid path"))?;
    let prefix = key.trim_matches('/');
    if prefix.is_empty() {
        return Err(form("no key prefix"));
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    if !prefix.bytes().all(plain) {
        return Err(form("invalid character in the key prefix"));
    }
    Ok(Upsync {
        host: format!("{}:{}", url.text, url.port),
        name,
        port: url.port,
        prefix: prefix.to_owned(),
        timeout: TIMEOUT,
        interval: INTERVAL,
        strong: false,
    })
}

fn set_parameter(upsync: &mut Upsync, call: &Call, parameter: &str) -> Result<(), Fault> {
    let invalid = || call.invalid_parameter(parameter);
    let time = |value: &str| {
        unit::millis(value)
            .filter(|time| !time.is_zero())
            .ok_or_else(invalid)
    };
    match parameter.split_once('=') {
        Some(("upsync_timeout", value)) => upsync.timeout = time(value)?,
        Some(("upsync_interval", value)) => upsync.interval = time(value)?,
        Some(("upsync_type", "consul")) => {}
        Some(("upsync_type", "consul_services" | "consul_health" | "etcd")) => {
            return Err(call.fault(format!(
                "\"{parameter}\" is not supported by weir, use upsync_type=consul"
            )));
        }
        Some(("strong_dependency", "on")) => upsync.strong = true,
        Some(("strong_dependency", "off")) => upsync.strong = false,
        _ => return Err(invalid()),
    }
    Ok(())
}

/// `upsync_drain_timeout TIME | off`
fn drain_timeout(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = match call.context {
        UPSTREAM => &mut open(&mut parser.draft).drain_timeout,
        _ => &mut parser.draft.http().drain_timeout,
    };
    once(place, call, || match call.value() {
        "off" => Ok(None),
        value => unit::millis(value)
            .map(Some)
            .ok_or_else(|| call.blame("invalid value")),
    })
}

fn upsync_lb(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut open(&mut parser.draft).lb, call, || {
        match call.value() {
            value @ ("round_robin" | "roundrobin") => Ok(value.to_owned()),
            value @ ("ip_hash" | "least_conn" | "hash_modula" | "hash_ketama") => Err(call.fault(
                format!("upsync_lb \"{value}\" is not supported by weir, use round_robin"),
            )),
            value => Err(call.fault(format!(
                "invalid value \"{value}\" in \"upsync_lb\" directive"
            ))),
        }
    })
}

/// `upsync_guard on|off [share=PERCENT%] [servers=NUMBER]`
fn upsync_guard(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = match call.context {
        UPSTREAM => &mut open(&mut parser.draft).guard,
        _ => &mut parser.draft.http().guard,
    };
    once(place, call, || {
        let on = flag(call)?;
        let mut guard = Guard::default();
        for parameter in &call.values()[1..] {
            let invalid = || call.invalid_parameter(parameter);
            match parameter.split_once('=') {
                Some(("share", value)) => {
                    let percent = value.strip_suffix('%').and_then(unit::number);
                    let percent = percent.and_then(|percent| u8::try_from(percent).ok());
                    guard.share = percent
                        .filter(|percent| *percent <= 100)
                        .ok_or_else(invalid)?;
                }
                Some(("servers", value)) => {
                    let number = unit::number(value).filter(|number| *number > 0);
                    guard.servers = number
                        .and_then(|number| usize::try_from(number).ok())
                        .ok_or_else(invalid)?;
                }
                _ => return Err(invalid()),
            }
        }
        Ok(on.then_some(guard))
    })
}
