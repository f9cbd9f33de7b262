//! The start: from settings to a master whose syncer and workers are about to be forked.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{Gid, Uid, chown, geteuid};
use weir_shm::{Publisher, Reader, Region, Table};
use weir_worker::log::{abort_on_panic, panics_to};

use super::{Cycle, First, Master, Phase, Seat};
use crate::daemon::{self, Daemon, Waiting};
use crate::errno::{describe, describe_errno};
use crate::listening::Listening;
use crate::log::Log;
use crate::private::PrivateFiles;
use crate::process::Title;
use crate::resolve::{ResolvedUpstream, resolve};
use crate::room::{self, workers_of};
use crate::settings::Settings;
use crate::signal::Signals;
use crate::{Loaded, Program, check, first_table, listening, pidfile, resources, temp};

/// The config generation of a start.
const FIRST_GENERATION: u64 = 1;
/// What the syncer may take to say that it is ready, beyond `upsync_start_timeout`.
const SYNCER_MARGIN: Duration = Duration::from_secs(10);

/// The whole life of weir's processes: becomes a daemon if told so, starts, serves, ends.
pub(crate) fn run(program: Program, loaded: Loaded) -> ExitCode {
    let title = Title::claim();
    let mut log = Log::stderr();
    let waiting = if loaded.settings.daemon {
        match daemon::detach() {
            Ok(Daemon::First(code)) => return code,
            Ok(Daemon::Master(waiting)) => waiting,
            Err(error) => {
                log.emerg(format_args!("daemon() failed {}", describe(&error)));
                return ExitCode::FAILURE;
            }
        }
    } else {
        Waiting::default()
    };
    match prepare(program, loaded, title, waiting, &mut log) {
        Ok(master) => master.live(),
        Err(message) => {
            log.emerg(message);
            ExitCode::FAILURE
        }
    }
}

/// Everything before the first child. `log` becomes the opened one as soon as there is one.
fn prepare(
    program: Program,
    loaded: Loaded,
    title: Option<Title>,
    waiting: Waiting,
    log: &mut Log,
) -> Result<Master, String> {
    if let Some(title) = title {
        title.set(&program.title);
    }
    let signals =
        Signals::open().map_err(|error| format!("signalfd() failed {}", describe(&error)))?;
    temp::make(&loaded.settings.temp_folders, loaded.settings.user.as_ref())?;
    let files = resources::open(&loaded.settings.resources)?;
    let private = PrivateFiles::open(&loaded.settings)?;
    *log = Log::open(&loaded.settings, &files, true).map_err(|error| failed("dup()", &error))?;
    abort_on_panic();
    panics_to(Some(log.error()));
    tell_warnings(&loaded, log);
    let settings = &loaded.settings;
    pidfile::refuse_live(&settings.pid)?;
    refuse_live_region(&settings.region.path)?;
    check::pid_folder(settings)?;
    check::dumps(settings)?;
    let resolved = resolve(&settings.upstreams)?;
    log.notice(format_args!("weir/{}", env!("CARGO_PKG_VERSION")));

    listening::wait_until_free(&settings.listeners, |line| log.emerg(line))?;
    // From here on there is something to take away at the end.
    signals
        .hold()
        .map_err(|error| format!("sigprocmask() failed {}", describe_errno(error)))?;
    let mut listening = Listening::bind(&settings.listeners, workers_of(settings))?;
    let (region, wakers) = match shared(settings, &resolved, log) {
        Ok(shared) => shared,
        Err(message) => {
            listening.close();
            return Err(message);
        }
    };
    let until = Instant::now() + settings.start_timeout + SYNCER_MARGIN;
    let mut workers = Vec::new();
    workers.resize_with(wakers.len(), Seat::default);
    let mut cycle = Cycle::new(FIRST_GENERATION, loaded, files, private);
    cycle.first = Some(First { resolved });
    let log = std::mem::replace(log, Log::stderr());
    Ok(Master {
        program,
        title,
        signals,
        log,
        cycle,
        region,
        listening,
        wakers,
        pid_file: None,
        waiting,
        syncer: Seat::wanted(),
        workers,
        phase: Phase::Syncer { until },
        reload: None,
        deferred: VecDeque::new(),
        last_generation: FIRST_GENERATION,
        retired: false,
    })
}

/// Tells the warnings of a configuration.
pub(super) fn tell_warnings(loaded: &Loaded, log: &Log) {
    for warning in &loaded.warnings {
        log.warn(warning);
    }
}

/// The region with its first table, and an eventfd for each of its worker slots.
fn shared(
    settings: &Settings,
    resolved: &[ResolvedUpstream],
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
    let last = last_table(&settings.region.path, log);
    let mut table = first_table::build(&settings.upstreams, resolved, last.as_ref(), |line| {
        log.warn(line);
    });
    let servers: usize = table.iter().map(|upstream| upstream.servers.len()).sum();
    if servers > capacity.servers as usize {
        log.warn(format_args!(
            "the {servers} servers of the last run do not fit \"region\", which has room for {}, and are not used",
            capacity.servers
        ));
        table = first_table::configured(resolved);
    }
    let path = &settings.region.path;
    let region = Region::create(path, capacity).map_err(|error| error.to_string())?;
    if let Some(user) = settings.user.as_ref().filter(|_| geteuid().is_root()) {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        chown(path, Some(uid), Some(gid)).map_err(|error| {
            let error = describe_errno(error);
            format!("chown(\"{}\", {uid}) failed {error}", path.display())
        })?;
    }
    region.set_master(std::process::id());
    publish(&region, table)?;
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let wakers = (0..capacity.workers)
        .map(|_| EventFd::from_flags(flags).map(OwnedFd::from))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("eventfd() failed {}", describe_errno(error)))?;
    Ok((region, wakers))
}

/// Publishes the first table. The writer's lock is free again when this returns.
fn publish(region: &Region, table: Vec<weir_shm::Upstream>) -> Result<(), String> {
    let writer = region.writer_file().map_err(|error| {
        let error = describe(&error);
        format!("open() \"{}\" failed {error}", region.path().display())
    })?;
    let mut publisher = Publisher::new(region, writer).map_err(|error| error.to_string())?;
    publisher
        .publish(table, weir_shm::Seen::NOBODY)
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// What the last run left; a region that cannot be read is told and passed over.
fn last_table(path: &Path, log: &Log) -> Option<Table> {
    if !path.exists() {
        return None;
    }
    match Reader::open(path).and_then(|reader| reader.table()) {
        Ok(table) => Some(table),
        Err(error) => {
            log.warn(format_args!(
                "the table of the last run in \"{}\" is not used: {error}",
                path.display()
            ));
            None
        }
    }
}

/// Refuses to put another region in the place of one that a live master uses.
fn refuse_live_region(path: &Path) -> Result<(), String> {
    let Ok(reader) = Reader::open(path) else {
        return Ok(());
    };
    let master = reader.header().master_pid;
    let title = fs::read(format!("/proc/{master}/cmdline")).unwrap_or_default();
    if std::process::id() != master && title.starts_with(b"weir: master process") {
        return Err(format!(
            "region \"{}\" belongs to the running master process {master}",
            path.display()
        ));
    }
    Ok(())
}

fn failed(call: &str, error: &std::io::Error) -> String {
    format!("{call} failed {}", describe(error))
}
