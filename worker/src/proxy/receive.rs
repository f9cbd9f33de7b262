//! A proxied request: what can be moved is moved, both ways, and the answer goes to the client.

use super::Network;
use super::client::{Next, State};
use super::describe::{connection_level, errno};
use super::exchange::Exchange;
use super::pace::heed_told_rate;
use super::relay::Framing;
use super::retry::Failure;
use super::session::Session;
use crate::buffer::{BUFFER_SIZE, Buffer, NoMemory, Pool};
use crate::http::framing::has_body;
use crate::http::{Body, Malformed, ResponseParsed};
use crate::settings::Level;
use crate::transport::{self, Read};

/// Reads of a body in one turn of the loop; then others have theirs.
pub(super) const READS_A_TURN: usize = 16;

/// Room for a body behind its head; below that there is another buffer's.
pub(super) const LEAST_ROOM: usize = BUFFER_SIZE / 2;

/// Interim answers (1xx) before an answer: a server that sends nothing else never answers.
const MAX_INTERIMS: u32 = 64;

/// How far a turn came.
pub(super) enum Turn {
    /// Something has to happen first.
    Waiting,
    /// The client has all of the answer.
    Whole,
}

/// Why a turn cannot go on.
pub(super) enum Stop {
    /// The server did not answer, and the client knows nothing yet.
    Upstream(Failure),
    /// The client broke its message: this status is for it.
    Client(u16),
    /// An error page takes the place of the server's answer.
    Intercepted,
    /// `X-Accel-Redirect` takes its place.
    Redirected,
    /// The client is gone, or must not take what it got for the whole.
    Abandon,
}

