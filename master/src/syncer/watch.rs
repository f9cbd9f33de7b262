//! A watch: what is asked of a source for one upstream, or for several that share a parent folder,
//! for as long as they are fed from there. Blocking; a [pool](super::pool) says when it may ask.

mod absent;
mod doubt;
mod reads;
mod status;
mod voice;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weir_worker::settings::Level;

use super::book::FeedId;
use super::client::{Fault, Kept};
use super::index::{Answered, Index};
use super::lesson::{Heard, Lesson, Origin, Verdict};
use super::log::Log;
use super::poll::{Answer, Poller, Target};
use super::recorder::Recorder;
use super::stop::Stop;
use super::turns::{Failure, WatchId};
use super::vault::Vault;
use crate::settings::Upsync;
use absent::Sharing;
use doubt::Doubt;
use reads::{Reads, SECOND, Why};
use status::Status;
use voice::{DEAD_TOKEN, Voice};

/// So many direct reads are made before the next request: each may take a moment.
const DIRECT_MAX: usize = 16;

/// What a watch has to say.
pub enum Told {
    /// What an answer, or a direct read, taught.
    Lesson(Lesson),
    /// The parent folder is no source for all of the upstreams: each is to have a watch of its own
    /// (`true`), or no longer (`false`).
    Split(bool),
}

/// Gets what a watch says and returns once that is published, equal or held: what became of it, or
/// `None` when nobody listens any more. Only then is an answer's index committed.
pub type Tell = Box<dyn FnMut(Told) -> Option<Verdict> + Send>;

/// How a watch is told to end, or to ask for others; shared with whoever tells it.
#[derive(Debug, Default)]
pub struct Line {
    stop: Arc<Stop>,
    wanted: Mutex<Wanted>,
}

/// What a watch is to do from its next turn on.
#[derive(Debug, Default)]
struct Wanted {
    /// To ask for others.
    targets: Option<Vec<Target>>,
    /// To ask for everything that there is.
    anew: bool,
}

impl Line {
    /// Ends the watch, whatever it is blocked in.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// From now on it asks for `targets`; if some are new, at once and for everything that there is
    /// about them.
    pub fn want(&self, targets: Vec<Target>, some_are_new: bool) {
        self.wanted().targets = Some(targets);
        if some_are_new {
            self.stop.cut();
        }
    }

    /// It asks at once, for everything that there is.
    pub fn restart(&self) {
        self.wanted().anew = true;
        self.stop.cut();
    }

    /// A token or a certificate has changed: it asks anew.
    pub fn nudge(&self) {
        self.stop.nudge();
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Wanted {
        std::mem::take(&mut *self.wanted())
    }
}

/// How a turn ended.
#[derive(Debug)]
pub enum Outcome {
    /// Well; the next is due after this delay.
    Answered(Duration),
    /// Without an answer.
    Failed(Failure),
    /// It was the last.
    Ended,
}

/// What a watch begins with.
pub struct Beginning {
    /// Its number.
    pub id: WatchId,
    /// What it asks for.
    pub upsync: Upsync,
    /// That is the parent folder of the targets.
    pub is_parent: bool,
    /// Whose servers the answers have.
    pub targets: Vec<Target>,
    /// How it is told to end.
    pub line: Arc<Line>,
    /// Tokens and certificates.
    pub vault: Arc<Vault>,
    /// Where it logs.
    pub log: Log,
    /// Told how it does.
    pub recorder: Recorder,
}

/// See the module.
pub struct Watch {
    poller: Poller,
    line: Arc<Line>,
    index: Index,
    reads: Reads,
    /// `None` for a folder that is the upstreams' own.
    sharing: Option<Sharing>,
    voice: Voice,
    status: Status,
    tell: Tell,
    began: Instant,
    /// No request before, on the clock of `began`.
    next_ask: Duration,
    doubt: Doubt,
    /// What the last answer said is in force, with nothing left to do about it.
    in_force: bool,
    random: RandomState,
}

impl Watch {
    /// A watch that has asked for nothing yet.
    pub fn new(beginning: Beginning, tell: Tell) -> Watch {
        let Beginning {
            id,
            upsync,
            is_parent,
            targets,
            line,
            vault,
            log,
            recorder,
        } = beginning;
        let poller = Poller::new(upsync, targets, Arc::clone(&line.stop), vault);
        Watch {
            index: Index::new(poller.upsync().interval),
            reads: Reads::default(),
            sharing: is_parent.then(Sharing::default),
            voice: Voice::new(poller.upsync(), log),
            status: Status::new(id, &poller, recorder),
            poller,
            line,
            tell,
            began: Instant::now(),
            next_ask: Duration::ZERO,
            doubt: Doubt::default(),
            in_force: false,
            random: RandomState::new(),
        }
    }

