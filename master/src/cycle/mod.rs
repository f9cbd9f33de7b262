//! The life of the master: one thread around one poll of signals, channels and timers.

mod birth;
mod event;
mod handing;
mod heartbeat;
mod help;
mod manager;
mod quit;
mod region;
mod reload;
mod reopen;
mod replace;
mod respawn;
mod seat;
mod shared;
mod start;
mod upgrade;
mod workers;

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use nix::unistd::Pid;
use weir_shm::Region;

use crate::control::Control;
use crate::daemon::Waiting;
use crate::listening::Listening;
use crate::log::Log;
use crate::notify::Notify;
use crate::pidfile::PidFile;
use crate::private::PrivateFiles;
use crate::process::Title;
use crate::resolve::ResolvedUpstream;
use crate::settings::Settings;
use crate::signal::Signals;
use crate::{Loaded, Program};

use handing::Handing;
use heartbeat::Watchdog;
use region::NextRegion;
use reload::Reload;
use reopen::Logs;
use seat::{Role, Seat};
use upgrade::Old;

pub(crate) use start::run;

/// Everything that the master has.
pub(crate) struct Master {
    program: Program,
    title: Option<Title>,
    signals: Signals,
    log: Log,
    notify: Notify,
    /// Why a start or the last reload failed.
    trouble: Option<String>,
    cycle: Cycle,
    region: Rc<Region>,
    /// The one that takes its place as soon as no syncer writes into the other.
    next_region: Option<NextRegion>,
    listening: Listening,
    /// One eventfd a worker slot: the syncer writes, the worker wakes.
    wakers: Vec<OwnedFd>,
    pid_file: Option<PidFile>,
    control: Option<Control>,
    waiting: Waiting,
    syncer: Seat,
    /// By slot of the region; after those, slots of earlier regions that still have a worker.
    workers: Vec<Seat>,
    phase: Phase,
    reload: Option<Reload>,
    /// Signals that wait for a start or a reload to end.
    deferred: VecDeque<Deferred>,
    /// Rises with each reload that is tried, so that an answer never counts for another one.
    last_generation: u64,
    /// WINCH has sent all workers home.
    retired: bool,
    /// Rises when something changes that a process begins with: those of another form are replaced.
    form: u64,
    /// So many workers start when others have ended, as the region has no room for them before.
    missing: usize,
    /// It has been told that there is no room to replace all workers at once.
    is_short_of_room: bool,
    watchdog: Watchdog,
    /// The master that USR2 has started, while it lives.
    new_binary: Option<Pid>,
    /// What that one may need to go on from here.
    handing: Option<Handing>,
    /// The master that started this one by USR2, while there is something left of it.
    old: Option<Old>,
    /// Rises when the listening sockets of the workers change.
    listening_version: u64,
}

/// One configuration in force, or about to be.
pub(crate) struct Cycle {
    generation: u64,
    settings: Settings,
    worker: weir_worker::settings::Settings,
    /// The opened resources by number.
    files: Vec<File>,
    /// What they are.
    logs: Rc<Logs>,
    /// The opened private files by number, for the syncer alone.
    private: PrivateFiles,
    /// Known until the first syncer has it; a reload leaves this to the syncer.
    first: Option<First>,
}

/// What a start has found out about upstreams.
struct First {
    /// The configured servers with their names resolved.
    resolved: Vec<ResolvedUpstream>,
}

/// Where in its life the master is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the syncer's first answer until then; nothing listens yet.
    Syncer { until: Instant },
    /// Waits for the workers until then.
    Workers { until: Instant },
    /// Serves.
    Running,
    /// Ends: with this code when every child is gone.
    Stopping { fast: bool, code: u8 },
}

/// What is done once nothing else is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deferred {
    Reload,
    Reopen,
    Add,
    Remove,
    Retire,
    Upgrade,
    Restore,
    Spread,
}

/// What a turn of the loop came to.
enum Turn {
    /// Once more.
    On,
    /// Everything is done: exit with this code.
    End(u8),
    /// `master_process off`: this process goes on as the worker.
    Worker,
}

impl Master {
    /// Runs until the end, or, in a child, until the end of that child. Every fork is here, where
    /// the master is owned and a child can take it apart: none comes back into the loop.
    fn live(mut self) -> ExitCode {
        loop {
            while let Some(role) = self.due(Instant::now()) {
                if let Some(channel) = self.fork(role) {
                    return birth::begin(self, role, channel);
                }
            }
            match self.turn() {
                Turn::On => {}
                Turn::End(code) => return ExitCode::from(code),
                Turn::Worker => return birth::single(self),
            }
        }
    }

    fn seat(&mut self, role: Role) -> &mut Seat {
        match role {
            Role::Syncer => &mut self.syncer,
            Role::Worker(slot) => &mut self.workers[slot],
        }
    }

    /// Every place with its role, the syncer's first.
    fn seats(&self) -> impl Iterator<Item = (Role, &Seat)> {
        let workers = self.workers.iter().enumerate();
        let workers = workers.map(|(slot, seat)| (Role::Worker(slot), seat));
        [(Role::Syncer, &self.syncer)].into_iter().chain(workers)
    }

    /// Roles of all children that stay and hear. Workers of an earlier region, whose successors are
    /// on their way, do not: no table there has what another configuration adds.
    fn staying(&self) -> Vec<Role> {
        let stays = |seat: &Seat| seat.former.is_none() && seat.staying().is_some();
        let staying = self.seats().filter(|(_, seat)| stays(seat));
        staying.map(|(role, _)| role).collect()
    }
}

impl Cycle {
    fn new(generation: u64, loaded: Loaded, files: Vec<File>, private: PrivateFiles) -> Cycle {
        let resources = loaded.settings.resources.clone();
        Cycle {
            generation,
            logs: Rc::new(Logs {
                generation,
                resources,
            }),
            settings: loaded.settings,
            worker: loaded.worker,
            files,
            private,
            first: None,
        }
    }
}