impl<N: Network> Session<'_, N> {
    /// Goes on with a request that a server has.
    pub(super) fn proxy(&mut self, mut exchange: Box<Exchange>) -> Next {
        match self.turn(&mut exchange) {
            Ok(Turn::Waiting) if exchange.switched && exchange.upload.is_done() => {
                self.finish_proxied(exchange)
            }
            Ok(Turn::Waiting) if self.is_client_gone(&exchange) => {
                self.log_client_gone(&exchange);
                exchange.status = 499;
                self.abandon(exchange)
            }
            Ok(Turn::Waiting) => {
                self.arm(&mut exchange);
                Next::Wait(State::Proxying(exchange))
            }
            Ok(Turn::Whole) => self.finish_proxied(exchange),
            Err(Stop::Upstream(failure)) => self.attempt_failed(exchange, failure),
            Err(Stop::Client(status)) => {
                self.drop_attempt(&mut exchange);
                if exchange.answered {
                    return self.abandon(exchange);
                }
                exchange.give_up_body();
                self.answer_error(exchange, status)
            }
            Err(Stop::Intercepted) => self.intercept(exchange),
            Err(Stop::Redirected) => self.follow_redirect(exchange),
            Err(Stop::Abandon) => self.abandon(exchange),
        }
    }

    fn turn(&mut self, exchange: &mut Exchange) -> Result<Turn, Stop> {
        if exchange.broken {
            return self.pass_rest(exchange);
        }
        self.write_continue(exchange)?;
        self.send(exchange)?;
        if !exchange.answered {
            if !self.await_answer(exchange)? {
                return Ok(Turn::Waiting);
            }
            self.begin_answer(exchange)?;
            if exchange.switched {
                // The client may have sent more already, and no further event tells of that.
                self.send(exchange)?;
            }
        }
        self.pass(exchange)
    }

    /// `100 Continue`, when the client waits for it.
    pub(super) fn write_continue(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        if exchange.expects_continue {
            exchange.expects_continue = false;
            let lead = exchange.download.lead();
            lead.extend_from_slice(crate::http::answer::CONTINUE);
        }
        if !exchange.answered && exchange.download.is_pending() {
            self.flush_to_client(exchange)?;
        }
        Ok(())
    }

    /// Without memory a request ends, and no other one.
    pub(super) fn with_memory(
        &self,
        exchange: &Exchange,
        made: Result<(), NoMemory>,
    ) -> Result<(), Stop> {
        made.map_err(|error| {
            self.log_request(exchange, Level::Emerg, format_args!("{error}"));
            Stop::Client(500)
        })
    }

    /// Reads until the head of an answer is complete; false if it is not yet.
    fn await_answer(&mut self, exchange: &mut Exchange) -> Result<bool, Stop> {
        while self.read_answer_head(exchange)? {
            match parse_answer(exchange) {
                ResponseParsed::Partial => {}
                ResponseParsed::Head(end) => {
                    exchange.output.keep_head(end);
                    if exchange.output.capacity() - end < LEAST_ROOM {
                        let grown = exchange.output.grow(end + BUFFER_SIZE);
                        self.with_memory(exchange, grown)?;
                    }
                    self.note_head(exchange);
                    heed_told_rate(exchange);
                    return Ok(true);
                }
                ResponseParsed::Malformed(malformed) => {
                    self.log_request(
                        exchange,
                        Level::Error,
                        format_args!(
                            "{} while reading response header from upstream",
                            malformed.told(exchange.output.data())
                        ),
                    );
                    return Err(Stop::Upstream(Failure::InvalidHeader));
                }
            }
        }
        Ok(false)
    }

    /// Reads once more of the head of an answer; false if nothing has come.
    fn read_answer_head(&mut self, exchange: &mut Exchange) -> Result<bool, Stop> {
        let read = {
            let Exchange {
                attempt, output, ..
            } = &mut *exchange;
            let Some(attempt) = attempt else {
                return Err(Stop::Upstream(Failure::Error));
            };
            let Some(peer) = self.peers.get_mut(attempt.peer) else {
                return Err(Stop::Upstream(Failure::Error));
            };
            if !peer.ready.readable {
                return Ok(false);
            }
            room_for_head(output, &mut self.shared.pool).map(|()| {
                let read = transport::read(output, &mut peer.stream, &mut peer.ready);
                if let Ok(Read::Some(read)) = read {
                    attempt.received += read as u64;
                }
                read
            })
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => return self.with_memory(exchange, Err(error)).map(|()| false),
        };
        match read {
            Ok(Read::Some(_)) => Ok(true),
            Ok(Read::Blocked) => Ok(false),
            Ok(Read::End) => {
                self.log_upstream_end(exchange);
                Err(Stop::Upstream(Failure::Error))
            }
            Err(error) => {
                self.log_request(
                    exchange,
                    connection_level(&error, Level::Error),
                    format_args!(
                        "recv() failed ({}) while reading response header from upstream",
                        errno(&error)
                    ),
                );
                Err(Stop::Upstream(Failure::Error))
            }
        }
    }

    /// Keeps what the logs may say of an answer's head.
    fn note_head(&self, exchange: &mut Exchange) {
        if let (Some(last), Some(attempt)) = (exchange.tries.last_mut(), &exchange.attempt) {
            last.status = exchange.response.status;
            last.header_ms = Some(self.shared.now_ms.saturating_sub(attempt.started_ms));
        }
    }

    /// The answer's head is there: makes the client's of it.
    fn begin_answer(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        let status = exchange.response.status;
        if self.is_to_be_asked_elsewhere(exchange) {
            return Err(Stop::Upstream(Failure::Answered(status)));
        }
        if status == 101 && self.may_switch(exchange) {
            exchange.switched = true;
            exchange.upload.begin(Body::UntilClose, Framing::Plain);
            exchange.response.body = Body::UntilClose;
        } else if status == 101 {
            self.log_request(
                exchange,
                Level::Error,
                format_args!("upstream sent unexpected status 101 while reading response header from upstream"),
            );
            return Err(Stop::Upstream(Failure::InvalidHeader));
        }
        if let Some(attempt) = &mut exchange.attempt {
            attempt.head_length = Some(attempt.received - exchange.output.len() as u64);
        }
        if !exchange.switched
            && let Some(stop) = self.instead(exchange)
        {
            return Err(stop);
        }
        exchange.status = exchange.status_or(status);
        if !has_body(exchange.head.method, exchange.status) && !exchange.switched {
            // `proxy_method` has asked for a body that is not the client's, or the answer is the page
            // of an error whose status has none.
            let response = &mut exchange.response;
            response.keep_alive &= response.body == Body::None;
            response.body = Body::None;
        }
        let framing = begin_download(exchange);
        // A client that is still sending may go on, but not with another request.
        let location = exchange.location.as_deref();
        let is_last = location.is_some_and(|location| self.is_last(location));
        exchange.persist &= exchange.upload.is_ended() && !is_last;
        exchange.answered = true;
        self.write_answer_head(exchange, framing == Framing::Chunked);
        exchange.buffered = !exchange.switched && self.is_buffered(exchange);
        if exchange.buffered {
            self.begin_pace(exchange);
            self.begin_upstream_pace(exchange);
        } else {
            // As nginx, which limits only what it buffers.
            exchange.rate = Some(0);
        }
        Ok(())
    }

    /// Passes the answer on.
    fn pass(&mut self, exchange: &mut Exchange) -> Result<Turn, Stop> {
        for _ in 0..READS_A_TURN {
            if exchange.download.take(&mut exchange.output, false).is_err() {
                self.log_request(
                    exchange,
                    Level::Error,
                    format_args!("upstream sent invalid chunked response while reading upstream"),
                );
                if exchange.download.sent() > 0 {
                    return self.break_off(exchange);
                }
                // The client knows nothing of it yet.
                exchange.download.clear();
                exchange.answered = false;
                return Err(Stop::Upstream(Failure::InvalidHeader));
            }
            if exchange.download.is_end_held() {
                self.end_chunks(exchange);
            }
            self.flush_to_client(exchange)?;
            if exchange.download.is_pending() {
                self.settle(exchange);
                if !self.set_aside(exchange) {
                    return Ok(Turn::Waiting);
                }
            } else if exchange.download.is_ended() {
                return Ok(Turn::Whole);
            }
            if !self.read_answer_body(exchange)? {
                return Ok(Turn::Waiting);
            }
        }
        self.go_on_later();
        Ok(Turn::Waiting)
    }

    /// Reads once more of the body of an answer, as fast as it may; false if nothing has come.
    fn read_answer_body(&mut self, exchange: &mut Exchange) -> Result<bool, Stop> {
        let mut limit = usize::MAX;
        if let (Some(pace), Some(attempt)) = (&mut exchange.upstream_pace, &exchange.attempt) {
            limit = pace.allows(attempt.received, self.shared.now_ms);
            if limit == 0 {
                return Ok(false);
            }
        }
        let peer = exchange
            .attempt
            .as_mut()
            .and_then(|attempt| Some((self.peers.get_mut(attempt.peer)?, attempt)));
        let Some((peer, attempt)) = peer else {
            return Err(Stop::Abandon);
        };
        if !peer.ready.readable {
            return Ok(false);
        }
        let (stream, ready) = (&mut peer.stream, &mut peer.ready);
        match transport::read_at_most(&mut exchange.output, stream, ready, limit) {
            Ok(Read::Some(read)) => {
                let before = attempt.received;
                attempt.received += read as u64;
                if let Some(pace) = &mut exchange.upstream_pace {
                    pace.went(before, attempt.received, self.shared.now_ms);
                }
            }
            Ok(Read::Blocked) => return Ok(false),
            Ok(Read::End) => {
                if exchange.download.end_of_input().is_err() {
                    self.log_request(
                        exchange,
                        Level::Error,
                        format_args!(
                            "upstream prematurely closed connection while reading upstream"
                        ),
                    );
                    return self.break_off(exchange).map(|_| false);
                }
            }
            Err(error) => {
                self.log_request(
                    exchange,
                    connection_level(&error, Level::Error),
                    format_args!("recv() failed ({}) while reading upstream", errno(&error)),
                );
                return self.break_off(exchange).map(|_| false);
            }
        }
        Ok(true)
    }

    /// As nginx, takes a client that has ended its direction for one that is gone, once it owes
    /// nothing more of its request. What is left of an answer whose server is done it may have.
    pub(super) fn is_client_gone(&self, exchange: &Exchange) -> bool {
        let is_here = exchange.answered && exchange.attempt.is_none();
        self.client.ready.closed && exchange.upload.is_ended() && !is_here
    }
}

