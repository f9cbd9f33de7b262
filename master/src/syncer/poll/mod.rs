//! The poller: asks one source, blocking, and reads its answers.

mod etcd;
mod folders;
mod memory;
mod read;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::book::FeedId;
use super::client::{Client, Fault, Kept, Piece, Stream};
use super::connection::Tls;
use super::consul::{self, Ask};
use super::lesson::Heard;
use super::response::Response;
use super::stop::Stop;
use super::tls;
use super::vault::Vault;
use crate::settings::{Kind, Secret, Upsync};
use etcd::{Bell, Sound};
use memory::Memory;
pub use read::Share;
use read::read;

/// An upstream whose servers a poller learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose list it is.
    pub feed: FeedId,
    /// Its name, for the log.
    pub upstream: String,
    /// Its own source, whatever folder it is asked for with.
    pub upsync: Upsync,
    /// Where its keys lie, decoded.
    folder: String,
}

impl Target {
    /// An upstream with keys below `upsync.prefix`.
    pub fn new(feed: FeedId, upstream: &str, upsync: &Upsync) -> Target {
        Target {
            feed,
            upstream: upstream.to_owned(),
            folder: consul::folder(&upsync.prefix),
            upsync: upsync.clone(),
        }
    }
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// To ask the next time with.
    pub index: u64,
    /// From the request to the answer's last byte.
    pub took: Duration,
    /// When its last byte was read, in nanoseconds of CLOCK_MONOTONIC.
    pub seen_ns: u64,
    /// What it says about each target, in their order; `None`: what the last one said, which is in
    /// force.
    pub heard: Option<Vec<Heard>>,
    /// How much of it is about the targets.
    pub share: Share,
}

/// See the module.
#[derive(Debug)]
pub struct Poller {
    upsync: Upsync,
    targets: Vec<Target>,
    /// One for each address.
    lines: Vec<Line>,
    /// The address that is asked.
    at: usize,
    stop: Arc<Stop>,
    vault: Arc<Vault>,
    /// Addresses that failed while others were left.
    passed: Vec<(String, Fault)>,
    /// The longest `wait` of a blocking query.
    wait: Duration,
    /// Where etcd tells of changes.
    bell: Option<Hung>,
    /// What Consul's store said last.
    memory: Memory,
    /// That is in force.
    in_force: bool,
}

/// A bell that etcd may ring.
#[derive(Debug)]
struct Hung {
    /// The address that it is at.
    at: usize,
    /// The index after which every change rings it.
    since: u64,
    stream: Stream,
    bell: Bell,
    /// It has not rung when it was last waited for.
    is_quiet: bool,
}

/// An address.
#[derive(Debug)]
struct Line {
    client: Client,
    /// How TLS is spoken with it, by the files of this [`Vault::version`].
    tls: Option<(u64, Tls)>,
}

impl Poller {
    /// Asks for `upsync`, whose answers say something about each of `targets`.
    pub fn new(upsync: Upsync, targets: Vec<Target>, stop: Arc<Stop>, vault: Arc<Vault>) -> Poller {
        let lines = upsync.addresses.iter().map(|address| Line {
            client: Client::new(address.clone(), Arc::clone(&stop)),
            tls: None,
        });
        Poller {
            lines: lines.collect(),
            at: 0,
            stop,
            vault,
            passed: Vec::new(),
            wait: consul::wait(upsync.timeout),
            bell: None,
            memory: Memory::default(),
            in_force: false,
            upsync,
            targets,
        }
    }

    /// What the requests are for.
    pub fn upsync(&self) -> &Upsync {
        &self.upsync
    }