    /// What there is to do now: direct reads, then one request, which waits for at most `wait` if
    /// that is given. Uses `kept` if it is still good.
    pub fn turn(&mut self, wait: Option<Duration>, kept: Option<Kept>) -> Outcome {
        if !self.line.stop.renew() {
            return Outcome::Ended;
        }
        if let Some(kept) = kept {
            self.poller.take(kept);
        }
        let wanted = self.line.take();
        if let Some(targets) = wanted.targets {
            self.retarget(targets);
        }
        if wanted.anew {
            self.restart();
        }
        let result = self.work(wait);
        let now = self.now();
        self.voice.passed(&mut self.poller, now);
        match result {
            Ok(delay) => {
                self.status.rests(delay);
                Outcome::Answered(delay)
            }
            Err(Fault::Stopped) if self.line.stop.is_stopped() => Outcome::Ended,
            // It is wanted otherwise.
            Err(Fault::Stopped) => Outcome::Answered(Duration::ZERO),
            Err(fault) => Outcome::Failed(self.failed(&fault)),
        }
    }

    /// The source has room for so many requests at once.
    pub fn is_crowded(&self, room: usize) {
        let what = format!(
            "no room for one more connection or request (as beyond Consul's \
             http_max_conns_per_client), all upstreams of this source take turns with {room} at once"
        );
        self.voice.all(&self.poller, Level::Warn, &what);
    }

    /// The connection that it leaves to others.
    pub fn give(&mut self) -> Option<Kept> {
        self.poller.give()
    }

    fn retarget(&mut self, targets: Vec<Target>) {
        self.in_force = false;
        let is_known = |feed| targets.iter().any(|target| target.feed == feed);
        self.reads.retain(is_known);
        self.voice.retain(is_known);
        if let Some(sharing) = &mut self.sharing {
            sharing.retain(is_known);
        }
        let known = self.poller.targets();
        if targets.iter().any(|target| !known.contains(target)) {
            self.restart();
        }
        self.poller.set_targets(targets);
        self.status.describes(&self.poller);
    }

    /// The next request is made at once and answered whatever is known.
    fn restart(&mut self) {
        self.in_force = false;
        self.index.restart();
        self.next_ask = Duration::ZERO;
    }

    /// Returns the delay before the next turn.
    fn work(&mut self, wait: Option<Duration>) -> Result<Duration, Fault> {
        if let Some(delay) = self.direct_reads()? {
            return Ok(delay);
        }
        if self.now() >= self.next_ask {
            let delay = self.ask(wait)?;
            self.next_ask = self.now() + delay;
        }
        let read = self.reads.next();
        if read.is_none() {
            self.status.settles();
        }
        let due = read.unwrap_or(self.next_ask);
        Ok(due.min(self.next_ask).saturating_sub(self.now()))
    }

    /// One request and its answer; returns the delay before the next.
    fn ask(&mut self, wait: Option<Duration>) -> Result<Duration, Fault> {
        let mut wait = wait.unwrap_or(self.poller.wait()).min(self.poller.wait());
        if let Some(due) = self.reads.next() {
            wait = wait.min(due.saturating_sub(self.now()));
        }
        wait = self.doubt.wait(wait, self.now());
        let asked = self.index.get();
        self.status.asks();
        let in_force = std::mem::take(&mut self.in_force);
        let answer = match self.poller.ask(asked, wait, in_force) {
            Err(fault) => return self.unshareable(fault),
            Ok(answer) => answer,
        };
        let (index, took) = (answer.index, answer.took);
        let heard = answer.heard.as_ref();
        let is_empty = heard.is_some_and(|heard| heard.iter().all(Heard::is_empty));
        let is_known = heard.is_none();
        let verdict = match self.hear(answer, asked)? {
            Ok(verdict) => verdict,
            Err(delay) => return Ok(delay),
        };
        self.in_force = !is_empty && verdict.is_settled() && self.reads.next().is_none();
        if verdict.changed {
            self.poller.is_news();
        }
        self.doubt.answered(verdict.held, is_empty, self.now());
        if self.voice.answers() {
            self.voice.all(&self.poller, Level::Notice, "answers again");
        }
        if index < asked {
            let back = format!("index went back from {asked} to {index}");
            self.voice.all(&self.poller, Level::Notice, &back);
        }
        let answered = Answered {
            index,
            changed: verdict.changed,
            wait,
            took,
            now: self.now(),
        };
        let delay = self.index.answered(answered, self.random());
        self.status.answered(index, verdict.changed, is_known);
        Ok(self.doubt.delay(delay, self.now()))
    }

