//! The start: from settings to a master whose syncer and workers are about to be forked.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use weir_shm::Reader;
use weir_worker::log::{abort_on_panic, panics_to};

use super::heartbeat::Watchdog;
use super::region::remove_stale;
use super::replace::FIRST_FORM;
use super::shared::shared;
use super::upgrade::Old;
use super::{Cycle, First, Master, Phase, Seat};
use crate::control::Control;
use crate::daemon::{self, Daemon, Waiting};
use crate::errno::{describe, describe_errno};
use crate::inherit::{self, Inherited};
use crate::listening::{Listening, Passed, Set};
use crate::log::Log;
use crate::notify::Notify;
use crate::private::PrivateFiles;
use crate::process::Title;
use crate::resolve::resolve;
use crate::room::workers_of;
use crate::settings::Settings;
use crate::signal::Signals;
use crate::{Loaded, Program, check, listening, pidfile, resources, temp};

/// The config generation of a start.
const FIRST_GENERATION: u64 = 1;
/// What the syncer may take to say that it is ready, beyond `upsync_start_timeout`.
const SYNCER_MARGIN: Duration = Duration::from_secs(10);

/// The whole life of weir's processes: becomes a daemon if told so, starts, serves, ends.
pub(crate) fn run(program: Program, loaded: Loaded) -> ExitCode {
    let mut log = Log::stderr();
    let mut notify = Notify::claim(Instant::now(), |line| log.warn(line));
    let passed = listening::claim();
    let inherited = inherit::claim(|line| log.emerg(line));
    if let Some(inherited) = &inherited {
        notify.follow(inherited.parent);
    }
    let title = Title::claim();
    // A new binary is where its parent, a daemon or not, is already.
    let waiting = if loaded.settings.daemon && inherited.is_none() {
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
    let given = Given { inherited, passed };
    match prepare(program, loaded, title, waiting, given, &mut log) {
        Ok(mut master) => {
            master.notify = notify;
            master.live()
        }
        Err(message) => {
            notify.status(&message);
            log.emerg(message);
            ExitCode::FAILURE
        }
    }
}

/// What this process was started with.
struct Given {
    inherited: Option<Inherited>,
    passed: Vec<Passed>,
}

/// Everything before the first child. `log` becomes the opened one as soon as there is one.
fn prepare(
    program: Program,
    loaded: Loaded,
    title: Option<Title>,
    waiting: Waiting,
    given: Given,
    log: &mut Log,
) -> Result<Master, String> {
    if let Some(title) = title {
        title.set(&program.title);
    }
    let Given { inherited, passed } = given;
    let signals =
        Signals::open().map_err(|error| format!("signalfd() failed {}", describe(&error)))?;
    temp::make(&loaded.settings.temp_folders, loaded.settings.user.as_ref())?;
    temp::make_for(
        loaded.settings.state.as_deref(),
        loaded.settings.user.as_ref(),
    )?;
    let files = resources::open(&loaded.settings.resources)?;
    let private = PrivateFiles::open(&loaded.settings)?;
    // Nobody reads along when a daemon starts a new binary.
    let is_watched = inherited.is_none() || !loaded.settings.daemon;
    *log =
        Log::open(&loaded.settings, &files, is_watched).map_err(|error| failed("dup()", &error))?;
    abort_on_panic();
    panics_to(Some(log.error()));
    tell_warnings(&loaded, log);
    let settings = &loaded.settings;
    let parent = inherited.as_ref().map(|inherited| inherited.parent);
    refuse(settings, parent)?;
    remove_stale(&settings.region.path);
    let resolved = resolve(&settings.upstreams)?;
    log.notice(format_args!("weir/{}", env!("CARGO_PKG_VERSION")));
    let old = inherited
        .as_ref()
        .map(|inherited| Old::follow(inherited, settings, log));
    let passed = listening::for_addresses(passed, &settings.listeners, |line| log.warn(line));
    let mut listening = listen(inherited, passed, settings, &signals, log)?;
    let shared = open_control(settings).and_then(|control| {
        match shared(settings, &resolved, parent, log) {
            Ok(shared) => Ok((control, shared)),
            Err(message) => {
                // The message says what matters.
                let _ = control.map(Control::remove);
                Err(message)
            }
        }
    });
    let (control, (region, wakers)) = shared.inspect_err(|_| listening.close())?;
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
        notify: Notify::default(),
        trouble: None,
        cycle,
        region: Rc::new(region),
        next_region: None,
        listening,
        wakers,
        pid_file: None,
        control,
        waiting,
        syncer: Seat::wanted(),
        workers,
        phase: Phase::Syncer { until },
        reload: None,
        deferred: VecDeque::new(),
        last_generation: FIRST_GENERATION,
        retired: false,
        form: FIRST_FORM,
        missing: 0,
        is_short_of_room: false,
        watchdog: Watchdog::default(),
        new_binary: None,
        handing: None,
        old,
        listening_version: 0,
    })
}

/// What must not be, before anything is made.
fn refuse(settings: &Settings, parent: Option<Pid>) -> Result<(), String> {
    pidfile::refuse_live(&settings.pid)?;
    refuse_live_region(&settings.region.path, parent)?;
    check::pid_folder(settings)?;
    check::dumps(settings)
}

/// Takes over the sockets that there are, and binds those that are missing.
fn listen(
    inherited: Option<Inherited>,
    mut passed: Set,
    settings: &Settings,
    signals: &Signals,
    log: &Log,
) -> Result<Listening, String> {
    let mut sockets = Vec::new();
    if let Some(inherited) = inherited {
        sockets = inherited.sockets;
        passed.extend(inherited.passed);
    }
    let workers = workers_of(settings);
    let mut listening = Listening::take(&settings.listeners, workers, sockets, passed);
    let missing = listening.missing(&settings.listeners);
    listening::wait_until_free(&listening.to_probe(&missing), |line| log.emerg(line))?;
    // From here on there is something to take away at the end.
    signals
        .hold()
        .map_err(|error| format!("sigprocmask() failed {}", describe_errno(error)))?;
    listening.complete(&settings.listeners)?;
    Ok(listening)
}

/// Tells the warnings of a configuration.
pub(super) fn tell_warnings(loaded: &Loaded, log: &Log) {
    for warning in &loaded.warnings {
        log.warn(warning);
    }
}

/// The control socket. Without a process of its own the master cannot serve it.
fn open_control(settings: &Settings) -> Result<Option<Control>, String> {
    let path = settings.control.as_ref();
    let path = path.filter(|_| settings.master_process);
    path.map(|path| Control::open(path)).transpose()
}

/// Refuses to put another region in the place of one that a live master uses, unless that has
/// started this one to follow it.
pub(super) fn refuse_live_region(path: &Path, parent: Option<Pid>) -> Result<(), String> {
    let Ok(reader) = Reader::open(path) else {
        return Ok(());
    };
    let master = reader.header().master_pid;
    let title = fs::read(format!("/proc/{master}/cmdline")).unwrap_or_default();
    let is_parent = parent.is_some_and(|parent| parent.as_raw() as u32 == master);
    if std::process::id() != master && !is_parent && title.starts_with(b"weir: master process") {
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
