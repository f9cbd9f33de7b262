//! Attempts that failed: what is noted of them, and who is asked next.

use std::rc::Rc;

use super::Network;
use super::attempt::Unable;
use super::client::{Next, State};
use super::exchange::Exchange;
use super::retry::{self, Allowed, Attempted, Failure, Verdict};
use super::session::Session;
use super::shared::millis;
use crate::balance::Failed;
use crate::settings::{Level, NextUpstream};
use crate::upstream::plan::UpstreamPlan;
use crate::variable;

impl<N: Network> Session<'_, N> {
    /// The attempt failed: notes it, and asks the same server, the next one, or nobody.
    pub(super) fn attempt_failed(&mut self, mut exchange: Box<Exchange>, failure: Failure) -> Next {
        let Some(attempt) = exchange.attempt.as_ref() else {
            return self.answer_error(exchange, failure.status());
        };
        let server = attempt.server;
        let verdict = self.verdict(&exchange, failure);
        let upstream = exchange.upstream.clone();
        let doing = self.doing(&exchange);
        self.drop_attempt(&mut exchange);
        if verdict == Verdict::Again {
            exchange.tries.pop();
        } else if let Some(upstream) = &upstream
            && self.count_failure(&mut exchange, upstream, server, failure)
        {
            self.log_disabled(&exchange, doing);
        }
        if verdict == Verdict::GiveUp {
            return self.answer_error(exchange, failure.status());
        }
        let mut again = (verdict == Verdict::Again).then_some(server);
        if !self.route_anew(&mut exchange, &mut again) {
            return self.no_server(exchange);
        }
        exchange.upload.restart(&mut exchange.input);
        exchange.output.clear();
        exchange.response.clear();
        if let Some(server) = again {
            match self.attempt(&mut exchange, server, false) {
                Ok(()) => return Next::Go(State::Proxying(exchange)),
                Err(unable) => {
                    if let Some(status) = self.ends_with(&exchange, unable) {
                        return self.answer_error(exchange, status);
                    }
                }
            }
        }
        // A try that was to be made again at a server that has left is still to be had.
        let spent = verdict == Verdict::Next || again.is_some();
        exchange.tries_left = exchange.tries_left.saturating_sub(usize::from(spent));
        self.next_attempt(exchange)
    }

    /// The status of a request whose attempt could not be begun; `None` if the next server may be
    /// asked.
    pub(super) fn ends_with(&self, exchange: &Exchange, unable: Unable) -> Option<u16> {
        let unsent = Attempted {
            method: exchange.repeated_method(),
            sent: false,
            repeatable: true,
            stale: false,
        };
        match unable {
            Unable::Ourselves => Some(500),
            Unable::Server => (self.decide(exchange, Failure::Error, unsent) == Verdict::GiveUp)
                .then(|| Failure::Error.status()),
        }
    }

    /// Whether the server's answer is passed on, or taken for a failure after which another one is
    /// asked.
    pub(super) fn is_to_be_asked_elsewhere(&self, exchange: &Exchange) -> bool {
        let status = exchange.response.status;
        let named = NextUpstream::of_status(status).is_some();
        named && self.verdict(exchange, Failure::Answered(status)) == Verdict::Next
    }

    fn verdict(&self, exchange: &Exchange, failure: Failure) -> Verdict {
        let Some(attempt) = &exchange.attempt else {
            return Verdict::GiveUp;
        };
        let attempted = Attempted {
            method: exchange.repeated_method(),
            sent: attempt.sent,
            repeatable: exchange.upload.can_restart(&exchange.input),
            stale: attempt.reused && attempt.received == 0,
        };
        self.decide(exchange, failure, attempted)
    }

    pub(super) fn decide(
        &self,
        exchange: &Exchange,
        failure: Failure,
        attempted: Attempted,
    ) -> Verdict {
        let Some(proxy) = exchange.proxy() else {
            return Verdict::GiveUp;
        };
        let limit_ms = millis(proxy.next_upstream_timeout);
        let asked_ms = self.shared.now_ms.saturating_sub(exchange.asked_since_ms);
        let allowed = Allowed {
            after: proxy.next_upstream,
            tries: exchange.tries_left,
            in_time: limit_ms == 0 || asked_ms < limit_ms,
        };
        retry::decide(failure, attempted, allowed)
    }

    /// Every server that could be asked is out.
    pub(super) fn no_server(&mut self, mut exchange: Box<Exchange>) -> Next {
        if let Some(upstream) = &exchange.upstream {
            exchange.tries.push(variable::Attempt {
                status: Failure::Error.status(),
                response_ms: Some(0),
                ..variable::Attempt::at(upstream.name.as_str().into())
            });
        }
        self.log_request(
            &exchange,
            Level::Error,
            format_args!("no live upstreams while connecting to upstream"),
        );
        self.answer_error(exchange, Failure::Error.status())
    }

    /// A server failed: it may be out for a while, in every worker; true if it is from now on.
    pub(super) fn count_failure(
        &mut self,
        exchange: &mut Exchange,
        upstream: &Rc<UpstreamPlan>,
        server: usize,
        failure: Failure,
    ) -> bool {
        if let Some(last) = exchange.tries.last_mut() {
            last.status = failure.status();
            last.response_ms.get_or_insert(0);
        }
        let counter = upstream.servers[server].counter;
        let plan = Rc::clone(&self.shared.plan);
        if !failure.counts() {
            if let Some((upstream, server)) = plan.find(counter) {
                upstream.succeeded(server);
            }
            return false;
        }
        self.shared.note_failure(counter);
        plan.find(counter).is_some_and(|(upstream, server)| {
            upstream.failed(server, self.shared.now_ms) == Failed::Disabled
        })
    }
}
