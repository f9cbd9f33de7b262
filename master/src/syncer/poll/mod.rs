//! The poller: asks one source, blocking, and reads its answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::book::FeedId;
use super::client::{Client, Deadlines, Fault};
use super::consul;
use super::decode::{self, Entry};
use super::lesson::Heard;
use super::stop::Stop;
use crate::settings::Upsync;

/// An upstream whose servers a poller learns.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whose list it is.
    pub feed: FeedId,
    /// Its name, for the log.
    pub upstream: String,
    /// Its own source, whatever folder it is asked for with.
    pub upsync: Upsync,
    /// Where its keys lie, decoded.
    folder: String,
}

impl Target {
    /// An upstream with keys below `upsync.prefix`.
    pub fn new(feed: FeedId, upstream: &str, upsync: &Upsync) -> Target {
        Target {
            feed,
            upstream: upstream.to_owned(),
            folder: consul::folder(&upsync.prefix),
            upsync: upsync.clone(),
        }
    }
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// To ask the next time with.
    pub index: u64,
    /// From the request to the answer's last byte.
    pub took: Duration,
    /// When its last byte was read, in nanoseconds of CLOCK_MONOTONIC.
    pub seen_ns: u64,
    /// What it says about each target, in their order.
    pub heard: Vec<Heard>,
}

/// See the module.
#[derive(Debug)]
pub struct Poller {
    upsync: Upsync,
    targets: Vec<Target>,
    client: Client,
    /// `wait` of a blocking query.
    wait: Duration,
    deadlines: Deadlines,
}

impl Poller {
    /// Asks for `upsync`, whose answers say something about each of `targets`.
    pub fn new(upsync: Upsync, targets: Vec<Target>, stop: Arc<Stop>) -> Poller {
        let wait = consul::wait(upsync.timeout);
        Poller {
            client: Client::new(&upsync.name, upsync.port, stop),
            deadlines: consul::deadlines(wait, upsync.timeout),
            wait,
            upsync,
            targets,
        }
    }

    /// What the requests are for.
    pub fn upsync(&self) -> &Upsync {
        &self.upsync
    }

    /// Whose lists the answers hold.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// How long a request may wait for something new.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// One request: blocks until there is something newer than `index`, or the wait is over.
    ///
    /// # Errors
    /// What kept a complete answer from coming.
    pub fn ask(&mut self, index: u64) -> Result<Answer, Fault> {
        let request = consul::request(&self.upsync, index, self.wait);
        let sent = Instant::now();
        let response = self.client.get(&request, self.deadlines)?;
        let (took, seen_ns) = (sent.elapsed(), now_ns());
        let answer = consul::answer(&response).map_err(Fault::Invalid)?;
        Ok(Answer {
            index: answer.index,
            took,
            seen_ns,
            heard: hear_each(&self.targets, answer.entries),
        })
    }
}

/// What the entries of one answer say about each target.
fn hear_each(targets: &[Target], mut entries: Vec<Entry<'_>>) -> Vec<Heard> {
    // One search a target finds its entries, so that many targets do not cost a scan each.
    entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    let hear = |target: &Target| {
        let folder = &target.folder;
        let decoded = decode::decode(folder, decode::below(folder, &entries));
        Heard {
            servers: decoded.servers,
            refused: decoded.refused,
            filtered: false,
        }
    };
    targets.iter().map(hear).collect()
}

/// CLOCK_MONOTONIC, which every process of this machine reads alike.
fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let time = Duration::from(time);
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    })
}
