//! How a client's connection is kept after a request, and how it ends.

use super::Network;
use super::client::{Lingering, Next, State};
use super::exchange::Exchange;
use super::receive::READS_A_TURN;
use super::session::{Session, doing};
use super::shared::millis;
use crate::http::{Body, Known, Method, browser};
use crate::settings::{Level, LingeringClose, LocationSettings};
use crate::transport::Transport;
use crate::transport::{self, Read};

impl<N: Network> Session<'_, N> {
    /// Whether the connection is to be kept after this request, as far as its head and the
    /// location say.
    pub(super) fn is_to_be_kept(&self, exchange: &Exchange, location: &LocationSettings) -> bool {
        exchange.head.keep_alive
            && !location.keepalive_timeout.is_zero()
            && self.client.requests < location.keepalive_requests
            && self.age_ms() <= millis(location.keepalive_time)
            && !is_disabled(exchange, location)
            && !self.is_last(location)
    }

    /// The worker or the listener ends, and the connection with it.
    pub(super) fn is_last(&self, location: &LocationSettings) -> bool {
        (self.client.closing || self.shared.quitting) && location.keepalive_min_timeout.is_zero()
    }

    /// How long the client has been connected.
    fn age_ms(&self) -> u64 {
        self.shared.now_ms.saturating_sub(self.client.since_ms)
    }

    /// A connection waits for its next request without holding anything.
    pub(super) fn rest(&mut self) -> Next {
        if self.client.closing || self.shared.quitting {
            return Next::Close;
        }
        Next::Go(State::Idle)
    }

    /// A connection is kept after a request of this location.
    pub(super) fn keep(&mut self, location: &LocationSettings) -> Next {
        let timeout_ms = millis(location.keepalive_timeout);
        let least_ms = millis(location.keepalive_min_timeout);
        if least_ms == 0 {
            self.shared.arm_client_ms(self.key, timeout_ms);
            return self.rest();
        }
        self.shared
            .arm_client_ms(self.key, least_ms.min(timeout_ms));
        let then_ms = timeout_ms.saturating_sub(least_ms);
        Next::Go(State::Kept { then_ms })
    }

    /// Whether the connection is closed at once after this request, or lingers.
    pub(super) fn close_after(&mut self, exchange: Box<Exchange>) -> Next {
        let lingering = exchange
            .location
            .as_deref()
            .map(|location| location.lingering);
        let lingers = match lingering.map(|lingering| lingering.close) {
            None | Some(LingeringClose::Off) => false,
            Some(LingeringClose::Always) => true,
            // What the client still sends would reset the connection under the answer.
            Some(LingeringClose::On) => {
                !exchange.upload.is_ended()
                    || exchange.head.body != Body::None
                    || !exchange.input.is_empty()
                    || self.client.ready.readable
            }
        };
        let until_ms = exchange.linger_until_ms;
        self.shared.give_back(exchange);
        match lingering {
            Some(lingering) if lingers && !self.client.ready.closed => {
                if self.client.stream.shutdown().is_err() {
                    return Next::Close;
                }
                let until_ms = match until_ms {
                    0 => self.shared.now_ms.saturating_add(millis(lingering.time)),
                    begun => begun,
                };
                Next::Go(State::Lingering(Lingering {
                    until_ms,
                    timeout_ms: millis(lingering.timeout),
                }))
            }
            _ => Next::Close,
        }
    }

    /// Reads and drops what still comes, so that the answer is not lost to a reset.
    pub(super) fn linger(&mut self, lingering: Lingering) -> Next {
        let Ok(mut scratch) = self.shared.pool.take() else {
            return Next::Close;
        };
        let client = &mut *self.client;
        let mut open = true;
        let mut reads = 0;
        while client.ready.readable && open && reads < READS_A_TURN {
            reads += 1;
            scratch.clear();
            open = matches!(
                transport::read(&mut scratch, &mut client.stream, &mut client.ready),
                Ok(Read::Some(_) | Read::Blocked)
            );
        }
        self.shared.pool.give(scratch);
        if !open || self.shared.now_ms >= lingering.until_ms {
            return Next::Close;
        }
        if reads == READS_A_TURN {
            self.go_on_later();
        }
        self.await_more(lingering);
        Next::Wait(State::Lingering(lingering))
    }

    /// Something has to come within the timeout, and nothing is waited for after the end.
    fn await_more(&mut self, lingering: Lingering) {
        let left = lingering.until_ms.saturating_sub(self.shared.now_ms);
        self.shared
            .arm_client_ms(self.key, left.min(lingering.timeout_ms));
    }

    /// An answered request of which something still has to come, to be dropped; false when
    /// that takes too long.
    pub(super) fn await_rest(&mut self, exchange: &mut Exchange) -> bool {
        let Some(location) = exchange.location.as_deref() else {
            return false;
        };
        if exchange.linger_until_ms == 0 {
            let time_ms = millis(location.lingering.time);
            exchange.linger_until_ms = self.shared.now_ms.saturating_add(time_ms);
        }
        let lingering = Lingering {
            until_ms: exchange.linger_until_ms,
            timeout_ms: millis(location.lingering.timeout),
        };
        self.await_more(lingering);
        self.shared.now_ms < lingering.until_ms
    }

    /// The client's deadline has passed.
    pub(super) fn client_timeout(&mut self, state: State) -> Next {
        match state {
            State::Idle if self.client.requests == 0 => {
                self.log_client(
                    Level::Info,
                    format_args!("{TIMED_OUT} while waiting for request"),
                );
                Next::Close
            }
            State::Kept { then_ms: 1.. } if self.client.closing || self.shared.quitting => {
                Next::Close
            }
            State::Kept {
                then_ms: then_ms @ 1..,
            } => {
                self.shared.arm_client_ms(self.key, then_ms);
                Next::Go(State::Idle)
            }
            State::Reading(mut exchange) => {
                self.show_head(&mut exchange);
                let doing = doing(&exchange);
                self.log_request(
                    &exchange,
                    Level::Info,
                    format_args!("{TIMED_OUT} while {doing}"),
                );
                self.give_up(exchange)
            }
            State::Resolving(exchange) => self.name_timeout(exchange),
            State::Receiving(exchange) => {
                self.log_request(
                    &exchange,
                    Level::Info,
                    format_args!("{TIMED_OUT} while reading client request body"),
                );
                self.give_up(exchange)
            }
            State::Proxying(exchange) if exchange.client_wait.is_pause() => {
                self.after_pause(exchange, true)
            }
            State::Answering(exchange) if exchange.client_wait.is_pause() => {
                self.after_pause(exchange, false)
            }
            State::Proxying(exchange) => {
                let doing = if exchange.download.is_pending() {
                    "sending to client"
                } else {
                    "sending request to upstream"
                };
                self.log_request(
                    &exchange,
                    Level::Info,
                    format_args!("{TIMED_OUT} while {doing}"),
                );
                self.give_up(exchange)
            }
            State::Answering(exchange) => {
                if exchange.download.is_pending() {
                    self.log_request(&exchange, Level::Info, format_args!("{TIMED_OUT}"));
                }
                self.give_up(exchange)
            }
            State::Idle | State::Kept { .. } | State::Lingering(_) | State::Closed => Next::Close,
        }
    }

    /// Ends a request whose client takes too long.
    fn give_up(&mut self, mut exchange: Box<Exchange>) -> Next {
        if exchange.download.sent() == 0 || !exchange.answered {
            exchange.status = 408;
        }
        self.reset_if_asked(&exchange);
        self.abandon(exchange)
    }

    /// `reset_timedout_connection`
    pub(super) fn reset_if_asked(&mut self, exchange: &Exchange) {
        let location = exchange.location.as_deref();
        if location.is_some_and(|location| location.reset_timedout_connection) {
            self.client.stream.abort();
        }
    }

    /// No further request is taken; what is in flight goes on.
    pub(super) fn quit(&mut self, state: State) -> Next {
        self.client.closing = true;
        match state {
            // A connection without a request so far may have one on its way; any other may have one
            // that has come since the loop looked.
            State::Idle if self.client.requests > 0 => {
                self.client.ready.readable = true;
                match self.idle(State::Idle) {
                    Next::Wait(_) => Next::Close,
                    next => next,
                }
            }
            state => Next::Go(state),
        }
    }

    /// Ends a request to which no further byte can be sent.
    pub(super) fn abandon(&mut self, mut exchange: Box<Exchange>) -> Next {
        self.drop_attempt(&mut exchange);
        if exchange.location.is_none() {
            self.adopt_default(&mut exchange);
        }
        self.log_access(&exchange);
        self.reset_if_cut(&exchange);
        self.shared.give_back(exchange);
        Next::Close
    }

    /// A plain end would make a whole answer of what the client has.
    pub(super) fn reset_if_cut(&mut self, exchange: &Exchange) {
        if exchange.answered && !exchange.switched && exchange.download.is_cut() {
            self.client.stream.abort();
        }
    }
}

const TIMED_OUT: &str = "client timed out (110: Connection timed out)";

/// `keepalive_disable`
fn is_disabled(exchange: &Exchange, location: &LocationSettings) -> bool {
    let disable = location.keepalive_disable;
    let msie6 = disable.msie6 && exchange.head.method == Method::Post;
    if !msie6 && !disable.safari {
        return false;
    }
    let head = exchange.input.head();
    let agent = exchange.head.fields.known(Known::UserAgent, head);
    agent.is_some_and(|agent| {
        (msie6 && browser::is_msie6(agent)) || (disable.safari && browser::is_safari(agent))
    })
}
