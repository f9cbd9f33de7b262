//! `proxy_next_upstream` and what limits it.

use weir_worker::settings::{NextUpstream, Proxy};

use crate::config::directive::{Directive, LEVELS, Set, at_least, row, take};
use crate::config::draft::Common;
use crate::config::error::Fault;
use crate::config::parser::{Call, Parser};

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "proxy_next_upstream",
        LEVELS,
        at_least(1),
        Set::Call(proxy_next_upstream),
    ),
    row(
        "proxy_next_upstream_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().proxy_next_upstream_timeout),
    ),
    row(
        "proxy_next_upstream_tries",
        LEVELS,
        take(1),
        Set::Number(|draft| &mut draft.common().proxy_next_upstream_tries),
    ),
];

/// `updating` is of nginx's cache, which weir does not have, and `off` undoes all others.
const UPDATING: u16 = 1 << 14;
const OFF: u16 = 1 << 15;

const FAILURES: &[(&str, u16)] = &[
    ("error", NextUpstream::ERROR.0),
    ("timeout", NextUpstream::TIMEOUT.0),
    ("invalid_header", NextUpstream::INVALID_HEADER.0),
    ("non_idempotent", NextUpstream::NON_IDEMPOTENT.0),
    ("http_500", NextUpstream::HTTP_500.0),
    ("http_502", NextUpstream::HTTP_502.0),
    ("http_503", NextUpstream::HTTP_503.0),
    ("http_504", NextUpstream::HTTP_504.0),
    ("http_403", NextUpstream::HTTP_403.0),
    ("http_404", NextUpstream::HTTP_404.0),
    ("http_429", NextUpstream::HTTP_429.0),
    ("updating", UPDATING),
    ("off", OFF),
];

fn proxy_next_upstream(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let before = parser.draft.common().proxy_next_upstream;
    let mask = mask(parser, call, FAILURES, before.unwrap_or_default())?;
    parser.draft.common().proxy_next_upstream = Some(mask);
    Ok(())
}

/// Fills in what these directives say of a location.
pub fn settings(proxy: &mut Proxy, common: &Common) {
    proxy.next_upstream = match common.proxy_next_upstream {
        None => NextUpstream::DEFAULT,
        Some(mask) if mask & OFF != 0 => NextUpstream::OFF,
        Some(mask) => NextUpstream(mask & !UPDATING),
    };
    proxy.next_upstream_tries = common
        .proxy_next_upstream_tries
        .unwrap_or(proxy.next_upstream_tries);
    proxy.next_upstream_timeout = common
        .proxy_next_upstream_timeout
        .unwrap_or(proxy.next_upstream_timeout);
}

/// Adds the bits of the words; a word that was there before is worth a warning.
pub fn mask(
    parser: &mut Parser,
    call: &Call,
    names: &[(&str, u16)],
    mut mask: u16,
) -> Result<u16, Fault> {
    for value in call.values() {
        let known = names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(value));
        let Some((_, bit)) = known else {
            return Err(call.fault(format!("invalid value \"{value}\"")));
        };
        if mask & bit != 0 {
            let warning = call.fault(format!("duplicate value \"{value}\""));
            parser.warnings.push(warning);
        }
        mask |= bit;
    }
    Ok(mask)
}
