//! The region at a start: the first table, what earlier runs knew, and the eventfds.

use std::os::fd::OwnedFd;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{Gid, Pid, Uid, chown, geteuid};
use weir_shm::{Journal, Publisher, Region, Seen};
use weir_worker::log::Clock;

use crate::errno::{describe, describe_errno};
use crate::first_table::{self, First};
use crate::last_run::LastRun;
use crate::log::Log;
use crate::resolve::ResolvedUpstream;
use crate::room;
use crate::settings::Settings;
use crate::syncer::recorder::history::{Cause, Changes, Record};
use crate::syncer::recorder::report::{FORM, Report};

/// The region with its first table, and an eventfd for each of its worker slots. `old`: the master
/// that has started this one.
pub(super) fn shared(
    settings: &Settings,
    resolved: &[ResolvedUpstream],
    old: Option<Pid>,
    log: &Log,
) -> Result<(Region, Vec<OwnedFd>), String> {
    room::check(settings, resolved)?;
    let capacity = room::capacity(&settings.region);
    if capacity != settings.region.capacity {
        log.notice(format_args!(
            "region \"{}\" has room for {} servers, to take no more than half of its file system",
            settings.region.path.display(),
            capacity.servers
        ));
    }
    // Before it is replaced.
    let last = LastRun::read(&settings.region.path, old, settings.state.as_deref(), log);
    let mut first = first_table::build(&settings.upstreams, resolved, &last, |line| {
        log.warn(line);
    });
    let found = first_table::discovered(settings, &last);
    let room = (capacity.upstreams as usize).saturating_sub(first.len());
    first.extend(found.into_iter().take(room));
    let servers: usize = first.iter().map(|first| first.upstream.servers.len()).sum();
    if servers > capacity.servers as usize {
        log.warn(format_args!(
            "the {servers} servers of the last run do not fit \"region\", which has room for {}, and are not used",
            capacity.servers
        ));
        first = first_table::configured(&settings.upstreams, resolved);
    }
    let path = &settings.region.path;
    let region = Region::create(path, capacity).map_err(|error| error.to_string())?;
    give_away(settings)?;
    region.set_master(std::process::id());
    publish(&region, first, &last, settings)?;
    let wakers = wakers(capacity.workers)?;
    Ok((region, wakers))
}

/// An eventfd for each worker slot.
pub(super) fn wakers(workers: u32) -> Result<Vec<OwnedFd>, String> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    (0..workers)
        .map(|_| EventFd::from_flags(flags).map(OwnedFd::from))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("eventfd() failed {}", describe_errno(error)))
}

/// Gives the region's file to the user that the syncer runs as.
pub(super) fn give_away(settings: &Settings) -> Result<(), String> {
    let Some(user) = settings.user.as_ref().filter(|_| geteuid().is_root()) else {
        return Ok(());
    };
    let path = &settings.region.path;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    chown(path, Some(uid), Some(gid)).map_err(|error| {
        let error = describe_errno(error);
        format!("chown(\"{}\", {uid}) failed {error}", path.display())
    })
}

/// Publishes the first table, with what is known of its upstreams. The writer's lock is free again
/// when this returns.
fn publish(
    region: &Region,
    first: Vec<First>,
    last: &LastRun,
    settings: &Settings,
) -> Result<(), String> {
    let writer = region.writer_file().map_err(|error| {
        let error = describe(&error);
        format!("open() \"{}\" failed {error}", region.path().display())
    })?;
    let mut publisher = Publisher::new(region, writer).map_err(|error| error.to_string())?;
    publisher.start_after(last.version());
    let (table, statuses) = first
        .into_iter()
        .map(|first| (first.upstream, first.status))
        .unzip();
    publisher
        .publish(table, Seen::NOBODY)
        .map_err(|error| error.to_string())?;
    let now_ms = Clock::system_millis();
    let report = Report {
        form: FORM,
        time_ms: now_ms,
        control: settings.control.clone(),
        upstreams: statuses,
        ..Report::default()
    };
    let mut journal = publisher.journal();
    // It has more room than the upstreams that fit the region take.
    let text = serde_json::to_vec(&report).unwrap_or_default();
    let _ = journal.report(&text);
    go_on(&mut journal, &publisher, last, now_ms);
    Ok(())
}

/// The history goes on where it ended, if it reaches to what the first table follows.
fn go_on(journal: &mut Journal, publisher: &Publisher, last: &LastRun, now_ms: u64) {
    let records = last.records();
    let before = last.upstreams();
    let reaches = records
        .last()
        .is_some_and(|(version, _)| *version == last.version());
    let table = publisher.table();
    let changes = match &before {
        Some(before) if reaches => Changes::between(before, &table.upstreams),
        _ => Changes::default(),
    };
    if reaches {
        for (version, record) in records {
            journal.append(version, &record);
        }
    }
    let record = Record {
        version: table.version,
        before: if reaches { last.version() } else { 0 },
        time_ms: now_ms,
        cause: Cause::Start,
        held: 0,
        refused: 0,
        changes,
    };
    journal.append(
        table.version,
        &serde_json::to_vec(&record).unwrap_or_default(),
    );
}
