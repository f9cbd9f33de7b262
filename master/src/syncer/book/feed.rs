//! A feed of the book: the list that an `upsync` feeds, and what an answer makes of it.

use std::sync::Arc;

use weir_shm::Server;

use super::{Book, FeedId, content};
use crate::settings::{Guard, Upsync};
use crate::syncer::guard::{self, Held, Removed, Ruling, Why};
use crate::syncer::lesson::{Heard, Origin};
use crate::syncer::order::merge;

/// The list of one `upsync`, whichever upstreams and configurations use it.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The upstream that it was made for.
    pub upstream: String,
    /// Where it comes from.
    pub upsync: Upsync,
    /// In the order of `upstream_show`.
    pub servers: Vec<Server>,
    /// The answer that `servers` were brought up to: one that is the very same changes nothing.
    pub(super) applied: Option<Arc<[Server]>>,
    /// `servers` came from a source, now or before: not the configured ones.
    pub learned: bool,
    /// The watch has had an answer.
    pub answered: bool,
    /// The latest answer, if the guard keeps it from being applied.
    pub held: Option<Held>,
    /// What the latest answer takes away, if that is so much that it is read a second time.
    pub(super) asked: Option<Removed>,
}

impl Feed {
    pub(super) fn new(upstream: &str, upsync: &Upsync, first: Option<Vec<Server>>) -> Feed {
        Feed {
            upstream: upstream.to_owned(),
            upsync: upsync.clone(),
            learned: first.is_some(),
            servers: first.unwrap_or_default(),
            applied: None,
            answered: false,
            held: None,
            asked: None,
        }
    }

    /// The servers are those of this answer already.
    fn has_applied(&self, servers: &Arc<[Server]>) -> bool {
        let applied = self.applied.as_ref();
        applied.is_some_and(|applied| Arc::ptr_eq(applied, servers))
    }

    fn judge(&mut self, guard: Option<&Guard>, heard: &Heard, confirmed: bool) -> Ruling {
        let asked = self.asked.take().filter(|_| confirmed);
        if !heard.filtered && self.has_applied(&heard.servers) {
            return Ruling::Apply;
        }
        let base = if self.learned { &self.servers[..] } else { &[] };
        match guard {
            Some(guard) => guard::judge(guard, base, heard, asked.as_ref()),
            None => Ruling::Apply,
        }
    }
}

/// What the guard says of a list that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heed {
    /// It may be applied. One that was held before is no more.
    Apply {
        /// There was one.
        released: bool,
    },
    /// It is held.
    Hold {
        /// Why.
        why: Why,
        /// It was not held before, or another was.
        news: bool,
    },
    /// It is to be read once more.
    Confirm {
        /// So many servers would go.
        removed: usize,
        /// Of so many.
        of: usize,
    },
}

/// What a feed had before [`Book::learn`], to go back to.
#[derive(Debug)]
pub struct Before {
    servers: Vec<Server>,
    applied: Option<Arc<[Server]>>,
    learned: bool,
}

impl Book {
    /// Every feed.
    pub fn feeds(&self) -> impl Iterator<Item = (FeedId, &Feed)> {
        self.feeds.iter().map(|(id, feed)| (*id, feed))
    }

    /// One feed, unless it is gone.
    pub fn feed(&self, id: FeedId) -> Option<&Feed> {
        self.feeds.get(&id)
    }

    /// The same, to change it.
    pub fn feed_mut(&mut self, id: FeedId) -> Option<&mut Feed> {
        self.feeds.get_mut(&id)
    }

    /// Hears an answer, without applying it: what the guard of its upstream says. `None` when the
    /// feed is gone.
    pub fn hear(
        &mut self,
        id: FeedId,
        heard: &Heard,
        origin: &Origin,
        confirmed: bool,
    ) -> Option<Heed> {
        let guard = self.slot_of(id).and_then(|slot| slot.guard);
        let feed = self.feeds.get_mut(&id)?;
        feed.answered = true;
        let of = feed.servers.len();
        Some(match feed.judge(guard.as_ref(), heard, confirmed) {
            Ruling::Apply => Heed::Apply {
                released: feed.held.take().is_some(),
            },
            Ruling::Hold(why) => {
                let same = |held: &Held| held.why == why && held.servers == heard.servers;
                let news = !feed.held.as_ref().is_some_and(same);
                if news {
                    feed.held = Some(Held {
                        servers: Arc::clone(&heard.servers),
                        why,
                        origin: origin.clone(),
                    });
                }
                Heed::Hold { why, news }
            }
            Ruling::Confirm(removed) => {
                feed.held = None;
                let heed = Heed::Confirm {
                    removed: removed.len(),
                    of,
                };
                feed.asked = Some(removed);
                heed
            }
        })
    }

    /// Applies a list in key order. An empty one empties what was learned, and leaves configured
    /// servers alone. Returns what was there before if that changed the feed.
    pub fn learn(&mut self, id: FeedId, servers: &Arc<[Server]>) -> Option<Before> {
        let configured = self.slot_of(id).map_or(&[][..], |slot| &slot.configured);
        let feed = self.feeds.get(&id)?;
        if feed.has_applied(servers) || (servers.is_empty() && !feed.learned) {
            return None;
        }
        let old = if feed.learned {
            &feed.servers
        } else {
            configured
        };
        let merged = merge(old, servers);
        let now = feed.servers.iter().map(content);
        let is_equal = feed.learned && merged.iter().map(content).eq(now);
        let feed = self.feeds.get_mut(&id)?;
        let applied = feed.applied.replace(Arc::clone(servers));
        if is_equal {
            return None;
        }
        Some(Before {
            applied,
            servers: std::mem::replace(&mut feed.servers, merged),
            learned: std::mem::replace(&mut feed.learned, true),
        })
    }

    /// Takes a list back that could not be published.
    pub fn unlearn(&mut self, id: FeedId, before: Before) {
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.servers = before.servers;
            feed.applied = before.applied;
            feed.learned = before.learned;
        }
    }

    /// The answers that are held, with their upstreams' names.
    pub fn held(&self) -> impl Iterator<Item = (&str, &Held)> {
        let slots = self.all_fed();
        slots.filter_map(|slot| Some((slot.name.as_str(), self.feed(slot.feed?)?.held.as_ref()?)))
    }

    /// Takes the answer that an upstream's guard holds, to be applied.
    ///
    /// # Errors
    /// There is no such upstream, or nothing is held for it.
    pub fn accept(&mut self, upstream: &str) -> Result<(FeedId, Held), String> {
        let slot = self.fed(upstream)?;
        let feed = slot
            .feed
            .and_then(|id| Some((id, self.feeds.get_mut(&id)?)));
        feed.and_then(|(id, feed)| Some((id, feed.held.take()?)))
            .ok_or_else(|| format!("no answer is held for upstream \"{upstream}\""))
    }

    /// Takes the held answers whose upstreams have no guard any more.
    pub fn unguarded(&mut self) -> Vec<(FeedId, Held)> {
        let open = self.all_fed().filter(|slot| slot.guard.is_none());
        let open: Vec<FeedId> = open.filter_map(|slot| slot.feed).collect();
        open.into_iter()
            .filter_map(|id| Some((id, self.feeds.get_mut(&id)?.held.take()?)))
            .collect()
    }
}
