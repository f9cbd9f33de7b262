//! USR2: another binary, started with the listening sockets of this one, and the way back.
//!
//! Old and new master have the same sockets, not copies of them, so that whichever ends closes none
//! of a connection that waits. Each has a syncer and a region of its own; the names of pid file,
//! region and control socket are the new one's while it lives, the old one's have
//! [`.oldbin`](crate::oldbin) behind them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::{Pid, getppid};
use rustix::io::FdFlags;
use weir_shm::{Address, Carried, Reader, Tally};
use weir_worker::settings::Level;

use super::{Deferred, Master, Phase};
use crate::errno::{describe, describe_errno};
use crate::handover::{self, Handover};
use crate::inherit::{self, Inherited};
use crate::log::Log;
use crate::process::{self, Fork};
use crate::settings::Settings;
use crate::{listening, oldbin, pidfile};

/// How often what the old one's workers count is carried over.
const CARRY_PAUSE: Duration = Duration::from_secs(1);
/// The master that has started this one.
pub(super) struct Old {
    parent: Pid,
    /// It has ended; what is left are workers that nobody looks after.
    gone: bool,
    counts: Counts,
    carried: Carried,
    /// When to carry over again.
    due: Instant,
    /// Unix addresses that it listens on and this one does not.
    dropped: Vec<Address>,
}

/// Where the old one's workers' counts are found.
enum Counts {
    /// In its region.
    Region(Box<Reader>),
    /// In its handover, as this release cannot read the region.
    Handover,
    /// They could not be read, which has been told.
    Nowhere,
}

impl Old {
    /// Begins to follow the master that `inherited` comes from, before its region is replaced.
    pub(super) fn follow(inherited: &Inherited, settings: &Settings, log: &Log) -> Old {
        let addresses: Vec<String> = inherited
            .sockets
            .iter()
            .map(|(address, _)| address.to_string())
            .collect();
        log.notice(format_args!(
            "using inherited sockets from {}: {}",
            inherited.parent,
            addresses.join(", ")
        ));
        // Its death is a reason to look.
        if let Err(error) = set_pdeathsig(Number::SIGCHLD) {
            log.alert(format_args!(
                "prctl(PR_SET_PDEATHSIG) failed {}",
                describe_errno(error)
            ));
        }
        let is_kept = |address: &Address| {
            let mut kept = settings.listeners.iter();
            kept.any(|listen| listen.address == *address)
        };
        let addresses = inherited.sockets.iter().map(|(address, _)| address);
        let region = &settings.region.path;
        let parent = inherited.parent.as_raw() as u32;
        let reader = Reader::open(region).ok();
        let counts = match reader.filter(|reader| reader.header().master_pid == parent) {
            Some(reader) => {
                // Or the old one goes on writing what nobody reads.
                let _ = handover::remove(region);
                Counts::Region(Box::new(reader))
            }
            None => Counts::Handover,
        };
        Old {
            parent: inherited.parent,
            gone: false,
            counts,
            carried: Carried::default(),
            due: Instant::now(),
            dropped: addresses.filter(|at| !is_kept(at)).cloned().collect(),
        }
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// What its workers have counted; `None` if that is not known.
    fn tally(&self, region: &Path) -> Result<Option<Tally>, String> {
        match &self.counts {
            Counts::Region(reader) => reader.tally().map(Some).map_err(|error| error.to_string()),
            Counts::Handover => {
                let handover = handover::read(region, self.parent)?;
                Ok(handover.map(Handover::tally))
            }
            Counts::Nowhere => Ok(None),
        }
    }

    /// Whether a worker of its still counts, as far as can be seen.
    fn is_counting(&self) -> bool {
        let Counts::Region(reader) = &self.counts else {
            return false;
        };
        let rows = reader.workers().ok();
        rows.into_iter().flatten().any(|row| {
            let pid = Pid::from_raw(row.pid as i32);
            kill(pid, None).is_ok()
        })
    }
}

/// Where the program is that this one was started as: a file that has taken its place since is the
/// new binary.
fn binary(command: &[OsString]) -> PathBuf {
    let named = command.first().map(Path::new);
    let found = match named {
        Some(path) if path.components().count() > 1 => Some(path.to_owned()),
        Some(name) => {
            let folders = env::var_os("PATH").unwrap_or_default();
            let mut paths = env::split_paths(&folders).map(|folder| folder.join(name));
            paths.find(|path| path.is_file())
        }
        None => None,
    };
    found.filter(|path| path.is_file()).unwrap_or_else(running)
}

/// The file that runs, where the program's name says nothing about a file.
fn running() -> PathBuf {
    let path = env::current_exe().unwrap_or_default();
    let text = path.as_os_str().as_encoded_bytes();
    match text.strip_suffix(b" (deleted)") {
        Some(path) => OsStr::from_bytes(path).into(),
        None => path,
    }
}

impl Master {
    /// Whether another master has the same sockets.
    pub(super) fn is_paired(&self) -> bool {
        self.new_binary.is_some() || self.old.as_ref().is_some_and(|old| !old.gone)
    }

