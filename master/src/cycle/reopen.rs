//! Files opened anew: logs by USR1, private files that have changed.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Instant;

use weir_worker::channel::{Order, Role as Passed};
use weir_worker::settings::Level;

use super::{Cycle, Master};
use crate::errno::describe;
use crate::log::Log;
use crate::settings::Resource;
use crate::{daemon, orders, resources};

/// The logs of a configuration, as processes that have it know them.
#[derive(Debug)]
pub(crate) struct Logs {
    pub(crate) generation: u64,
    /// By number.
    pub(crate) resources: Vec<Resource>,
}

/// The logs of such a configuration, opened anew, with their numbers.
type Opened = (Rc<Logs>, Vec<(usize, File)>);

fn resource(id: usize, file: &File) -> (Passed, BorrowedFd<'_>) {
    (Passed::Resource(id), file.as_fd())
}

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
        let former = self.open_former();
        // Those that were told to go still log what they finish.
        for (role, child) in self
            .seats()
            .filter_map(|(role, seat)| Some((role, seat.hearing()?)))
        {
            let former = former
                .iter()
                .find(|(logs, _)| Rc::ptr_eq(logs, &child.logs));
            let passed: Vec<_> = match former {
                Some((_, files)) => files.iter().map(|(id, file)| resource(*id, file)).collect(),
                None => {
                    let files = self.cycle.files.iter().enumerate();
                    files.map(|(id, file)| resource(id, file)).collect()
                }
            };
            let generation = child.logs.generation;
            let order = |descriptors, more| Order::Reopen {
                generation,
                descriptors,
                more,
            };
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

    /// The logs of children that have another configuration than the one in force, by their numbers
    /// there.
    fn open_former(&self) -> Vec<Opened> {
        let mut former: Vec<Opened> = Vec::new();
        for (_, seat) in self.seats() {
            let Some(child) = seat.hearing() else {
                continue;
            };
            let logs = &child.logs;
            let is = |known: &Rc<Logs>| Rc::ptr_eq(known, logs);
            if is(&self.cycle.logs) || former.iter().any(|(known, _)| is(known)) {
                continue;
            }
            let mut files = Vec::new();
            for (id, resource) in logs.resources.iter().enumerate() {
                match resources::open_one(resource) {
                    Ok(file) => files.push((id, file)),
                    Err(message) => self.log.emerg(message),
                }
            }
            former.push((Rc::clone(logs), files));
        }
        former
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
        let generation = self.cycle.generation;
        let order = |descriptors, more| Order::Reopen {
            generation,
            descriptors,
            more,
        };
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
