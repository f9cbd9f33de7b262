//! The poller: asks one source, blocking, and reads its answers.

mod etcd;
pub mod folders;
mod line;
mod memory;
mod read;
mod target;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_shm::Seen;

use super::client::{Client, Fault, Kept};
use super::consul::{self, Ask};
use super::lesson::Heard;
use super::response::Response;
use super::stop::Stop;
use super::vault::Vault;
use crate::settings::{Kind, Secret, Upsync};
use line::Line;
use memory::Memory;
pub use read::Share;
use read::read;
pub use target::Target;
use watch::Hung;

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

/// A request that failed, which ended nothing.
#[derive(Debug)]
pub struct Passed {
    /// Where.
    pub address: String,
    /// Why.
    pub fault: Fault,
    /// What is done in its place.
    pub then: Then,
}

/// What is done in the place of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The same is asked at another address.
    Ask,
    /// It was to wait for a change: what there is is read.
    Read,
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
    passed: Vec<Passed>,
    /// The longest `wait` of a blocking query.
    wait: Duration,
    /// Where etcd tells of changes.
    bell: Option<Hung>,
    /// What Consul's store said last.
    memory: Memory,
    /// What it said last of folders.
    folders: Vec<u8>,
    /// That is in force.
    in_force: bool,
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
            folders: Vec::new(),
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

    /// Requests that failed since this was last called, and ended nothing.
    pub fn passed(&mut self) -> Vec<Passed> {
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
                    self.pass(fault, Then::Ask);
                    self.at = (self.at + 1) % self.lines.len();
                }
                result => return result,
            }
        }
    }

    fn pass(&mut self, fault: Fault, then: Then) {
        let address = self.address().to_owned();
        self.passed.push(Passed {
            address,
            fault,
            then,
        });
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
        let (took, seen_ns) = (sent.elapsed(), Seen::now().0);
        // What is remembered are entries of known upstreams; folders come and go with an answer.
        let has_folders = targets.iter().any(|target| target.upsync.folders);
        let (index, heard, share) = match (upsync.kind, ask) {
            (Kind::Consul, Ask::Blocking(..)) if has_folders => {
                self.recall_folders(targets, response)?
            }
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

    /// What an answer says of folders, of which all may have been said before.
    fn recall_folders(
        &mut self,
        targets: &[Target],
        mut response: Response,
    ) -> Result<(u64, Option<Vec<Heard>>, Share), Fault> {
        let is_whole = response.status == 200 && !consul::is_filtered(&response);
        if is_whole && self.in_force && response.body == self.folders {
            return Ok((consul::index(&response)?, None, Share::default()));
        }
        let (index, heard, share) = read(Kind::Consul, targets, &response)?;
        let body = match is_whole {
            true => std::mem::take(&mut response.body),
            false => Vec::new(),
        };
        let spare = std::mem::replace(&mut self.folders, body);
        if let Some(line) = self.lines.get_mut(self.at) {
            line.client.reuse(spare);
        }
        Ok((index, Some(heard), share))
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

#[cfg(test)]
mod tests;
