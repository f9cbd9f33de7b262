//! `upstream {}` and its servers.

use weir_master::settings::Server;

use super::directive::{Directive, HTTP, Set, UPSTREAM, at_least, between, block, once, row, take};
use super::draft::{Draft, UpstreamDraft};
use super::error::Fault;
use super::listen::unsupported;
use super::parser::{Call, Parser};
use super::unit;
use super::url::{self, Rules};

/// The heaviest server, as the region holds it.
pub const HEAVIEST: u64 = 65_535;
/// Idle connections of a worker to one upstream at most.
const MOST_IDLE: u64 = 1 << 20;
/// Of `zone`: nginx takes no less than eight pages.
const LEAST_ZONE: u64 = 8 * 4096;

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("keepalive", UPSTREAM, between(1, 2), Set::Call(keepalive)),
    row(
        "keepalive_requests",
        UPSTREAM,
        take(1),
        Set::Number(|draft| &mut open(draft).keepalive_requests),
    ),
    row(
        "keepalive_time",
        UPSTREAM,
        take(1),
        Set::Millis(|draft| &mut open(draft).keepalive_time),
    ),
    row(
        "keepalive_timeout",
        UPSTREAM,
        take(1),
        Set::Millis(|draft| &mut open(draft).keepalive_timeout),
    ),
    row("server", UPSTREAM, at_least(1), Set::Call(server)),
    row("upstream", HTTP, block(1, 1), Set::Call(upstream)),
    row("zone", UPSTREAM, between(1, 2), Set::Call(zone)),
];

/// The upstream whose block is being read.
pub fn open(draft: &mut Draft) -> &mut UpstreamDraft {
    draft.http().upstream()
}

fn upstream(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let name = call.value();
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(call.fault(format!("invalid upstream name \"{name}\"")));
    }
    let http = parser.draft.http();
    let named = |known: &&mut UpstreamDraft| known.name.eq_ignore_ascii_case(name);
    let fresh = UpstreamDraft {
        name: name.to_owned(),
        explicit: true,
        place: call.place(),
        ..UpstreamDraft::default()
    };
    // A `proxy_pass` before the block has left an upstream of its own: it becomes this one.
    http.open_upstream = http.upstreams.len();
    if let Some(index) = http
        .upstreams
        .iter()
        .position(|known| known.name.eq_ignore_ascii_case(name))
    {
        http.open_upstream = index;
    }
    match http.upstreams.iter_mut().find(named) {
        Some(known) if known.explicit => {
            return Err(call.fault(format!("duplicate upstream \"{name}\"")));
        }
        Some(known) if !known.no_port => {
            let message = format!("upstream \"{name}\" may not have port {}", known.port);
            return Err(Fault::at(known.place.clone(), message));
        }
        Some(known) => *known = fresh,
        None => http.upstreams.push(fresh),
    }
    parser.block(UPSTREAM)?;
    let upstream = open(&mut parser.draft);
    if upstream.servers.is_empty() && upstream.upsync.is_none() {
        let fault = parser.here("no servers are inside upstream");
        open(&mut parser.draft).empty = Some(fault);
    }
    let upstream = open(&mut parser.draft);
    super::upsync::check(upstream, call)?;
    if upstream.upsync.is_none() && upstream.dump.is_some() {
        return Err(call.fault(format!(
            "upstream \"{name}\" has \"upsync_dump_path\" without \"upsync\""
        )));
    }
    Ok(())
}

fn keepalive(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut open(&mut parser.draft).keepalive, call, || {
        let value = call.value();
        let number = unit::number(value)
            .filter(|&number| number <= MOST_IDLE)
            .ok_or_else(|| {
                call.fault(format!(
                    "invalid value \"{value}\" in \"keepalive\" directive"
                ))
            })?;
        match call.values().get(1).map(String::as_str) {
            // Idle connections are a worker's own in any case.
            None | Some("local") => Ok(number as usize),
            Some(other) => Err(call.invalid_parameter(other)),
        }
    })
}

/// Every upstream is in shared memory, in the `region`.
fn zone(_: &mut Parser, call: &Call) -> Result<(), Fault> {
    let name = call.value();
    if name.is_empty() {
        return Err(call.fault("invalid zone name \"\""));
    }
    match call.values().get(1).map(|size| (size, unit::size(size))) {
        Some((size, None)) => Err(call.fault(format!("invalid zone size \"{size}\""))),
        Some((_, Some(..LEAST_ZONE))) => Err(call.fault(format!("zone \"{name}\" is too small"))),
        _ => Ok(()),
    }
}

fn server(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let text = call.value();
    let rules = Rules {
        listen: false,
        uri: false,
        default_port: 80,
    };
    let url = url::parse(text, rules)
        .map_err(|reason| call.fault(format!("{reason} in upstream \"{text}\"")))?;
    let mut server = Server {
        host: url::server(&url, text),
        weight: 1,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        resolve: false,
        place: call.place(),
    };
    for parameter in &call.values()[1..] {
        set_parameter(&mut server, call, parameter)?;
    }
    open(&mut parser.draft).servers.push(server);
    Ok(())
}

fn set_parameter(server: &mut Server, call: &Call, parameter: &str) -> Result<(), Fault> {
    let invalid = || call.invalid_parameter(parameter);
    let number = |value: &str| {
        unit::number(value)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(invalid)
    };
    match parameter.split_once('=') {
        Some(("weight", value)) => {
            let weight = number(value)?;
            if weight == 0 {
                return Err(invalid());
            }
            if u64::from(weight) > HEAVIEST {
                return Err(call.fault(format!(
                    "invalid parameter \"{parameter}\", the largest weight is {HEAVIEST}"
                )));
            }
            server.weight = weight;
        }
        Some(("max_fails", value)) => server.max_fails = number(value)?,
        Some(("fail_timeout", value)) => {
            let time = unit::seconds(value).ok_or_else(invalid)?;
            server.fail_timeout_ms = u64::try_from(time.as_millis()).map_err(|_| invalid())?;
        }
        Some(("max_conns" | "slow_start" | "route" | "service", _)) => {
            return Err(unsupported(call, parameter));
        }
        None if parameter == "down" => server.down = true,
        None if parameter == "backup" => server.backup = true,
        None if parameter == "resolve" => server.resolve = true,
        None if parameter == "drain" => {
            return Err(unsupported(call, parameter));
        }
        _ => return Err(invalid()),
    }
    Ok(())
}
