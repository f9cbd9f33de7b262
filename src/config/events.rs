//! Directives of `events {}`.

use super::directive::{Directive, EVENTS, MAIN, Set, block, once, row, take};
use super::draft::Events;
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;

/// What `use` may name: nginx's methods on Linux. weir polls with epoll under each of them.
const METHODS: [&str; 3] = ["epoll", "poll", "select"];

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("accept_mutex", EVENTS, take(1), Set::IgnoredFlag),
    row("events", MAIN, block(0, 0), Set::Call(events)),
    row(
        "multi_accept",
        EVENTS,
        take(1),
        Set::Flag(|draft| &mut draft.events().multi_accept),
    ),
    row("use", EVENTS, take(1), Set::Call(used)),
    row(
        "worker_connections",
        EVENTS,
        take(1),
        Set::Call(worker_connections),
    ),
];

fn events(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    if parser.draft.events.is_some() {
        return Err(call.blame("is duplicate"));
    }
    parser.draft.events = Some(Events::default());
    parser.block(EVENTS)
}

fn used(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.events().used, call, || {
        let name = call.value();
        if METHODS.contains(&name) {
            Ok(name.to_owned())
        } else {
            Err(call.fault(format!("invalid event type \"{name}\"")))
        }
    })
}

fn worker_connections(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.events().worker_connections, call, || {
        let value = call.value();
        unit::number(value).ok_or_else(|| call.fault(format!("invalid number \"{value}\"")))
    })
}
