//! Directives of the main context.

use weir_master::settings::User;

use super::directive::{
    Directive, EVENTS, LEVELS, MAIN, Set, UPSTREAM, at_least, between, once, row, take,
};
use super::draft::RegionDraft;
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;

/// Workers at most, also `region … workers=`.
pub const MOST_WORKERS: u64 = 4096;
/// `region … servers=` and `upstreams=` at most.
const MOST_ENTRIES: u64 = 1 << 20;
/// `region … slots=`, at least and at most.
const SLOTS: (u64, u64) = (4, 64);

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "daemon",
        MAIN,
        take(1),
        Set::Flag(|draft| &mut draft.main.daemon),
    ),
    row(
        "include",
        MAIN.or(EVENTS).or(LEVELS).or(UPSTREAM),
        take(1),
        Set::Call(Parser::include),
    ),
    row(
        "master_process",
        MAIN,
        take(1),
        Set::Flag(|draft| &mut draft.main.master_process),
    ),
    row("pid", MAIN, take(1), Set::Text(|draft| &mut draft.main.pid)),
    row("region", MAIN, at_least(1), Set::Call(region)),
    row("user", MAIN, between(1, 2), Set::Call(user)),
    row(
        "worker_processes",
        MAIN,
        take(1),
        Set::Call(worker_processes),
    ),
    row(
        "worker_rlimit_nofile",
        MAIN,
        take(1),
        Set::Number(|draft| &mut draft.main.rlimit_nofile),
    ),
    row(
        "worker_shutdown_timeout",
        MAIN,
        take(1),
        Set::Millis(|draft| &mut draft.main.shutdown_timeout),
    ),
];

fn user(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    if parser.draft.main.user.is_some() {
        return Err(call.blame("is duplicate"));
    }
    if !parser.source.root() {
        parser.warnings.push(call.fault(
            "the \"user\" directive makes sense only if the master process runs with super-user privileges, ignored",
        ));
        return Ok(());
    }
    let name = call.value();
    let group = call.values().get(1).map_or(name, String::as_str);
    let (uid, gid) = parser
        .source
        .user(name, group)
        .map_err(|message| call.fault(message))?;
    parser.draft.main.user = Some(User {
        name: name.to_owned(),
        uid,
        gid,
    });
    Ok(())
}

fn worker_processes(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let cpus = parser.source.cpus();
    once(
        &mut parser.draft.main.worker_processes,
        call,
        || match call.value() {
            "auto" => Ok(cpus),
            value => unit::number(value)
                .filter(|count| (1..=MOST_WORKERS).contains(count))
                .map(|count| count as usize)
                .ok_or_else(|| call.blame("invalid value")),
        },
    )
}

fn region(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.main.region, call, || {
        let mut region = RegionDraft {
            path: call.value().to_owned(),
            servers: None,
            upstreams: None,
            workers: None,
            slots: None,
        };
        for parameter in &call.values()[1..] {
            let bad = || call.invalid_parameter(parameter);
            let (name, value) = parameter.split_once('=').ok_or_else(bad)?;
            let (place, least, most) = match name {
                "servers" => (&mut region.servers, 1, MOST_ENTRIES),
                "upstreams" => (&mut region.upstreams, 1, MOST_ENTRIES),
                "workers" => (&mut region.workers, 1, MOST_WORKERS),
                "slots" => (&mut region.slots, SLOTS.0, SLOTS.1),
                _ => return Err(bad()),
            };
            let value = unit::number(value).filter(|value| (least..=most).contains(value));
            let value = value.ok_or_else(|| {
                call.fault(format!(
                    "invalid parameter \"{parameter}\", it must be between {least} and {most}"
                ))
            })?;
            *place = u32::try_from(value).ok();
        }
        Ok(region)
    })
}