/// Frames the answer's body for the client, and tells how: where only the end of the connection ends
/// it, that is not kept.
fn begin_download(exchange: &mut Exchange) -> Framing {
    let adds_trailers = exchange.adds_trailers();
    let mut body = exchange.response.body;
    let mut framing = Framing::Plain;
    match body {
        _ if exchange.switched => exchange.persist = false,
        Body::Chunked | Body::UntilClose if exchange.takes_chunks() => framing = Framing::Chunked,
        Body::Chunked | Body::UntilClose => exchange.persist = false,
        Body::None | Body::Length(_) if adds_trailers => {
            framing = Framing::Chunked;
            if body == Body::None {
                body = Body::Length(0);
            }
        }
        Body::None | Body::Length(_) => {}
    }
    exchange.download.begin(body, framing);
    if framing == Framing::Chunked {
        let passes =
            body == Body::Chunked && exchange.proxy().is_some_and(|proxy| proxy.pass_trailers);
        if passes {
            exchange.download.keep_trailers();
        }
        if passes || adds_trailers {
            exchange.download.hold_end();
        }
    }
    framing
}

/// Parses what there is of the answer, past interim answers, which end here.
fn parse_answer(exchange: &mut Exchange) -> ResponseParsed {
    let proxy = exchange.proxy();
    let longest = proxy.map_or(BUFFER_SIZE, |proxy| proxy.buffering.head_size);
    loop {
        let Exchange {
            response,
            output,
            asked,
            attempt,
            ..
        } = &mut *exchange;
        let parsed = response.parse(output.data(), *asked, longest);
        match parsed {
            ResponseParsed::Head(end) if response.is_interim() => {
                output.consume(end);
                output.next_message();
                response.clear();
                let Some(attempt) = attempt else {
                    return parsed;
                };
                attempt.interims += 1;
                if attempt.interims > MAX_INTERIMS {
                    return ResponseParsed::Malformed(Malformed::Because(
                        "upstream sent too many interim responses",
                    ));
                }
                if output.is_empty() {
                    return ResponseParsed::Partial;
                }
            }
            other => return other,
        }
    }
}

/// Sees that there is a buffer for the head of an answer, with room in it.
fn room_for_head(output: &mut Buffer, pool: &mut Pool) -> Result<(), NoMemory> {
    if output.capacity() == 0 {
        *output = pool.take()?;
    }
    if output.is_full() {
        // `proxy_buffer_size` is larger than a buffer, else this would be too much.
        output.grow(output.capacity() * 2)?;
    }
    Ok(())
}
