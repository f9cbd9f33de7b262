//! Whose turn it is: the order in which the watches of one address are asked. Pure: time and
//! randomness come in.
//!
//! Consul closes what is beyond 200 connections from one address (its
//! `limits.http_max_conns_per_client`), so no more than [`PLACES`] requests are under way at once.
//! While there are no more watches than places each keeps its own and its requests wait for as
//! long as they may. Otherwise they take turns with shorter waits, so that each is asked at least
//! once in a [`ROUND`]; as each keeps its index, no change is lost in between.
//!
//! A watch whose request failed is stranded. All stranded watches of an address share one back-off,
//! so that a source that is away gets few requests however many watches it has; the first of them
//! that is answered frees the others.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::backoff::{Backoff, FAULT_MAX};

/// Requests under way at once, so that others on this machine get connections too.
pub const PLACES: usize = 128;
/// However crowded the source says that it is.
const PLACES_MIN: usize = 8;
/// After the source was crowded, one place more is tried this often; where that is again one too
/// many, half as often each time, down to [`GROWTH_MAX`].
const GROWTH: Duration = Duration::from_secs(5);
/// See [`GROWTH`].
const GROWTH_MAX: Duration = Duration::from_secs(320);
/// A source that turns so many away at once, one after another, while requests from before are still
/// under way has no room for one more, although it does not say so.
const TURNED_AWAY: u32 = 3;
/// A request that has been under way for so long was there before.
const WAS_THERE: Duration = Duration::from_millis(250);
/// At once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Each watch is asked at least this often, wherever there are more watches than places.
pub const ROUND: Duration = Duration::from_secs(3);
/// So many watches that are refused ask as often as they may; more of them share that rate.
const REFUSED: usize = 20;
/// However many are refused, each is asked this often; it is also how often one that is refused no
/// more lets all the others try.
const REFUSED_MAX: Duration = Duration::from_secs(10);
const PARDON: Duration = Duration::from_secs(1);
/// What the source asks for beyond this with `Retry-After` is not heeded.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Names a watch for as long as the syncer lives; never used twice.
pub type WatchId = u64;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask for this watch. The request may wait for this long, or for as long as it may.
    Ask(WatchId, Option<Duration>),
    /// Nothing before this time.
    At(Duration),
    /// Nothing before one of the requests under way is over, or something is added.
    Nothing,
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It says something about this watch alone, which is not asked before this delay is over.
    Own(Duration),
    /// It may say something about the source.
    Source {
        /// There are too many connections or requests.
        crowded: bool,
        /// It ended a new connection before a byte of an answer.
        turned_away: bool,
        /// What the source asks for.
        retry_after: Option<Duration>,
    },
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// To be asked at this time.
    Ready(Duration),
    /// The same; its last request failed.
    Stranded(Duration),
    /// A request is under way since this time.
    Asking(Duration),
}

#[derive(Debug)]
struct Member {
    /// Keeps its place.
    steady: bool,
    was_stranded: bool,
    /// Its last request failed by what is its own.
    is_refused: bool,
    state: State,
}

/// The back-off of the stranded.
#[derive(Debug, Default)]
struct Pace {
    backoff: Backoff,
    delay: Duration,
    /// The next of them is asked then.
    next: Duration,
    /// When the latest failure was that counted.
    failed: Duration,
    /// The latest so many were turned away.
    turned_away: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Turns {
    members: HashMap<WatchId, Member>,
    ready: BTreeSet<(Duration, WatchId)>,
    stranded: BTreeSet<(Duration, WatchId)>,
    asking: usize,
    steady: usize,
    /// Members that are refused.
    refused: usize,
    /// When those that are refused were last let try at once.
    pardoned: Option<Duration>,
    places: usize,
    /// When `places` last changed.
    grown: Duration,
    /// The next place is tried so much later.
    growth: Duration,
    /// The latest change was one place more.
    has_grown: bool,
    pace: Option<Pace>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            members: HashMap::new(),
            ready: BTreeSet::new(),
            stranded: BTreeSet::new(),
            asking: 0,
            steady: 0,
            refused: 0,
            pardoned: None,
            places: PLACES,
            grown: Duration::ZERO,
            growth: GROWTH,
            has_grown: false,
            pace: None,
        }
    }
}