    /// USR2.
    pub(super) fn change_binary(&mut self) {
        if self.is_paired() {
            self.log.line(
                Level::Crit,
                format_args!(
                    "the changing binary signal is ignored: you should shutdown or terminate before either old or new binary's process"
                ),
            );
            return;
        }
        let path = binary(&self.program.command);
        let shown = path.display();
        if let Err(message) = self.put_aside() {
            self.take_back();
            self.log.alert(format_args!(
                "{message} before executing new binary process \"{shown}\""
            ));
            return;
        }
        self.begin_handing_over();
        let own = Pid::this();
        match process::fork() {
            Ok(Fork::Child) => {
                let error = self.execute(&path, own);
                self.log.alert(format_args!(
                    "execve() failed while executing new binary process \"{shown}\" {}",
                    describe(&error)
                ));
                exit(1);
            }
            Ok(Fork::Parent(pid)) => {
                self.log
                    .notice(format_args!("start new binary process {pid} \"{shown}\""));
                self.new_binary = Some(pid);
                self.listening.share();
            }
            Err(error) => {
                self.take_back();
                self.log.alert(format_args!(
                    "fork() failed while spawning \"new binary process\" {}",
                    describe_errno(error)
                ));
            }
        }
    }

    /// Becomes the new binary of the master `parent`, which may be dead by now; comes back if that
    /// fails.
    fn execute(&self, path: &Path, parent: Pid) -> std::io::Error {
        let (own, passed) = (
            || self.listening.own_sockets(),
            || self.listening.passed_sockets(),
        );
        for socket in own().chain(passed()) {
            if let Err(error) = rustix::io::fcntl_setfd(socket, FdFlags::empty()) {
                return error.into();
            }
        }
        let sockets = inherit::variable(std::process::id(), parent, own(), passed());
        let mut command = Command::new(path);
        if let Some((name, arguments)) = self.program.command.split_first() {
            command.arg0(name).args(arguments);
        }
        command
            .envs(self.notify.environment())
            .env(inherit::VARIABLE, sockets)
            .exec()
    }

    /// Leaves the names of what there is one of to the new binary.
    fn put_aside(&mut self) -> Result<(), String> {
        let region = &self.cycle.settings.region.path;
        let control = self.cycle.settings.control.as_ref();
        let control = control.filter(|_| self.control.is_some());
        // What an upgrade left behind whose masters were both killed is not to be taken back.
        for path in [Some(region), control].into_iter().flatten() {
            let removed = oldbin::remove(path);
            removed.map_err(|error| {
                let (path, error) = (oldbin::name(path), describe(&error));
                format!("unlink() \"{}\" failed {error}", path.display())
            })?;
        }
        let reader = self.region.reader();
        if reader.is_ok_and(|reader| reader.is_at(region)) {
            oldbin::link(region)?;
        }
        // Without its file it cannot be reached, and does not hinder.
        if let Some(control) = control.filter(|control| control.exists()) {
            oldbin::link(control)?;
        }
        self.pid_file
            .as_mut()
            .map_or(Ok(()), pidfile::PidFile::put_aside)
    }

