//! All watches, as the hub has them: which there are, which of them speaks for a feed, and the
//! pools that ask for them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use super::book::FeedId;
use super::log::Log;
use super::poll::Target;
use super::pool::Pool;
use super::recorder::Recorder;
use super::share::{self, Family};
use super::turns::WatchId;
use super::vault::Vault;
use super::watch::{Beginning, Line, Tell, Watch};
use crate::settings::{Certificates, Upsync};

/// Makes the way by which the watch of this number speaks.
pub type Speak = Box<dyn Fn(WatchId) -> Tell>;

/// All that connects alike: to these addresses, with these certificates.
type Alike = (String, Option<Arc<Certificates>>);

/// A watch that is asked for.
struct Running {
    id: WatchId,
    line: Arc<Line>,
    pool: Pool,
}

impl Running {
    fn end(self) {
        self.line.stop();
        self.pool.remove(self.id);
    }
}

/// A family and its watch.
struct Group {
    family: Family,
    targets: BTreeMap<FeedId, Target>,
    watch: Running,
    /// The watches of its feeds while they cannot share one.
    singles: Option<BTreeMap<FeedId, Running>>,
}

impl Group {
    fn end(self) {
        self.watch.end();
        for single in self.singles.into_iter().flatten() {
            single.1.end();
        }
    }
}

/// See the module.
pub struct Watches {
    speak: Speak,
    vault: Arc<Vault>,
    log: Log,
    recorder: Recorder,
    pools: HashMap<Alike, Pool>,
    groups: Vec<Group>,
    /// Who speaks for a feed: what another says about it is out of date.
    speakers: HashMap<FeedId, WatchId>,
    next: WatchId,
}

impl Watches {
    /// None yet; each will speak by what `speak` makes.
    pub fn new(speak: Speak, vault: Arc<Vault>, log: Log, recorder: Recorder) -> Watches {
        Watches {
            speak,
            vault,
            log,
            recorder,
            pools: HashMap::new(),
            groups: Vec::new(),
            speakers: HashMap::new(),
            next: 0,
        }
    }

