//! A watch: one thread that asks Consul for one upstream, blocking, for as long as it lives.

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
use super::decode::{self, Known, Refused};
use super::index::{Answered, Index};
use super::log::Log;
use super::stop::Stop;
use crate::settings::Upsync;

/// A watch has a small stack, as there may be a thousand; the resolver needs some of it.
const STACK: usize = 512 * 1024;

/// What a watch asks for, and how long it waits.
#[derive(Clone, Debug)]
pub struct Source {
    /// The upstream's name, for the log.
    pub upstream: String,
    /// Where its servers are.
    pub upsync: Upsync,
    /// `wait` of a blocking query.
    pub wait: Duration,
    /// Of one request.
    pub deadlines: Deadlines,
}

impl Source {
    /// With the usual times.
    pub fn new(upstream: &str, upsync: &Upsync) -> Source {
        let wait = consul::wait(upsync.timeout);
        Source {
            upstream: upstream.to_owned(),
            upsync: upsync.clone(),
            wait,
            deadlines: consul::deadlines(wait, upsync.timeout),
        }
    }
}

/// Starts a watch. `handle` gets the servers of each answer, in key order (none: the folder is
/// empty), and returns once they are published, equal or held: whether they changed the table, or
/// `None` when nobody listens any more. Only then is the answer's index committed.
///
/// # Errors
/// No thread can be had.
pub fn start<H>(source: Source, log: Log, handle: H) -> io::Result<Arc<Stop>>
where
    H: FnMut(Vec<Server>) -> Option<bool> + Send + 'static,
{
    let stop = Arc::new(Stop::default());
    let upsync = &source.upsync;
    let watch = Watch {
        client: Client::new(&upsync.name, upsync.port, Arc::clone(&stop)),
        index: Index::new(source.wait, upsync.interval),
        folder: consul::folder(&upsync.prefix),
        known: Known::default(),
        failing: false,
        empty: false,
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
    folder: String,
    client: Client,
    index: Index,
    known: Known,
    /// The last request failed.
    failing: bool,
    /// The last answer had no server.
    empty: bool,
    began: Instant,
    random: RandomState,
    stop: Arc<Stop>,
    log: Log,
    handle: H,
}

impl<H: FnMut(Vec<Server>) -> Option<bool>> Watch<H> {
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
        let decoded = decode::decode(&self.folder, &answer.entries);
        let empty = decoded.servers.is_empty();
        let changed = (self.handle)(decoded.servers).ok_or(Fault::Stopped)?;
        self.report(&decoded.refused);
        self.recovered(empty);
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
        let upstream = &self.source.upstream;
        self.log.log(
            Level::Error,
            format_args!(
                "upsync_recv: recv error with upsync_server: {}, upstream \"{upstream}\": \
                 {fault}; its servers stay, retry in {} ms",
                self.source.upsync.host,
                delay.as_millis().max(1)
            ),
        );
        delay
    }

    fn report(&mut self, refused: &[Refused]) {
        for entry in self.known.news(refused) {
            let key = decode::excerpt(&entry.key);
            self.say(
                Level::Error,
                format_args!("key {key} is skipped: {}", entry.reason),
            );
        }
    }

    /// Logs the end of a row of failures, and the first of a row of answers without a server.
    fn recovered(&mut self, empty: bool) {
        if std::mem::take(&mut self.failing) {
            self.say(Level::Notice, format_args!("answers again"));
        }
        if empty && !self.empty {
            self.say(
                Level::Warn,
                format_args!("has no server, the last list stays"),
            );
        }
        self.empty = empty;
    }

    fn say(&self, level: Level, what: std::fmt::Arguments<'_>) {
        let Source {
            upstream, upsync, ..
        } = &self.source;
        self.log.log(
            level,
            format_args!(
                "upsync_server: {}, upstream \"{upstream}\": {what}",
                upsync.host
            ),
        );
    }

    fn random(&self) -> u64 {
        self.random.hash_one(Instant::now())
    }
}
