//! A place in the process tree: the syncer's, or that of one worker slot.

use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use weir_shm::{Region, SameServers};
use weir_worker::channel::Channel;

use super::reopen::Logs;
use crate::backoff::Backoff;

/// Which place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// The one syncer.
    Syncer,
    /// The worker of this slot of the region.
    Worker(usize),
}

impl Role {
    /// As the log calls a process of this role.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Syncer => "syncer process",
            Role::Worker(_) => "worker process",
        }
    }
}

/// A place and who has it.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// Whether it is to be filled again when its child dies.
    pub(crate) wanted: bool,
    /// The process that has it.
    pub(crate) child: Option<Child>,
    /// The sets of listening sockets that a worker here serves.
    pub(crate) sets: Vec<usize>,
    /// The place of the one that takes over from the child here, which is not wanted any more and
    /// leaves when that one is ready.
    pub(crate) heir: Option<usize>,
    /// It is in a region that another has taken the place of, and not to be filled again.
    pub(crate) former: Option<Former>,
    /// Not to be filled before.
    due: Option<Instant>,
    backoff: Backoff,
}

/// A worker whose listening sockets another looks after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Helps {
    pub(crate) slot: usize,
    pub(crate) sets: Vec<usize>,
    /// The version of the listening sockets that were passed.
    pub(crate) version: u64,
}

/// A worker's slot in an earlier region.
#[derive(Debug)]
pub(crate) struct Former {
    pub(crate) region: Rc<Region>,
    pub(crate) slot: u32,
    /// Where what it counts goes on.
    pub(crate) servers: Rc<SameServers>,
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) channel: Channel,
    /// The channel has not ended.
    pub(crate) open: bool,
    pub(crate) born: Instant,
    /// Which one of the master's forms it began with; see [`OBSOLETE`].
    pub(crate) form: u64,
    pub(crate) ready: bool,
    /// It has said why it cannot go on.
    pub(crate) failed: bool,
    /// It was told to go.
    pub(crate) leaving: bool,
    /// A signal has told it to go: it accepts no more.
    pub(crate) quits: bool,
    /// When it is killed if it is still there.
    pub(crate) kill_at: Option<Instant>,
    /// It has not answered, and this was its heartbeat: it is killed early unless that moves.
    pub(crate) silent_at: Option<u64>,
    /// Whom it was told to help.
    pub(crate) helps: Option<Helps>,
    /// It is not told anything of that before.
    pub(crate) help_at: Option<Instant>,
    /// The logs that it has.
    pub(crate) logs: Rc<Logs>,
}

/// The form of a child that has to be replaced, whatever it began with.
pub(crate) const OBSOLETE: u64 = 0;

impl Seat {
    /// A place that is to be filled.
    pub(crate) fn wanted() -> Seat {
        Seat {
            wanted: true,
            ..Seat::default()
        }
    }

    /// Whether nobody has or will have it.
    pub(crate) fn is_vacant(&self) -> bool {
        !self.wanted && self.child.is_none() && self.former.is_none()
    }

    /// Whether a child is to be started here now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.wanted && self.child.is_none() && self.due.is_none_or(|due| due <= now)
    }

    /// When a child is to be started here, if one is waited for.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.wanted && self.child.is_none())
    }

    /// A child starts here.
    pub(crate) fn fill(
        &mut self,
        pid: Pid,
        channel: Channel,
        form: u64,
        logs: Rc<Logs>,
        now: Instant,
    ) {
        self.due = None;
        self.child = Some(Child {
            pid,
            channel,
            open: true,
            born: now,
            form,
            ready: false,
            failed: false,
            leaving: false,
            quits: false,
            kill_at: None,
            silent_at: None,
            helps: None,
            help_at: None,
            logs,
        });
    }

    /// A child could not be started: tries again later, and says when.
    pub(crate) fn missed(&mut self, now: Instant) -> Duration {
        // Deaths at the age of zero, of which the first would be tried again at once.
        let pause = self.backoff.died(Duration::ZERO);
        let pause = if pause.is_zero() {
            self.backoff.died(Duration::ZERO)
        } else {
            pause
        };
        self.due = Some(now + pause);
        pause
    }

    /// The child died: how long its successor waits.
    pub(crate) fn clear(&mut self, now: Instant) -> Duration {
        let Some(child) = self.child.take() else {
            return Duration::ZERO;
        };
        if self.heir.take().is_some() {
            self.sets.clear();
        }
        if child.leaving {
            // As it was told; that says nothing about the next one.
            self.due = None;
            return Duration::ZERO;
        }
        let pause = self.backoff.died(now.saturating_duration_since(child.born));
        self.due = Some(now + pause);
        pause
    }

    /// The child's process id, as the scoreboard has it.
    pub(crate) fn pid(&self) -> Option<u32> {
        let child = self.child.as_ref()?;
        u32::try_from(child.pid.as_raw()).ok()
    }

    /// The child, unless it cannot hear.
    pub(crate) fn hearing(&self) -> Option<&Child> {
        self.child.as_ref().filter(|child| child.open)
    }

    /// The child, unless it was told to go or cannot hear.
    pub(crate) fn staying(&self) -> Option<&Child> {
        self.hearing().filter(|child| !child.leaving)
    }
}
