//! Sharing a parent folder, and when not to: what is absent from its answers is read directly
//! before anything is removed, and a folder that the token may not read as a whole, or that holds
//! too much else, is left for a watch each; it is tried again now and then.

use std::collections::HashSet;
use std::time::Duration;

use weir_worker::settings::Level;

use super::super::book::FeedId;
use super::super::client::Fault;
use super::super::lesson::Heard;
use super::super::poll::{Answer, Share, Target};
use super::super::share::Foreign;
use super::super::turns::Failure;
use super::reads::{SECOND, Why};
use super::{DIRECT_MAX, Told, Watch, failure, first};

/// A folder that could not be shared is tried again after so many times `upsync_interval`, which
/// doubles from time to time.
const AGAIN: u32 = 12;
/// The most that it doubles.
const AGAIN_DOUBLINGS: u32 = 4;
/// One that was shared for so many times `upsync_interval` starts over.
const SETTLED: u32 = 240;

/// A parent folder that several upstreams share.
#[derive(Debug, Default)]
pub struct Sharing {
    /// The latest index at which one of the upstreams' keys changed.
    pub newest: u64,
    foreign: Foreign,
    /// Feeds without a key, as a direct read has shown.
    absent: HashSet<FeedId>,
    /// Each upstream has a watch of its own meanwhile.
    is_split: bool,
    /// How often it was split.
    splits: u32,
    joined: Duration,
}

impl Sharing {
    /// Forgets all but some feeds.
    pub fn retain(&mut self, feeds: impl Fn(FeedId) -> bool) {
        self.absent.retain(|feed| feeds(*feed));
    }

    /// Compares what a direct read found with the folder's answer of that index, which had nothing
    /// of the target: why that cannot be trusted, if so.
    pub fn compares(
        &mut self,
        target: &Target,
        found: &Heard,
        index: u64,
        share: Share,
    ) -> Option<String> {
        if found.is_nothing() {
            self.absent.insert(target.feed);
            return None;
        }
        // A key that came since then is no contradiction.
        let is_hidden = share.newest <= index;
        is_hidden.then(|| format!("it hides {}", target.upsync.prefix))
    }

    /// When to try again.
    fn again(&self, interval: Duration) -> Duration {
        let doublings = self.splits.saturating_sub(1).min(AGAIN_DOUBLINGS);
        interval.saturating_mul(AGAIN << doublings)
    }
}

impl Watch {
    /// Whether the answer for a parent folder has what the token may not read, or too much of
    /// others: why it is not to be shared, if so.
    pub(super) fn is_foreign(&mut self, answer: &Answer, asked: u64) -> Option<String> {
        let now = self.now();
        let sharing = self.sharing.as_mut()?;
        if answer.heard.iter().flatten().any(|heard| heard.filtered) {
            return Some("the token may not read all of it".to_owned());
        }
        let moved = asked != 0 && answer.index != asked;
        let useless = moved && answer.share.newest <= sharing.newest;
        let foreign = answer.share.foreign;
        sharing
            .foreign
            .is_too_much(answer.share, useless, now)
            .then(|| format!("it has {foreign} bytes of others"))
    }

