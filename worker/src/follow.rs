//! How a worker follows the table: what changed is read, made a plan and taken into use, and the old
//! plan let go, each a slice of bounded work at a time beside the requests.

use weir_shm::{Snapshot, SnapshotError};

use crate::proxy::{Network, Proxy};
use crate::settings::Level;
use crate::upstream::build::{Builder, Numbering};
use crate::upstream::retired::Retired;

/// Steps in one turn of the loop; each is a few dozen nanoseconds. A request that comes meanwhile waits
/// for one slice, which must not show beside the time that it takes itself.
pub const STEPS_A_SLICE: usize = 96;

/// After the tables moved on faster than they could be read, the next attempt is this much later,
/// in milliseconds.
const LAPPED_PAUSE_MS: u64 = 50;
/// The same when there was no memory for them, or they are damaged, of which the log is not to be full.
const FAULT_PAUSE_MS: u64 = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    stage: Stage,
    snapshot: Snapshot,
    numbering: Numbering,
    retired: Retired,
    retry_ms: u64,
}

#[derive(Debug, Default)]
enum Stage {
    /// The plan is that of the latest table, or the time for another try has not come.
    #[default]
    Resting,
    Reading,
    Building(Box<Builder>),
}

impl Follower {
    /// Does a slice of what there is to do: one load when nothing has changed.
    pub fn turn<N: Network>(&mut self, proxy: &mut Proxy<N>) {
        if matches!(self.stage, Stage::Resting) {
            let shared = &proxy.shared;
            if shared.region.table_version() == shared.plan.version || shared.now_ms < self.retry_ms
            {
                self.retired.step(STEPS_A_SLICE, shared.now_ms);
                return;
            }
            self.stage = Stage::Reading;
        }
        self.step(STEPS_A_SLICE, proxy);
    }

    /// Routes by the table that is published now, however big it is: nobody is let in before
    /// there is a plan, and no new settings serve before their upstreams are known.
    pub fn catch_up<N: Network>(&mut self, proxy: &mut Proxy<N>) {
        self.finish(proxy);
        self.stage = Stage::Reading;
        self.finish(proxy);
    }

    fn finish<N: Network>(&mut self, proxy: &mut Proxy<N>) {
        while !matches!(self.stage, Stage::Resting) {
            self.step(usize::MAX, proxy);
        }
    }

    /// There is more to do at once.
    pub fn wants_turn(&self) -> bool {
        !matches!(self.stage, Stage::Resting) || self.retired.wants_turn()
    }

    /// When there is more to do without any event: the table is tried again that could not be read, or
    /// old plans may be free.
    pub fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let retry_ms = (self.retry_ms > now_ms).then_some(self.retry_ms);
        retry_ms.into_iter().chain(self.retired.due_ms()).min()
    }

    fn step<N: Network>(&mut self, mut budget: usize, proxy: &mut Proxy<N>) {
        if matches!(self.stage, Stage::Reading) {
            self.read(&mut budget, proxy);
        }
        if budget > 0
            && let Stage::Building(builder) = &mut self.stage
            && let Some(mut built) = builder.step(budget, &mut self.snapshot, &mut self.numbering)
        {
            self.stage = Stage::Resting;
            let version = built.plan.version;
            let replaced = std::mem::take(&mut built.replaced);
            let old = proxy.set_plan(built);
            let region = &proxy.shared.region;
            region.used(old.version, &self.snapshot);
            region.scoreboard().set_table_version(version);
            self.retired.add(old, replaced);
        }
    }

    fn read<N: Network>(&mut self, budget: &mut usize, proxy: &mut Proxy<N>) {
        let shared = &mut proxy.shared;
        let since = shared.plan.version;
        match shared.region.read_some(budget, since, &mut self.snapshot) {
            Ok(false) => {}
            Ok(true) if self.snapshot.version == since => self.stage = Stage::Resting,
            Ok(true) => {
                let builder = Builder::new(&shared.plan, &self.snapshot);
                self.stage = Stage::Building(Box::new(builder));
            }
            Err(error) => {
                self.stage = Stage::Resting;
                let (level, pause_ms) = match &error {
                    SnapshotError::Lapped => (Level::Notice, LAPPED_PAUSE_MS),
                    SnapshotError::Damaged(_) | SnapshotError::NoMemory { .. } => {
                        (Level::Alert, FAULT_PAUSE_MS)
                    }
                };
                self.retry_ms = shared.now_ms + pause_ms;
                shared.log().log(
                    level,
                    format_args!("the table could not be read, version {since} stays: {error}"),
                );
            }
        }
    }
}