    /// Whose lists the answers hold.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// From now on answers are about these.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        self.targets = targets;
    }

    /// How long a request may wait for something new.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// The address that is asked.
    pub fn address(&self) -> &str {
        let line = self.lines.get(self.at);
        line.map_or("", |line| &line.client.address().written)
    }

    /// Addresses that failed since this was last called, although another one was left to try.
    pub fn passed(&mut self) -> Vec<(String, Fault)> {
        std::mem::take(&mut self.passed)
    }

    /// Gives the kept connection to another poller of the same source.
    pub fn give(&mut self) -> Option<Kept> {
        self.lines.get_mut(self.at)?.client.give()
    }

    /// Takes a connection over that a poller of the same source gave away, and asks where it goes to.
    pub fn take(&mut self, kept: Kept) {
        let same = |line: &Line| *line.client.address() == kept.address;
        if let Some(at) = self.lines.iter().position(same) {
            self.at = at;
            self.lines[at].client.take(kept);
        }
    }

    /// One request: blocks until there is something newer than `index`, or `wait` is over, which
    /// is at most [`Poller::wait`]. `in_force`: what the last answer said is, and need not be said again.
    ///
    /// # Errors
    /// What kept a complete answer from coming, from the last of the addresses.
    pub fn ask(&mut self, index: u64, wait: Duration, in_force: bool) -> Result<Answer, Fault> {
        let wait = wait.clamp(consul::WAIT_MIN, self.wait);
        let upsync = self.upsync.clone();
        let targets = std::mem::take(&mut self.targets);
        let ask = Ask::Blocking(index, wait);
        self.in_force = in_force;
        let result = self.somewhere(|poller| poller.question(&upsync, ask, &targets));
        self.targets = targets;
        result
    }

    /// What the last answer said was new: a bell that did not ring for it may be dead.
    pub fn is_news(&mut self) {
        self.bell = self.bell.take().filter(|hung| !hung.is_quiet);
    }

    /// One target's own folder or service as it is now, by the leader's word: the answer has its
    /// index and one `heard`.
    ///
    /// # Errors
    /// As [`ask`](Poller::ask).
    pub fn direct(&mut self, target: &Target) -> Result<Answer, Fault> {
        let targets = std::slice::from_ref(target);
        self.somewhere(|poller| poller.question(&target.upsync, Ask::Direct, targets))
    }

    /// Whether the source knows the token that it is asked with: to one that it does not know an
    /// empty list means nothing. Without a token, or where none is checked, that is so.
    ///
    /// # Errors
    /// As [`ask`](Poller::ask).
    pub fn token_alive(&mut self) -> Result<bool, Fault> {
        if self.upsync.token.is_none() || !self.upsync.kind.is_consul() {
            return Ok(true);
        }
        self.somewhere(|poller| {
            let asked = |host: &str, token: Option<&Secret>| {
                consul::request(consul::OWN_TOKEN, host, token)
            };
            let response = poller.get(asked, consul::WAIT_MIN)?;
            consul::token_is_alive(&response)
        })
    }

    /// Asks at the address that answered last, and if it fails at each of the others in turn.
    fn somewhere<T>(
        &mut self,
        mut ask: impl FnMut(&mut Poller) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut left = self.lines.len();
        loop {
            self.stop.begin();
            if self.stop.is_cut() {
                return Err(Fault::Stopped);
            }
            match ask(self) {
                Err(Fault::Nudged) => {}
                Err(fault) if fault.is_of_address() => {
                    left -= 1;
                    if left == 0 {
                        // The next time begins with another one.
                        self.at = (self.at + 1) % self.lines.len();
                        return Err(fault);
                    }
                    let failed = self.address().to_owned();
                    self.at = (self.at + 1) % self.lines.len();
                    self.passed.push((failed, fault));
                }
                result => return result,
            }
        }
    }

    /// Asks for what `upsync` is about and reads what the answer says about each of `targets`.
    fn question(&mut self, upsync: &Upsync, ask: Ask, targets: &[Target]) -> Result<Answer, Fault> {
        let sent = Instant::now();
        let mut response = match ask {
            _ if upsync.kind.is_consul() => {
                let target = consul::target(upsync, ask);
                let wait = ask.wait();
                self.get(|host, token| consul::request(&target, host, token), wait)?
            }
            ask => {
                if let Ask::Blocking(index, wait) = ask {
                    self.listen(upsync, index, sent + wait)?;
                }
                let is_direct = matches!(ask, Ask::Direct);
                self.get(
                    |host, token| etcd::read(upsync, is_direct, host, token),
                    consul::WAIT_MIN,
                )?
            }
        };
        let (took, seen_ns) = (sent.elapsed(), now_ns());
        // What is remembered are entries of known upstreams; folders come and go with an answer.
        let has_folders = targets.iter().any(|target| target.upsync.folders);
        let (index, heard, share) = match (upsync.kind, ask) {
            (Kind::Consul, Ask::Blocking(..)) if !has_folders => {
                self.recall(targets, &mut response)?
            }
            (kind, _) => {
                let (index, heard, share) = read(kind, targets, &response)?;
                (index, Some(heard), share)
            }
        };
        Ok(Answer {
            index,
            took,
            seen_ns,
            heard,
            share,
        })
    }

    /// What an answer of Consul's store says, of which most may have been said before.
    fn recall(
        &mut self,
        targets: &[Target],
        response: &mut Response,
    ) -> Result<(u64, Option<Vec<Heard>>, Share), Fault> {
        let index = consul::index(response);
        let filtered = consul::is_filtered(response);
        let mut is_known = false;
        if let Some(body) = consul::keys(response)? {
            let taken = self.memory.take(body).map_err(consul::invalid_json)?;
            if self.memory.is_empty() {
                return Err(consul::empty_list());
            }
            is_known = taken.is_known && !filtered;
            if let Some(line) = self.lines.get_mut(self.at) {
                line.client.reuse(taken.spare);
            }
        } else {
            self.memory.clear();
        }
        if is_known && self.in_force {
            return Ok((index?, None, Share::default()));
        }
        let (heard, share) = self.memory.hear(targets, filtered);
        Ok((index?, Some(heard), share))
    }

    /// Waits until etcd tells of a change after `index`, or until then. Whatever else comes between
    /// is no fault of its own: what is read next shows what there is.
    fn listen(&mut self, upsync: &Upsync, index: u64, until: Instant) -> Result<(), Fault> {
        let hung = self.bell.take();
        if index == 0 {
            return Ok(());
        }
        let fits = |hung: &Hung| hung.at == self.at && hung.since <= index;
        let hung = match hung.filter(fits) {
            Some(hung) => Ok(hung),
            None => self.hang(upsync, index),
        };
        match hung.and_then(|mut hung| Ok((hung.wait(index, until)?, hung))) {
            Ok((true, hung)) => self.bell = Some(hung),
            Ok((false, _)) => {}
            Err(fault @ (Fault::Stopped | Fault::Nudged)) => return Err(fault),
            Err(fault) => self.passed.push((self.address().to_owned(), fault)),
        }
        Ok(())
    }

    fn hang(&mut self, upsync: &Upsync, index: u64) -> Result<Hung, Fault> {
        let deadlines = consul::deadlines(consul::WAIT_MIN, self.upsync.timeout);
        let token = self.token()?;
        let line = &mut self.lines[self.at];
        line.renew(&self.upsync, &self.vault)?;
        let host = line.client.address().host();
        let request = etcd::watch(upsync, index, host, token.as_ref());
        let tls = line.tls.as_ref().map(|(_, tls)| tls);
        Ok(Hung {
            at: self.at,
            since: index,
            stream: line.client.stream(&request, deadlines, tls)?,
            bell: Bell::new(upsync.kind),
            is_quiet: false,
        })
    }

    /// Sends what `request` makes of the Host field and the token.
    fn get(
        &mut self,
        request: impl Fn(&str, Option<&Secret>) -> Vec<u8>,
        wait: Duration,
    ) -> Result<Response, Fault> {
        let deadlines = consul::deadlines(wait, self.upsync.timeout);
        let token = self.token()?;
        let line = &mut self.lines[self.at];
        line.renew(&self.upsync, &self.vault)?;
        let request = request(line.client.address().host(), token.as_ref());
        let tls = line.tls.as_ref().map(|(_, tls)| tls);
        line.client.get(&request, deadlines, tls)
    }

    fn token(&self) -> Result<Option<Secret>, Fault> {
        let token = self.upsync.token.as_ref();
        let token = token.map(|token| self.vault.token(token));
        token.transpose().map_err(Fault::Invalid)
    }
}

