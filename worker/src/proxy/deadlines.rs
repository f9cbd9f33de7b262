//! For what both connections of a proxied request wait, and for how long.

use super::Network;
use super::client::{Next, State};
use super::exchange::{Attempt, Exchange, For, Wait};
use super::retry::Failure;
use super::session::Session;
use super::slow::SLOW_MS;
use crate::settings::{Level, LocationSettings, Proxy};
use std::time::Duration;

impl<N: Network> Session<'_, N> {
    /// Sets the deadlines by what both connections wait for. One that waits for the same as
    /// before without anything having moved keeps the deadline that it has.
    pub(super) fn arm(&mut self, exchange: &mut Exchange) {
        let (Some(location), Some(proxy)) = (exchange.location.as_deref(), exchange.proxy()) else {
            return;
        };
        let client = self.client_waits(exchange, location);
        let attempt = exchange.attempt.as_ref();
        let server = attempt.map(|attempt| {
            let wait = self.server_waits(exchange, attempt, proxy);
            (attempt.peer, wait)
        });
        self.arm_client_for(exchange, client);
        if let Some((key, server)) = server
            && exchange.peer_wait != server
        {
            match server.timeout() {
                Some(timeout) => self.shared.arm_peer(key, timeout),
                None => self.shared.peer_timers.clear(key.index),
            }
            exchange.peer_wait = server;
        }
    }

    /// Sets the client's deadline, unless it is the same as before.
    pub(super) fn arm_client_for(&mut self, exchange: &mut Exchange, wait: Wait) {
        if exchange.client_wait == wait {
            return;
        }
        match wait.timeout() {
            Some(timeout) => self.shared.arm_client(self.key, timeout),
            None => self.shared.client_timers.clear(self.key.index),
        }
        exchange.client_wait = wait;
    }

    fn client_waits(&self, exchange: &Exchange, location: &LocationSettings) -> Wait {
        if exchange.switched {
            return Wait::default();
        }
        let (upload, download) = (&exchange.upload, &exchange.download);
        if download.is_pending() {
            let may_read = exchange.attempt.is_some() && !download.is_ended();
            if exchange.buffered && !exchange.slow && may_read {
                let soon = Duration::from_millis(SLOW_MS).min(location.send_timeout);
                return Wait::new(Some(soon), For::Slow, 0);
            }
            return self.sending_waits(exchange, location);
        }
        let connected = exchange.attempt.as_ref().is_some_and(|attempt| {
            let peer = self.peers.get(attempt.peer);
            peer.is_some_and(|peer| peer.connected) && !attempt.deaf
        });
        if connected && !upload.is_ended() && !upload.is_pending() {
            let moved = upload.received() + download.sent();
            return Wait::new(Some(location.client_body_timeout), For::Body, moved);
        }
        Wait::default()
    }

    /// What a client waits for that does not have all of its answer.
    pub(super) fn sending_waits(&self, exchange: &Exchange, location: &LocationSettings) -> Wait {
        let now_ms = self.shared.now_ms;
        match &exchange.pace {
            Some(pace) if now_ms < pace.until_ms() => {
                let left = Duration::from_millis(pace.until_ms() - now_ms);
                Wait::new(Some(left), For::Pace, pace.until_ms())
            }
            _ => {
                let moved = exchange.upload.received() + exchange.download.sent();
                Wait::new(Some(location.send_timeout), For::Sending, moved)
            }
        }
    }

    fn server_waits(&self, exchange: &Exchange, attempt: &Attempt, proxy: &Proxy) -> Wait {
        let (upload, download) = (&exchange.upload, &exchange.download);
        let moved = upload.sent() + attempt.received;
        if exchange.switched {
            let both = upload.received() + download.sent() + moved;
            return Wait::new(Some(proxy.read_timeout), For::Both, both);
        }
        let connected = self.peers.get(attempt.peer).map(|peer| peer.connected);
        if connected != Some(true) {
            let tries = exchange.tries.len() as u64;
            return Wait::new(Some(proxy.connect_timeout), For::Connection, tries);
        }
        if upload.is_pending() && !attempt.deaf {
            return Wait::new(Some(proxy.send_timeout), For::Sending, moved);
        }
        if let Some(pace) = &exchange.upstream_pace
            && self.shared.now_ms < pace.until_ms()
        {
            let left = Duration::from_millis(pace.until_ms() - self.shared.now_ms);
            return Wait::new(Some(left), For::Pace, pace.until_ms());
        }
        // Nothing is read that nobody takes.
        if download.is_owing() || (!upload.is_ended() && !exchange.answered) {
            return Wait::default();
        }
        Wait::new(Some(proxy.read_timeout), For::Answer, moved)
    }

    /// The upstream connection's deadline has passed.
    pub(super) fn peer_timeout(&mut self, state: State) -> Next {
        let State::Proxying(mut exchange) = state else {
            return Next::Go(state);
        };
        let waited = std::mem::take(&mut exchange.peer_wait);
        if waited.kind() == For::Pace {
            return Next::Go(State::Proxying(exchange));
        }
        self.log_request(
            &exchange,
            Level::Error,
            format_args!(
                "upstream timed out (110: Connection timed out) while {}",
                self.doing(&exchange)
            ),
        );
        self.give_server_up(exchange, Failure::Timeout)
    }
}
