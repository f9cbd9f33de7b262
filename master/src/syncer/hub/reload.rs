//! A reload in the hub: prepare beside what is in force, then commit or withdraw.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use weir_worker::channel::Answer;
use weir_worker::settings::Level;

use super::super::prepare::{self, Handed, Plan};
use super::super::recorder::Note;
use super::super::recorder::history::Cause;
use super::{Event, Hub, Phase};

impl Hub {
    /// The generation that is on its way.
    pub(super) fn generation(&self) -> Option<u64> {
        match &self.phase {
            Phase::Planning { generation }
            | Phase::Preparing { generation, .. }
            | Phase::Prepared { generation, .. } => Some(*generation),
            _ => None,
        }
    }

    pub(super) fn prepare(&mut self, generation: u64, handed: Handed) {
        if matches!(self.phase, Phase::Locked | Phase::Starting { .. }) {
            self.early = Some((generation, handed));
            return;
        }
        if !matches!(self.phase, Phase::Running) {
            let message = "the syncer is not ready for another configuration".to_owned();
            return self.answer(&Answer::Refused {
                generation,
                message,
            });
        }
        self.phase = Phase::Planning { generation };
        let (events, build) = (self.events.clone(), self.build);
        let thread = thread::Builder::new()
            .name("prepare".to_owned())
            .spawn(move || {
                let plan = prepare::plan(handed, build).map(Box::new);
                let _ = events.send(Event::Planned(generation, plan));
            });
        if let Err(error) = thread {
            self.refuse(generation, format!("thread: {error}"));
        }
    }

    pub(super) fn planned(&mut self, generation: u64, plan: Result<Box<Plan>, String>) {
        if !matches!(self.phase, Phase::Planning { generation: now } if now == generation) {
            return;
        }
        match plan.and_then(|plan| self.take_in(generation, plan)) {
            Ok(()) => {}
            Err(message) => self.refuse(generation, message),
        }
    }

    /// Publishes the old and the new upstreams together and starts the new watches.
    fn take_in(&mut self, generation: u64, mut plan: Box<Plan>) -> Result<(), String> {
        for why in &plan.bad_dumps {
            self.log
                .log(Level::Warn, format_args!("dump is not used: {why}"));
        }
        let private = std::mem::take(&mut plan.private);
        self.renew(&plan.settings.private, private);
        let resolved = std::mem::take(&mut plan.resolved);
        let new = self.book.prepare(&plan.settings, resolved, &plan.dumped);
        if let Some(tables) = &mut self.tables {
            tables
                .publish(&self.book, Cause::Reload)
                .map_err(|error| error.to_string())?;
        }
        if let Some(first_new) = new.first() {
            self.watch(*first_new)?;
        }
        let deadline = Instant::now() + plan.settings.start_timeout;
        self.phase = Phase::Preparing {
            generation,
            deadline,
            new,
            plan,
        };
        Ok(())
    }

    pub(super) fn commit(&mut self, generation: u64) {
        let phase = std::mem::replace(&mut self.phase, Phase::Running);
        let plan = match phase {
            Phase::Prepared {
                generation: prepared,
                plan,
            } if prepared == generation => plan,
            other => {
                self.phase = other;
                let message = "this configuration was not prepared".to_owned();
                return self.answer(&Answer::Refused {
                    generation,
                    message,
                });
            }
        };
        let pinned: Vec<String> = self.book.pins().keys().cloned().collect();
        let (gone, dumps) = self.book.commit();
        self.log
            .exchange(plan.files, Arc::clone(&plan.settings.error_logs));
        let pins = self.book.pins();
        for upstream in pinned.into_iter().filter(|name| !pins.contains_key(name)) {
            let pin = None;
            self.recorder.note(Note::Pinned { upstream, pin });
        }
        self.configured(&plan.settings);
        if let Some(tables) = &mut self.tables {
            tables.publish_or_retry(&self.book, Cause::Reload);
            tables.release(&mut self.book);
            tables.dump(dumps);
        }
        self.unwatch(&gone);
        for finder in self.book.heirs() {
            self.watches.restart(finder);
        }
        self.private = plan.settings.private;
        self.answer(&Answer::Committed { generation });
    }

    pub(super) fn refuse(&mut self, generation: u64, message: String) {
        self.withdraw();
        self.answer(&Answer::Refused {
            generation,
            message,
        });
    }

    /// Everything as it was before the order to prepare.
    pub(super) fn withdraw(&mut self) {
        self.phase = Phase::Running;
        let gone = self.book.abort();
        self.unwatch(&gone);
        if let Some(tables) = &mut self.tables {
            tables.publish_or_retry(&self.book, Cause::Reload);
        }
    }
}