    /// Watches these feeds from now on, and no others. What is new begins with all that there is,
    /// so that no change is lost between two watches.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn set(&mut self, feeds: &[(FeedId, &str, &Upsync)]) -> io::Result<()> {
        let sources: Vec<_> = feeds.iter().map(|(id, _, upsync)| (*id, *upsync)).collect();
        let target =
            |(id, name, upsync): &(FeedId, &str, &Upsync)| (*id, Target::new(*id, name, upsync));
        let mut targets: HashMap<FeedId, Target> = feeds.iter().map(target).collect();
        let mut old = std::mem::take(&mut self.groups);
        let mut families = share::families(&sources).into_iter();
        let done = families.try_for_each(|family| {
            let own = family.feeds.iter();
            let own = own
                .filter_map(|id| Some((*id, targets.remove(id)?)))
                .collect();
            self.follow(family, own, &mut old)
        });
        if done.is_err() {
            // Those that were not come to are there for the next time, which ends or changes them.
            self.groups.append(&mut old);
        }
        for group in old {
            group.end();
        }
        self.pools.retain(|_, pool| !pool.is_empty());
        self.appoint();
        done
    }

    /// Watches a family by the group that it has among `old`, or by a new one.
    fn follow(
        &mut self,
        family: Family,
        targets: BTreeMap<FeedId, Target>,
        old: &mut Vec<Group>,
    ) -> io::Result<()> {
        let is_same = |group: &Group| {
            group.family.upsync == family.upsync && group.family.is_parent == family.is_parent
        };
        if let Some(at) = old.iter().position(is_same) {
            let mut group = old.swap_remove(at);
            let done = self.change(&mut group, family, targets);
            self.groups.push(group);
            return done;
        }
        let watch = self.start(&family.upsync, family.is_parent, &targets)?;
        self.groups.push(Group {
            family,
            targets,
            watch,
            singles: None,
        });
        Ok(())
    }

    /// A group goes on with these targets.
    fn change(
        &mut self,
        group: &mut Group,
        family: Family,
        targets: BTreeMap<FeedId, Target>,
    ) -> io::Result<()> {
        if targets == group.targets {
            return Ok(());
        }
        let mut new = targets.keys().filter(|id| !group.targets.contains_key(id));
        let some_are_new = new.next().is_some();
        let wanted = targets.values().cloned().collect();
        group.watch.line.want(wanted, some_are_new);
        if some_are_new {
            group.watch.pool.wake(group.watch.id);
        }
        group.family = family;
        group.targets = targets;
        if let Some(singles) = &mut group.singles {
            let gone: Vec<_> = singles.keys().copied().collect();
            for id in gone.iter().filter(|id| !group.targets.contains_key(id)) {
                if let Some(single) = singles.remove(id) {
                    single.end();
                }
            }
            for (id, target) in &group.targets {
                if !singles.contains_key(id) {
                    singles.insert(*id, self.single(target)?);
                }
            }
        }
        Ok(())
    }

    /// A parent folder is no source for all of its feeds, or is one again.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn split(&mut self, watch: WatchId, is_split: bool) -> io::Result<()> {
        let Some(at) = self.groups.iter().position(|group| group.watch.id == watch) else {
            return Ok(());
        };
        let singles = self.groups[at].singles.take();
        let singles = match (singles, is_split) {
            (Some(singles), false) => {
                for single in singles.into_values() {
                    single.end();
                }
                None
            }
            (None, true) => {
                let mut singles = BTreeMap::new();
                for (id, target) in self.groups[at].targets.clone() {
                    singles.insert(id, self.single(&target)?);
                }
                Some(singles)
            }
            (singles, _) => singles,
        };
        self.groups[at].singles = singles;
        self.appoint();
        Ok(())
    }

    /// Whether this watch speaks for a feed.
    pub fn speaks_for(&self, watch: WatchId, feed: FeedId) -> bool {
        self.speakers.get(&feed) == Some(&watch)
    }

    /// A feed's token or certificate has changed: it is asked for anew.
    pub fn nudge(&self, feed: FeedId) {
        for running in self.of(feed) {
            running.line.nudge();
            running.pool.wake(running.id);
        }
    }

    /// Asks at once for everything that there is about a feed.
    pub fn restart(&self, feed: FeedId) {
        for running in self.of(feed) {
            running.line.restart();
            running.pool.wake(running.id);
        }
    }

    /// The watches of a feed.
    fn of(&self, feed: FeedId) -> impl Iterator<Item = &Running> {
        self.groups.iter().flat_map(move |group| {
            let singles = group.singles.as_ref();
            let single = singles.and_then(|singles| singles.get(&feed));
            let watch = Some(&group.watch).filter(|_| group.targets.contains_key(&feed));
            watch.into_iter().chain(single)
        })
    }

    /// Ends all watches.
    pub fn end(&mut self) {
        for group in self.groups.drain(..) {
            group.end();
        }
    }

    fn appoint(&mut self) {
        self.speakers.clear();
        for group in &self.groups {
            for feed in group.targets.keys() {
                let single = group.singles.as_ref().and_then(|singles| singles.get(feed));
                let speaker = single.unwrap_or(&group.watch).id;
                self.speakers.insert(*feed, speaker);
            }
        }
    }

    fn single(&mut self, target: &Target) -> io::Result<Running> {
        let targets = BTreeMap::from([(target.feed, target.clone())]);
        self.start(&target.upsync, false, &targets)
    }

    fn start(
        &mut self,
        upsync: &Upsync,
        is_parent: bool,
        targets: &BTreeMap<FeedId, Target>,
    ) -> io::Result<Running> {
        let id = self.next;
        self.next += 1;
        let line = Arc::<Line>::default();
        let beginning = Beginning {
            id,
            upsync: upsync.clone(),
            is_parent,
            targets: targets.values().cloned().collect(),
            line: Arc::clone(&line),
            vault: Arc::clone(&self.vault),
            log: self.log.clone(),
            recorder: self.recorder.clone(),
        };
        let watch = Watch::new(beginning, (self.speak)(id));
        let alike = (upsync.host.clone(), upsync.tls.clone());
        let pool = self.pools.entry(alike).or_default().clone();
        pool.add(id, is_parent, watch)?;
        Ok(Running { id, line, pool })
    }
}
