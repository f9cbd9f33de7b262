//! A request that lasts: etcd answers it bit by bit, when something changes.

use std::time::Instant;

use super::super::client::{Fault, Piece, Stream};
use super::super::consul;
use super::etcd::{self, Bell, Sound};
use super::{Poller, Then};
use crate::settings::Upsync;

/// A bell that etcd may ring.
#[derive(Debug)]
pub struct Hung {
    /// The address that it is at.
    at: usize,
    /// The index after which every change rings it.
    since: u64,
    stream: Stream,
    bell: Bell,
    /// It has not rung when it was last waited for.
    pub is_quiet: bool,
}

impl Poller {
    /// Waits until etcd tells of a change after `index`, or until then. Whatever else comes between
    /// is no fault of its own: what is read next shows what there is.
    pub(super) fn listen(
        &mut self,
        upsync: &Upsync,
        index: u64,
        until: Instant,
    ) -> Result<(), Fault> {
        let hung = self.bell.take();
        if index == 0 {
            return Ok(());
        }
        let fits = |hung: &Hung| hung.at == self.at && hung.since <= index;
        let hung = match hung.filter(fits) {
            Some(hung) => Ok(hung),
            None => self.hang(upsync, index),
        };
        match hung.and_then(|mut hung| Ok((hung.wait(index, until)?, hung))) {
            Ok((true, hung)) => self.bell = Some(hung),
            Ok((false, _)) => {}
            Err(fault @ (Fault::Stopped | Fault::Nudged)) => return Err(fault),
            Err(fault) => self.pass(fault, Then::Read),
        }
        Ok(())
    }

    fn hang(&mut self, upsync: &Upsync, index: u64) -> Result<Hung, Fault> {
        let deadlines = consul::deadlines(consul::WAIT_MIN, self.upsync.timeout);
        let token = self.token()?;
        let line = &mut self.lines[self.at];
        line.renew(&self.upsync, &self.vault)?;
        let host = line.client.address().host();
        let request = etcd::watch(upsync, index, host, token.as_ref());
        let tls = line.tls.as_ref().map(|(_, tls)| tls);
        Ok(Hung {
            at: self.at,
            since: index,
            stream: line.client.stream(&request, deadlines, tls)?,
            bell: Bell::new(upsync.kind),
            is_quiet: false,
        })
    }
}

impl Hung {
    /// Waits until it rings for a change after `index`, or until then; whether it can ring again.
    fn wait(&mut self, index: u64, until: Instant) -> Result<bool, Fault> {
        self.is_quiet = false;
        loop {
            match self.stream.next(until)? {
                Piece::Nothing => {
                    self.is_quiet = true;
                    return Ok(true);
                }
                Piece::Body(piece) => match self.bell.hears(&piece, index) {
                    Sound::Quiet => {}
                    Sound::Rings => return Ok(true),
                    Sound::Breaks => return Ok(false),
                },
                Piece::End(response) => {
                    self.bell.ended(&response)?;
                    return Ok(false);
                }
            }
        }
    }
}
