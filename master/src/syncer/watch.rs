//! A watch: one thread that asks Consul for one upstream, or for several that share a parent
//! folder, blocking, for as long as it lives.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use weir_worker::settings::Level;

use super::book::FeedId;
use super::client::Fault;
use super::decode::{self, Known, Refused};
use super::index::{Answered, Index};
use super::lesson::{Heard, Lesson, Origin, Verdict};
use super::log::Log;
use super::poll::{Answer, Poller, Target};
use super::stop::Stop;
use super::vault::Vault;
use crate::settings::Upsync;

/// A watch has a small stack, as there may be a thousand; the resolver needs some of it.
const STACK: usize = 512 * 1024;

/// What a large removal waits for its second read.
const SECOND_READ: Duration = Duration::from_millis(100);

/// Starts a watch of `upsync`, whose answers say something about each of `targets`. `handle` gets
/// the lesson of each answer and returns once it is published, equal or held: what became of it, or
/// `None` when nobody listens any more. Only then is the answer's index committed.
///
/// # Errors
/// No thread can be had.
pub fn start<H>(
    upsync: Upsync,
    targets: Vec<Target>,
    vault: Arc<Vault>,
    log: Log,
    handle: H,
) -> io::Result<Arc<Stop>>
where
    H: FnMut(Lesson) -> Option<Verdict> + Send + 'static,
{
    let stop = Arc::new(Stop::default());
    let source = upsync.to_string();
    let said = vec![Said::default(); targets.len()];
    let interval = upsync.interval;
    let poller = Poller::new(upsync, targets, Arc::clone(&stop), vault);
    let watch = Watch {
        source: source.into(),
        index: Index::new(poller.wait(), interval),
        poller,
        said,
        failing: false,
        began: Instant::now(),
        random: RandomState::new(),
        stop: Arc::clone(&stop),
        log,
        handle,
    };
    thread::Builder::new()
        .name("watch".to_owned())
        .stack_size(STACK)
        .spawn(move || watch.run())?;
    Ok(stop)
}

/// What was logged about a target.
#[derive(Clone, Debug, Default)]
struct Said {
    known: Known,
    /// The last answer had no server for it.
    empty: bool,
}

struct Watch<H> {
    /// For people, no secret.
    source: Arc<str>,
    poller: Poller,
    /// By target.
    said: Vec<Said>,
    index: Index,
    /// The last request failed.
    failing: bool,
    began: Instant,
    random: RandomState,
    stop: Arc<Stop>,
    log: Log,
    handle: H,
}

impl<H: FnMut(Lesson) -> Option<Verdict>> Watch<H> {
    fn run(mut self) {
        while !self.stop.is_stopped() {
            let delay = match self.ask() {
                Ok(delay) => delay,
                Err(Fault::Stopped) => return,
                Err(fault) => self.failed(&fault),
            };
            if !delay.is_zero() && !self.stop.sleep(delay) {
                return;
            }
        }
    }

    /// One request and its answer; returns the delay before the next.
    fn ask(&mut self) -> Result<Duration, Fault> {
        let asked = self.index.get();
        let Answer {
            index,
            took,
            seen_ns,
            heard,
            ..
        } = self.poll(asked)?;
        let refused: Vec<_> = heard.iter().map(|heard| heard.refused.clone()).collect();
        let empty: Vec<bool> = heard.iter().map(|h| h.servers.is_empty()).collect();
        let lesson = self.lesson(index, seen_ns, heard);
        let mut verdict = (self.handle)(lesson).ok_or(Fault::Stopped)?;
        verdict.changed |= self.confirm(&verdict.confirm)?;
        if std::mem::take(&mut self.failing) {
            self.say(Level::Notice, format_args!("answers again"));
        }
        for (at, (refused, empty)) in refused.iter().zip(empty).enumerate() {
            self.report(at, refused, empty);
        }
        if index < asked {
            self.say(
                Level::Notice,
                format_args!("index went back from {asked} to {index}"),
            );
        }
        let answered = Answered {
            index,
            changed: verdict.changed,
            took,
            now: self.began.elapsed(),
        };
        let random = self.random();
        Ok(self.index.answered(answered, random))
    }