impl Hung {
    /// Waits until it rings for a change after `index`, or until then; whether it can ring again.
    fn wait(&mut self, index: u64, until: Instant) -> Result<bool, Fault> {
        self.is_quiet = false;
        loop {
            match self.stream.next(until)? {
                Piece::Nothing => {
                    self.is_quiet = true;
                    return Ok(true);
                }
                Piece::Body(piece) => match self.bell.hears(&piece, index) {
                    Sound::Quiet => {}
                    Sound::Rings => return Ok(true),
                    Sound::Breaks => return Ok(false),
                },
                Piece::End(response) => {
                    self.bell.ended(&response)?;
                    return Ok(false);
                }
            }
        }
    }
}

impl Line {
    /// Follows files that have changed; while they do not fit one another, those before stay in use.
    fn renew(&mut self, upsync: &Upsync, vault: &Vault) -> Result<(), Fault> {
        let version = vault.version();
        let fresh = self
            .tls
            .as_ref()
            .is_some_and(|(known, _)| *known == version);
        let Some(certificates) = upsync.tls.as_deref().filter(|_| !fresh) else {
            return Ok(());
        };
        match (
            tls::client(certificates, self.client.address(), vault),
            &mut self.tls,
        ) {
            (Ok(tls), place) => *place = Some((version, tls)),
            (Err(_), Some((known, _))) => *known = version,
            (Err(why), None) => return Err(Fault::Tls(why)),
        }
        Ok(())
    }
}

