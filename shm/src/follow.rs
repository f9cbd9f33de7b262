//! What workers of one run go on to count is added to what another run has counted, while both last.

use std::collections::HashMap;

use crate::carry::{Identity, identified};
use crate::counters::Counts;
use crate::error::ReadError;
use crate::reader::Reader;
use crate::region::Region;
use crate::scoreboard::Status;
use crate::table::CounterId;

/// What has been carried over so far. The numbers of a region whose workers still serve go on
/// rising: carrying again carries what came since.
#[derive(Debug, Default)]
pub struct Carried {
    servers: HashMap<Identity, Counts>,
    status: Status,
}

impl Carried {
    /// Adds what was counted in `from` since the last time to the numbers of the dead workers of
    /// `to`: for servers that both have now, and for all together. What is in flight stays where
    /// it is. Only the process that folds the dead workers of `to` may do so.
    ///
    /// # Errors
    /// One of the two cannot be read; nothing was carried.
    pub fn carry(&mut self, from: &Reader, to: &Region) -> Result<(), ReadError> {
        let (theirs, ours) = (from.table()?, to.reader()?.table()?);
        let status = from.status()?;
        let counted: HashMap<CounterId, Counts> = from
            .counters(&theirs)?
            .into_iter()
            .map(|row| (row.id, row.total))
            .collect();
        let mut ids: HashMap<Identity, CounterId> = identified(&ours).collect();
        let mut more = Vec::new();
        for (key, id) in identified(&theirs) {
            let (Some(now), Some(to)) = (counted.get(&id), ids.remove(&key)) else {
                continue;
            };
            let before = self.servers.insert(key, *now).unwrap_or_default();
            more.push((to, since(now, &before)));
        }
        let before = std::mem::replace(&mut self.status, status);
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
