//! What a directive is: a row of a table.

use std::time::Duration;

use super::draft::Draft;
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;

/// Contexts in which a directive may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts(u8);

/// Outside every block.
pub const MAIN: Contexts = Contexts(1);
/// `events {}`
pub const EVENTS: Contexts = Contexts(2);
/// `http {}`
pub const HTTP: Contexts = Contexts(4);
/// `server {}` of `http {}`
pub const SERVER: Contexts = Contexts(8);
/// `location {}`
pub const LOCATION: Contexts = Contexts(16);
/// `upstream {}`
pub const UPSTREAM: Contexts = Contexts(32);
/// `http {}`, `server {}` and `location {}`
pub const LEVELS: Contexts = HTTP.or(SERVER).or(LOCATION);

impl Contexts {
    /// Both.
    pub const fn or(self, other: Contexts) -> Contexts {
        Contexts(self.0 | other.0)
    }

    /// Whether they have one in common.
    pub const fn meets(self, other: Contexts) -> bool {
        self.0 & other.0 != 0
    }
}

/// How many parameters a directive takes, and whether a block follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// At least.
    pub least: usize,
    /// At most.
    pub most: usize,
    /// `{` follows, not `;`.
    pub block: bool,
}

/// Parameters of a directive without a fixed number, nginx's NGX_CONF_MAX_ARGS less the name.
const MOST: usize = 7;

/// Exactly so many parameters.
pub const fn take(count: usize) -> Arity {
    between(count, count)
}

/// From `least` to `most` parameters.
pub const fn between(least: usize, most: usize) -> Arity {
    assert!(least <= most && most <= MOST);
    Arity {
        least,
        most,
        block: false,
    }
}

/// So many parameters or more.
pub const fn at_least(least: usize) -> Arity {
    Arity {
        least,
        most: usize::MAX,
        block: false,
    }
}

/// A block after so many parameters.
pub const fn block(least: usize, most: usize) -> Arity {
    Arity {
        least,
        most,
        block: true,
    }
}

/// A directive.
pub struct Directive {
    /// Its name.
    pub name: &'static str,
    /// Where it may stand.
    pub contexts: Contexts,
    /// What it takes.
    pub arity: Arity,
    /// What it does.
    pub set: Set,
}

/// A place of the draft that a directive fills once.
type Place<T> = fn(&mut Draft) -> &mut Option<T>;

/// What a directive does.
pub enum Set {
    /// Something of its own.
    Call(fn(&mut Parser, &Call) -> Result<(), Fault>),
    /// Keeps `on` or `off`.
    Flag(Place<bool>),
    /// Keeps a number.
    Number(Place<u64>),
    /// Keeps a size of memory in bytes.
    Size(Place<u64>),
    /// Keeps a size of a file in bytes.
    Offset(Place<u64>),
    /// Keeps a time to the millisecond.
    Millis(Place<Duration>),
    /// Keeps a text.
    Text(Place<String>),
    /// Checks `on` or `off`: it means nothing to weir.
    IgnoredFlag,
}

/// A row.
pub const fn row(name: &'static str, contexts: Contexts, arity: Arity, set: Set) -> Directive {
    Directive {
        name,
        contexts,
        arity,
        set,
    }
}

impl Set {
    /// Carries a directive out.
    pub fn apply(&self, parser: &mut Parser, call: &Call) -> Result<(), Fault> {
        let draft = &mut parser.draft;
        match self {
            Set::Call(set) => set(parser, call),
            Set::Flag(place) => once(place(draft), call, || flag(call)),
            Set::Number(place) => once(place(draft), call, || {
                unit::number(call.value()).ok_or_else(|| call.blame("invalid number"))
            }),
            Set::Size(place) => once(place(draft), call, || {
                unit::size(call.value()).ok_or_else(|| call.blame("invalid value"))
            }),
            Set::Offset(place) => once(place(draft), call, || {
                unit::offset(call.value()).ok_or_else(|| call.blame("invalid value"))
            }),
            Set::Millis(place) => once(place(draft), call, || {
                unit::millis(call.value()).ok_or_else(|| call.blame("invalid value"))
            }),
            Set::Text(place) => once(place(draft), call, || Ok(call.value().to_owned())),
            Set::IgnoredFlag => flag(call).map(drop),
        }
    }
}

/// Fills a place that must be empty.
pub fn once<T>(
    place: &mut Option<T>,
    call: &Call,
    value: impl FnOnce() -> Result<T, Fault>,
) -> Result<(), Fault> {
    if place.is_some() {
        return Err(call.blame("is duplicate"));
    }
    *place = Some(value()?);
    Ok(())
}

/// `on` or `off`.
pub fn flag(call: &Call) -> Result<bool, Fault> {
    match call.value() {
        value if value.eq_ignore_ascii_case("on") => Ok(true),
        value if value.eq_ignore_ascii_case("off") => Ok(false),
        value => Err(call.fault(format!(
            "invalid value \"{value}\" in \"{}\" directive, it must be \"on\" or \"off\"",
            call.name()
        ))),
    }
}

/// Every directive of weir.
pub fn all() -> impl Iterator<Item = &'static Directive> {
    let tables: &'static [&'static [Directive]] = &[
        super::body::DIRECTIVES,
        super::core::DIRECTIVES,
        super::events::DIRECTIVES,
        super::http::DIRECTIVES,
        super::client::DIRECTIVES,
        super::listen::DIRECTIVES,
        super::location::DIRECTIVES,
        super::proxy::DIRECTIVES,
        super::resolver::DIRECTIVES,
        super::proxy::connection::DIRECTIVES,
        super::proxy::failover::DIRECTIVES,
        super::proxy::request::DIRECTIVES,
        super::proxy::response::DIRECTIVES,
        super::response::DIRECTIVES,
        super::log::DIRECTIVES,
        super::upstream::DIRECTIVES,
    ];
    tables
        .iter()
        .copied()
        .flatten()
        .chain(super::upsync::DIRECTIVES)
}