/// CLOCK_MONOTONIC, which every process of this machine reads alike.
fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let time = Duration::from(time);
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// An etcd that tells of no change; counts those who want to be told.
    fn deaf() -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let watches = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&watches);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let count = stream.read(&mut head).unwrap();
                if head[..count].starts_with(b"POST /v3/watch ") {
                    counted.fetch_add(1, Ordering::SeqCst);
                    open.push(stream);
                    continue;
                }
                let body = r#"{"header":{"revision":"7"}}"#;
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
                );
                stream
                    .write_all(format!("{head}{body}").as_bytes())
                    .unwrap();
            }
        });
        (port, watches)
    }

    #[test]
    fn a_bell_that_missed_a_change_is_hung_anew() {
        let (port, watches) = deaf();
        let upsync = Upsync {
            kind: Kind::Etcd3,
            ..Upsync::folder("127.0.0.1", port, "up/a")
        };
        let mut poller = Poller::new(
            upsync,
            vec![target(0, "up/a")],
            Arc::default(),
            Arc::default(),
        );
        let wait = Duration::from_millis(20);
        for _ in 0..3 {
            assert_eq!(poller.ask(7, wait, true).unwrap().index, 7);
        }
        assert_eq!(
            watches.load(Ordering::SeqCst),
            1,
            "there was nothing to tell"
        );
        poller.is_news();
        poller.ask(7, wait, true).unwrap();
        assert_eq!(watches.load(Ordering::SeqCst), 2);
    }

    /// A Consul that says these one after the other.
    fn says(bodies: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for body in bodies {
                let mut head = [0; 4096];
                assert!(stream.read(&mut head).unwrap() > 0);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nContent-Length: {length}\r\n\r\n"
                );
                stream
                    .write_all(format!("{head}{body}").as_bytes())
                    .unwrap();
            }
        });
        port
    }

    #[test]
    fn what_is_in_force_is_not_said_again() {
        const ONE: &str = r#"[{"Key":"up/a/10.0.0.1:1","Value":"e30=","ModifyIndex":5}]"#;
        const TWO: &str = r#"[{"Key":"up/a/10.0.0.2:1","Value":"e30=","ModifyIndex":5}]"#;
        let port = says(&[ONE, ONE, ONE, TWO, TWO]);
        let upsync = Upsync::folder("127.0.0.1", port, "up/a");
        let targets = vec![target(0, "up/a")];
        let mut poller = Poller::new(upsync, targets, Arc::default(), Arc::default());
        let mut servers = |in_force| {
            let answer = poller.ask(5, Duration::ZERO, in_force).unwrap();
            answer.heard.map(|heard| heard[0].servers.len())
        };
        let heard = [false, true, false, true, true].map(&mut servers);
        assert_eq!(heard, [Some(1), None, Some(1), Some(1), None]);
    }

    fn target(feed: FeedId, prefix: &str) -> Target {
        let upsync = Upsync::folder("127.0.0.1", 8500, prefix);
        Target::new(feed, prefix, &upsync)
    }
}
