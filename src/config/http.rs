//! `http {}`, `server {}`, and the directives that any level may have.

use super::directive::{Directive, HTTP, LEVELS, MAIN, SERVER, Set, block, row, take};
use super::draft::{Http, Level};
use super::error::Fault;
use super::parser::{Call, Parser};

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("http", MAIN, block(0, 0), Set::Call(http)),
    row(
        "sendfile",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().sendfile),
    ),
    row("server", HTTP, block(0, 0), Set::Call(server)),
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
