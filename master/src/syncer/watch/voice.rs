//! What a watch logs: each thing once, and a fault that lasts again only now and then.

use std::collections::HashMap;
use std::time::Duration;

use weir_worker::settings::Level;

use super::super::book::FeedId;
use super::super::client::Fault;
use super::super::decode::{Known, Refused, excerpt};
use super::super::log::Log;
use super::super::poll::{Passed, Poller, Target, Then};
use crate::settings::Upsync;

/// A fault that lasts is logged again after this time, then after twice as long each time: a thousand
/// upstreams may share one.
const LASTING: Duration = Duration::from_secs(10);
/// The longest that it doubles to.
const LASTING_MAX: Duration = Duration::from_secs(320);
/// So many lines are logged in the time of [`LASTING`]: one cause may show itself in turns, and what
/// a source says of it may differ each time.
const LINES: usize = 3;
/// So many different ones are remembered.
const KINDS: usize = 8;

/// Why a second read does not count.
pub const DEAD_TOKEN: &str = "its servers stay: the source does not know the token";

/// What was logged about an upstream.
#[derive(Debug, Default)]
struct Said {
    known: Known,
    /// The last answer had no server for it, or no folder.
    empty: bool,
}

/// The faults of a row of failed requests that were logged.
#[derive(Debug, Default)]
struct Faults {
    said: Vec<Fell>,
    /// Lines logged since then.
    lines: usize,
    since: Duration,
}

/// A fault that was logged: its text, when, and how long it is not logged again.
#[derive(Debug)]
struct Fell {
    text: String,
    at: Duration,
    pause: Duration,
}

impl Faults {
    /// Whether a fault is to be logged at `now`.
    fn is_news(&mut self, text: &str, now: Duration) -> bool {
        if now >= self.since + LASTING {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES {
            return false;
        }
        match self.said.iter_mut().find(|fell| fell.text == text) {
            Some(fell) if now < fell.at + fell.pause => return false,
            Some(fell) => {
                fell.pause = (fell.pause * 2).min(LASTING_MAX);
                fell.at = now;
            }
            None => {
                self.said.truncate(KINDS - 1);
                let text = text.to_owned();
                let (at, pause) = (now, LASTING);
                self.said.insert(0, Fell { text, at, pause });
            }
        }
        self.lines += 1;
        true
    }
}

/// See the module.
pub struct Voice {
    log: Log,
    host: String,
    said: HashMap<FeedId, Said>,
    /// The last request failed: what was logged of this row, and when.
    failing: Option<Faults>,
    /// What was last said of direct reads that failed.
    warned: Faults,
    /// And of requests in whose place others were made.
    passed: Faults,
}

impl Voice {
    /// It has said nothing yet.
    pub fn new(upsync: &Upsync, log: Log) -> Voice {
        Voice {
            log,
            host: upsync.host.clone(),
            said: HashMap::new(),
            failing: None,
            warned: Faults::default(),
            passed: Faults::default(),
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
        if !self.failing.get_or_insert_default().is_news(&text, now) {
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
    }

    /// Tells which requests failed although no answer was missed by that.
    pub fn passed(&mut self, poller: &mut Poller, now: Duration) {
        for Passed {
            address,
            fault,
            then,
        } in poller.passed()
        {
            let what = match then {
                Then::Ask => format!("{address} failed, another address is asked: {fault}"),
                Then::Read => {
                    format!("{address} does not tell of changes, what there is is read: {fault}")
                }
            };
            if self.passed.is_news(&what, now) {
                self.all(poller, Level::Warn, &what);
            }
        }
    }

    /// A request was answered; whether that is news.
    pub fn answers(&mut self) -> bool {
        self.failing.take().is_some()
    }

    /// An upstream could not be read by itself.
    pub fn unread(&mut self, target: &Target, what: &str, fault: &Fault, now: Duration) {
        let upstream = shown(target);
        let what = format!("{what}: {fault}");
        if self.warned.is_news(&format!("{upstream} {what}"), now) {
            self.say(&upstream, Level::Warn, &what);
        }
    }

    /// What an upstream lost is not believed: the token is not alive.
    pub fn dead_token(&mut self, target: &Target, now: Duration) {
        let upstream = shown(target);
        if self
            .warned
            .is_news(&format!("{upstream} {DEAD_TOKEN}"), now)
        {
            self.say(&upstream, Level::Error, DEAD_TOKEN);
        }
    }

    /// Logs what is new about one upstream: entries that are none, and the first of a row of
    /// answers without a server, or a folder.
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
        let upstream = target.map_or_else(String::new, shown);
        for entry in news {
            let (key, reason) = (excerpt(&entry.key), &entry.reason);
            let what = format!("key {key} is skipped: {reason}");
            self.say(&upstream, Level::Error, &what);
        }
        if emptied {
            let is_prefix = target.is_some_and(|target| target.upsync.folders);
            let what = if is_prefix {
                "has no folder"
            } else {
                "has no server"
            };
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
        [one] => shown(one),
        [first, rest @ ..] => {
            format!("{} and {} more", shown(first), rest.len())
        }
    }
}

/// A target, for a log line.
fn shown(target: &Target) -> String {
    let what = if target.upsync.folders {
        "upsync_discover"
    } else {
        "upstream"
    };
    format!("{what} \"{}\"", target.upstream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use weir_worker::settings::LogTarget;

    use super::*;
    use crate::settings::SourceAddress;

    #[test]
    fn addresses_that_are_all_away_are_named_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = std::fs::File::create(&path).unwrap();
        let target = LogTarget {
            resource: 0,
            level: Level::Warn,
        };
        let log = Log::new(vec![file], Arc::from([target]));
        let mut upsync = Upsync::folder("127.0.0.1", 1, "up/a");
        upsync.addresses = [0, 1]
            .map(|_| {
                let gone = TcpListener::bind("127.0.0.1:0").unwrap();
                SourceAddress::tcp("127.0.0.1", gone.local_addr().unwrap().port())
            })
            .into();
        let mut voice = Voice::new(&upsync, log);
        let target = Target::new(0, "a", &upsync);
        let mut poller = Poller::new(upsync, vec![target], Arc::default(), Arc::default());
        for second in 0..60 {
            let wait = Duration::from_millis(20);
            poller.ask(0, wait, false).unwrap_err();
            voice.passed(&mut poller, Duration::from_secs(second));
        }
        let lines = std::fs::read_to_string(path).unwrap();
        let said = lines.matches("failed, another address is asked: connect() failed");
        assert_eq!(said.count(), 3, "{lines}");
    }

    #[test]
    fn a_fault_that_lasts_is_logged_now_and_then_however_it_shows_itself() {
        let logged = |text: fn(u64) -> String, seconds: u64| {
            let mut faults = Faults::default();
            let at = |second| faults.is_news(&text(second), Duration::from_secs(second));
            (0..seconds).map(at).filter(|is_news| *is_news).count()
        };
        let one = |_| "reset".to_owned();
        assert_eq!(logged(one, 60), 3);
        assert_eq!(logged(one, 3600), 5 + 11);
        assert_eq!(logged(|second| format!("reset {}", second % 2), 60), 6);
        assert_eq!(logged(|second| format!("at {second}"), 60), 6 * LINES);
    }
}
