//! `http {}`, `server {}`, and the directives that any level may have.

use std::time::Duration;

use super::directive::{
    Directive, HTTP, LEVELS, MAIN, SERVER, Set, between, block, once, row, take,
};
use super::draft::{Http, Level};
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;

/// nginx's `connection_pool_size`, below which it takes no header buffer.
const LEAST_HEADER_BUFFER: u64 = 512;
/// Header buffers of one connection, and bytes of each, at most.
const MOST_HEADER_BUFFERS: u64 = 1024;
const LARGEST_HEADER_BUFFER: u64 = 16 << 20;

const SERVERS: super::directive::Contexts = HTTP.or(SERVER);

/// The table.
pub const DIRECTIVES: &[Directive] = &[
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
    row("http", MAIN, block(0, 0), Set::Call(http)),
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
        "send_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().send_timeout),
    ),
    row(
        "sendfile",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().sendfile),
    ),
    row("server", HTTP, block(0, 0), Set::Call(server)),
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
        "upsync_start_timeout",
        HTTP,
        take(1),
        Set::Millis(|draft| &mut draft.http().start_timeout),
    ),
];

fn http(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    if parser.draft.http.is_some() {
        return Err(call.blame("is duplicate"));
    }
    parser.draft.http = Some(Http::default());
    parser.draft.enter(Level {
        place: call.place(),
        ..Level::default()
    });
    let read = parser.block(HTTP);
    parser.draft.http().level = parser.draft.leave();
    read
}

fn server(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    parser.draft.enter(Level {
        place: call.place(),
        ..Level::default()
    });
    let read = parser.block(SERVER);
    let mut level = parser.draft.leave();
    if read.is_ok() && !level.listens {
        super::listen::default(parser, call)?;
        level.listens = true;
    }
    parser.draft.http().servers.push(level);
    read
}

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
