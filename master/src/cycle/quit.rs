//! The end: fast or graceful, and what is left behind.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal as Number, kill};

use super::workers::SHUTDOWN_MARGIN;
use super::{Master, Phase, Role, Seat};
use crate::control::Control;
use crate::errno::describe;
use crate::pidfile::PidFile;

/// What a worker may take over a fast end before it is killed, as nginx.
const FAST_BOUND: Duration = Duration::from_secs(1);
/// What the syncer may take, which writes dumps, state and log to the end: a disk may be slow.
const SYNCER_BOUND: Duration = Duration::from_secs(5);
/// How often a dying syncer is looked for when there is no loop any more.
const LOOK: Duration = Duration::from_millis(5);

impl Master {
    /// Begins the end; from then on nothing is started. A fast one overtakes a graceful one.
    pub(super) fn stop(&mut self, fast: bool, code: u8) {
        if let Phase::Stopping { fast: was_fast, .. } = self.phase
            && (was_fast || !fast)
        {
            return;
        }
        self.phase = Phase::Stopping { fast, code };
        self.deferred.clear();
        self.abandon_reload();
        for slot in 0..self.workers.len() {
            self.workers[slot].wanted = false;
            if !fast {
                self.leave(slot);
            }
        }
        self.syncer.wanted = false;
        self.listening.close();
        if fast {
            let roles: Vec<Role> = self.seats().map(|(role, _)| role).collect();
            for role in roles {
                self.terminate(role);
            }
        }
    }

    pub(super) fn terminate(&mut self, role: Role) {
        let bound = match role {
            Role::Syncer => SYNCER_BOUND,
            Role::Worker(_) => FAST_BOUND,
        };
        if let Some(child) = self.seat(role).child.as_mut() {
            child.leaving = true;
            child.kill_at = Some(Instant::now() + bound);
            let _ = kill(child.pid, Number::SIGTERM);
        }
    }

    /// The syncer stays for as long as workers finish requests. True when every child is gone.
    pub(super) fn wind_down(&mut self) -> bool {
        if self.workers.iter().any(|seat| seat.child.is_some()) {
            return false;
        }
        let Some(child) = &self.syncer.child else {
            return true;
        };
        if !child.leaving {
            self.terminate(Role::Syncer);
        }
        false
    }

    /// Ends those whose time is over.
    pub(super) fn kill_stragglers(&mut self, now: Instant) {
        let late = |(role, seat): (Role, &Seat)| {
            let kill_at = seat.child.as_ref()?.kill_at?;
            (kill_at <= now).then_some(role)
        };
        let late: Vec<Role> = self.seats().filter_map(late).collect();
        for role in late {
            let turns = self.has_turned(role);
            let timeout = self.cycle.settings.shutdown_timeout;
            let Some(child) = self.seat(role).child.as_mut() else {
                continue;
            };
            if child.silent_at.take().is_some() && turns {
                // It was only slow, and finishes what it has as any other.
                child.kill_at = timeout.map(|timeout| now + timeout + SHUTDOWN_MARGIN);
                continue;
            }
            child.kill_at = None;
            let _ = kill(child.pid, Number::SIGKILL);
        }
    }

    /// `master_process off`: ends the syncer when the worker has ended.
    pub(super) fn end_syncer_and_wait(&mut self) {
        self.stop(true, 0);
        while self.syncer.child.is_some() {
            self.reap();
            self.kill_stragglers(Instant::now());
            thread::sleep(LOOK);
        }
    }

    /// Takes away what a start had put there. The region stays, for the next start and weirctl.
    pub(super) fn finish(&mut self) {
        self.tell_manager(Instant::now());
        self.listening.close();
        self.forget_next_region();
        if let Some(pid_file) = self.pid_file.take()
            && let Err(error) = pid_file.remove()
        {
            let path = self.cycle.settings.pid.display();
            self.log.alert(format_args!(
                "unlink() \"{path}\" failed {}",
                describe(&error)
            ));
        }
        if let Some(Err(error)) = self.control.take().map(Control::remove) {
            self.log.alert(format_args!(
                "unlink() of the control socket failed {}",
                describe(&error)
            ));
        }
        self.finish_handing_over();
        self.forget_aside();
        if let Some(pid) = self.new_binary {
            self.notify.hand_over(pid);
        }
        self.log.notice("exit");
    }

    pub(super) fn write_pid_file(&mut self) -> Result<(), String> {
        let path = &self.cycle.settings.pid;
        self.pid_file = Some(PidFile::write(path, std::process::id())?);
        Ok(())
    }
}
