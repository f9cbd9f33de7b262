//! Answers for clients that are slower than their servers: what the client does not take is set
//! aside, so that the server is done with the request (`proxy_buffering`).

use std::io;

use super::Network;
use super::client::{Next, State};
use super::describe::{connection_level, errno};
use super::exchange::Exchange;
use super::receive::{Stop, Turn};
use super::retry::Failure;
use super::send::FILE_BYTES_A_TURN;
use super::session::Session;
use super::spool::Spool;
use crate::http::Known;
use crate::settings::{IgnoredHeaders, Level};
use crate::temp::Name;

/// A client that takes nothing for so long is slow. Others are waited for: a full socket is
/// everyday on a busy machine, and waiting costs less than writing a file.
pub(super) const SLOW_MS: u64 = 100;

impl<N: Network> Session<'_, N> {
    /// Whether the answer that begins is buffered: `proxy_buffering`, unless the server tells
    /// otherwise by `X-Accel-Buffering`.
    pub(super) fn is_buffered(&self, exchange: &Exchange) -> bool {
        let Some(proxy) = exchange.proxy() else {
            return false;
        };
        let fields = &exchange.response.fields;
        let told = fields.known(Known::XAccelBuffering, exchange.output.head());
        match told {
            _ if proxy.ignored.has(IgnoredHeaders::BUFFERING) => proxy.buffering.response,
            Some(told) if told.eq_ignore_ascii_case(b"yes") => true,
            Some(told) if told.eq_ignore_ascii_case(b"no") => false,
            _ => proxy.buffering.response,
        }
    }

    /// The client has not taken everything: sets that aside if there is room for it. Then more can
    /// be read from the server.
    pub(super) fn set_aside(&mut self, exchange: &mut Exchange) -> bool {
        if exchange.buffered && exchange.pace.is_some() {
            // Who is held back needs no time to show that it is slow.
            exchange.slow = true;
        }
        if !exchange.slow || exchange.download.is_ended() {
            return false;
        }
        let Some(proxy) = exchange.proxy() else {
            return false;
        };
        let memory = proxy.buffering.memory();
        let (limit, temp) = (proxy.buffering.max_temp_file_size, &proxy.buffering.temp);
        let waiting = exchange.download.waiting();
        let spool = exchange.download.stored();
        let (has_room, wants_file) = match spool {
            Some(spool) => (spool.has_room(waiting), spool.wants_file(waiting)),
            None => {
                let spool = Spool::new(memory, limit);
                (spool.has_room(waiting), spool.wants_file(waiting))
            }
        };
        if !has_room {
            return false;
        }
        let file = match wants_file.then(|| self.shared.temp.create(temp, Name::None)) {
            None => None,
            Some(Ok(file)) => Some(file),
            Some(Err(error)) => {
                return self.set_nothing_aside(exchange, format_args!("{error}"));
            }
        };
        if let Some(file) = &file {
            self.log_request(
                exchange,
                Level::Warn,
                format_args!(
                    "an upstream response is buffered to a temporary file {} while reading upstream",
                    file.path().display()
                ),
            );
        }
        let Exchange {
            download, output, ..
        } = &mut *exchange;
        let spool = download
            .spool()
            .get_or_insert_with(|| Box::new(Spool::new(memory, limit)));
        if let Some(file) = file {
            spool.set_file(file);
        }
        match download.store(output) {
            Ok(()) => true,
            Err(error) => self.set_nothing_aside(exchange, format_args!("{error}")),
        }
    }

    /// Neither memory nor disk takes it: the server waits for the client, as without a file.
    fn set_nothing_aside(&self, exchange: &mut Exchange, why: std::fmt::Arguments<'_>) -> bool {
        self.log_request(
            exchange,
            Level::Crit,
            format_args!("{why} while reading upstream"),
        );
        exchange.slow = false;
        exchange.buffered = false;
        false
    }

    /// All of the answer was read, although the client has not taken it yet: the server is free.
    pub(super) fn settle(&mut self, exchange: &mut Exchange) {
        if exchange.download.is_ended() && !exchange.switched {
            self.end_attempt(exchange);
        }
    }

    /// The server's answer breaks off: the client still gets what was set aside, and then sees
    /// that it is not the whole.
    pub(super) fn break_off(&mut self, exchange: &mut Exchange) -> Result<Turn, Stop> {
        if !exchange.download.is_pending() {
            return Err(Stop::Abandon);
        }
        self.drop_attempt(exchange);
        exchange.broken = true;
        Ok(Turn::Waiting)
    }

    /// Nothing more is awaited of the server: another one may be tried, unless the client knows
    /// of its answer already.
    pub(super) fn give_server_up(&mut self, mut exchange: Box<Exchange>, why: Failure) -> Next {
        if !exchange.answered {
            return self.attempt_failed(exchange, why);
        }
        match self.break_off(&mut exchange) {
            Ok(Turn::Waiting | Turn::Whole) => Next::Go(State::Proxying(exchange)),
            Err(_) => self.abandon(exchange),
        }
    }

    /// A turn after [`Session::break_off`].
    pub(super) fn pass_rest(&mut self, exchange: &mut Exchange) -> Result<Turn, Stop> {
        self.flush_to_client(exchange)?;
        if exchange.download.is_pending() {
            return Ok(Turn::Waiting);
        }
        Err(Stop::Abandon)
    }

    /// Writes what waits for the client, as far as it goes and may go.
    pub(super) fn flush_to_client(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        let sendfile = exchange
            .location
            .as_ref()
            .is_some_and(|location| location.sendfile);
        let Exchange {
            download,
            output,
            pace,
            ..
        } = &mut *exchange;
        let (now_ms, before) = (self.shared.now_ms, download.sent());
        let mut limit = usize::MAX;
        if let Some(pace) = pace {
            limit = pace.allows(before, now_ms);
        }
        let client = &mut *self.client;
        let (stream, ready) = (&mut client.stream, &mut client.ready);
        let mut flushed = Ok(0);
        if download.is_spooled() {
            let limit = limit.min(FILE_BYTES_A_TURN);
            flushed = download.flush_spool(stream, ready, limit, sendfile);
        }
        if let Ok(count) = flushed
            && !download.is_spooled()
            && count < limit
        {
            flushed = download.flush(output, stream, ready, limit - count);
        }
        if let Err(error) = flushed {
            return Err(self.client_lost(exchange, &error));
        }
        let mut held = false;
        if let Some(pace) = pace {
            if download.sent() > before {
                pace.went(before, download.sent(), now_ms);
            }
            held = now_ms < pace.until_ms();
        }
        if (limit < usize::MAX || download.is_spooled())
            && download.is_pending()
            && client.ready.writable
            && !held
        {
            self.go_on_later();
        }
        Ok(())
    }

    fn client_lost(&self, exchange: &mut Exchange, error: &io::Error) -> Stop {
        self.log_request(
            exchange,
            connection_level(error, Level::Info),
            format_args!("send() failed ({}) while sending to client", errno(error)),
        );
        if !exchange.answered {
            exchange.status = 499;
        }
        Stop::Abandon
    }

    /// The client's deadline was none that ends anything: it has shown to be slow, or may have more
    /// by now.
    pub(super) fn after_pause(&mut self, mut exchange: Box<Exchange>, proxying: bool) -> Next {
        use super::exchange::For;
        exchange.slow |= exchange.client_wait.kind() == For::Slow;
        exchange.client_wait = super::exchange::Wait::default();
        Next::Go(match proxying {
            true => State::Proxying(exchange),
            false => State::Answering(exchange),
        })
    }
}
