//! What the master orders.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use weir_worker::channel::{Answer, Channel, Order};
use weir_worker::settings::Level;

use super::super::book::FeedId;
use super::super::log::Log;
use super::super::prepare::Handed;
use super::super::tls;
use super::Hub;
use crate::settings::PrivateFile;

impl Hub {
    pub(super) fn order(&mut self, order: Order, descriptors: Vec<OwnedFd>) {
        match order {
            Order::Prepare {
                generation,
                descriptors: roles,
                more,
            } => {
                self.handed.add(roles, descriptors);
                if !more {
                    let handed = std::mem::take(&mut self.handed);
                    self.prepare(generation, handed);
                }
            }
            Order::Commit { generation } => self.commit(generation),
            Order::Abort { generation } => {
                self.handed = Handed::default();
                self.early = None;
                if self.generation() == Some(generation) {
                    self.withdraw();
                }
            }
            Order::Reopen {
                descriptors: roles,
                more,
                ..
            } => {
                self.handed.add(roles, descriptors);
                if !more {
                    let Handed { files, private, .. } = std::mem::take(&mut self.handed);
                    self.log.reopen(files);
                    let known = std::mem::take(&mut self.private);
                    self.renew(&known, private);
                    self.private = known;
                }
            }
            Order::Command { id, command } => self.command(id, command),
            Order::Adopt { .. } | Order::Help { .. } | Order::Quit => {}
        }
    }

    /// Takes in private files that were opened anew, `known` naming them, and lets those who ask with
    /// them ask anew.
    pub(super) fn renew(&self, known: &[PrivateFile], opened: Vec<(usize, File)>) {
        for (id, file) in opened {
            let Some(private) = known.get(id) else {
                continue;
            };
            match self.vault.put(private, &file) {
                Ok(true) => self.tell_renewed(&private.path),
                Ok(false) => {}
                Err(why) => self.log.log(Level::Error, format_args!("{why}")),
            }
        }
    }

    fn tell_renewed(&self, path: &Path) {
        let mut said: Vec<String> = Vec::new();
        for (id, _, upsync) in self.book.watched() {
            if !upsync.private().iter().any(|used| *used == path) {
                continue;
            }
            // Of a certificate and its key one is there before the other: what was in use stays so.
            let fits = upsync.tls.as_ref().map(|tls| tls::config(tls, &self.vault));
            if let Some(Err(why)) = fits
                && !said.contains(&why)
            {
                self.log.log(
                    Level::Warn,
                    format_args!("{why}; what was read before stays in use"),
                );
                said.push(why);
            }
            self.watches.nudge(id);
        }
    }

    /// Forgets feeds that the book has no more.
    pub(super) fn unwatch(&mut self, gone: &[FeedId]) {
        if gone.is_empty() {
            return;
        }
        for id in gone {
            if let Some(names) = &self.names {
                names.forget(*id);
            }
        }
        if let Err(error) = self.watch(FeedId::MAX) {
            self.log.log(Level::Alert, format_args!("{error}"));
        }
    }

    pub(super) fn answer(&self, answer: &Answer) {
        send_answer(&self.channel, &self.log, answer);
    }
}

pub(super) fn send_answer(channel: &Channel, log: &Log, answer: &Answer) {
    // That the master is gone is seen by the end of the channel.
    if let Err(error) = channel.send(answer, &[])
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        log.log(
            Level::Alert,
            format_args!("answer to the master failed ({error})"),
        );
    }
}
