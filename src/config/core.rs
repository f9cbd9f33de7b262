//! Directives of the main context.

use weir_master::settings::User;
use weir_shm::Capacity;

use super::directive::{
    Directive, EVENTS, LEVELS, MAIN, Set, UPSTREAM, at_least, between, once, row, take,
};
use super::draft::RegionDraft;
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "control",
        MAIN,
        take(1),
        Set::Text(|draft| &mut draft.main.control),
    ),
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
    row(
        "upsync_state",
        MAIN,
        take(1),
        Set::Text(|draft| &mut draft.main.upsync_state),
    ),
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
    row(
        "worker_watchdog",
        MAIN,
        take(1),
        Set::Millis(|draft| &mut draft.main.watchdog),
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
            "auto" => Ok(cpus.min(Capacity::MAX_WORKERS as usize)),
            value => unit::number(value)
                .filter(|count| (1..=u64::from(Capacity::MAX_WORKERS)).contains(count))
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
            history: None,
        };
        for parameter in &call.values()[1..] {
            let bad = || call.invalid_parameter(parameter);
            let (name, value) = parameter.split_once('=').ok_or_else(bad)?;
            let (place, least, most) = match name {
                "servers" => (&mut region.servers, 1, Capacity::MAX_SERVERS),
                "upstreams" => (&mut region.upstreams, 1, Capacity::MAX_UPSTREAMS),
                "workers" => (&mut region.workers, 1, Capacity::MAX_WORKERS),
                "slots" => (&mut region.slots, Capacity::MIN_SLOTS, Capacity::MAX_SLOTS),
                "history" => (
                    &mut region.history,
                    Capacity::MIN_HISTORY,
                    Capacity::MAX_HISTORY,
                ),
                _ => return Err(bad()),
            };
            let value = match name {
                "history" => unit::size(value),
                _ => unit::number(value),
            };
            let value = value.and_then(|value| u32::try_from(value).ok());
            let value = value.filter(|value| (least..=most).contains(value));
            *place = Some(value.ok_or_else(|| {
                call.fault(format!(
                    "invalid parameter \"{parameter}\", it must be between {least} and {most}"
                ))
            })?);
        }
        Ok(region)
    })
}
