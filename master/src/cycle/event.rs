//! One turn of the loop: wait for signals, channels and timers, and act on them.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal as Number, kill};
use weir_worker::channel::{Answer, Order};
use weir_worker::settings::Level;

use super::handing::Handing;
use super::upgrade::Old;
use super::{Deferred, Master, Phase, Role, Turn};
use crate::control::{Asked, Control};
use crate::daemon;
use crate::errno::{describe, describe_errno};
use crate::signal::Received;

/// What the workers of a start may take to be ready.
const WORKERS_BOUND: Duration = Duration::from_secs(10);
/// Signals that wait for a start or a reload to end; more are lost, as the kernel loses those that
/// come twice.
const DEFERRED_MAX: usize = 256;

impl Master {
    pub(super) fn turn(&mut self) -> Turn {
        for role in self.wait() {
            self.hear(role);
        }
        while let Some(received) = self.signals.next() {
            self.signal(received);
        }
        self.reap();
        let now = Instant::now();
        self.serve_control(now);
        self.kill_stragglers(now);
        self.tick_reload(now);
        self.renew_private(now);
        self.watch_workers(now);
        self.replace_obsolete();
        self.follow_old(now);
        self.hand_over(now);
        let turn = self.tick(now);
        self.arrange_help(now);
        self.tell_manager(now);
        turn
    }

