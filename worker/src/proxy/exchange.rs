//! A request and its answer while they are in flight. Exchanges are used again, with all their
//! room, so that a warm worker allocates nothing for a request.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::pace::Pace;
use super::redirect::Course;
use super::relay::Relay;
use super::resolving::Awaited;
use super::spool::Spool;
use crate::balance::Tried;
use crate::buffer::Buffer;
use crate::conf::Conf;
use crate::connection::Key;
use crate::http::{Method, RequestHead, ResponseHead};
use crate::resolver::{Failure, Found};
use crate::settings::{Handler, InFileOnly, LocationSettings, Proxy, ServerId, UpstreamId};
use crate::transport::Origin;
use crate::upstream::plan::UpstreamPlan;
use crate::variable;

/// One request and its answer.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The request's head; its bytes are at the front of `input`.
    pub head: RequestHead,
    /// What the client sent.
    pub input: Buffer,
    /// The configuration that this request is served by, to its end.
    pub conf: Option<Rc<Conf>>,
    /// Which server of the configuration.
    pub server: ServerId,
    /// The location that serves it.
    pub location: Option<Arc<LocationSettings>>,
    /// The request's body on its way to the upstream server.
    pub upload: Relay,
    /// The file of a request's body that no server is to get.
    pub body_file: Option<Box<Spool>>,
    /// The answer on its way to the client.
    pub download: Relay,
    /// The upstream chosen for it, and what has been tried there.
    pub upstream: Option<Rc<UpstreamPlan>>,
    /// The method that servers are asked with, which decides how their answers end.
    pub asked: Method,
    /// Its name where `proxy_method` gives it.
    pub asked_name: Vec<u8>,
    /// Fields of a server's answer that go into whatever answer the client gets, as lines.
    pub carried: Vec<u8>,
    /// How connections to servers are made for it.
    pub origin: Origin,
    /// How many more servers may be asked, the one at work included.
    pub tries_left: usize,
    /// Since when servers are asked, in milliseconds.
    pub asked_since_ms: u64,
    /// The servers that were tried.
    pub tried: Tried,
    /// The attempt at a server that is under way.
    pub attempt: Option<Attempt>,
    /// All attempts so far, for `$upstream_addr` and its like.
    pub tries: Vec<variable::Attempt>,
    /// The head of the upstream's answer; its bytes are at the front of `output`.
    pub response: ResponseHead,
    /// What the upstream server sent.
    pub output: Buffer,
    /// The status of the answer; 0 as long as there is none.
    pub status: u16,
    /// Bytes of the answer's head, once it is written.
    pub answer_head: u64,
    /// The client's connection is kept for a further request.
    pub persist: bool,
    /// The head of the answer was made.
    pub answered: bool,
    /// The server has switched to another protocol, as was asked: both directions are passed on
    /// until one ends.
    pub switched: bool,
    /// `100 Continue` is still to be sent.
    pub expects_continue: bool,
    /// When its first byte was read, Unix time in milliseconds.
    pub started: u64,
    /// It came behind another request, before that was answered.
    pub pipelined: bool,
    /// The client has all of its answer.
    pub completed: bool,
    /// `$request_id`, once somebody has asked for it.
    pub request_id: Cell<Option<u128>>,
    /// How much of the path the location has matched, which `proxy_pass` with a URI replaces.
    pub matched: usize,
    /// The head of the answer, where some variable asks for it.
    pub sent_head: Vec<u8>,
    /// The lines of the trailer section of the answer.
    pub sent_trailers: Vec<u8>,
    /// Bytes of the request's head.
    pub head_length: u64,
    /// Until when a head has to be complete was set.
    pub head_timed: bool,
    /// Until when the rest of an answered request may come, in milliseconds; 0 is not set.
    pub linger_until_ms: u64,
    /// What the client does not take of the answer may be set aside (`proxy_buffering`).
    pub buffered: bool,
    /// The client takes the answer more slowly than it comes.
    pub slow: bool,
    /// The answer has broken off; the client gets what there is of it.
    pub broken: bool,
    /// Bytes a second of its answer, once that is settled; 0 is no limit.
    pub rate: Option<u64>,
    /// `limit_rate`
    pub pace: Option<Pace>,
    /// `proxy_limit_rate`
    pub upstream_pace: Option<Pace>,
    /// What the client's connection waits for.
    pub client_wait: Wait,
    /// What the upstream connection waits for.
    pub peer_wait: Wait,
    /// The upstream in the configuration, where keepalive is set.
    pub upstream_id: Option<UpstreamId>,
    /// Host and URI of a `proxy_pass` with variables.
    pub named_host: String,
    /// See [`Exchange::named_host`]; 0 for a unix socket.
    pub named_port: u16,
    /// See [`Exchange::named_host`]; empty without a URI.
    pub named_uri: Vec<u8>,
    /// What internal redirects have made of it.
    pub course: Course,
    /// `Location` of an answer of our own; a path is one on this server.
    pub moved_to: Vec<u8>,
    /// Such an answer has a `Location`.
    pub moves: bool,
    /// The name that has to be resolved first.
    pub awaited: Option<Awaited>,
    /// What came of that.
    pub resolved: Option<Result<Found, Failure>>,
}