    /// Reads what the answer of this index has nothing of, a few at once and the others before the
    /// next request; `lists` loses what is not known yet. Returns why the folder is not to be
    /// shared, if so.
    pub(super) fn read_absent(
        &mut self,
        index: u64,
        lists: &mut Vec<(FeedId, Heard)>,
    ) -> Result<Option<String>, Fault> {
        let Some(sharing) = &mut self.sharing else {
            return Ok(None);
        };
        let mut absent = Vec::new();
        for (at, (feed, heard)) in lists.iter().enumerate() {
            if !heard.is_nothing() {
                sharing.absent.remove(feed);
            } else if !sharing.absent.contains(feed) {
                absent.push(at);
            }
        }
        let mut unknown = Vec::new();
        for (nth, at) in absent.into_iter().enumerate() {
            let Some(target) = self.poller.targets().get(at).cloned() else {
                continue;
            };
            let now = self.now();
            if nth >= DIRECT_MAX {
                self.reads.add(target.feed, now, Why::Absent(index));
                unknown.push(target.feed);
                continue;
            }
            match self.poller.direct(&target) {
                Ok(answer) => {
                    let found = first(answer.heard);
                    let sharing = self.sharing.get_or_insert_default();
                    let why = sharing.compares(&target, &found, index, answer.share);
                    if why.is_some() {
                        return Ok(why);
                    }
                    lists[at].1 = found;
                }
                Err(fault) => {
                    let due = now + SECOND;
                    self.reads.add(target.feed, due, Why::Absent(index));
                    unknown.push(target.feed);
                    let why = Why::Absent(index);
                    if let Some(why) = self.unread(&target, why, fault)? {
                        return Ok(Some(why));
                    }
                }
            }
        }
        lists.retain(|(feed, _)| !unknown.contains(feed));
        Ok(None)
    }

    /// A direct read failed: why the folder is not to be shared, if that says so.
    pub(super) fn unread(
        &mut self,
        target: &Target,
        why: Why,
        fault: Fault,
    ) -> Result<Option<String>, Fault> {
        if matches!(failure(&fault, SECOND), Failure::Source { .. }) {
            return Err(fault);
        }
        let what = match why {
            Why::Second => "its servers stay: the second read failed".to_owned(),
            Why::Absent(_) => {
                let folder = &self.poller.upsync().prefix;
                format!("it is not below {folder}/ and could not be read directly")
            }
        };
        self.voice.unread(target, &what, &fault, self.now());
        self.status.doubts(&format!("{what}: {fault}"));
        let hidden = self.sharing.is_some().then(|| format!("{fault}"));
        Ok(hidden)
    }

    /// A request for a parent folder failed. That it may not be read splits it; while it is split
    /// the other watches find out about everything else.
    pub(super) fn unshareable(&mut self, fault: Fault) -> Result<Duration, Fault> {
        match &self.sharing {
            _ if matches!(fault, Fault::Stopped) => Err(fault),
            Some(_) if fault.is_forbidden() => self.split(&fault.to_string()),
            Some(sharing) if sharing.is_split => {
                self.index.restart();
                Ok(sharing.again(self.poller.upsync().interval))
            }
            _ => Err(fault),
        }
    }

    /// Leaves the upstreams to a watch each; returns when to try again.
    pub(super) fn split(&mut self, why: &str) -> Result<Duration, Fault> {
        let now = self.now();
        let interval = self.poller.upsync().interval;
        self.index.restart();
        self.reads.retain(|_| false);
        let Some(sharing) = &mut self.sharing else {
            return Ok(Duration::ZERO);
        };
        if !sharing.is_split
            && now.saturating_sub(sharing.joined) > interval.saturating_mul(SETTLED)
        {
            sharing.splits = 0;
        }
        sharing.splits = sharing.splits.saturating_add(1);
        let again = sharing.again(interval);
        sharing.foreign = Foreign::default();
        if !std::mem::replace(&mut sharing.is_split, true) {
            let count = self.poller.targets().len();
            let folder = &self.poller.upsync().prefix;
            let what = format!("{count} upstreams cannot share {folder}/: {why}");
            self.voice.all(&self.poller, Level::Notice, &what);
            self.say(Told::Split(true))?;
        }
        self.status.is_split(why);
        self.next_ask = now + again;
        Ok(again)
    }

    /// The folder's answer is good: the upstreams share it from here on.
    pub(super) fn join(&mut self) -> Result<(), Fault> {
        let now = self.now();
        let Some(sharing) = self.sharing.as_mut().filter(|sharing| sharing.is_split) else {
            return Ok(());
        };
        sharing.is_split = false;
        sharing.joined = now;
        let folder = &self.poller.upsync().prefix;
        let what = format!("{folder}/ is shared again");
        self.voice.all(&self.poller, Level::Notice, &what);
        self.say(Told::Split(false))?;
        Ok(())
    }
}
