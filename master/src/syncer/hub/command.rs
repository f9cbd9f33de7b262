//! What an operator asks: pins, a rollback, an answer to accept.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use weir_shm::Table;
use weir_worker::channel::{Answer, Command, Outcome};
use weir_worker::log::Clock;

use super::super::publish::Done;
use super::super::recorder::Note;
use super::super::recorder::past::table_at;
use super::orders::send_answer;
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
        let notes = done.as_ref().map(|done| self.notes(&command, done));
        let notes = notes.unwrap_or_default();
        self.done(id, done, notes);
    }

    /// What a command left as it is, and why.
    fn notes(&self, command: &Command, done: &Done) -> Vec<String> {
        let note = match command {
            Command::Pin {
                upstream: Some(name),
            } if done.upstreams.is_empty() => format!("upstream \"{name}\" is pinned already"),
            Command::Accept { upstream: name } if self.book.pins().contains_key(name) => format!(
                "upstream \"{name}\" is pinned: what was accepted is in force when it is not any more"
            ),
            _ => return Vec::new(),
        };
        vec![note]
    }

    /// Reads what a table was, off this thread.
    fn look_back(&mut self, id: u64, version: u64) {
        let (Some(reader), events) = (self.reader.clone(), self.events.clone()) else {
            let starting = "the syncer process is still starting".to_owned();
            return self.done(id, Err(starting), Vec::new());
        };
        let thread = thread::Builder::new()
            .name("past".to_owned())
            .spawn(move || {
                let table = table_at(&reader, version).map(|(table, _)| table);
                let _ = events.send(Event::LookedBack(id, table));
            });
        if let Err(error) = thread {
            self.done(id, Err(format!("thread: {error}")), Vec::new());
        }
    }

    /// Goes back to what a table was.
    pub(super) fn roll_back(&mut self, id: u64, table: Result<Table, String>) {
        let Some(tables) = &mut self.tables else {
            return;
        };
        let done = table
            .and_then(|table| tables.rollback(&mut self.book, table.version, &table.upstreams));
        let back = done.as_ref().map(|done| done.upstreams.as_slice());
        let back: HashSet<&String> = back.unwrap_or_default().iter().collect();
        let left = self
            .book
            .fed_names()
            .filter(|name| !back.contains(&(*name).to_owned()));
        let notes = left.map(|name| format!("upstream \"{name}\" was not there then and stays"));
        let notes = notes.collect();
        self.done(id, done, notes);
    }

    /// Answers once whoever looks at the region sees what was done.
    fn done(&self, id: u64, done: Result<Done, String>, notes: Vec<String>) {
        let result = done.map(|Done { version, upstreams }| {
            let count = upstreams.len();
            let outcome = Outcome {
                version,
                count,
                upstreams,
                notes,
            };
            outcome.bounded()
        });
        let (channel, log) = (Arc::clone(&self.channel), self.log.clone());
        let answer = Answer::Done { id, result };
        self.recorder
            .after(move || send_answer(&channel, &log, &answer));
    }
}