    /// Takes the names back.
    fn take_back(&mut self) {
        self.stop_handing_over();
        let Settings {
            region, control, ..
        } = &self.cycle.settings;
        let region = oldbin::take_back(&region.path);
        let control = control.as_deref().map(oldbin::take_back);
        // The last: whoever waits for it finds all of them back.
        let pid_file = self.pid_file.as_mut().map(pidfile::PidFile::take_back);
        for done in [Some(region), control, pid_file].into_iter().flatten() {
            if let Err(message) = done {
                self.log.alert(message);
            }
        }
    }

    /// At the end: a region that was put aside is nobody's any more.
    pub(super) fn forget_aside(&self) {
        let path = &self.cycle.settings.region.path;
        if self.new_binary.is_some()
            && let Err(error) = oldbin::remove(path)
        {
            let (path, error) = (oldbin::name(path), describe(&error));
            self.log.alert(format_args!(
                "unlink() \"{}\" failed {error}",
                path.display()
            ));
        }
    }

    /// The new binary has ended: everything is this one's again. Workers that were retired for it
    /// are started again, as nginx does.
    pub(super) fn lose_new_binary(&mut self, pid: Pid, how: &str) {
        self.new_binary = None;
        self.listening.own();
        // Whoever reads the line finds everything in its place.
        self.take_back();
        let then = match self.phase {
            Phase::Stopping { .. } => "and the old one is on its way out",
            _ => "the old one goes on",
        };
        let line = format!("new binary process {pid} {how}, {then}");
        match how.ends_with(" code 0") {
            true => self.log.notice(line),
            false => self.log.alert(line),
        }
        self.deferred.push_back(Deferred::Restore);
    }

    /// HUP while a new binary runs: the way back, as in nginx without reading the configuration,
    /// which is the new one's by now.
    pub(super) fn go_back(&mut self) {
        self.tell_reloading();
        if self.retired {
            return self.restore();
        }
        self.log
            .notice("the configuration is not read while a new binary process runs");
    }

    /// Carries over what the old master's workers count, and takes in what it leaves.
    pub(super) fn follow_old(&mut self, now: Instant) {
        let Some(old) = &mut self.old else { return };
        if !old.gone && getppid() != old.parent {
            old.gone = true;
            old.due = now;
            self.log
                .notice(format_args!("old master process {} is gone", old.parent));
            self.listening.own();
            old.dropped.iter().for_each(listening::remove_dead);
            let Settings {
                pid,
                region,
                control,
                ..
            } = &self.cycle.settings;
            let left = [Some(pid), Some(&region.path), control.as_ref()];
            for path in left.into_iter().flatten() {
                // What it did not take away itself, being killed; nothing depends on it.
                let _ = oldbin::remove(path);
            }
            self.deferred.push_back(Deferred::Spread);
        }
        let Some(old) = self.old.as_mut().filter(|old| old.due <= now) else {
            return;
        };
        old.due = now + CARRY_PAUSE;
        let is_last = old.gone && !old.is_counting();
        let region = &self.cycle.settings.region.path;
        let carried = old.tally(region).and_then(|tally| match tally {
            Some(tally) => {
                let carried = old.carried.carry(tally, &self.region);
                carried.map_err(|error| error.to_string())
            }
            None => Ok(()),
        });
        if let Err(error) = carried {
            self.log.error_line(format_args!(
                "what the old master's workers have counted is not carried over: {error}"
            ));
            old.counts = Counts::Nowhere;
        }
        if is_last {
            // It may be there, for one that could not have read the region.
            let _ = handover::remove(region);
            self.old = None;
        }
    }
}
