//! The life of a client's connection: its states and what they do, request after request.

use std::io;

use super::client::{Client, Event, Next, State};
use super::describe::errno;
use super::exchange::Exchange;
use super::numbers::Phase;
use super::relay::Framing;
use super::shared::Shared;
use super::{Network, Peer};
use crate::buffer::NoMemory;
use crate::connection::{Key, Slab};
use crate::http::{Body, Limits, Parsed, Refusal};
use crate::settings::Level;
use crate::transport::{self, Read};

/// Requests that were pipelined and can be answered at once are, so many in one turn; then others
/// have theirs.
const REQUESTS_A_TURN: usize = 32;

/// A client's connection with everything that it works on, for the length of one event.
pub(super) struct Session<'a, N: Network> {
    pub key: Key,
    pub client: &'a mut Client<N::Stream>,
    /// What `stub_status` counts the client as so far.
    pub counted: Option<Phase>,
    pub peers: &'a mut Slab<Peer<N::Stream>>,
    pub shared: &'a mut Shared<N>,
}

impl<N: Network> Session<'_, N> {
    /// Lets an event work; false when the connection is to be closed.
    pub fn handle(&mut self, event: Event) -> bool {
        let state = std::mem::take(&mut self.client.state);
        self.counted = state.phase();
        let mut next = match event {
            Event::Ready => Next::Go(state),
            Event::ClientTimeout => self.client_timeout(state),
            Event::PeerTimeout => self.peer_timeout(state),
            Event::Drained => self.drained(state),
            Event::Quit => self.quit(state),
        };
        let mut requests = 0;
        loop {
            match next {
                Next::Go(State::Reading(exchange)) if requests == REQUESTS_A_TURN => {
                    self.go_on_later();
                    next = Next::Wait(State::Reading(exchange));
                }
                Next::Go(state) => {
                    requests += usize::from(matches!(state, State::Reading(_)));
                    next = self.step(state);
                }
                Next::Wait(state) => {
                    let phase = state.phase();
                    if requests > 0 && phase == self.counted && phase == Some(Phase::Waiting) {
                        // It was not idle meanwhile, although nobody has seen it otherwise.
                        self.count_as(Some(Phase::Writing));
                    }
                    self.count_as(phase);
                    self.client.state = state;
                    return true;
                }
                Next::Close => {
                    self.count_as(None);
                    return false;
                }
            }
        }
    }

    /// Has more to do without any event, after others had their turn.
    pub(super) fn go_on_later(&mut self) {
        if !self.client.goes_on {
            self.client.goes_on = true;
            self.shared.again.push_back(self.key);
        }
    }

    /// Counts the client in this phase from now on; between two events it is its state's.
    pub(super) fn count_as(&mut self, phase: Option<Phase>) {
        self.shared.move_client(self.key, self.counted, phase);
        self.counted = phase;
    }

    /// The connection is closed: ends what it was doing.
    pub fn end(&mut self, state: State) {
        self.shared.move_client(self.key, state.phase(), None);
        match state {
            State::Reading(mut exchange)
            | State::Receiving(mut exchange)
            | State::Resolving(mut exchange)
            | State::Proxying(mut exchange)
            | State::Answering(mut exchange) => {
                self.stop_waiting(&mut exchange);
                self.drop_attempt(&mut exchange);
                self.reset_if_cut(&exchange);
                self.shared.give_back(exchange);
            }
            State::Idle | State::Kept { .. } | State::Lingering(_) | State::Closed => {}
        }
    }

    fn step(&mut self, state: State) -> Next {
        match state {
            state @ (State::Idle | State::Kept { .. }) => self.idle(state),
            State::Reading(exchange) => self.read_head(exchange),
            State::Receiving(exchange) => self.receive_body(exchange),
            State::Resolving(exchange) => self.await_name(exchange),
            State::Proxying(exchange) => self.proxy(exchange),
            State::Answering(exchange) => self.answer_on(exchange),
            State::Lingering(lingering) => self.linger(lingering),
            State::Closed => Next::Close,
        }
    }

    /// A client that was silent may have a request.
    pub(super) fn idle(&mut self, state: State) -> Next {
        if !self.client.ready.readable {
            return Next::Wait(state);
        }
        let mut exchange = match self.shared.lend() {
            Ok(exchange) => exchange,
            Err(error) => {
                // Nothing can be read, so that nothing can be answered.
                self.log_memory(&error);
                return Next::Close;
            }
        };
        let (client, input) = (&mut *self.client, &mut exchange.input);
        match transport::read(input, &mut client.stream, &mut client.ready) {
            Ok(Read::Some(_)) => {
                exchange.started = self.shared.clock.millis();
                Next::Go(State::Reading(exchange))
            }
            Ok(Read::Blocked) => {
                self.shared.give_back(exchange);
                Next::Wait(state)
            }
            Ok(Read::End) => {
                self.shared.give_back(exchange);
                self.log_left(None);
                Next::Close
            }
            Err(error) => {
                self.shared.give_back(exchange);
                self.log_left(Some(&error));
                Next::Close
            }
        }
    }

    /// Reads on until the head is complete.
    fn read_head(&mut self, mut exchange: Box<Exchange>) -> Next {
        loop {
            let data = exchange.input.data();
            let limits = self.shared.conf.head_limits(self.client.listener, data);
            if !data.is_empty() {
                match exchange.head.parse(exchange.input.data(), &limits) {
                    Parsed::Head(end) => return self.begin(exchange, end),
                    Parsed::Refused(refusal) => return self.refuse(exchange, &refusal),
                    Parsed::Partial => {}
                }
            }
            if !self.client.ready.readable {
                return self.await_head(exchange);
            }
            if exchange.input.is_full() {
                let room = room_for(&limits, exchange.input.capacity());
                if let Err(error) = exchange.input.grow(room) {
                    return self.refuse_for_memory(exchange, &error);
                }
            }
            let client = &mut *self.client;
            match transport::read(&mut exchange.input, &mut client.stream, &mut client.ready) {
                Ok(Read::Some(_)) => {}
                Ok(Read::Blocked) => return self.await_head(exchange),
                Ok(Read::End) => return self.lost_in_head(exchange, None),
                Err(error) => return self.lost_in_head(exchange, Some(&error)),
            }
        }
    }

    /// Part of a head is there: the rest has to come within `client_header_timeout`. With
    /// nothing there the connection is as good as idle.
    fn await_head(&mut self, mut exchange: Box<Exchange>) -> Next {
        if !exchange.head.is_begun(exchange.input.data()) && exchange.input.is_empty() {
            self.shared.give_back(exchange);
            return self.rest();
        }
        // On a new connection the time has been running since it was accepted.
        if !exchange.head_timed && self.client.requests > 0 {
            exchange.head_timed = true;
            let timeout = self.shared.conf.header_timeout(self.client.listener);
            self.shared.arm_client(self.key, timeout);
        }
        Next::Wait(State::Reading(exchange))
    }

    fn lost_in_head(&mut self, mut exchange: Box<Exchange>, error: Option<&io::Error>) -> Next {
        self.show_head(&mut exchange);
        let doing = doing(&exchange);
        match error {
            Some(error) => self.log_request(
                &exchange,
                Level::Info,
                format_args!("recv() failed ({}) while {doing}", errno(error)),
            ),
            None => self.log_request(
                &exchange,
                Level::Info,
                format_args!("client prematurely closed connection while {doing}"),
            ),
        }
        exchange.status = 400;
        self.abandon(exchange)
    }

    /// Lets the logs see what has come of a head that stays incomplete.
    pub(super) fn show_head(&mut self, exchange: &mut Exchange) {
        let length = exchange.input.len();
        exchange.head.take_line(exchange.input.data());
        exchange.input.keep_head(length);
        exchange.head_length = length as u64;
        self.adopt_default(exchange);
    }

    /// The head cannot be taken: says why in the log and answers.
    fn refuse(&mut self, mut exchange: Box<Exchange>, refusal: &Refusal) -> Next {
        let reason = refusal.describe(exchange.input.data()).to_string();
        self.show_head(&mut exchange);
        let doing = match refusal.reason.in_line {
            true => READING_LINE,
            false => doing(&exchange),
        };
        self.log_request(
            &exchange,
            Level::Info,
            format_args!("{reason} while {doing}"),
        );
        self.count_request();
        // Where this request ends nobody knows: whatever comes is read and dropped.
        exchange.upload.begin(Body::UntilClose, Framing::Plain);
        exchange.refuse();
        self.answer_error(exchange, refusal.status)
    }
}

