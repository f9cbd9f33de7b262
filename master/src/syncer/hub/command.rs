//! What an operator asks: pins, a rollback, an answer to accept.

use std::thread;

use weir_shm::Table;
use weir_worker::channel::{Answer, Command, Outcome};
use weir_worker::log::Clock;

use super::super::publish::Done;
use super::super::recorder::Note;
use super::super::recorder::past::table_at;
use super::{Event, Hub};

impl Hub {
    /// Carries a command out, and answers it.
    pub(super) fn command(&mut self, id: u64, command: Command) {
        if let Command::Rollback { version } = command {
            return self.look_back(id, version);
        }
        let done = match &mut self.tables {
            None => Err("the syncer process is still starting".to_owned()),
            Some(tables) => match &command {
                Command::Pin { upstream } => tables.pin(&mut self.book, upstream.as_deref()),
                Command::Unpin { upstream } => tables.unpin(&mut self.book, upstream.as_deref()),
                Command::Accept { upstream } => tables.accept(&mut self.book, upstream),
                Command::Rollback { .. } => return,
            },
        };
        if let (Ok(done), Command::Accept { .. }) = (&done, &command) {
            // What was held came from the source.
            self.recorder.note(Note::Confirmed {
                upstreams: done.upstreams.clone(),
                at_ms: Clock::system_millis(),
            });
        }
        self.done(id, done);
    }

    /// Reads what a table was, off this thread.
    fn look_back(&mut self, id: u64, version: u64) {
        let (Some(reader), events) = (self.reader.clone(), self.events.clone()) else {
            return self.done(id, Err("the syncer process is still starting".to_owned()));
        };
        let thread = thread::Builder::new()
            .name("past".to_owned())
            .spawn(move || {
                let table = table_at(&reader, version).map(|(table, _)| table);
                let _ = events.send(Event::LookedBack(id, table));
            });
        if let Err(error) = thread {
            self.done(id, Err(format!("thread: {error}")));
        }
    }

    /// Goes back to what a table was.
    pub(super) fn roll_back(&mut self, id: u64, table: Result<Table, String>) {
        let Some(tables) = &mut self.tables else {
            return;
        };
        let done = table
            .and_then(|table| tables.rollback(&mut self.book, table.version, &table.upstreams));
        self.done(id, done);
    }

    fn done(&self, id: u64, done: Result<Done, String>) {
        let result = done.map(|Done { version, upstreams }| {
            let count = upstreams.len();
            let outcome = Outcome {
                version,
                count,
                upstreams,
                notes: Vec::new(),
            };
            outcome.bounded()
        });
        self.answer(&Answer::Done { id, result });
    }
}
