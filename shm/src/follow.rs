//! What workers of one run go on to count is added to what another run has counted, while both last.

use std::collections::HashMap;

use crate::carry::{Identity, identified};
use crate::counters::Counts;
use crate::error::ReadError;
use crate::reader::Reader;
use crate::region::Region;
use crate::scoreboard::Status;
use crate::table::CounterId;

/// What the workers of a run have counted, dead ones included, in terms of no region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// For each server of its table.
    pub servers: HashMap<Identity, Counts>,
    /// For all together.
    pub status: Status,
}

impl Reader {
    /// What has been counted by now.
    ///
    /// # Errors
    /// The region cannot be read.
    pub fn tally(&self) -> Result<Tally, ReadError> {
        let table = self.table()?;
        let status = self.status()?;
        let rows = self.counters(&table)?.into_iter();
        let counted: HashMap<CounterId, Counts> = rows.map(|row| (row.id, row.total)).collect();
        let servers = identified(&table);
        let servers = servers.filter_map(|(name, id)| Some((name, *counted.get(&id)?)));
        Ok(Tally {
            servers: servers.collect(),
            status,
        })
    }
}

/// What has been carried over so far. The numbers of a run whose workers still serve go on rising:
/// carrying again carries what came since.
#[derive(Debug, Default)]
pub struct Carried(Tally);

impl Carried {
    /// Adds what was counted in another run since the last time to the numbers of the dead workers of
    /// `to`: for servers that both have now, and for all together. What is in flight stays where
    /// it is. Only the process that folds the dead workers of `to` may do so.
    ///
    /// # Errors
    /// `to` cannot be read; nothing was carried.
    pub fn carry(&mut self, counted: Tally, to: &Region) -> Result<(), ReadError> {
        let Tally { servers, status } = counted;
        let table = to.reader()?.table()?;
        let mut more = Vec::new();
        for (name, id) in identified(&table) {
            let Some(&now) = servers.get(&name) else {
                continue;
            };
            let before = self.0.servers.insert(name, now).unwrap_or_default();
            more.push((id, since(&now, &before)));
        }
        let before = std::mem::replace(&mut self.0.status, status);
        let status = Status {
            accepted: status.accepted.saturating_sub(before.accepted),
            handled: status.handled.saturating_sub(before.handled),
            requests: status.requests.saturating_sub(before.requests),
            ..Status::default()
        };
        to.credit(&more, &status);
        Ok(())
    }
}

/// What was counted after `before`. A server that was taken out and put back counts from zero.
fn since(now: &Counts, before: &Counts) -> Counts {
    if now.requests < before.requests {
        return Counts {
            in_flight: 0,
            ..*now
        };
    }
    Counts {
        in_flight: 0,
        requests: now.requests - before.requests,
        failures: now.failures.saturating_sub(before.failures),
        received: now.received.saturating_sub(before.received),
        sent: now.sent.saturating_sub(before.sent),
        latest_failure_ms: now.latest_failure_ms,
    }
}
