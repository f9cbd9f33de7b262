//! What concerns a client's connection and the head of its requests.

use std::time::Duration;

use weir_worker::settings::{KeepaliveDisable, LingeringClose};

use super::directive::{Contexts, Directive, HTTP, LEVELS, SERVER, Set, between, once, row, take};
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;

/// nginx's `connection_pool_size`, below which it takes no header buffer.
const LEAST_HEADER_BUFFER: u64 = 512;
/// Header buffers of one connection, and bytes of each, at most.
const MOST_HEADER_BUFFERS: u64 = 1024;
const LARGEST_HEADER_BUFFER: u64 = 16 << 20;

const SERVERS: Contexts = HTTP.or(SERVER);

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "chunked_transfer_encoding",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().chunked_transfer_encoding),
    ),
    row(
        "client_body_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().client_body_timeout),
    ),
    row(
        "client_header_buffer_size",
        SERVERS,
        take(1),
        Set::Call(client_header_buffer_size),
    ),
    row(
        "client_header_timeout",
        SERVERS,
        take(1),
        Set::Millis(|draft| &mut draft.common().client_header_timeout),
    ),
    row(
        "client_max_body_size",
        LEVELS,
        take(1),
        Set::Offset(|draft| &mut draft.common().client_max_body_size),
    ),
    row(
        "ignore_invalid_headers",
        SERVERS,
        take(1),
        Set::Flag(|draft| &mut draft.common().ignore_invalid_headers),
    ),
    row(
        "keepalive_disable",
        LEVELS,
        between(1, 2),
        Set::Call(keepalive_disable),
    ),
    row(
        "keepalive_min_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().keepalive_min_timeout),
    ),
    row(
        "keepalive_requests",
        LEVELS,
        take(1),
        Set::Number(|draft| &mut draft.common().keepalive_requests),
    ),
    row(
        "keepalive_time",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().keepalive_time),
    ),
    row(
        "keepalive_timeout",
        LEVELS,
        between(1, 2),
        Set::Call(keepalive_timeout),
    ),
    row(
        "large_client_header_buffers",
        SERVERS,
        take(2),
        Set::Call(large_client_header_buffers),
    ),
    row(
        "lingering_close",
        LEVELS,
        take(1),
        Set::Call(lingering_close),
    ),
    row(
        "lingering_time",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().lingering_time),
    ),
    row(
        "lingering_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().lingering_timeout),
    ),
    row(
        "max_headers",
        SERVERS,
        take(1),
        Set::Number(|draft| &mut draft.common().max_headers),
    ),
    row(
        "merge_slashes",
        SERVERS,
        take(1),
        Set::Flag(|draft| &mut draft.common().merge_slashes),
    ),
    row(
        "reset_timedout_connection",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().reset_timedout_connection),
    ),
    row(
        "send_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().send_timeout),
    ),
    row("server_tokens", LEVELS, take(1), Set::Call(server_tokens)),
    row(
        "tcp_nodelay",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().tcp_nodelay),
    ),
    row(
        "tcp_nopush",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().tcp_nopush),
    ),
    row(
        "underscores_in_headers",
        SERVERS,
        take(1),
        Set::Flag(|draft| &mut draft.common().underscores_in_headers),
    ),
];

fn keepalive_timeout(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.common().keepalive_timeout, call, || {
        let invalid = || call.blame("invalid value");
        let idle = unit::millis(call.value()).ok_or_else(invalid)?;
        let shown = match call.values().get(1) {
            Some(value) => Some(unit::seconds(value).ok_or_else(invalid)?),
            None => None,
        };
        Ok((idle, shown.filter(|shown| *shown > Duration::ZERO)))
    })
}

fn client_header_buffer_size(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(
        &mut parser.draft.common().client_header_buffer_size,
        call,
        || {
            unit::size(call.value())
                .filter(|size| (1..=LARGEST_HEADER_BUFFER).contains(size))
                .ok_or_else(|| call.blame("invalid value"))
        },
    )
}

fn large_client_header_buffers(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(
        &mut parser.draft.common().large_client_header_buffers,
        call,
        || {
            let invalid = || call.blame("invalid value");
            let number = unit::number(call.value())
                .filter(|number| (1..=MOST_HEADER_BUFFERS).contains(number))
                .ok_or_else(invalid)?;
            let size = unit::size(&call.values()[1])
                .filter(|size| (1..=LARGEST_HEADER_BUFFER).contains(size))
                .ok_or_else(invalid)?;
            if size < LEAST_HEADER_BUFFER {
                return Err(call.fault(
                "the \"large_client_header_buffers\" size must be equal to or greater than \"connection_pool_size\"",
            ));
            }
            Ok((number, size))
        },
    )
}

fn lingering_close(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = &mut parser.draft.common().lingering_close;
    let values = [
        ("off", LingeringClose::Off),
        ("on", LingeringClose::On),
        ("always", LingeringClose::Always),
    ];
    once(place, call, || choice(call, &values))
}

/// `build` adds the name that nginx was built with; there is none.
fn server_tokens(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = &mut parser.draft.common().server_tokens;
    let values = [("off", false), ("on", true), ("build", true)];
    once(place, call, || choice(call, &values))
}

/// One of the words, in any case of letters.
fn choice<T: Copy>(call: &Call, values: &[(&str, T)]) -> Result<T, Fault> {
    let word = call.value();
    let mut values = values.iter();
    let found = values.find(|(name, _)| name.eq_ignore_ascii_case(word));
    let found = found.map(|(_, value)| *value);
    found.ok_or_else(|| call.fault(format!("invalid value \"{word}\"")))
}

/// Adds up over a level, as nginx does; `none` beside another word adds nothing.
fn keepalive_disable(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = &mut parser.draft.common().keepalive_disable;
    let disable = place.get_or_insert(KeepaliveDisable {
        msie6: false,
        safari: false,
    });
    let mut duplicates = Vec::new();
    for value in call.values() {
        let set = match value.to_ascii_lowercase().as_str() {
            "none" => continue,
            "msie6" => &mut disable.msie6,
            "safari" => &mut disable.safari,
            _ => return Err(call.fault(format!("invalid value \"{value}\""))),
        };
        if std::mem::replace(set, true) {
            duplicates.push(call.fault(format!("duplicate value \"{value}\"")));
        }
    }
    parser.warnings.extend(duplicates);
    Ok(())
}