/// An attempt to have one server answer.
#[derive(Debug)]
pub struct Attempt {
    /// The connection.
    pub peer: Key,
    /// The server's place in the upstream's plan.
    pub server: usize,
    /// When it began, in milliseconds.
    pub started_ms: u64,
    /// It was kept alive from an earlier request.
    pub reused: bool,
    /// Something of the request was written to it.
    pub sent: bool,
    /// It takes nothing more of the request; an answer may still be there.
    pub deaf: bool,
    /// Bytes read of the answer.
    pub received: u64,
    /// Interim answers that came before it.
    pub interims: u32,
    /// How many of them the heads were, once the answer goes to the client.
    pub head_length: Option<u64>,
}

/// What a connection waits for, and how far it had come when that began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    timeout: Option<Duration>,
    kind: For,
    moved: u64,
}

/// For what a connection waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum For {
    /// Nothing.
    #[default]
    Nothing,
    /// The rest of a request's body.
    Body,
    /// The connection itself.
    Connection,
    /// Room for what is to be sent.
    Sending,
    /// An answer, or more of it.
    Answer,
    /// Whatever comes, from either side.
    Both,
    /// The client has a moment more before it counts as slow.
    Slow,
    /// The time at which more may go.
    Pace,
}

impl Wait {
    /// For something of this `kind`, at most so long.
    pub(super) fn new(timeout: Option<Duration>, kind: For, moved: u64) -> Self {
        Self {
            timeout,
            kind,
            moved,
        }
    }

    /// Nothing is to end when the time is over.
    #[must_use]
    pub fn is_pause(&self) -> bool {
        matches!(self.kind, For::Slow | For::Pace)
    }

    /// For what.
    #[must_use]
    pub fn kind(&self) -> For {
        self.kind
    }

    /// At most how long; `None` waits for nothing.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// Attempts of a request that are remembered: it is how many servers nginx would list.
const TRIES_KEPT: usize = 64;

impl Exchange {
    /// Ready for the next request. What the client sent ahead of it stays.
    pub fn next_request(&mut self) {
        self.input.next_message();
        self.reset();
    }

    /// Forgets the request.
    pub fn reset(&mut self) {
        self.head.clear();
        self.response.clear();
        self.upload.clear();
        self.body_file = None;
        self.download.clear();
        self.output.clear();
        self.tries.clear();
        self.tries.shrink_to(TRIES_KEPT);
        self.tried.clear();
        self.conf = None;
        self.location = None;
        self.upstream = None;
        self.attempt = None;
        self.asked_name.clear();
        self.carried.clear();
        self.origin = Origin::default();
        self.tries_left = 0;
        self.asked_since_ms = 0;
        self.server = 0;
        self.status = 0;
        self.answer_head = 0;
        self.persist = false;
        self.answered = false;
        self.switched = false;
        self.expects_continue = false;
        self.pipelined = false;
        self.completed = false;
        self.request_id.take();
        self.head_length = 0;
        self.head_timed = false;
        self.linger_until_ms = 0;
        self.matched = 0;
        self.sent_head.clear();
        self.sent_trailers.clear();
        self.buffered = false;
        self.slow = false;
        self.broken = false;
        self.rate = None;
        self.pace = None;
        self.upstream_pace = None;
        self.client_wait = Wait::default();
        self.peer_wait = Wait::default();
        self.upstream_id = None;
        self.named_host.clear();
        self.named_uri.clear();
        self.course = Course::default();
        self.moved_to.clear();
        self.moves = false;
        self.awaited = None;
        self.resolved = None;
    }

    /// The `proxy_pass` that serves it.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        match self.location.as_deref() {
            Some(LocationSettings {
                handler: Handler::Proxy(proxy),
                ..
            }) => Some(proxy),
            _ => None,
        }
    }

    /// The method that decides whether the request may be sent twice: the client's or that of
    /// `proxy_method`, whichever is the stricter.
    #[must_use]
    pub fn repeated_method(&self) -> Method {
        if self.head.method.is_retriable() {
            self.asked
        } else {
            self.head.method
        }
    }

    /// A request's body, where all of it is in memory.
    #[must_use]
    pub fn body_in_memory(&self) -> Option<&[u8]> {
        let received = usize::try_from(self.upload.received()).ok()?;
        if received == 0 || !self.upload.is_ended() || self.upload.has_file() {
            return None;
        }
        self.input.behind_head()?.get(..received)
    }

    /// The name of the file that a request's body is in.
    #[must_use]
    pub fn body_in_file(&self) -> Option<&[u8]> {
        let spool = self.body_file.as_deref().or(self.upload.stored());
        Some(spool?.path()?.as_os_str().as_encoded_bytes())
    }

    /// Whether a request's body goes to a file whatever its length.
    #[must_use]
    pub fn is_body_for_file(&self) -> bool {
        let location = self.location.as_ref();
        location.is_some_and(|location| location.client_body.in_file_only != InFileOnly::Off)
    }

    /// Bytes of the request, its body included (`$request_length`).
    #[must_use]
    pub fn request_length(&self) -> u64 {
        self.head_length + self.upload.received()
    }

    /// Bytes of the answer's body that were sent (`$body_bytes_sent`).
    #[must_use]
    pub fn body_bytes_sent(&self) -> u64 {
        self.download.sent().saturating_sub(self.answer_head)
    }
}
