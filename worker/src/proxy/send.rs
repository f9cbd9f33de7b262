//! The request on its way to its server, as far as both sides go along.

use std::io;

use super::Network;
use super::describe::{connection_level, errno};
use super::exchange::Exchange;
use super::receive::{READS_A_TURN, Stop};
use super::retry::Failure;
use super::session::Session;
use super::unchunk::Excess;
use crate::settings::Level;
use crate::transport::{self, Read};

/// Bytes of a file that are sent in one turn of the loop; then others have theirs.
pub(super) const FILE_BYTES_A_TURN: usize = 2 << 20;

impl<N: Network> Session<'_, N> {
    /// Sends what there is of the request: head and the body's beginning in one write.
    pub(super) fn send(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        let Exchange {
            attempt: Some(attempt),
            upload,
            input,
            location: Some(location),
            ..
        } = exchange
        else {
            return Ok(());
        };
        let Some(peer) = self.peers.get_mut(attempt.peer) else {
            return Ok(());
        };
        if attempt.deaf {
            return Ok(());
        }
        upload.limit(location.client_max_body_size);
        for _ in 0..READS_A_TURN {
            if upload.take(input, true).is_err() {
                return Err(self.client_broke_chunks(exchange));
            }
            if let Some(excess) = upload.excess() {
                return Err(self.client_sent_too_much(exchange, excess));
            }
            match upload.flush(input, &mut peer.stream, &mut peer.ready, usize::MAX) {
                Ok(0) => {}
                Ok(_) => {
                    if let Some(last) = exchange.tries.last_mut() {
                        let took_ms = self.shared.now_ms.saturating_sub(attempt.started_ms);
                        last.connect_ms.get_or_insert(took_ms);
                    }
                    attempt.sent = true;
                    peer.connected = true;
                }
                Err(error) => return self.send_failed(exchange, &error),
            }
            if upload.is_spooled() {
                return self.send_stored(exchange);
            }
            // The body is read only once somebody takes it: until then all of it can be repeated.
            if upload.is_pending() || upload.is_ended() || !peer.connected {
                return Ok(());
            }
            if !peer.nodelay && location.tcp_nodelay {
                // Several writes are to follow: none shall wait for an earlier one's receipt.
                peer.nodelay = true;
                self.shared.net.set_nodelay(&peer.stream, true);
            }
            if !self.client.ready.readable {
                return Ok(());
            }
            match transport::read(input, &mut self.client.stream, &mut self.client.ready) {
                Ok(Read::Some(_)) => {}
                Ok(Read::Blocked) => return Ok(()),
                Ok(Read::End) if exchange.switched => {
                    // Lasts until then; never an error.
                    let _ = upload.end_of_input();
                    return Ok(());
                }
                Ok(Read::End) => return Err(self.client_left(exchange, None)),
                Err(error) => return Err(self.client_left(exchange, Some(&error))),
            }
        }
        self.go_on_later();
        Ok(())
    }

    /// The body is in a file: sends what there is room for.
    fn send_stored(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        let Exchange {
            attempt: Some(attempt),
            upload,
            location: Some(location),
            ..
        } = exchange
        else {
            return Ok(());
        };
        let Some(peer) = self.peers.get_mut(attempt.peer) else {
            return Ok(());
        };
        let (stream, ready) = (&mut peer.stream, &mut peer.ready);
        match upload.flush_spool(stream, ready, FILE_BYTES_A_TURN, location.sendfile) {
            Ok(_) if ready.writable && upload.is_spooled() => {
                self.go_on_later();
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => self.send_failed(exchange, &error),
        }
    }

    /// The server does not take the request. If it was reached, it may have answered already.
    fn send_failed(&mut self, exchange: &mut Exchange, error: &io::Error) -> Result<(), Stop> {
        let peer = exchange.attempt.as_mut().and_then(|attempt| {
            attempt.deaf = true;
            self.peers.get_mut(attempt.peer)
        });
        let Some(peer) = peer else {
            return Err(Stop::Upstream(Failure::Error));
        };
        if peer.connected {
            peer.ready.readable = true;
            return Ok(());
        }
        self.log_request(
            exchange,
            connection_level(error, Level::Error),
            format_args!(
                "connect() failed ({}) while connecting to upstream",
                errno(error)
            ),
        );
        Err(Stop::Upstream(Failure::Error))
    }

    pub(super) fn client_broke_chunks(&mut self, exchange: &mut Exchange) -> Stop {
        self.log_request(
            exchange,
            Level::Error,
            format_args!("client sent invalid chunked body"),
        );
        Stop::Client(400)
    }

    /// A chunk that is beyond `client_max_body_size` is refused as soon as its size is known.
    pub(super) fn client_sent_too_much(&mut self, exchange: &Exchange, excess: Excess) -> Stop {
        let Excess { before, chunk } = excess;
        self.log_request(
            exchange,
            Level::Error,
            format_args!("client intended to send too large chunked body: {before}+{chunk} bytes"),
        );
        Stop::Client(413)
    }

    fn client_left(&mut self, exchange: &mut Exchange, error: Option<&io::Error>) -> Stop {
        match error {
            Some(error) => self.log_request(
                exchange,
                Level::Info,
                format_args!(
                    "recv() failed ({}) while sending request to upstream",
                    errno(error)
                ),
            ),
            None => self.log_request(
                exchange,
                Level::Info,
                format_args!(
                    "client prematurely closed connection while sending request to upstream"
                ),
            ),
        }
        if !exchange.answered {
            exchange.status = 400;
        }
        Stop::Abandon
    }
}
