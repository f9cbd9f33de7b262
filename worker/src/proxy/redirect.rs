//! Internal redirects: a request goes on within weir as if it had asked for something else.

use super::Network;
use super::client::Next;
use super::exchange::{Exchange, Wait};
use super::relay::Framing;
use super::session::Session;
use crate::http::Body;
use crate::settings::{Level, Proxy};

/// nginx's limit; one more is taken for a cycle.
const MOST_REDIRECTS: u8 = 10;

/// How a request has fared within weir so far; it holds across internal redirects, to the
/// request's end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Course {
    /// It came here by an internal redirect: `internal` locations take it.
    pub internal: bool,
    /// The status that its answer has, whatever the handler says; 0 leaves it to that.
    pub status: u16,
    /// An error page was looked for, which happens once without `recursive_error_pages`.
    pub error_page: bool,
    /// Internal redirects so far.
    redirects: u8,
    /// Its head was refused: nothing of it is sent to a server.
    refused: bool,
    /// Nothing of its body is sent to a server: where it ends is not known, or it is too long.
    bodyless: bool,
    /// What an earlier location has left of its body.
    body: Left,
}

/// What a location that asked servers has left of a request's body for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Left {
    /// Nobody has begun to read it.
    #[default]
    Untouched,
    /// It is being read, or sent.
    Begun,
    /// It is at hand as a whole.
    Whole,
    /// Some of it is not at hand any more, or has not come yet.
    Part,
}

/// See [`Exchange::prepare_body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// It is still to be read.
    Fresh,
    /// The upload holds what is to be sent.
    Whole,
    /// It cannot be sent.
    Lost,
}

/// Where an internal redirect leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination<'a> {
    /// To the location of this path, which nothing more is done to, with these arguments.
    Uri(&'a [u8], &'a [u8]),
    /// To `location @name`; path and arguments stay.
    Named(&'a [u8]),
}

impl Course {
    /// So many redirects have there been that no other is begun.
    pub(super) fn is_spent(&self) -> bool {
        self.redirects > MOST_REDIRECTS
    }
}

impl Exchange {
    /// What the client sends from now on is no body for a server; the connection ends with the
    /// answer.
    pub(super) fn give_up_body(&mut self) {
        self.course.bodyless = true;
        self.persist = false;
        self.head.expect_continue = false;
    }

    /// The head could not be taken.
    pub(super) fn refuse(&mut self) {
        self.course.refused = true;
        self.give_up_body();
    }

    /// See [`Exchange::give_up_body`].
    pub(super) fn has_given_up_body(&self) -> bool {
        self.course.bodyless
    }

    /// A location is about to ask servers: sees to it that what an earlier one has left of the body
    /// is what they are to get.
    pub(super) fn prepare_body(&mut self) -> Prepared {
        if self.course.bodyless {
            self.upload.drop_pending(&mut self.input);
            self.upload.begin(Body::None, Framing::Plain);
            self.head.body = Body::None;
            return Prepared::Whole;
        }
        match std::mem::replace(&mut self.course.body, Left::Begun) {
            Left::Untouched | Left::Begun => Prepared::Fresh,
            Left::Part => Prepared::Lost,
            Left::Whole => {
                if self.proxy().is_some_and(Proxy::drops_body) {
                    self.upload.drop_pending(&mut self.input);
                    self.upload.begin(Body::None, Framing::Dropped);
                } else {
                    if self.head.body == Body::Chunked {
                        self.head.body = Body::Length(self.upload.received());
                    }
                    self.upload.set_framing(Framing::Plain);
                }
                Prepared::Whole
            }
        }
    }

    /// The location that asked servers is left: what is there of the body?
    fn keep_body(&mut self) {
        if self.course.bodyless || self.course.body != Left::Begun {
            return;
        }
        let is_there = self.head.body == Body::None || !self.upload.is_dropped();
        let is_whole = self.upload.is_ended() && is_there && self.upload.restart(&mut self.input);
        self.course.body = if is_whole { Left::Whole } else { Left::Part };
    }
}

impl<N: Network> Session<'_, N> {
    /// Serves the request again, from the start of routing, as one for another URI or by a named
    /// location. What belongs to the location so far ends here, an attempt at a server with it; the
    /// request's head, body and log data stay.
    pub(super) fn redirect_internally(
        &mut self,
        mut exchange: Box<Exchange>,
        to: Destination<'_>,
    ) -> Next {
        exchange.course.redirects += 1;
        if exchange.course.is_spent() {
            let (what, name) = match to {
                Destination::Uri(path, _) => ("internally redirecting to", path),
                Destination::Named(name) => ("redirect to named location", name),
            };
            return self.cannot_redirect(
                exchange,
                format_args!(
                    "rewrite or internal redirection cycle while {what} \"{}\"",
                    String::from_utf8_lossy(name)
                ),
            );
        }
        self.leave_location(&mut exchange);
        match to {
            Destination::Uri(path, args) => {
                exchange.head.target.replace(path, args);
                exchange.course.internal = true;
                self.serve(exchange)
            }
            Destination::Named(name) => self.serve_named(exchange, name),
        }
    }

    fn serve_named(&mut self, mut exchange: Box<Exchange>, name: &[u8]) -> Next {
        let shown = String::from_utf8_lossy(name);
        let head = exchange.input.head();
        if exchange.head.target.normalized(head).is_empty() {
            return self.cannot_redirect(
                exchange,
                format_args!("empty URI in redirect to named location \"{shown}\""),
            );
        }
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        let Some(location) = conf.named(exchange.server, name).cloned() else {
            return self.cannot_redirect(
                exchange,
                format_args!("could not find named location \"{shown}\""),
            );
        };
        exchange.course.internal = true;
        self.enter(&mut exchange, &location);
        self.serve_by(exchange, &location)
    }

    fn cannot_redirect(
        &mut self,
        exchange: Box<Exchange>,
        reason: std::fmt::Arguments<'_>,
    ) -> Next {
        self.log_request(&exchange, Level::Error, reason);
        self.answer_error(exchange, 500)
    }

    /// Ends what the location so far has begun.
    fn leave_location(&mut self, exchange: &mut Exchange) {
        self.drop_attempt(exchange);
        self.shared.client_timers.clear(self.key.index);
        exchange.keep_body();
        exchange.upstream = None;
        if exchange.course.refused {
            exchange.head.fields.clear();
        }
        exchange.tried.clear();
        exchange.response.clear();
        exchange.output.clear();
        exchange.upstream_id = None;
        exchange.named_host.clear();
        exchange.named_uri.clear();
        exchange.client_wait = Wait::default();
        exchange.peer_wait = Wait::default();
        exchange.expects_continue = false;
        exchange.answered = false;
        exchange.status = 0;
    }
}
