//! A DNS client without sockets: questions, answers, and a cache.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::message::{self, Kind, Reply};
use super::{Failure, Found, Protocol, RESEND_MS};
use crate::connection::{Key, Slab};
use crate::settings;

/// Names in the cache of one resolver; the one that was not used the longest makes room.
const MOST_NAMES: usize = 4096;
/// Names that are asked for at one time; each has a socket, or up to four.
pub(super) const MOST_LOOKUPS: usize = 512;
/// Aliases that are followed, question after question (nginx's `NGX_RESOLVER_MAX_RECURSION`).
const MOST_ALIASES: usize = 50;

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its addresses.
    Found(Found),
    /// It has none.
    Failed(Failure),
    /// It is asked for: an [`Outcome`] will come.
    Waiting,
}

/// What became of a name that someone waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<W> {
    /// Who waited.
    pub who: W,
    /// The addresses, if there are any.
    pub found: Result<Found, Failure>,
}

/// What is to be done for a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Send these to a server, over a socket of its own; answers go to [`Client::receive`].
    Ask {
        /// The lookup.
        lookup: Key,
        /// The server's place in the settings.
        server: usize,
        /// How.
        over: Protocol,
        /// Each a message.
        messages: Vec<Vec<u8>>,
    },
    /// No more answers are wanted: close its sockets.
    Close {
        /// The lookup.
        lookup: Key,
    },
}

#[derive(Debug)]
enum Name {
    Known { found: Found, used_ms: u64 },
    Asked(Key),
}

/// One kind of address, and how far asking for it has come.
#[derive(Debug)]
struct Question {
    kind: Kind,
    id: u16,
    over: Protocol,
    answer: Option<Vec<IpAddr>>,
}

#[derive(Debug)]
struct Asking<W> {
    /// What was asked for.
    name: Box<str>,
    /// What is asked now: the name, or what it turned out to be an alias of.
    target: String,
    /// How many aliases led there.
    aliases: usize,
    questions: Vec<Question>,
    waiters: Vec<W>,
    server: usize,
    /// Servers that could not be asked since the last turn.
    lost: usize,
    resend_ms: u64,
    /// The least of all records so far, in seconds.
    ttl: u32,
    failure: Option<Failure>,
    alias: Option<String>,
}

/// A client of the servers of one `resolver`. `W` is who waits for a name.
#[derive(Debug)]
pub struct Client<W> {
    settings: Arc<settings::Resolver>,
    names: HashMap<Box<str>, Name>,
    asking: Slab<Asking<W>>,
    /// When what is asked again, the earliest first; a lookup that has moved on is skipped.
    resends: VecDeque<(u64, Key)>,
    next_server: usize,
    orders: VecDeque<Order>,
    outcomes: VecDeque<Outcome<W>>,
    faults: VecDeque<String>,
}

impl<W: Copy + PartialEq> Client<W> {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(settings: Arc<settings::Resolver>) -> Self {
        Self {
            settings,
            names: HashMap::new(),
            asking: Slab::default(),
            resends: VecDeque::new(),
            next_server: 0,
            orders: VecDeque::new(),
            outcomes: VecDeque::new(),
            faults: VecDeque::new(),
        }
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &Arc<settings::Resolver> {
        &self.settings
    }

    /// Nobody is asked anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.asking.is_empty() && self.orders.is_empty() && self.outcomes.is_empty()
    }

    /// What is to be done next.
    pub fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The next who need wait no longer.
    pub fn next_outcome(&mut self) -> Option<Outcome<W>> {
        self.outcomes.pop_front()
    }

    /// What was wrong with an answer, in nginx's words.
    pub fn next_fault(&mut self) -> Option<String> {
        self.faults.pop_front()
    }

    /// The addresses of `name`, from the cache if it has them; otherwise `who` waits for the one
    /// question that is asked for all. `random` is asked for a number only then.
    pub fn look_up(
        &mut self,
        name: &str,
        who: W,
        now_ms: u64,
        random: impl FnOnce() -> u64,
    ) -> Lookup {
        let name = key(name);
        match self.names.get_mut(&*name) {
            Some(Name::Known { found, used_ms }) if now_ms < found.until_ms => {
                *used_ms = now_ms;
                return Lookup::Found(found.clone());
            }
            Some(Name::Asked(lookup)) => {
                if let Some(asking) = self.asking.get_mut(*lookup) {
                    asking.waiters.push(who);
                    return Lookup::Waiting;
                }
            }
            _ => {}
        }
        if !message::is_name(&name) {
            return Lookup::Failed(Failure::NotFound);
        }
        if self.asking.len() >= MOST_LOOKUPS {
            let fault = format!("{MOST_LOOKUPS} names are being resolved, {name} is refused");
            self.faults.push_back(fault);
            return Lookup::Failed(Failure::Server);
        }
        self.start(&name, who, now_ms, random());
        Lookup::Waiting
    }

