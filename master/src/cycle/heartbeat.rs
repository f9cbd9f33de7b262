//! `worker_watchdog`: a worker that works but has not turned its loop for that long is ended, and
//! its successor serves what waits at its sockets.
//!
//! It is looked at several times within the time, and ended when that many looks in a row have seen
//! the same heartbeat: after a pause of the whole machine there is but one such look.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal as Number, kill};
use weir_shm::WorkerState;

use super::Master;

/// Looks within the time that a turn of the loop may take.
const LOOKS: u32 = 4;
/// What a worker may take over the end by SIGABRT, which leaves a core file, before SIGKILL.
const ABORT_BOUND: Duration = Duration::from_secs(1);

/// What the last looks have seen.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    due: Option<Instant>,
    /// By worker slot.
    seen: Vec<Seen>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    pid: u32,
    heartbeat_ms: u64,
    /// How often the same was seen again.
    again: u32,
}

impl Seen {
    /// One look at a worker that works; whether it is stuck.
    fn look(&mut self, pid: u32, heartbeat_ms: u64) -> bool {
        if (self.pid, self.heartbeat_ms) != (pid, heartbeat_ms) {
            *self = Seen {
                pid,
                heartbeat_ms,
                again: 0,
            };
            return false;
        }
        self.again += 1;
        // Told once.
        self.again == LOOKS
    }
}

impl Watchdog {
    /// The next look.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Master {
    /// Looks at the workers when it is time.
    pub(super) fn watch_workers(&mut self, now: Instant) {
        let Some(time) = self.cycle.settings.watchdog else {
            self.watchdog = Watchdog::default();
            return;
        };
        if self.watchdog.due.is_some_and(|due| now < due) {
            return;
        }
        self.watchdog.due = Some(now + time / LOOKS);
        self.watchdog
            .seen
            .resize_with(self.workers.len(), Seen::default);
        for slot in 0..self.workers.len() {
            if let Some(pid) = self.workers[slot].pid()
                && self.is_stuck(slot, pid)
            {
                self.abort_worker(slot, time);
            }
        }
    }

    fn is_stuck(&mut self, slot: usize, pid: u32) -> bool {
        let row = self.region.worker_row(slot as u32);
        let row = row.filter(|row| row.pid == pid && row.state == WorkerState::Running);
        let seen = &mut self.watchdog.seen[slot];
        match row {
            Some(row) => seen.look(pid, row.heartbeat_ms),
            // One that waits for events has nothing to do.
            None => {
                *seen = Seen::default();
                false
            }
        }
    }

    fn abort_worker(&mut self, slot: usize, time: Duration) {
        let Some(child) = self.workers[slot].child.as_mut() else {
            return;
        };
        let (pid, millis) = (child.pid, time.as_millis());
        child.kill_at = Some(Instant::now() + ABORT_BOUND);
        child.silent_at = None;
        let _ = kill(pid, Number::SIGABRT);
        self.log.alert(format_args!(
            "worker process {pid} has not turned its loop for {millis} ms (\"worker_watchdog\"), it is ended"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_heartbeat_at_all_looks_is_stuck_and_told_once() {
        let mut seen = Seen::default();
        assert!(!seen.look(7, 100));
        let stuck: Vec<bool> = (0..LOOKS + 2).map(|_| seen.look(7, 100)).collect();
        assert_eq!(stuck, [false, false, false, true, false, false]);
        assert!(!seen.look(7, 101), "it has turned");
        assert!((1..LOOKS).all(|_| !seen.look(7, 101)));
        assert!(!seen.look(8, 101), "another process");
        assert!((1..LOOKS).all(|_| !seen.look(8, 101)));
        assert!(seen.look(8, 101));
    }
}
