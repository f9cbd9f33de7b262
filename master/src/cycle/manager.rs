//! What the service manager hears of the master's life.

use std::time::Instant;

use super::{Master, Phase};
use crate::notify::Told;

impl Master {
    /// At the end of each turn: tells what has changed since the last one, and that the service
    /// lives.
    pub(super) fn tell_manager(&mut self, now: Instant) {
        if !self.notify.is_heard() {
            return;
        }
        let status = self.status();
        match (self.phase, self.notify.told()) {
            // The service goes on in the new binary.
            (Phase::Stopping { .. }, _) if self.new_binary.is_some() => {}
            (Phase::Stopping { .. }, told) if told != Told::Stopping => {
                self.notify.stopping(&status);
            }
            (Phase::Running, Told::Nothing | Told::Reloading) if self.reload.is_none() => {
                // The process that was started has left this one behind in its place.
                let main = self.cycle.settings.daemon.then(std::process::id);
                self.notify.ready(&status, main);
            }
            _ => self.notify.status(&status),
        }
        let can_vouch = self.can_vouch();
        if self.notify.beat(now, can_vouch) {
            self.log.alert(
                "no worker process is ready, the service manager's watchdog is not told that weir lives",
            );
        }
    }

    /// A reload begins.
    pub(super) fn tell_reloading(&mut self) {
        let status = self.status();
        self.notify.reloading(&status);
    }

    /// That this is asked shows that the loop turns. What it is there for is that a worker serves:
    /// with none for as long as the watchdog waits, a start from the beginning may help.
    fn can_vouch(&self) -> bool {
        let serves = || {
            let mut children = self.workers.iter().filter_map(|seat| seat.staying());
            children.any(|child| child.ready)
        };
        // Without a process of its own the master is the worker.
        let is_alone = !self.cycle.settings.master_process;
        self.phase != Phase::Running || self.retired || is_alone || serves()
    }

    fn status(&self) -> String {
        let generation = self.cycle.generation;
        let workers = match self.workers.iter().filter(|seat| seat.wanted).count() {
            1 => "1 worker".to_owned(),
            count => format!("{count} workers"),
        };
        let state = match self.phase {
            Phase::Syncer { .. } | Phase::Workers { .. } => "starting".to_owned(),
            Phase::Running => format!("serving, config generation {generation}, {workers}"),
            Phase::Stopping { fast: true, .. } => "stopping".to_owned(),
            Phase::Stopping { .. } => "finishing the requests in flight".to_owned(),
        };
        match &self.trouble {
            None => state,
            Some(trouble) => format!("{state}; {trouble}"),
        }
    }
}
