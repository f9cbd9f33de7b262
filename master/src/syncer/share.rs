//! Which feeds share a watch: those below one parent folder are asked for together, so that a
//! source has one parked connection for all of them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::book::FeedId;
use super::poll::Share;
use crate::settings::{Kind, Upsync};

/// Feeds that one watch is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// What is asked for: the feeds' own source, or their parent folder.
    pub upsync: Upsync,
    /// It is their parent folder, which may hold other things too.
    pub is_parent: bool,
    /// At least one, rising.
    pub feeds: Vec<FeedId>,
}

/// The families of all feeds: two or more that differ in nothing but the last part of their folder
/// share a watch of its parent. The root of the store is nobody's parent: it may hold anything.
pub fn families(all: &[(FeedId, &Upsync)]) -> Vec<Family> {
    // Few of those with one folder at one address differ in the rest.
    let mut found: BTreeMap<(&str, &str), Vec<Family>> = BTreeMap::new();
    for (id, upsync) in all {
        let parent = parent(upsync);
        let place = (upsync.host.as_str(), parent.unwrap_or(&upsync.prefix));
        let common = Upsync {
            prefix: place.1.to_owned(),
            strong: false,
            ..(*upsync).clone()
        };
        let known = found.entry(place).or_default();
        let is_parent = parent.is_some();
        let family = known
            .iter_mut()
            .find(|family| family.is_parent == is_parent && family.upsync == common);
        match family {
            Some(family) => family.feeds.push(*id),
            None => known.push(Family {
                upsync: common,
                is_parent,
                feeds: vec![*id],
            }),
        }
    }
    let upsyncs: BTreeMap<FeedId, &Upsync> = all.iter().copied().collect();
    let families = found.into_values().flatten();
    families.map(|family| family.settled(&upsyncs)).collect()
}

/// The folder that the upstream's own one lies in.
fn parent(upsync: &Upsync) -> Option<&str> {
    let (parent, _) = upsync.prefix.rsplit_once('/')?;
    (upsync.kind == Kind::Consul && !parent.is_empty()).then_some(parent)
}

impl Family {
    /// One feed, and several with the same folder, are asked for by that folder.
    fn settled(mut self, upsyncs: &BTreeMap<FeedId, &Upsync>) -> Family {
        self.feeds.sort_unstable();
        let mut folders = self.feeds.iter().map(|id| upsyncs[id].prefix.as_str());
        let first = folders.next().unwrap_or_default().to_owned();
        if folders.all(|folder| folder == first) {
            self.upsync.prefix = first;
            self.is_parent = false;
        }
        self
    }
}

/// Bytes of others' keys that are too much to fetch with each change of ours.
pub const FOREIGN_MAX: usize = 8 * 1024 * 1024;
/// Answers that say nothing new may bring this many bytes a second for long.
const FOREIGN_RATE: usize = 128 * 1024;
/// Such an answer counts as at least this many bytes.
const FOREIGN_LEAST: usize = 4 * 1024;

/// Whether what lies beside the feeds in their parent folder costs more than sharing saves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreign {
    /// Bytes of late.
    level: usize,
    at: Duration,
}

