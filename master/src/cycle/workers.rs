//! More workers and fewer, and which of them serves which set of listening sockets.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal as Number, kill};
use weir_worker::channel::{Order, Role as Passed};

use super::{Master, Role, Seat};
use crate::errno::describe;
use crate::orders;
use crate::room::workers_of;

/// What a worker may take beyond `worker_shutdown_timeout` before it is killed.
pub(super) const SHUTDOWN_MARGIN: Duration = Duration::from_secs(5);
/// What one that has not answered may take to turn its loop once before it is killed.
const SILENT_BOUND: Duration = Duration::from_secs(5);

impl Master {
    /// TTIN.
    pub(super) fn add_worker(&mut self) {
        let Some(slot) = self.vacancy() else {
            let room = self.wakers.len();
            self.log.error_line(format_args!(
                "no worker is added: the region has room for {room} workers"
            ));
            return;
        };
        self.add_worker_at(slot);
    }

    /// A place for one more worker.
    pub(super) fn vacancy(&self) -> Option<usize> {
        self.workers.iter().position(Seat::is_vacant)
    }

    fn add_worker_at(&mut self, slot: usize) {
        let sets = match self.spare_sets() {
            // One more would be closed with this master, whatever waits in it.
            sets if sets.is_empty() && self.is_paired() => {
                vec![slot % self.listening.sets().max(1)]
            }
            sets if sets.is_empty() => match self.listening.grow() {
                Ok(set) => vec![set],
                Err(message) => {
                    self.log
                        .error_line(format_args!("no worker is added: {message}"));
                    return;
                }
            },
            sets => sets,
        };
        let seat = &mut self.workers[slot];
        seat.sets = sets;
        seat.wanted = true;
        self.retired = false;
    }

    /// All sets that nobody serves, as after WINCH: clients wait in their queues. Else one that only
    /// workers with several serve: a retired worker's.
    fn spare_sets(&self) -> Vec<usize> {
        let holders = |set: usize| {
            let seats = self.workers.iter();
            seats.filter(move |seat| seat.sets.contains(&set))
        };
        let sets = 0..self.listening.sets();
        let unserved: Vec<usize> = sets
            .clone()
            .filter(|&set| holders(set).count() == 0)
            .collect();
        if !unserved.is_empty() {
            return unserved;
        }
        let mut shared = sets.filter(|&set| holders(set).all(|seat| seat.sets.len() > 1));
        shared.next().into_iter().collect()
    }

    /// TTOU.
    pub(super) fn remove_worker(&mut self) {
        if self.missing > 0 {
            self.missing -= 1;
            return;
        }
        let last = self.workers.iter().rposition(|seat| seat.wanted);
        if last.is_none_or(|last| self.survivors(last).is_empty()) {
            self.log
                .error_line("no worker is retired: there is only one left");
        } else if let Some(last) = last {
            self.retire(last);
        }
    }

    /// Places of workers that stay when that of `slot` goes.
    fn survivors(&self, slot: usize) -> Vec<usize> {
        let others = (0..self.workers.len()).filter(|&other| other != slot);
        others.filter(|&other| self.workers[other].wanted).collect()
    }

    /// Has a worker go whose sockets a survivor takes over, with what waits in their queues. False if
    /// there is none, or if that cannot be told.
    pub(super) fn retire(&mut self, last: usize) -> bool {
        let survivors = self.survivors(last);
        let least = survivors
            .iter()
            .min_by_key(|&&slot| self.workers[slot].sets.len());
        let Some(&survivor) = least else {
            return false;
        };
        let held = |set: &usize| {
            survivors
                .iter()
                .any(|&slot| self.workers[slot].sets.contains(set))
        };
        let sets = self.workers[last].sets.iter().copied();
        let alone: Vec<usize> = sets.filter(|set| !held(set)).collect();
        if let Err(error) = self.adopt(survivor, &alone) {
            let error = describe(&error);
            self.log.error_line(format_args!(
                "no worker is retired: sendmsg() failed {error}"
            ));
            return false;
        }
        self.workers[survivor].sets.extend(alone);
        self.leave(last);
        true
    }

    fn adopt(&self, survivor: usize, sets: &[usize]) -> std::io::Result<()> {
        // One that is being started again finds the sets at its place.
        let Some(child) = self.workers[survivor].staying() else {
            return Ok(());
        };
        let passed = self.passed(sets);
        orders::send(&child.channel, &passed, |descriptors, more| Order::Adopt {
            descriptors,
            more,
        })
    }