    /// Waits for something to do; the roles whose channels have something to say.
    fn wait(&mut self) -> Vec<Role> {
        let timeout = self.next_timer().map_or(PollTimeout::NONE, |timer| {
            let left = timer.saturating_duration_since(Instant::now());
            // A part of a millisecond is a whole one, or the loop would spin through it.
            let millis = left.as_millis() + u128::from(left.subsec_nanos() % 1_000_000 != 0);
            PollTimeout::try_from(millis.min(i32::MAX as u128) as i32).unwrap_or(PollTimeout::MAX)
        });
        let mut roles = Vec::new();
        let mut all = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        for (role, seat) in self.seats() {
            if let Some(child) = seat.child.as_ref().filter(|child| child.open) {
                roles.push(role);
                all.push(PollFd::new(child.channel.as_fd(), PollFlags::POLLIN));
            }
        }
        let interests = self.control.iter().flat_map(Control::interests);
        all.extend(interests.map(|(socket, flags)| PollFd::new(socket, flags)));
        match poll(&mut all, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Vec::new(),
            Err(error) => {
                self.log
                    .alert(format_args!("poll() failed {}", describe_errno(error)));
                return Vec::new();
            }
        }
        let ready = all[1..].iter().map(|each| each.any().unwrap_or(true));
        roles
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|(role, _)| role)
            .collect()
    }

    fn next_timer(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Syncer { until } | Phase::Workers { until } => Some(until),
            // Nothing would wake a master that has nobody left to wait for.
            Phase::Stopping { .. } if self.seats().all(|(_, seat)| seat.child.is_none()) => {
                Some(Instant::now())
            }
            Phase::Running | Phase::Stopping { .. } => None,
        };
        let reload = self.reload.as_ref().map(|reload| reload.until);
        let seats = self.seats().flat_map(|(_, seat)| {
            let kill_at = seat.child.as_ref().and_then(|child| child.kill_at);
            let help_at = seat.child.as_ref().and_then(|child| child.help_at);
            [seat.due(), kill_at, help_at]
        });
        let private = self.cycle.private.due();
        let control = self.control.as_ref().and_then(Control::next_timer);
        let watchdog = self.watchdog.due();
        let old = self.old.as_ref().map(Old::due);
        let handing = self.handing.as_ref().map(Handing::due);
        let own = [
            phase,
            reload,
            private,
            control,
            watchdog,
            self.notify.due(),
            old,
            handing,
        ];
        seats.chain(own).flatten().min()
    }

    /// Takes everything that a child has said.
    pub(super) fn hear(&mut self, role: Role) {
        while let Some(child) = self.seat(role).child.as_mut().filter(|child| child.open) {
            let pid = child.pid;
            match child.channel.recv::<Answer>() {
                Ok(Some((answer, _))) => self.answer(role, answer),
                Ok(None) => child.open = false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    child.open = false;
                    // What it said is lost, so nobody knows any more what it does.
                    let _ = kill(pid, Number::SIGKILL);
                    let (name, error) = (role.name(), describe(&error));
                    self.log
                        .alert(format_args!("channel of {name} {pid} failed {error}"));
                }
            }
        }
    }

    fn answer(&mut self, role: Role, answer: Answer) {
        let Some(child) = self.seat(role).child.as_mut() else {
            return;
        };
        let pid = child.pid;
        match answer {
            Answer::Ready => {
                child.ready = true;
                if let Role::Worker(_) = role {
                    self.ready_in_reload(role, pid);
                }
            }
            // Once is enough, however many of its layers say so.
            Answer::Failed { .. } if std::mem::replace(&mut child.failed, true) => {}
            Answer::Failed { message } => match (self.phase, role) {
                (Phase::Syncer { .. }, Role::Syncer) => self.fail_start(&message),
                _ => {
                    let name = role.name();
                    self.log
                        .alert(format_args!("{name} {pid} failed: {message}"));
                }
            },
            Answer::Prepared { generation } => self.prepared(pid, generation),
            Answer::Refused {
                generation,
                message,
            } => {
                self.refused_by(role, pid, generation, &message);
            }
            Answer::Unread { order, message } => {
                self.unread(role, pid, order.as_ref(), &message);
            }
            Answer::Committed { generation } => self.committed(role, pid, generation),
            Answer::Leaving if child.leaving => {}
            Answer::Leaving => {
                child.quits = true;
                self.give_up(role);
            }
            Answer::Done { id, result } => {
                if let Some(control) = &mut self.control {
                    control.answer(id, result);
                }
            }
        }
    }

    /// Passes what clients ask on to the syncer.
    fn serve_control(&mut self, now: Instant) {
        let Some(control) = &mut self.control else {
            return;
        };
        loop {
            let all = control.turn(now);
            if all.is_empty() {
                return;
            }
            for Asked { id, command } in all {
                let sent = match self.syncer.staying() {
                    Some(syncer) => {
                        let sent = syncer.channel.send(&Order::Command { id, command }, &[]);
                        sent.map_err(|error| {
                            format!("the syncer does not hear {}", describe(&error))
                        })
                    }
                    None => Err("there is no syncer process at the moment".to_owned()),
                };
                if let Err(message) = sent {
                    control.answer(id, Err(message));
                }
            }
            // Once more, as an answer from here goes out with the next turn; others may ask in it.
        }
    }

    fn signal(&mut self, received: Received) {
        use nix::sys::signal::Signal::*;
        let action = match received.number {
            SIGTERM | SIGINT => ", exiting",
            SIGQUIT => ", shutting down",
            SIGHUP => ", reconfiguring",
            SIGUSR1 => ", reopening logs",
            SIGWINCH if received.is_kernels => return,
            SIGWINCH => ", stop accepting connections",
            SIGTTIN => ", adding a worker",
            SIGTTOU => ", retiring a worker",
            SIGUSR2 if self.is_paired() => ", ignoring",
            SIGUSR2 => ", changing binary",
            _ => "",
        };
        let (number, name) = (received.number as i32, received.number.as_str());
        let from = received
            .sender
            .map_or(String::new(), |pid| format!(" from {pid}"));
        self.log.line(
            Level::Notice,
            format_args!("signal {number} ({name}) received{from}{action}"),
        );
        match received.number {
            SIGTERM | SIGINT => self.stop(true, 0),
            SIGQUIT => self.stop(false, 0),
            SIGHUP => self.defer(Deferred::Reload),
            SIGUSR1 => self.defer(Deferred::Reopen),
            SIGWINCH => self.defer(Deferred::Retire),
            SIGTTIN => self.defer_each(Deferred::Add),
            SIGTTOU => self.defer_each(Deferred::Remove),
            SIGUSR2 => self.defer(Deferred::Upgrade),
            _ => {}
        }
    }

    /// Once is enough for what is told twice before it is done, unless something else comes
    /// between: after HUP and WINCH, another HUP starts workers again.
    fn defer(&mut self, what: Deferred) {
        if self.deferred.back() != Some(&what) {
            self.defer_each(what);
        }
    }

    fn defer_each(&mut self, what: Deferred) {
        if self.deferred.len() < DEFERRED_MAX {
            self.deferred.push_back(what);
        }
    }

    fn tick(&mut self, now: Instant) -> Turn {
        match self.phase {
            Phase::Syncer { until } => {
                let ready = self.syncer.child.as_ref().is_some_and(|child| child.ready);
                if !ready && now >= until {
                    self.log
                        .alert("syncer process has not said that it is ready, going on");
                }
                if ready || now >= until {
                    return self.open_doors(now);
                }
            }
            Phase::Workers { until } => {
                let wanted = self.workers.iter().filter(|seat| seat.wanted);
                let mut wanted = wanted.map(|seat| seat.child.as_ref());
                if wanted.all(|child| child.is_some_and(|child| child.ready)) {
                    self.serve();
                    // Nothing else may come that would wake the master for these.
                    self.do_deferred();
                } else if now >= until {
                    self.fail_start("worker processes were not ready in time");
                }
            }
            // One that starts again at once is there in the next turn, and need not refuse a reload.
            Phase::Running if self.due(now).is_some() || self.syncer_changes() => {}
            Phase::Running => self.do_deferred(),
            Phase::Stopping { code, .. } => {
                if self.wind_down() {
                    self.finish();
                    return Turn::End(code);
                }
            }
        }
        Turn::On
    }

    /// The table is as good as it gets: connections may come now.
    fn open_doors(&mut self, now: Instant) -> Turn {
        match self.listening.listen() {
            Ok(ignored) => ignored.iter().for_each(|line| self.log.alert(line)),
            Err(message) => {
                self.fail_start(&message);
                return Turn::On;
            }
        }
        self.log.notice("start worker processes");
        if !self.cycle.settings.master_process {
            self.serve();
            return match self.phase {
                Phase::Running => Turn::Worker,
                _ => Turn::On,
            };
        }
        let count = self.cycle.settings.worker_processes.min(self.workers.len());
        self.assign(&(0..count).collect::<Vec<usize>>());
        self.phase = Phase::Workers {
            until: now + WORKERS_BOUND,
        };
        Turn::On
    }

    fn serve(&mut self) {
        if let Err(message) = self.write_pid_file() {
            self.fail_start(&message);
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let redirect = match self.old.is_some() && self.cycle.settings.daemon {
            true => daemon::redirect(self.error_log_file()),
            false => waiting.release(self.error_log_file()),
        };
        if let Err(error) = redirect {
            self.log
                .alert(format_args!("dup2() failed {}", describe(&error)));
        }
        self.log.started();
        self.phase = Phase::Running;
    }

    fn do_deferred(&mut self) {
        while self.phase == Phase::Running && self.reload.is_none() {
            match self.deferred.pop_front() {
                None => return,
                Some(Deferred::Reload) if self.new_binary.is_some() => self.go_back(),
                Some(Deferred::Reload) => self.reconfigure(),
                Some(Deferred::Reopen) => self.reopen(),
                Some(Deferred::Add) => self.add_worker(),
                Some(Deferred::Remove) => self.remove_worker(),
                Some(Deferred::Retire) => self.retire_all(),
                Some(Deferred::Upgrade) => self.change_binary(),
                Some(Deferred::Restore) if self.retired => self.restore(),
                Some(Deferred::Restore) => {}
                Some(Deferred::Spread) => self.spread(),
            }
        }
    }

    fn fail_start(&mut self, message: &str) {
        self.log.emerg(message);
        self.trouble = Some(message.to_owned());
        self.stop(true, 1);
    }

    /// A child that was waited for died before it was ready.
    pub(super) fn start_lost(&mut self, role: Role, message: &str) {
        match (self.phase, role) {
            (Phase::Syncer { .. }, Role::Syncer) | (Phase::Workers { .. }, Role::Worker(_)) => {
                self.fail_start(message);
            }
            _ => {}
        }
    }
}
