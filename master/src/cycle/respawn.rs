//! Children are born and die: fork, reap, and start again.

use std::rc::Rc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use weir_worker::channel::Channel;
use weir_worker::settings::Level;

use super::{Master, Role};
use crate::errno::{describe, describe_errno};
use crate::process::{self, Fork};

impl Master {
    /// A place that is to be filled now.
    pub(super) fn due(&self, now: Instant) -> Option<Role> {
        let due = self.seats().find(|(_, seat)| seat.is_due(now));
        due.map(|(role, _)| role)
    }

    /// Starts a child at its place. In the child: its end of the channel.
    pub(super) fn fork(&mut self, role: Role) -> Option<Channel> {
        let (ours, theirs) = match Channel::pair() {
            Ok(pair) => pair,
            Err(error) => {
                self.missed(role, "socketpair()", &describe(&error));
                return None;
            }
        };
        if let Err(error) = ours.set_nonblocking(true) {
            self.missed(role, "ioctl(FIONBIO)", &describe(&error));
            return None;
        }
        match process::fork() {
            Ok(Fork::Child) => Some(theirs),
            Ok(Fork::Parent(pid)) => {
                let (form, logs) = (self.form, Rc::clone(&self.cycle.logs));
                self.seat(role).fill(pid, ours, form, logs, Instant::now());
                let name = role.name();
                self.log.notice(format_args!("start {name} {pid}"));
                if role == Role::Syncer {
                    self.cycle.first = None;
                }
                self.born_in_reload(role, pid);
                None
            }
            Err(error) => {
                self.missed(role, "fork()", &describe_errno(error));
                None
            }
        }
    }

    fn missed(&mut self, role: Role, call: &str, error: &str) {
        let pause = self.seat(role).missed(Instant::now()).as_millis();
        let name = role.name();
        self.log.alert(format_args!(
            "{call} failed while spawning \"{name}\" {error}, next try in {pause} ms"
        ));
    }

    /// Takes leave of every child that has died.
    pub(super) fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.died(pid, Level::Notice, &format!("exited with code {code}"));
                }
                Ok(WaitStatus::Signaled(pid, signal, dumped)) => {
                    let core = if dumped { " (core dumped)" } else { "" };
                    let how = format!("exited on signal {}{core}", signal as i32);
                    self.died(pid, Level::Alert, &how);
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn died(&mut self, pid: Pid, level: Level, how: &str) {
        let role = self
            .seats()
            .find(|(_, seat)| seat.child.as_ref().is_some_and(|child| child.pid == pid))
            .map(|(role, _)| role);
        if self.new_binary == Some(pid) {
            return self.lose_new_binary(pid, how);
        }
        // As process 1 of a container: some other's orphan.
        let Some(role) = role else { return };
        self.hear(role);
        let name = role.name();
        self.log.line(level, format_args!("{name} {pid} {how}"));
        if let Role::Worker(slot) = role {
            self.fold(slot);
        }
        let pause = self.seat(role).clear(Instant::now());
        if self.seat(role).wanted && !pause.is_zero() {
            let pause = pause.as_millis();
            self.log
                .error_line(format_args!("{name} keeps dying, next start in {pause} ms"));
        }
        self.start_lost(role, &format!("{name} {pid} {how} before it was ready"));
        self.lost_in_reload(role, pid);
        if let (Role::Syncer, Some(control)) = (role, &mut self.control) {
            control.lose_syncer();
        }
    }
}