    /// `who` does not wait for `name` any more.
    pub fn forget(&mut self, name: &str, who: W) {
        if let Some(Name::Asked(lookup)) = self.names.get(&*key(name))
            && let Some(asking) = self.asking.get_mut(*lookup)
        {
            asking.waiters.retain(|waiter| *waiter != who);
        }
    }

    fn start(&mut self, name: &str, who: W, now_ms: u64, random: u64) {
        self.make_room(now_ms);
        let server = self.next_server;
        self.next_server = (server + 1) % self.settings.servers.len().max(1);
        let lookup = self.asking.insert(Asking {
            name: name.into(),
            target: name.to_owned(),
            aliases: 0,
            questions: questions(&self.settings, random),
            waiters: vec![who],
            server,
            lost: 0,
            resend_ms: 0,
            ttl: u32::MAX,
            failure: None,
            alias: None,
        });
        self.names.insert(name.into(), Name::Asked(lookup));
        self.ask(lookup, now_ms);
    }

    /// One more name fits the cache afterwards: what is out of date goes, or else what was not
    /// used the longest.
    fn make_room(&mut self, now_ms: u64) {
        if self.names.len() < MOST_NAMES {
            return;
        }
        self.names.retain(|_, name| match name {
            Name::Known { found, .. } => now_ms < found.until_ms,
            Name::Asked(_) => true,
        });
        if self.names.len() < MOST_NAMES {
            return;
        }
        let known = self.names.iter().filter_map(|(name, entry)| match entry {
            Name::Known { used_ms, .. } => Some((*used_ms, name)),
            Name::Asked(_) => None,
        });
        if let Some(name) = known.min().map(|(_, name)| name.clone()) {
            self.names.remove(&name);
        }
    }

    /// Asks the lookup's server what is not answered yet, and again in a while.
    fn ask(&mut self, lookup: Key, now_ms: u64) {
        let Some(asking) = self.asking.get_mut(lookup) else {
            return;
        };
        asking.lost = 0;
        asking.resend_ms = now_ms.saturating_add(RESEND_MS);
        self.resends.push_back((asking.resend_ms, lookup));
        self.send(lookup, |_| true);
    }

    fn send(&mut self, lookup: Key, which: impl Fn(Kind) -> bool) {
        let Some(asking) = self.asking.get(lookup) else {
            return;
        };
        for over in [Protocol::Udp, Protocol::Tcp] {
            let messages: Vec<_> = asking
                .questions
                .iter()
                .filter(|question| question.answer.is_none() && question.over == over)
                .filter(|question| which(question.kind))
                .filter_map(|open| message::question(&asking.target, open.kind, open.id))
                .collect();
            if !messages.is_empty() {
                self.orders.push_back(Order::Ask {
                    lookup,
                    server: asking.server,
                    over,
                    messages,
                });
            }
        }
    }

    /// The server of a lookup could not be asked, or its connection broke: the next one is asked at
    /// once, until each has had its turn.
    pub fn lost(&mut self, lookup: Key, server: usize) {
        let servers = self.settings.servers.len();
        let Some(asking) = self.asking.get_mut(lookup) else {
            return;
        };
        if asking.server != server || asking.lost + 1 >= servers {
            return;
        }
        asking.lost += 1;
        asking.server = (server + 1) % servers;
        self.send(lookup, |_| true);
    }

