//! A watch: one thread that asks Consul for one upstream, or for several that share a parent
//! folder, blocking, for as long as it lives.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use weir_shm::Server;
use weir_worker::settings::Level;

use super::client::{Client, Deadlines, Fault};
use super::consul;
use super::decode::{self, Decoded, Entry, Known, Refused};
use super::index::{Answered, Index};
use super::log::Log;
use super::stop::Stop;
use crate::settings::Upsync;

/// A watch has a small stack, as there may be a thousand; the resolver needs some of it.
const STACK: usize = 512 * 1024;

/// What a watch asks for, and how long it waits.
#[derive(Clone, Debug)]
pub struct Source {
    /// What the request is for.
    pub upsync: Upsync,
    /// Whose lists are in its answers.
    pub targets: Vec<Target>,
    /// `wait` of a blocking query.
    pub wait: Duration,
    /// Of one request.
    pub deadlines: Deadlines,
}

/// An upstream whose servers a watch learns.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name, for the log.
    pub upstream: String,
    /// Where its keys lie, decoded.
    folder: String,
    known: Known,
    /// The last answer had no server for it.
    empty: bool,
}

impl Target {
    /// The upstream with keys below `prefix`, as [`Upsync::prefix`].
    pub fn new(upstream: &str, prefix: &str) -> Target {
        Target {
            upstream: upstream.to_owned(),
            folder: consul::folder(prefix),
            known: Known::default(),
            empty: false,
        }
    }
}

impl Source {
    /// With the usual times.
    pub fn new(upsync: Upsync, targets: Vec<Target>) -> Source {
        let wait = consul::wait(upsync.timeout);
        Source {
            wait,
            deadlines: consul::deadlines(wait, upsync.timeout),
            upsync,
            targets,
        }
    }

    /// The upstreams, for a log line about all of them.
    fn upstreams(&self) -> String {
        match &self.targets[..] {
            [] => String::new(),
            [one] => format!("upstream \"{}\"", one.upstream),
            [first, rest @ ..] => {
                format!("upstream \"{}\" and {} more", first.upstream, rest.len())
            }
        }
    }
}

/// Starts a watch. `handle` gets the servers of each answer, a list for each target in their order,
/// each in key order (none: the folder is empty), and returns once they are published, equal or
/// held: whether they changed the table, or `None` when nobody listens any more. Only then is the
/// answer's index committed.
///
/// # Errors
/// No thread can be had.
pub fn start<H>(source: Source, log: Log, handle: H) -> io::Result<Arc<Stop>>
where
    H: FnMut(Vec<Vec<Server>>) -> Option<bool> + Send + 'static,
{
    let stop = Arc::new(Stop::default());
    let upsync = &source.upsync;
    let watch = Watch {
        client: Client::new(&upsync.name, upsync.port, Arc::clone(&stop)),
        index: Index::new(source.wait, upsync.interval),
        failing: false,
        began: Instant::now(),
        random: RandomState::new(),
        stop: Arc::clone(&stop),
        source,
        log,
        handle,
    };
    thread::Builder::new()
        .name("watch".to_owned())
        .stack_size(STACK)
        .spawn(move || watch.run())?;
    Ok(stop)
}

struct Watch<H> {
    source: Source,
    client: Client,
    index: Index,
    /// The last request failed.
    failing: bool,
    began: Instant,
    random: RandomState,
    stop: Arc<Stop>,
    log: Log,
    handle: H,
}

impl<H: FnMut(Vec<Vec<Server>>) -> Option<bool>> Watch<H> {
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
        let request = consul::request(&self.source.upsync, asked, self.source.wait);
        let sent = Instant::now();
        let response = self.client.get(&request, self.source.deadlines)?;
        let took = sent.elapsed();
        let answer = consul::answer(&response).map_err(Fault::Invalid)?;
        let index = answer.index;
        let decoded = decode_each(&self.source.targets, answer.entries);
        let (lists, refused): (Vec<_>, Vec<_>) =
            decoded.into_iter().map(|d| (d.servers, d.refused)).unzip();
        let empty: Vec<bool> = lists.iter().map(Vec::is_empty).collect();
        let changed = (self.handle)(lists).ok_or(Fault::Stopped)?;
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
            changed,
            took,
            now: self.began.elapsed(),
        };
        let random = self.random();
        Ok(self.index.answered(answered, random))
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
                self.source.upsync.host,
                self.source.upstreams(),
                delay.as_millis().max(1)
            ),
        );
        delay
    }

    /// Logs what is new about one target: entries that are none, and the first of a row of answers
    /// without a server.
    fn report(&mut self, at: usize, refused: &[Refused], empty: bool) {
        let target = &mut self.source.targets[at];
        let news = target.known.news(refused);
        let emptied = empty && !target.empty;
        target.empty = empty;
        let upstream = format!("upstream \"{}\"", target.upstream);
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
            self.say_of(
                &upstream,
                Level::Warn,
                format_args!("has no server, the last list stays"),
            );
        }
    }

    fn say(&self, level: Level, what: std::fmt::Arguments<'_>) {
        self.say_of(&self.source.upstreams(), level, what);
    }

    fn say_of(&self, upstream: &str, level: Level, what: std::fmt::Arguments<'_>) {
        let host = &self.source.upsync.host;
        self.log.log(
            level,
            format_args!("upsync_server: {host}, {upstream}: {what}"),
        );
    }

    fn random(&self) -> u64 {
        self.random.hash_one(Instant::now())
    }
}

/// What the entries of one answer say about each target.
fn decode_each(targets: &[Target], mut entries: Vec<Entry<'_>>) -> Vec<Decoded> {
    // One search a target finds its entries, so that many targets do not cost a scan each.
    entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    targets
        .iter()
        .map(|target| {
            let folder = &target.folder;
            decode::decode(folder, decode::below(folder, &entries))
        })
        .collect()
}