impl<N: Network> Session<'_, N> {
    /// There is no memory for the rest of the head.
    fn refuse_for_memory(&mut self, mut exchange: Box<Exchange>, error: &NoMemory) -> Next {
        self.show_head(&mut exchange);
        let doing = doing(&exchange);
        self.log_request(
            &exchange,
            Level::Emerg,
            format_args!("{error} while {doing}"),
        );
        self.count_request();
        exchange.upload.begin(Body::UntilClose, Framing::Plain);
        exchange.refuse();
        self.answer_error(exchange, 500)
    }

    /// There is no memory for a request to begin.
    fn log_memory(&self, error: &NoMemory) {
        self.shared.log().connection(
            Level::Emerg,
            self.client.number,
            format_args!("{error} while waiting for request"),
        );
    }
}

const READING_LINE: &str = "reading client request line";

/// What nginx says it was doing when a head did not come.
pub(super) fn doing(exchange: &Exchange) -> &'static str {
    if exchange.head.has_line() {
        "reading client request headers"
    } else {
        READING_LINE
    }
}

/// As much room as a head within the limits can need, and a body's first bytes.
fn room_for(limits: &Limits, now: usize) -> usize {
    (now * 2)
        .min(limits.longest() + crate::buffer::BUFFER_SIZE)
        .max(now + 1)
}