    /// Reads feeds directly, a moment later, until what is said of them is applied or held. Returns
    /// whether that changed something.
    fn confirm(&mut self, feeds: &[FeedId]) -> Result<bool, Fault> {
        let mut changed = false;
        let targets = self.poller.targets().iter();
        let asked: Vec<Target> = targets
            .filter(|target| feeds.contains(&target.feed))
            .cloned()
            .collect();
        for target in asked {
            loop {
                if !self.stop.sleep(SECOND_READ) {
                    return Err(Fault::Stopped);
                }
                let answer = self.poller.direct(&target)?;
                let mut lesson = self.lesson(answer.index, answer.seen_ns, Vec::new());
                lesson.lists = std::iter::once(target.feed).zip(answer.heard).collect();
                lesson.confirmed = true;
                let verdict = (self.handle)(lesson).ok_or(Fault::Stopped)?;
                changed |= verdict.changed;
                if verdict.confirm.is_empty() {
                    break;
                }
            }
        }
        Ok(changed)
    }

    fn poll(&mut self, index: u64) -> Result<Answer, Fault> {
        let wait = self.poller.wait();
        let result = self.poller.ask(index, wait);
        for (address, fault) in self.poller.passed() {
            self.say(
                Level::Warn,
                format_args!("{address} failed and is passed over: {fault}"),
            );
        }
        result
    }

    fn lesson(&self, index: u64, seen_ns: u64, heard: Vec<Heard>) -> Lesson {
        let feeds = self.poller.targets().iter().map(|target| target.feed);
        Lesson {
            origin: Origin {
                source: Arc::clone(&self.source),
                index,
                seen_ns,
            },
            lists: feeds.zip(heard).collect(),
            confirmed: false,
        }
    }

    fn failed(&mut self, fault: &Fault) -> Duration {
        self.failing = true;
        let random = self.random();
        let delay = self.index.failed(random);
        self.log.log(
            Level::Error,
            format_args!(
                "upsync_recv: recv error with upsync_server: {}, {}: {fault}; its servers stay, \
                 retry in {} ms",
                self.poller.upsync().host,
                self.upstreams(),
                delay.as_millis().max(1)
            ),
        );
        delay
    }

    /// Logs what is new about one target: entries that are none, and the first of a row of answers
    /// without a server.
    fn report(&mut self, at: usize, refused: &[Refused], empty: bool) {
        let said = &mut self.said[at];
        let news = said.known.news(refused);
        let emptied = empty && !said.empty;
        said.empty = empty;
        let upstream = format!("upstream \"{}\"", self.poller.targets()[at].upstream);
        for entry in news {
            let key = decode::excerpt(&entry.key);
            let reason = &entry.reason;
            self.say_of(
                &upstream,
                Level::Error,
                format_args!("key {key} is skipped: {reason}"),
            );
        }
        if emptied {
            self.say_of(&upstream, Level::Warn, format_args!("has no server"));
        }
    }

    fn say(&self, level: Level, what: std::fmt::Arguments<'_>) {
        self.say_of(&self.upstreams(), level, what);
    }

    fn say_of(&self, upstream: &str, level: Level, what: std::fmt::Arguments<'_>) {
        let host = &self.poller.upsync().host;
        self.log.log(
            level,
            format_args!("upsync_server: {host}, {upstream}: {what}"),
        );
    }

    /// The upstreams, for a log line about all of them.
    fn upstreams(&self) -> String {
        match self.poller.targets() {
            [] => String::new(),
            [one] => format!("upstream \"{}\"", one.upstream),
            [first, rest @ ..] => {
                format!("upstream \"{}\" and {} more", first.upstream, rest.len())
            }
        }
    }

    fn random(&self) -> u64 {
        self.random.hash_one(Instant::now())
    }
}