impl Turns {
    /// One more watch, to be asked at once. A steady one keeps its place while others take turns.
    pub fn add(&mut self, id: WatchId, steady: bool, now: Duration) {
        self.steady += usize::from(steady);
        let member = Member {
            steady,
            was_stranded: false,
            is_refused: false,
            state: State::Ready(now),
        };
        self.ready.insert((now, id));
        self.members.insert(id, member);
    }

    /// Forgets a watch. A request of its that is under way is still to be reported as over.
    pub fn remove(&mut self, id: WatchId) {
        if let Some(member) = self.members.remove(&id) {
            self.steady -= usize::from(member.steady);
            self.refused -= usize::from(member.is_refused);
            self.unqueue(id, member.state);
        }
    }

    /// A watch that is waiting is asked at once.
    pub fn wake(&mut self, id: WatchId, now: Duration) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if let State::Ready(due) = member.state {
            member.state = State::Ready(now);
            self.ready.remove(&(due, id));
            self.ready.insert((now, id));
        }
    }

    /// Requests that are under way.
    #[must_use]
    pub fn asking(&self) -> usize {
        self.asking
    }

    /// How many connections are of use.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.members.len().min(self.places)
    }

    /// How many requests at once the source has room for, where that is known to be too few.
    #[must_use]
    pub fn room(&self) -> Option<usize> {
        (self.places < PLACES).then_some(self.places)
    }

    /// Whether this watch is known.
    #[must_use]
    pub fn has(&self, id: WatchId) -> bool {
        self.members.contains_key(&id)
    }

    /// Whether there is no watch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether someone waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.asking < self.places && !(self.ready.is_empty() && self.stranded.is_empty())
    }

    /// Decides what to do at `now`. What it says to ask for is under way from then on.
    pub fn next(&mut self, now: Duration) -> Next {
        if self.places < PLACES && now >= self.grown + self.growth {
            if self.has_grown {
                // There was room for the last one.
                self.growth = (self.growth / 2).max(GROWTH);
            }
            self.places += 1;
            (self.grown, self.has_grown) = (now, true);
        }
        if self.asking >= self.places {
            return Next::Nothing;
        }
        let paced = self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.next);
        let ready = self.ready.first().copied();
        let stranded = self.stranded.first();
        let stranded = stranded.map(|(due, id)| ((*due).max(paced), *id));
        let is_stranded = match (ready, stranded) {
            (Some(ready), Some(stranded)) => stranded < ready,
            (None, Some(_)) => true,
            _ => false,
        };
        let Some((due, id)) = (if is_stranded { stranded } else { ready }) else {
            return Next::Nothing;
        };
        if due > now {
            return Next::At(due);
        }
        let mut wait = None;
        if let Some(member) = self.members.get_mut(&id) {
            let state = std::mem::replace(&mut member.state, State::Asking(now));
            member.was_stranded = is_stranded;
            let steady = member.steady;
            self.unqueue(id, state);
            wait = self.wait(steady);
        }
        self.asking += 1;
        if let Some(pace) = self.pace.as_mut().filter(|_| is_stranded) {
            // The next one is not kept waiting by one that gets no answer.
            pace.next = now + pace.delay;
            wait = Some(Duration::ZERO);
        }
        Next::Ask(id, wait)
    }

    /// How long a request may wait.
    fn wait(&self, steady: bool) -> Option<Duration> {
        let mut places = self.places.saturating_sub(self.steady);
        let mut sharing = self.members.len() - self.steady;
        let mut keeps = steady;
        if places < PLACES_MIN {
            (places, sharing, keeps) = (self.places, self.members.len(), false);
        }
        if keeps || sharing <= places {
            return None;
        }
        let part = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(ROUND.saturating_mul(part(places)) / part(sharing))
    }

    /// A request was answered; the next is to follow after `delay`.
    pub fn answered(&mut self, id: WatchId, now: Duration, delay: Duration) {
        self.asking = self.asking.saturating_sub(1);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.state = State::Ready(now + delay);
        self.ready.insert((now + delay, id));
        let was_refused = std::mem::take(&mut member.is_refused);
        if member.was_stranded {
            self.free(now);
        }
        self.refused -= usize::from(was_refused);
        if was_refused && self.pardoned.is_none_or(|at| now >= at + PARDON) {
            self.pardon(now);
        }
    }

    /// One that was refused is answered: so may others be, whose token is the same.
    fn pardon(&mut self, now: Duration) {
        self.pardoned = Some(now);
        for (id, member) in self
            .members
            .iter_mut()
            .filter(|(_, member)| member.is_refused)
        {
            if let State::Ready(due) = member.state {
                self.ready.remove(&(due, *id));
                self.ready.insert((due.min(now), *id));
                member.state = State::Ready(due.min(now));
            }
        }
    }

    /// The source answers again.
    fn free(&mut self, now: Duration) {
        self.pace = None;
        for (due, id) in std::mem::take(&mut self.stranded) {
            let due = due.min(now);
            self.ready.insert((due, id));
            if let Some(member) = self.members.get_mut(&id) {
                member.state = State::Ready(due);
            }
        }
    }

    /// A request failed.
    pub fn failed(&mut self, id: WatchId, now: Duration, failure: Failure, random: u64) {
        self.asking = self.asking.saturating_sub(1);
        let began = match self.members.get(&id).map(|member| member.state) {
            Some(State::Asking(began)) => began,
            _ => now,
        };
        self.refuse(id, matches!(failure, Failure::Own(_)));
        let state = match failure {
            Failure::Own(delay) => State::Ready(now + self.shared(delay)),
            Failure::Source { .. } => State::Stranded(now),
        };
        if let Failure::Source {
            crowded,
            turned_away,
            retry_after,
        } = failure
        {
            let at_once = turned_away && now < began + AT_ONCE;
            self.slow_down(began, now, at_once, random);
            self.leave_alone(now, retry_after);
            if crowded || (at_once && self.is_full(now)) {
                self.places = self.asking.clamp(PLACES_MIN, PLACES);
                if std::mem::take(&mut self.has_grown) {
                    self.growth = (self.growth * 2).min(GROWTH_MAX);
                }
                self.grown = now;
            }
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.state = state;
        match state {
            State::Stranded(due) => self.stranded.insert((due, id)),
            State::Ready(due) | State::Asking(due) => self.ready.insert((due, id)),
        };
    }

    fn refuse(&mut self, id: WatchId, is_refused: bool) {
        if let Some(member) = self.members.get_mut(&id) {
            self.refused += usize::from(is_refused);
            self.refused -= usize::from(member.is_refused);
            member.is_refused = is_refused;
        }
    }

    /// The delay of one that is refused, among all that are.
    fn shared(&self, delay: Duration) -> Duration {
        let crowd = u32::try_from(self.refused.div_ceil(REFUSED)).unwrap_or(u32::MAX);
        let longer = delay.saturating_mul(crowd.max(1));
        longer.min(REFUSED_MAX.max(delay))
    }

    fn slow_down(&mut self, began: Duration, now: Duration, turned_away: bool, random: u64) {
        let is_first = self.pace.is_none();
        let pace = self.pace.get_or_insert_default();
        // What broke many requests at once is one failure.
        if is_first || began >= pace.failed {
            pace.delay = pace.backoff.next(FAULT_MAX, random);
            pace.failed = now;
            pace.next = pace.next.max(now + pace.delay);
            pace.turned_away = match turned_away {
                true => pace.turned_away.saturating_add(1),
                false => 0,
            };
        }
    }

    fn leave_alone(&mut self, now: Duration, retry_after: Option<Duration>) {
        if let (Some(asked), Some(pace)) = (retry_after, &mut self.pace) {
            let until = now + asked.min(RETRY_AFTER_MAX) + pace.delay;
            pace.next = pace.next.max(until);
        }
    }

    /// Whether the source turns away what is new and lets be what was there before.
    fn is_full(&self, now: Duration) -> bool {
        let Some(pace) = self.pace.as_ref() else {
            return false;
        };
        let was_there = |member: &Member| matches!(member.state, State::Asking(began) if now >= began + WAS_THERE);
        pace.turned_away >= TURNED_AWAY && self.members.values().any(was_there)
    }

    fn unqueue(&mut self, id: WatchId, state: State) {
        match state {
            State::Ready(due) => self.ready.remove(&(due, id)),
            State::Stranded(due) => self.stranded.remove(&(due, id)),
            State::Asking(_) => false,
        };
    }
}

#[cfg(test)]
mod tests;