    /// Teaches what an answer says: what became of it, or the delay after which a parent folder
    /// that is no source for all is asked for again.
    fn hear(&mut self, answer: Answer, asked: u64) -> Result<Result<Verdict, Duration>, Fault> {
        if answer.heard.is_some()
            && let Some(why) = self.is_foreign(&answer, asked)
        {
            return self.split(&why).map(Err);
        }
        let (index, seen_ns, share) = (answer.index, answer.seen_ns, answer.share);
        let Some(heard) = answer.heard else {
            return Ok(Ok(Verdict::default()));
        };
        let feeds = self.poller.targets().iter().map(|target| target.feed);
        let mut lists: Vec<(FeedId, Heard)> = feeds.zip(heard).collect();
        if let Some(why) = self.read_absent(index, &mut lists)? {
            return self.split(&why).map(Err);
        }
        self.join()?;
        let verdict = self.teach(index, seen_ns, lists, false)?;
        if let Some(sharing) = &mut self.sharing {
            sharing.newest = sharing.newest.max(share.newest);
        }
        Ok(Ok(verdict))
    }

    /// Tells a lesson, logs what is new in it, and notes what is to be read again.
    fn teach(
        &mut self,
        index: u64,
        seen_ns: u64,
        lists: Vec<(FeedId, Heard)>,
        confirmed: bool,
    ) -> Result<Verdict, Fault> {
        let told: Vec<_> = lists
            .iter()
            .map(|(feed, heard)| (*feed, heard.refused.clone(), heard.is_empty()))
            .collect();
        let origin = Origin {
            source: self.status.source(),
            index,
            seen_ns,
        };
        let verdict = self.say(Told::Lesson(Lesson {
            origin,
            lists,
            confirmed,
        }))?;
        let second = self.now() + SECOND;
        for (feed, refused, is_empty) in told {
            self.voice.heard(&self.poller, feed, &refused, is_empty);
            if !verdict.confirm.contains(&feed) {
                self.reads.settle(feed);
            }
        }
        for feed in &verdict.confirm {
            self.reads.add(*feed, second, Why::Second);
        }
        Ok(verdict)
    }

    fn say(&mut self, told: Told) -> Result<Verdict, Fault> {
        let verdict = (self.tell)(told);
        if verdict.is_none() {
            // Nobody listens any more.
            self.line.stop.stop();
        }
        verdict.ok_or(Fault::Stopped)
    }

    /// Makes the direct reads that are due; returns a delay if the upstreams are not to be asked
    /// for together any more.
    fn direct_reads(&mut self) -> Result<Option<Duration>, Fault> {
        for _ in 0..DIRECT_MAX {
            let now = self.now();
            let Some((feed, why)) = self.reads.take(now) else {
                break;
            };
            let mut targets = self.poller.targets().iter();
            let Some(target) = targets.find(|target| target.feed == feed).cloned() else {
                continue;
            };
            if let Some(why) = self.read(&target, why)? {
                return self.split(&why).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads one target by itself and teaches that; returns why its parent folder is no source
    /// for it, if that is so.
    fn read(&mut self, target: &Target, why: Why) -> Result<Option<String>, Fault> {
        let answer = match self.poller.direct(target) {
            Ok(answer) => answer,
            Err(fault) => {
                self.reads.add(target.feed, self.now() + SECOND, why);
                return self.unread(target, why, fault);
            }
        };
        self.in_force = false;
        let found = first(answer.heard);
        if let (Why::Absent(index), Some(sharing)) = (why, &mut self.sharing)
            && let Some(why) = sharing.compares(target, &found, index, answer.share)
        {
            return Ok(Some(why));
        }
        let is_second = why == Why::Second;
        if is_second && !self.poller.token_alive()? {
            // What a token that is gone may not read is not gone.
            self.reads.add(target.feed, self.now() + SECOND, why);
            self.voice.dead_token(target, self.now());
            self.status.doubts(DEAD_TOKEN);
            return Ok(None);
        }
        let list = vec![(target.feed, found)];
        self.teach(answer.index, answer.seen_ns, list, is_second)?;
        Ok(None)
    }

    fn failed(&mut self, fault: &Fault) -> Failure {
        self.next_ask = Duration::ZERO;
        self.voice.fails(&self.poller, fault, self.now());
        let delay = self.index.failed(self.random());
        self.status.failed(fault, delay);
        failure(fault, delay)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn random(&self) -> u64 {
        self.random.hash_one(Instant::now())
    }
}

/// What a direct read said.
fn first(heard: Option<Vec<Heard>>) -> Heard {
    heard.into_iter().flatten().next().unwrap_or_default()
}

/// Whose failure a fault is; `delay` is for what is the watch's own.
fn failure(fault: &Fault, delay: Duration) -> Failure {
    match fault {
        Fault::Status {
            status: 400..=428 | 430..=499,
            ..
        } => Failure::Own(delay),
        fault => Failure::Source {
            crowded: fault.is_crowded(),
            turned_away: fault.is_turned_away(),
            retry_after: fault.retry_after(),
        },
    }
}