impl Foreign {
    /// Takes an answer into account, `useless` if nothing in it was new to the feeds. Returns
    /// whether it is too much.
    pub fn is_too_much(&mut self, share: Share, useless: bool, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_millis();
        let drained = usize::try_from(passed).unwrap_or(usize::MAX);
        self.level = self
            .level
            .saturating_sub(drained.saturating_mul(FOREIGN_RATE / 1000));
        self.at = now;
        if useless {
            self.level = self.level.saturating_add(share.foreign.max(FOREIGN_LEAST));
        }
        let dominates = share.foreign > share.ours;
        dominates && (share.foreign > FOREIGN_MAX || self.level > FOREIGN_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Token;
    use proptest::prelude::*;

    fn upsync(prefix: &str, port: u16) -> Upsync {
        Upsync {
            strong: prefix.ends_with('1'),
            ..Upsync::folder("127.0.0.1", port, prefix)
        }
    }

    fn found(sources: &[Upsync]) -> Vec<(String, bool, Vec<FeedId>)> {
        let all: Vec<_> = (0..).zip(sources).collect();
        let families = families(&all).into_iter();
        families
            .map(|family| (family.upsync.prefix, family.is_parent, family.feeds))
            .collect()
    }

    #[test]
    fn two_below_one_parent_share_and_one_does_not() {
        let sources = ["up/a", "up/b1", "other/c", "up/deep/d"].map(|prefix| upsync(prefix, 1));
        let expected = [
            ("other/c".to_owned(), false, vec![2]),
            ("up".to_owned(), true, vec![0, 1]),
            ("up/deep/d".to_owned(), false, vec![3]),
        ];
        assert_eq!(found(&sources), expected);
    }

    #[test]
    fn the_root_is_nobodys_parent_but_one_folder_is_asked_for_once() {
        let sources = ["a", "b", "a", "up/x", "up/x"].map(|prefix| upsync(prefix, 1));
        let expected = [
            ("a".to_owned(), false, vec![0, 2]),
            ("b".to_owned(), false, vec![1]),
            ("up/x".to_owned(), false, vec![3, 4]),
        ];
        assert_eq!(found(&sources), expected);
    }

    #[test]
    fn whoever_asks_otherwise_has_a_watch_of_his_own() {
        let mut sources = vec![upsync("up/a", 1), upsync("up/b", 2), upsync("up/c", 1)];
        let mut slow = upsync("up/slow", 1);
        slow.timeout = Duration::from_secs(1);
        sources.push(slow);
        let mut other = upsync("up/token", 1);
        other.token = Some(Token::File("token".into()));
        sources.push(other);
        for kind in [Kind::ConsulHealth, Kind::ConsulHealth, Kind::Etcd3] {
            let kind = Upsync {
                kind,
                ..upsync("up/service", 1)
            };
            sources.push(kind);
        }
        let expected = [
            ("up".to_owned(), true, vec![0, 2]),
            ("up/slow".to_owned(), false, vec![3]),
            ("up/token".to_owned(), false, vec![4]),
            ("up/service".to_owned(), false, vec![5, 6]),
            ("up/service".to_owned(), false, vec![7]),
            ("up/b".to_owned(), false, vec![1]),
        ];
        assert_eq!(found(&sources), expected);
    }

    #[test]
    fn much_that_is_foreign_and_much_that_is_in_vain_end_the_sharing() {
        let share = |ours, foreign| Share {
            ours,
            foreign,
            newest: 0,
        };
        let at = Duration::from_secs;
        let mut foreign = Foreign::default();
        assert!(!foreign.is_too_much(share(1, FOREIGN_MAX), false, at(1)));
        assert!(foreign.is_too_much(share(1, FOREIGN_MAX + 1), false, at(1)));
        assert!(!foreign.is_too_much(share(2 * FOREIGN_MAX, FOREIGN_MAX + 1), false, at(1)));

        // Twenty answers a second, as spacing lets them pass: small ones are no burden.
        let last = |bytes: usize, useless| {
            let mut foreign = Foreign::default();
            (0..2400u32).position(|n| {
                foreign.is_too_much(share(100, bytes), useless, Duration::from_millis(50) * n)
            })
        };
        assert_eq!(last(1000, true), None);
        assert_eq!(last(100_000, false), None);
        let answers = last(100_000, true).unwrap();
        assert!((84..95).contains(&answers), "{answers}");
    }

    proptest! {
        #[test]
        fn each_feed_is_in_one_family_that_covers_it(
            sources in proptest::collection::vec(("[ab]{1,2}(/[ab]{1,2}){0,2}", 1u16..3), 0..40)
        ) {
            let sources: Vec<_> = sources.iter().map(|(prefix, port)| upsync(prefix, *port)).collect();
            let all: Vec<_> = (0..).zip(&sources).collect();
            let families = families(&all);
            let mut feeds: Vec<_> = families.iter().flat_map(|family| family.feeds.clone()).collect();
            feeds.sort_unstable();
            prop_assert_eq!(feeds, all.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            for family in &families {
                prop_assert!(!family.is_parent || family.feeds.len() > 1);
                for id in &family.feeds {
                    let own = &sources[usize::try_from(*id).unwrap()];
                    prop_assert_eq!(&own.host, &family.upsync.host);
                    let asked = match family.is_parent {
                        true => own.prefix.rsplit_once('/').unwrap().0,
                        false => &own.prefix,
                    };
                    prop_assert_eq!(asked, &family.upsync.prefix);
                }
            }
            // No two watches ask for the same.
            for (at, family) in families.iter().enumerate() {
                let is_same = |other: &Family| {
                    other.upsync == family.upsync && other.is_parent == family.is_parent
                };
                prop_assert!(!families[..at].iter().any(is_same));
            }
        }
    }
}