    /// The other master of a binary upgrade is gone: as many sets as workers, as at any start, so
    /// that none has to share. Workers that do so get one more each.
    pub(super) fn spread(&mut self) {
        for slot in 0..self.workers.len() {
            let wanted = self.workers.iter().filter(|seat| seat.wanted).count();
            if self.listening.sets() >= wanted {
                return;
            }
            let seats = || self.workers.iter().filter(|seat| seat.wanted);
            let is_shared =
                |set: &usize| seats().filter(|seat| seat.sets.contains(set)).count() > 1;
            if !self.workers[slot].wanted || !self.workers[slot].sets.iter().all(is_shared) {
                continue;
            }
            let set = match self.listening.grow() {
                Ok(set) => set,
                Err(message) => {
                    self.log.error_line(format_args!(
                        "fewer listening sockets than workers: {message}"
                    ));
                    return;
                }
            };
            self.workers[slot].sets.push(set);
            if let Err(error) = self.adopt(slot, &[set]) {
                let error = describe(&error);
                self.log
                    .alert(format_args!("sendmsg() to worker process failed {error}"));
                // Clients come to the new sockets already: another worker at this place has them.
                self.give_up(Role::Worker(slot));
            }
        }
    }

    /// The sockets of sets, to be passed.
    pub(super) fn passed(&self, sets: &[usize]) -> Vec<(Passed, BorrowedFd<'_>)> {
        let sockets = sets.iter().flat_map(|&set| self.listening.set(set));
        let passed = sockets
            .map(|(address, socket)| (Passed::Listener(address.to_string()), socket.as_fd()));
        passed.collect()
    }

    /// WINCH.
    pub(super) fn retire_all(&mut self) {
        for slot in 0..self.workers.len() {
            if self.workers[slot].wanted {
                self.leave(slot);
            }
        }
        self.retired = true;
        self.missing = 0;
    }

    /// Tells a worker to finish what it has and exit; it is not replaced.
    pub(super) fn leave(&mut self, slot: usize) {
        let margin = self.cycle.settings.shutdown_timeout;
        let seat = &mut self.workers[slot];
        seat.wanted = false;
        seat.heir = None;
        seat.sets.clear();
        let Some(child) = seat.child.as_mut().filter(|child| !child.leaving) else {
            return;
        };
        child.leaving = true;
        let now = Instant::now();
        child.kill_at = match child.silent_at {
            Some(_) => Some(now + SILENT_BOUND),
            None => margin.map(|timeout| now + timeout + SHUTDOWN_MARGIN),
        };
        if child.channel.send(&Order::Quit, &[]).is_err() {
            // Its queue is full, or it is on its way out: the signal says the same.
            let _ = kill(child.pid, Number::SIGQUIT);
        }
    }

    /// After a reload: as many workers as the configuration says, if it says something new.
    pub(super) fn resize(&mut self, before: usize) {
        let target = workers_of(&self.cycle.settings);
        if self.retired || target == before {
            return;
        }
        let count = |master: &Master| master.workers.iter().filter(|seat| seat.wanted).count();
        self.missing = 0;
        while count(self) < target {
            let had = count(self);
            let Some(slot) = self.vacancy() else {
                return self.wait_for_room(target - had);
            };
            self.add_worker_at(slot);
            if count(self) == had {
                return;
            }
        }
        while count(self) > target.max(1) {
            let had = count(self);
            self.remove_worker();
            if count(self) == had {
                return;
            }
        }
    }

    /// After WINCH, a reload starts all workers again.
    pub(super) fn restore(&mut self) {
        let target = workers_of(&self.cycle.settings);
        self.log.notice("start worker processes");
        let vacant = (0..self.workers.len()).filter(|&slot| self.workers[slot].is_vacant());
        let slots: Vec<usize> = vacant.take(target).collect();
        self.wait_for_room(target - slots.len());
        self.assign(&slots);
        self.retired = slots.is_empty();
    }

    fn wait_for_room(&mut self, missing: usize) {
        self.missing = missing;
        if missing > 0 {
            let room = self.wakers.len();
            self.log.error_line(format_args!(
                "{missing} workers are started when others have ended: the region has room for {room}"
            ));
        }
    }

    /// Starts those that had to wait.
    pub(super) fn fill_up(&mut self) {
        while self.missing > 0
            && let Some(slot) = self.vacancy()
        {
            self.missing -= 1;
            self.add_worker_at(slot);
        }
    }

    /// Gives vacant places all the sets there are, one each if that can be.
    pub(super) fn assign(&mut self, slots: &[usize]) {
        while self.listening.sets() < slots.len() && !self.is_paired() {
            if let Err(message) = self.listening.grow() {
                self.log.error_line(format_args!(
                    "fewer listening sockets than workers: {message}"
                ));
                break;
            }
        }
        for (index, &slot) in slots.iter().enumerate() {
            let sets = self.listening.share_of(index, slots.len());
            let seat = &mut self.workers[slot];
            seat.sets = sets;
            seat.wanted = true;
        }
    }
}
