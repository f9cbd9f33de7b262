//! What cannot change in place: processes that began with something else are replaced. A worker's
//! successor starts beside it on the same sockets, and it leaves when that one is ready.

use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::{Pid, geteuid};

use super::seat::{OBSOLETE, Seat};
use super::shared::give_away;
use super::{Master, Phase, Role};
use crate::settings::Settings;

/// The form of the processes of a start.
pub(super) const FIRST_FORM: u64 = OBSOLETE + 1;

impl Master {
    /// Before `next` is put in force: names what it changes that running processes cannot take over.
    pub(super) fn change_form(&mut self, next: &Settings, has_region: bool) {
        let mut changed = renewing(&self.cycle.settings, next);
        changed.extend(has_region.then_some("region"));
        if changed.is_empty() {
            return;
        }
        self.form += 1;
        // A new region is given away when it takes its place.
        if !has_region && let Err(message) = give_away(next) {
            self.log.alert(message);
        }
        for name in changed {
            self.log.notice(format_args!(
                "\"{name}\" has changed, which a running process cannot take over: workers and syncer are replaced"
            ));
        }
    }

    /// A child does not follow a commit.
    pub(super) fn give_up(&mut self, role: Role) {
        let Some(child) = self.seat(role).child.as_mut() else {
            return;
        };
        let pid = child.pid;
        child.form = OBSOLETE;
        if role == Role::Syncer {
            // It has nothing to finish, and its successor goes on from the table.
            let _ = kill(pid, Number::SIGKILL);
        }
        self.forget_in_reload(pid);
    }

    /// Children have not answered to a commit; one that does not even turn its loop is killed.
    pub(super) fn give_up_silent(&mut self, pids: &[Pid]) {
        let is_silent = |(role, seat): (Role, &Seat)| {
            let child = seat.child.as_ref()?;
            pids.contains(&child.pid).then_some(role)
        };
        let silent: Vec<Role> = self.seats().filter_map(is_silent).collect();
        for role in silent {
            let heartbeat = self.heartbeat_ms(role).unwrap_or_default();
            if let Some(child) = self.seat(role).child.as_mut() {
                child.silent_at = Some(heartbeat);
            }
            self.give_up(role);
        }
    }

    /// Whether a worker that had not answered has turned its loop since.
    pub(super) fn has_turned(&self, role: Role) -> bool {
        let Role::Worker(slot) = role else {
            return false;
        };
        let child = self.workers[slot].child.as_ref();
        let silent_at = child.and_then(|child| child.silent_at);
        silent_at.is_some() && self.heartbeat_ms(role) != silent_at
    }

    fn heartbeat_ms(&self, role: Role) -> Option<u64> {
        let Role::Worker(slot) = role else {
            return None;
        };
        let row = match &self.workers[slot].former {
            Some(former) => former.region.worker_row(former.slot),
            None => self.region.worker_row(slot as u32),
        }?;
        (Some(row.pid) == self.workers[slot].pid()).then_some(row.heartbeat_ms)
    }

    /// Whether a syncer is on its way out to make place for another.
    pub(super) fn syncer_changes(&self) -> bool {
        let leaves = |seat: &Seat| seat.child.as_ref().is_some_and(|child| child.leaving);
        self.next_region.is_some() || leaves(&self.syncer)
    }

    /// Starts successors for those of another form, and lets those go whose successor is ready.
    pub(super) fn replace_obsolete(&mut self) {
        if self.phase != Phase::Running || self.reload.is_some() {
            return;
        }
        self.forget_former();
        self.replace_syncer();
        if self.next_region.is_some() {
            return;
        }
        let mut is_short = false;
        for slot in 0..self.workers.len() {
            let seat = &self.workers[slot];
            if let Some(heir) = seat.heir {
                let heir = &self.workers[heir];
                let is_ready = heir.child.as_ref().is_some_and(|child| child.ready);
                if is_ready || !heir.wanted {
                    self.leave(slot);
                }
            } else if seat.wanted && self.is_obsolete(seat) && !self.seat_heir(slot) {
                is_short = true;
                self.make_room(slot);
            }
        }
        self.is_short_of_room = is_short;
        self.fill_up();
    }

    fn is_obsolete(&self, seat: &Seat) -> bool {
        let staying = seat.child.as_ref().filter(|child| !child.leaving);
        staying.is_some_and(|child| child.form != self.form)
    }

    /// One syncer writes at a time, so the old one goes first; between the two, no table changes
    /// and a region can take the place of another.
    fn replace_syncer(&mut self) {
        self.syncer.wanted = self.next_region.is_none();
        if let Some(child) = &self.syncer.child {
            let goes = self.next_region.is_some() || child.form != self.form;
            if goes && !child.leaving {
                self.terminate(Role::Syncer);
            }
        } else if let Some(next) = self.next_region.take() {
            self.switch_region(next);
            self.syncer.wanted = true;
        }
    }

    /// Has a successor started for the worker of a slot, on the same sockets; false for want of
    /// room in the region.
    fn seat_heir(&mut self, slot: usize) -> bool {
        let Some(heir) = self.vacancy() else {
            return false;
        };
        let sets = self.workers[slot].sets.clone();
        let new = &mut self.workers[heir];
        new.sets = sets;
        new.wanted = true;
        let old = &mut self.workers[slot];
        old.heir = Some(heir);
        old.wanted = false;
        true
    }

    /// There is no place for a successor: one that serves nobody any more goes before it, and where nobody
    /// is on the way out the worker of this slot is the first. Others serve its sockets until then.
    fn make_room(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.is_short_of_room, true) {
            self.log.notice(
                "the region has no room for more workers: some are replaced when others have ended",
            );
        }
        let mut places = self.workers.iter().filter(|seat| seat.former.is_none());
        let somebody_goes = places.any(|seat| !seat.wanted && seat.child.is_some());
        let child = self.workers[slot].child.as_ref();
        let is_deaf = child.is_some_and(|child| child.quits || child.silent_at.is_some());
        if somebody_goes && !is_deaf {
            return;
        }
        if self.retire(slot) {
            self.missing += 1;
        } else if is_deaf {
            // It is the only one: its successor has its place.
            let sets = self.workers[slot].sets.clone();
            self.leave(slot);
            let seat = &mut self.workers[slot];
            seat.wanted = true;
            seat.sets = sets;
        }
    }
}

/// Names what changes that a process begins with.
fn renewing(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let mut changed = Vec::new();
    // Without root's rights nobody becomes another user.
    if old.user != new.user && geteuid().is_root() {
        changed.push("user");
    }
    if old.rlimit_nofile != new.rlimit_nofile {
        changed.push("worker_rlimit_nofile");
    }
    changed
}

/// Puts back what changes with a start only, and names it.
pub(super) fn pin(old: &Settings, new: &mut Settings) -> Vec<&'static str> {
    let mut changed = Vec::new();
    let mut keep = |differs: bool, name| {
        if differs {
            changed.push(name);
        }
    };
    keep(old.daemon != new.daemon, "daemon");
    keep(old.master_process != new.master_process, "master_process");
    keep(old.pid != new.pid, "pid");
    keep(old.control != new.control, "control");
    new.daemon = old.daemon;
    new.master_process = old.master_process;
    new.pid = old.pid.clone();
    new.control.clone_from(&old.control);
    changed
}