    /// Asks again what is due; what nobody waits for any more is dropped.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some(&(due_ms, lookup)) = self.resends.front()
            && due_ms <= now_ms
        {
            self.resends.pop_front();
            let servers = self.settings.servers.len().max(1);
            let Some(asking) = self.asking.get_mut(lookup) else {
                continue;
            };
            if asking.resend_ms != due_ms {
                continue;
            }
            if asking.waiters.is_empty() {
                self.end(lookup);
            } else {
                asking.server = (asking.server + 1) % servers;
                self.ask(lookup, now_ms);
            }
        }
    }

    /// When [`Client::expire`] has something to do next, in milliseconds.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        self.resends.front().map(|(due_ms, _)| *due_ms)
    }

    /// A message came on a socket of this lookup. `random` is asked for a number when another
    /// question follows.
    pub fn receive(
        &mut self,
        lookup: Key,
        over: Protocol,
        bytes: &[u8],
        now_ms: u64,
        random: impl FnOnce() -> u64,
    ) {
        // Answers may come twice, and late.
        let Some(asking) = self.asking.get_mut(lookup) else {
            return;
        };
        let reply = match message::read(bytes) {
            Ok(reply) => reply,
            Err(fault) => return self.faults.push_back(fault),
        };
        match asking.take(reply, over) {
            Err(fault) => self.faults.push_back(fault),
            Ok(Taken::CutOff(kind)) => self.send(lookup, |other| other == kind),
            Ok(Taken::Part) => {}
            Ok(Taken::Whole) => self.conclude(lookup, now_ms, random),
        }
    }

    /// Everything is answered.
    fn conclude(&mut self, lookup: Key, now_ms: u64, random: impl FnOnce() -> u64) {
        let Some(asking) = self.asking.get_mut(lookup) else {
            return;
        };
        let answers = asking.questions.iter_mut();
        let addresses: Vec<IpAddr> = answers
            .filter_map(|question| question.answer.take())
            .flatten()
            .collect();
        let failure = asking.failure;
        let alias = asking.alias.take();
        if failure.is_none()
            && addresses.is_empty()
            && asking.aliases < MOST_ALIASES
            && let Some(target) = alias
        {
            asking.aliases += 1;
            asking.target = target;
            asking.questions = questions(&self.settings, random());
            self.orders.push_back(Order::Close { lookup });
            return self.ask(lookup, now_ms);
        }
        let lasts_ms = match self.settings.valid {
            Some(valid) => u64::try_from(valid.as_millis()).unwrap_or(u64::MAX),
            None => u64::from(asking.ttl) * 1000,
        };
        let found = match failure {
            Some(failure) => Err(failure),
            None if addresses.is_empty() => Err(Failure::NotFound),
            None => Ok(Found {
                addresses: addresses.into(),
                until_ms: now_ms.saturating_add(lasts_ms),
            }),
        };
        for who in std::mem::take(&mut asking.waiters) {
            let found = found.clone();
            self.outcomes.push_back(Outcome { who, found });
        }
        let name = asking.name.clone();
        self.end(lookup);
        if let Ok(found) = found {
            let used_ms = now_ms;
            self.names.insert(name, Name::Known { found, used_ms });
        }
    }

    fn end(&mut self, lookup: Key) {
        if let Some(asking) = self.asking.remove(lookup) {
            self.names.remove(&asking.name);
            self.orders.push_back(Order::Close { lookup });
        }
    }
}

/// What an answer was to its lookup.
enum Taken {
    /// One that was cut off: this has to be asked over a connection.
    CutOff(Kind),
    /// Another is still to come.
    Part,
    /// The last that was missing.
    Whole,
}

impl<W> Asking<W> {
    /// Takes an answer; the error is nginx's words for one that is not the question's.
    fn take(&mut self, reply: Reply, over: Protocol) -> Result<Taken, String> {
        let Reply {
            id,
            kind,
            name,
            found,
        } = reply;
        let unexpected = || format!("unexpected DNS response for {name}");
        let question = self
            .questions
            .iter_mut()
            .find(|question| question.kind == kind && question.answer.is_none())
            .filter(|_| name == self.target)
            .ok_or_else(unexpected)?;
        if question.id != id {
            let expected = question.id;
            return Err(format!(
                "wrong ident {id} in DNS response for {name}, expect {expected}"
            ));
        }
        let answer = match found {
            message::Found::Truncated if over == Protocol::Tcp => {
                return Err(format!("invalid TCP DNS response {id}"));
            }
            // The same again, from another server: it is being asked over a connection already.
            message::Found::Truncated if question.over == Protocol::Tcp => return Ok(Taken::Part),
            message::Found::Truncated => {
                question.over = Protocol::Tcp;
                return Ok(Taken::CutOff(kind));
            }
            message::Found::Failed(failure) => {
                self.failure.get_or_insert(failure);
                Vec::new()
            }
            message::Found::Nothing => Vec::new(),
            message::Found::Addresses { addresses, ttl } => {
                self.ttl = self.ttl.min(ttl);
                addresses
            }
            message::Found::Alias { name, ttl } => {
                self.ttl = self.ttl.min(ttl);
                self.alias = Some(name);
                Vec::new()
            }
        };
        question.answer = Some(answer);
        let open = self.questions.iter().any(|other| other.answer.is_none());
        Ok(if open { Taken::Part } else { Taken::Whole })
    }
}

fn questions(settings: &settings::Resolver, random: u64) -> Vec<Question> {
    let kinds = [
        (settings.ipv4, Kind::A, random as u16),
        (settings.ipv6, Kind::Aaaa, (random >> 16) as u16),
    ];
    let asked = kinds.into_iter().filter(|(asked, ..)| *asked);
    asked
        .map(|(_, kind, id)| Question {
            kind,
            id,
            over: Protocol::Udp,
            answer: None,
        })
        .collect()
}

/// Names are the same in any case, and with a dot at their end.
fn key(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}
