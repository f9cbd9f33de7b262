//! The poller: asks one source, blocking, and reads its answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::book::FeedId;
use super::client::{Client, Fault, Kept};
use super::consul;
use super::decode::{self, Entry};
use super::lesson::Heard;
use super::stop::Stop;
use crate::settings::Upsync;

/// An upstream whose servers a poller learns.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// How much of it is about the targets.
    pub share: Share,
}

/// How much of an answer is about the targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Bytes of the targets' keys and values.
    pub ours: usize,
    /// Bytes of all others.
    pub foreign: usize,
    /// The latest index at which one of the targets' keys changed.
    pub newest: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Poller {
    upsync: Upsync,
    targets: Vec<Target>,
    client: Client,
    /// The longest `wait` of a blocking query.
    wait: Duration,
}

impl Poller {
    /// Asks for `upsync`, whose answers say something about each of `targets`.
    pub fn new(upsync: Upsync, targets: Vec<Target>, stop: Arc<Stop>) -> Poller {
        Poller {
            client: Client::new(&upsync.name, upsync.port, stop),
            wait: consul::wait(upsync.timeout),
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

    /// From now on answers are about these.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        self.targets = targets;
    }

    /// How long a request may wait for something new.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Gives the kept connection to another poller of the same address.
    pub fn give(&mut self) -> Option<Kept> {
        self.client.give()
    }

    /// Takes a connection over that a poller of the same address gave away.
    pub fn take(&mut self, kept: Kept) {
        self.client.take(kept);
    }

    /// One request: blocks until there is something newer than `index`, or `wait` is over, which
    /// is at most [`Poller::wait`].
    ///
    /// # Errors
    /// What kept a complete answer from coming.
    pub fn ask(&mut self, index: u64, wait: Duration) -> Result<Answer, Fault> {
        let wait = wait.clamp(consul::WAIT_MIN, self.wait);
        let request = consul::request(&self.upsync, index, wait);
        let deadlines = consul::deadlines(wait, self.upsync.timeout);
        let sent = Instant::now();
        let response = self.client.get(&request, deadlines)?;
        let (took, seen_ns) = (sent.elapsed(), now_ns());
        let answer = consul::answer(&response)?;
        let (heard, share) = hear_each(&self.targets, answer.entries, answer.filtered);
        Ok(Answer {
            index: answer.index,
            took,
            seen_ns,
            heard,
            share,
        })
    }

    /// One target's own folder as it is now, by the leader's word: the answer has its index and
    /// one `heard`.
    ///
    /// # Errors
    /// What kept a complete answer from coming.
    pub fn direct(&mut self, target: &Target) -> Result<Answer, Fault> {
        let request = consul::direct(&target.upsync);
        let deadlines = consul::deadlines(consul::WAIT_MIN, self.upsync.timeout);
        let sent = Instant::now();
        let response = self.client.get(&request, deadlines)?;
        let (took, seen_ns) = (sent.elapsed(), now_ns());
        let answer = consul::answer(&response)?;
        let target = std::slice::from_ref(target);
        let (heard, share) = hear_each(target, answer.entries, answer.filtered);
        Ok(Answer {
            index: answer.index,
            took,
            seen_ns,
            heard,
            share,
        })
    }
}

/// What the entries of one answer say about each target.
fn hear_each(
    targets: &[Target],
    mut entries: Vec<Entry<'_>>,
    filtered: bool,
) -> (Vec<Heard>, Share) {
    // One search a target finds its entries, so that many targets do not cost a scan each.
    entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    let all: usize = entries.iter().map(size).sum();
    let mut share = Share::default();
    let hear = |target: &Target| {
        let folder = &target.folder;
        let own = decode::below(folder, &entries);
        share.ours += own.iter().map(size).sum::<usize>();
        let newest = own.iter().map(|entry| entry.modify_index).max();
        share.newest = share.newest.max(newest.unwrap_or_default());
        let decoded = decode::decode(folder, own);
        Heard {
            servers: decoded.servers,
            refused: decoded.refused,
            filtered,
        }
    };
    let heard = targets.iter().map(hear).collect();
    share.foreign = all.saturating_sub(share.ours);
    (heard, share)
}

fn size(entry: &Entry<'_>) -> usize {
    entry.key.len() + entry.value.as_deref().map_or(0, str::len)
}

/// CLOCK_MONOTONIC, which every process of this machine reads alike.
fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let time = Duration::from(time);
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(feed: FeedId, prefix: &str) -> Target {
        let upsync = Upsync {
            host: "127.0.0.1:8500".into(),
            name: "127.0.0.1".into(),
            port: 8500,
            prefix: prefix.into(),
            timeout: Duration::from_secs(360),
            interval: Duration::from_secs(5),
            strong: false,
        };
        Target::new(feed, prefix, &upsync)
    }

    fn entry(key: &str, modify_index: u64) -> Entry<'_> {
        Entry {
            key: key.into(),
            value: Some("e30=".into()),
            modify_index,
        }
    }

    #[test]
    fn an_answer_is_split_by_target_and_what_is_not_theirs_is_weighed() {
        let targets = [target(0, "up/a"), target(1, "up/b"), target(2, "up/none")];
        let entries = vec![
            entry("up/c/10.0.0.9:1", 99),
            entry("up/b/10.0.0.2:1", 7),
            entry("up/a/10.0.0.1:1", 5),
            entry("up/b/bad", 8),
        ];
        let (heard, share) = hear_each(&targets, entries, true);
        let servers = |at: usize| -> Vec<String> {
            let servers = heard[at].servers.iter();
            servers.map(|server| server.address.to_string()).collect()
        };
        assert_eq!(servers(0), ["10.0.0.1:1"]);
        assert_eq!(servers(1), ["10.0.0.2:1"]);
        assert_eq!(heard[1].refused.len(), 1);
        assert!(servers(2).is_empty() && heard.iter().all(|heard| heard.filtered));
        let expected = Share {
            ours: 15 + 15 + 8 + 3 * 4,
            foreign: 15 + 4,
            newest: 8,
        };
        assert_eq!(share, expected);
    }
}
