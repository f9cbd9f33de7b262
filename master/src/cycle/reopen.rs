//! Files opened anew: logs by USR1, private files that have changed.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use weir_worker::channel::{Order, Role as Passed};
use weir_worker::settings::Level;

use super::{Cycle, Master};
use crate::errno::describe;
use crate::log::Log;
use crate::{daemon, orders, resources};

impl Master {
    /// USR1.
    pub(super) fn reopen(&mut self) {
        self.log.notice("reopening logs");
        let opened = resources::open(&self.cycle.settings.resources).and_then(|files| {
            let log = Log::open(&self.cycle.settings, &files, false);
            let log = log.map_err(|error| format!("dup() failed {}", describe(&error)))?;
            Ok((files, log))
        });
        let (files, log) = match opened {
            Ok(opened) => opened,
            Err(message) => return self.log.emerg(message),
        };
        self.cycle.files = files;
        self.put_log_in_force(log);
        let files = self.cycle.files.iter().enumerate();
        let passed: Vec<_> = files
            .map(|(id, file)| (Passed::Resource(id), file.as_fd()))
            .collect();
        let order = |descriptors, more| Order::Reopen { descriptors, more };
        // Those that were told to go still log what they finish.
        for (role, child) in self
            .seats()
            .filter_map(|(role, seat)| Some((role, seat.hearing()?)))
        {
            // One on its way out may be gone by now, which is no fault.
            if let Err(error) = orders::send(&child.channel, &passed, order)
                && !child.leaving
            {
                let (name, pid, error) = (role.name(), child.pid, describe(&error));
                self.log
                    .alert(format_args!("sendmsg() to {name} {pid} failed {error}"));
            }
        }
    }

    /// Hands private files that have changed to the syncer.
    pub(super) fn renew_private(&mut self, now: Instant) {
        let Cycle {
            private, settings, ..
        } = &mut self.cycle;
        let (changed, errors) = private.look(now, &settings.private);
        for error in errors {
            self.log.line(Level::Error, format_args!("{error}"));
        }
        let Some(syncer) = self.syncer.staying().filter(|_| !changed.is_empty()) else {
            return;
        };
        let files = self.cycle.private.files().enumerate();
        let passed: Vec<_> = files
            .filter(|(id, _)| changed.contains(id))
            .map(|(id, file)| (Passed::Private(id), file.as_fd()))
            .collect();
        let order = |descriptors, more| Order::Reopen { descriptors, more };
        if let Err(error) = orders::send(&syncer.channel, &passed, order) {
            let (pid, error) = (syncer.pid, describe(&error));
            self.log.alert(format_args!(
                "sendmsg() to syncer process {pid} failed {error}"
            ));
        }
    }

    pub(super) fn put_log_in_force(&mut self, log: Log) {
        self.log = log;
        weir_worker::log::panics_to(Some(self.log.error()));
        if self.cycle.settings.daemon
            && let Err(error) = daemon::redirect(self.error_log_file())
        {
            self.log
                .alert(format_args!("dup2() failed {}", describe(&error)));
        }
    }

    /// Where a daemon's standard error goes; nowhere if that is where the log goes.
    pub(super) fn error_log_file(&self) -> Option<&File> {
        let target = self.cycle.settings.error_logs.first()?;
        let file = self.cycle.files.get(target.resource)?;
        (!self.log.is_stderr()).then_some(file)
    }
}
