//! A `proxy_pass` with variables that gave a name: the wait for what it resolves to.

use std::rc::Rc;
use std::sync::Arc;

use super::Network;
use super::client::{Next, State};
use super::exchange::Exchange;
use super::session::Session;
use crate::resolver::{Failure, Lookup};
use crate::settings::{Level, Resolver};
use crate::upstream::plan::UpstreamPlan;

/// Why no server can be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unserved {
    /// There is none: the client gets this status.
    Answer(u16),
    /// A name is being resolved.
    Waiting,
}

impl<N: Network> Session<'_, N> {
    /// The upstream at a name's addresses.
    pub(super) fn find_name(
        &mut self,
        exchange: &mut Exchange,
        host: &str,
        port: u16,
    ) -> Result<Rc<UpstreamPlan>, Unserved> {
        let proxy = exchange.proxy();
        let asked = proxy.and_then(|proxy| Some((proxy.resolver.clone()?, proxy.resolver_timeout)));
        let Some((resolver, timeout)) = asked else {
            let host = host.escape_debug();
            self.log_request(
                exchange,
                Level::Error,
                format_args!("no resolver defined to resolve {host}"),
            );
            return Err(Unserved::Answer(502));
        };
        let now_ms = self.shared.now_ms;
        match self.shared.names.look_up(&resolver, host, self.key, now_ms) {
            Lookup::Found(found) => Ok(self.shared.resolved.at(host, port, &found.addresses)),
            Lookup::Failed(failure) => {
                self.tell_unresolved(exchange, host, failure);
                Err(Unserved::Answer(502))
            }
            Lookup::Waiting => {
                self.shared.arm_client(self.key, timeout);
                exchange.awaited = Some(Awaited {
                    resolver,
                    host: host.to_owned(),
                    port,
                });
                Err(Unserved::Waiting)
            }
        }
    }

    fn tell_unresolved(&self, exchange: &Exchange, host: &str, failure: Failure) {
        // As nginx shows it.
        let host = host.strip_suffix('.').unwrap_or(host).escape_debug();
        self.log_request(
            exchange,
            Level::Error,
            format_args!("{host} could not be resolved ({failure})"),
        );
    }

    /// Goes on when the name is known, or known not to be.
    pub(super) fn await_name(&mut self, mut exchange: Box<Exchange>) -> Next {
        let Some(resolved) = exchange.resolved.take() else {
            if !self.is_client_gone(&exchange) {
                return Next::Wait(State::Resolving(exchange));
            }
            self.log_request(
                &exchange,
                Level::Info,
                format_args!("epoll_wait() reported that client prematurely closed connection"),
            );
            self.stop_waiting(&mut exchange);
            exchange.status = 499;
            return self.abandon(exchange);
        };
        self.shared.client_timers.clear(self.key.index);
        let Some(awaited) = exchange.awaited.take() else {
            return self.answer_error(exchange, 502);
        };
        match resolved {
            Ok(found) => {
                let Awaited { host, port, .. } = awaited;
                let upstream = self.shared.resolved.at(&host, port, &found.addresses);
                self.ask(exchange, upstream)
            }
            Err(failure) => {
                self.tell_unresolved(&exchange, &awaited.host, failure);
                self.answer_error(exchange, 502)
            }
        }
    }

    /// The name was not resolved in `resolver_timeout`.
    pub(super) fn name_timeout(&mut self, mut exchange: Box<Exchange>) -> Next {
        if let Some(awaited) = self.stop_waiting(&mut exchange) {
            self.tell_unresolved(&exchange, &awaited.host, Failure::TimedOut);
        }
        self.answer_error(exchange, 502)
    }

    /// The request waits for no name any more.
    pub(super) fn stop_waiting(&mut self, exchange: &mut Exchange) -> Option<Awaited> {
        let awaited = exchange.awaited.take()?;
        let names = &mut self.shared.names;
        names.forget(&awaited.resolver, &awaited.host, self.key);
        Some(awaited)
    }
}

/// A name that a request waits for.
#[derive(Debug)]
pub struct Awaited {
    /// Who is asked.
    resolver: Arc<Resolver>,
    host: String,
    /// Of the servers at the name's addresses.
    port: u16,
}
