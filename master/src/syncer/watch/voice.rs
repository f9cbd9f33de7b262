//! What a watch logs: each thing once, and a fault that lasts again only now and then.

use std::collections::HashMap;
use std::time::Duration;

use weir_worker::settings::Level;

use super::super::book::FeedId;
use super::super::client::Fault;
use super::super::decode::{Known, Refused, excerpt};
use super::super::log::Log;
use super::super::poll::Poller;
use crate::settings::Upsync;

/// A fault that lasts is logged this often.
const LASTING: Duration = Duration::from_secs(10);

/// What was logged about an upstream.
#[derive(Debug, Default)]
struct Said {
    known: Known,
    /// The last answer had no server for it.
    empty: bool,
}

/// See the module.
pub struct Voice {
    log: Log,
    host: String,
    said: HashMap<FeedId, Said>,
    /// The last request failed: how, and when that was logged.
    failing: Option<(String, Duration)>,
    /// When it was last said that the token is not alive.
    warned: Option<Duration>,
}

impl Voice {
    /// It has said nothing yet.
    pub fn new(upsync: &Upsync, log: Log) -> Voice {
        Voice {
            log,
            host: upsync.host.clone(),
            said: HashMap::new(),
            failing: None,
            warned: None,
        }
    }

    /// Forgets all but some feeds.
    pub fn retain(&mut self, feeds: impl Fn(FeedId) -> bool) {
        self.said.retain(|feed, _| feeds(*feed));
    }

    /// Says something about all upstreams of a watch.
    pub fn all(&self, poller: &Poller, level: Level, what: &str) {
        self.say(&upstreams(poller), level, what);
    }

    /// A request failed.
    pub fn fails(&mut self, poller: &Poller, fault: &Fault, now: Duration) {
        let text = fault.to_string();
        let is_old = |(before, at): &(String, Duration)| *before == text && now < *at + LASTING;
        if self.failing.as_ref().is_some_and(is_old) {
            return;
        }
        self.log.log(
            Level::Error,
            format_args!(
                "upsync_recv: recv error with upsync_server: {}, {}: {text}; its servers stay",
                self.host,
                upstreams(poller),
            ),
        );
        self.failing = Some((text, now));
    }

    /// Tells which addresses failed although another one was left.
    pub fn passed(&self, poller: &mut Poller) {
        for (address, fault) in poller.passed() {
            let what = format!("{address} failed, another address is asked: {fault}");
            self.all(poller, Level::Warn, &what);
        }
    }

    /// A request was answered; whether that is news.
    pub fn answers(&mut self) -> bool {
        self.failing.take().is_some()
    }

    /// An upstream could not be read by itself.
    pub fn unread(&self, poller: &Poller, upstream: &str, fault: &Fault) {
        let upstream = format!("upstream \"{upstream}\"");
        let folder = &poller.upsync().prefix;
        let what = format!("it is not below {folder}/ and could not be read directly: {fault}");
        self.say(&upstream, Level::Warn, &what);
    }

    /// What an upstream lost is not believed: the token is not alive.
    pub fn dead_token(&mut self, upstream: &str, now: Duration) {
        if self.warned.is_some_and(|at| now < at + LASTING) {
            return;
        }
        self.warned = Some(now);
        let upstream = format!("upstream \"{upstream}\"");
        let what = "its servers stay: the source does not know the token";
        self.say(&upstream, Level::Error, what);
    }

    /// Logs what is new about one upstream: entries that are none, and the first of a row of
    /// answers without a server.
    pub fn heard(&mut self, poller: &Poller, feed: FeedId, refused: &[Refused], empty: bool) {
        let said = self.said.entry(feed).or_default();
        let emptied = empty && !said.empty;
        said.empty = empty;
        let news = said.known.news(refused);
        if news.is_empty() && !emptied {
            return;
        }
        let mut targets = poller.targets().iter();
        let target = targets.find(|target| target.feed == feed);
        let name = target.map_or("", |target| &target.upstream);
        let upstream = format!("upstream \"{name}\"");
        for entry in news {
            let (key, reason) = (excerpt(&entry.key), &entry.reason);
            let what = format!("key {key} is skipped: {reason}");
            self.say(&upstream, Level::Error, &what);
        }
        if emptied {
            let what = "has no server";
            self.say(&upstream, Level::Warn, what);
        }
    }

    fn say(&self, upstream: &str, level: Level, what: &str) {
        let host = &self.host;
        self.log.log(
            level,
            format_args!("upsync_server: {host}, {upstream}: {what}"),
        );
    }
}

/// The upstreams, for a log line about all of them.
fn upstreams(poller: &Poller) -> String {
    match poller.targets() {
        [] => String::new(),
        [one] => format!("upstream \"{}\"", one.upstream),
        [first, rest @ ..] => {
            format!("upstream \"{}\" and {} more", first.upstream, rest.len())
        }
    }
}
