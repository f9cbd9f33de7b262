//! The direct reads that a watch is to make, and when. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::book::FeedId;

/// A second read follows the first by this much.
pub const SECOND: Duration = Duration::from_millis(500);

/// Why a feed is read by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The answer for its parent folder, which had this index, had nothing of it.
    Absent(u64),
    /// What it heard is to be heard twice.
    Second,
}

/// Feeds to read, each once, and not before its time.
#[derive(Debug, Default)]
pub struct Reads(BTreeMap<FeedId, (Duration, Why)>);

impl Reads {
    /// To be read at `due`. A second read that is due already is not put off.
    pub fn add(&mut self, feed: FeedId, due: Duration, why: Why) {
        let known = self.0.entry(feed).or_insert((due, why));
        if known.1 != Why::Second {
            *known = (due, why);
        }
    }

    /// What is known of a feed by now needs no second read.
    pub fn settle(&mut self, feed: FeedId) {
        self.0.remove(&feed);
    }

    /// Forgets all but `feeds`.
    pub fn retain(&mut self, feeds: impl Fn(FeedId) -> bool) {
        self.0.retain(|feed, _| feeds(*feed));
    }

    /// Takes out a read that is due.
    pub fn take(&mut self, now: Duration) -> Option<(FeedId, Why)> {
        let due = self.0.iter().find(|(_, (due, _))| *due <= now);
        let (feed, (_, why)) = due.map(|(feed, read)| (*feed, *read))?;
        self.0.remove(&feed);
        Some((feed, why))
    }

    /// When the next is due.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.0.values().map(|(due, _)| *due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feed_is_read_once_and_in_time() {
        let at = Duration::from_secs;
        let mut reads = Reads::default();
        assert_eq!((reads.next(), reads.take(at(9))), (None, None));
        reads.add(1, at(5), Why::Second);
        reads.add(1, at(7), Why::Second);
        reads.add(2, at(3), Why::Absent(8));
        reads.add(2, at(4), Why::Second);
        assert_eq!(reads.next(), Some(at(4)));
        assert_eq!(reads.take(at(3)), None);
        assert_eq!(reads.take(at(5)), Some((1, Why::Second)));
        assert_eq!(reads.take(at(5)), Some((2, Why::Second)));
        assert_eq!(reads.take(at(9)), None);
        reads.add(1, at(5), Why::Second);
        reads.add(2, at(5), Why::Absent(1));
        reads.settle(1);
        reads.retain(|feed| feed != 2);
        assert_eq!(reads.next(), None);
    }
}
