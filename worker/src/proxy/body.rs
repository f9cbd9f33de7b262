//! A request's body that is read whole before a server is asked, so that a slow client occupies
//! none and every server can have all of it.

use std::io;

use super::Network;
use super::client::{Next, State};
use super::describe::errno;
use super::exchange::{Exchange, For, Wait};
use super::receive::{READS_A_TURN, Stop};
use super::relay::Framing;
use super::session::Session;
use super::spool::Spool;
use crate::http::{Body, Known};
use crate::settings::{InFileOnly, Level, Proxy};
use crate::temp::Name;
use crate::transport::{self, Read};

/// Room behind the head below which a body is not written to a file piece by piece.
const LEAST_ROOM: usize = 16 * 1024;

impl<N: Network> Session<'_, N> {
    /// Whether the body is to be read first: not if it came with the head.
    pub(super) fn is_body_awaited(exchange: &Exchange) -> bool {
        let Some(proxy) = exchange.proxy() else {
            return false;
        };
        match exchange.head.body {
            Body::UntilClose => false,
            _ if !proxy.buffering.request && !proxy.drops_body() => {
                // HTTP/1.0 has no chunks, and streaming knows no length.
                exchange.head.body == Body::Chunked && proxy.http_minor == 0
            }
            // An empty body, which is not none, has its file too.
            Body::None => {
                let fields = &exchange.head.fields;
                exchange.is_body_for_file()
                    && (fields.known(Known::ContentLength, exchange.input.head())).is_some()
            }
            Body::Length(length) => {
                exchange.is_body_for_file() || length > exchange.input.len() as u64
            }
            Body::Chunked => true,
        }
    }

    /// Reads on until the body is whole.
    pub(super) fn receive_body(&mut self, mut exchange: Box<Exchange>) -> Next {
        match self.gather_body(&mut exchange) {
            Ok(true) => {
                self.shared.client_timers.clear(self.key.index);
                exchange.client_wait = Wait::default();
                if exchange.head.body == Body::Chunked {
                    exchange.head.body = Body::Length(exchange.upload.received());
                }
                if exchange.proxy().is_some_and(Proxy::drops_body) {
                    // The file is for others to read.
                    exchange.body_file = exchange.upload.spool().take();
                    exchange.upload.begin(Body::None, Framing::Dropped);
                }
                self.ask_upstream(exchange)
            }
            Ok(false) => {
                let timeout = exchange
                    .location
                    .as_ref()
                    .map(|location| location.client_body_timeout);
                let wait = Wait::new(timeout, For::Body, exchange.upload.received());
                if exchange.client_wait != wait {
                    self.shared
                        .arm_client(self.key, timeout.unwrap_or_default());
                    exchange.client_wait = wait;
                }
                Next::Wait(State::Receiving(exchange))
            }
            Err(Stop::Client(status)) => {
                exchange.give_up_body();
                self.answer_error(exchange, status)
            }
            Err(_) => self.abandon(exchange),
        }
    }

    /// Takes what has come of the body; whether that is all of it.
    fn gather_body(&mut self, exchange: &mut Exchange) -> Result<bool, Stop> {
        self.write_continue(exchange)?;
        let location = exchange.location.as_ref();
        let most = location.map_or(0, |location| location.client_max_body_size);
        exchange.upload.limit(most);
        for _ in 0..READS_A_TURN {
            let Exchange { upload, input, .. } = &mut *exchange;
            if upload.gather(input).is_err() {
                return Err(self.client_broke_chunks(exchange));
            }
            if let Some(excess) = upload.excess() {
                return Err(self.client_sent_too_much(exchange, excess));
            }
            if exchange.upload.is_ended() {
                self.store_rest(exchange)?;
                return Ok(true);
            }
            self.make_room_for_body(exchange)?;
            let client = &mut *self.client;
            if !client.ready.readable {
                return Ok(false);
            }
            match transport::read(&mut exchange.input, &mut client.stream, &mut client.ready) {
                Ok(Read::Some(_)) => {}
                Ok(Read::Blocked) => return Ok(false),
                Ok(Read::End) => return Err(self.client_left_body(exchange, None)),
                Err(error) => return Err(self.client_left_body(exchange, Some(&error))),
            }
        }
        self.go_on_later();
        Ok(false)
    }

    /// Sees that the next read has room: in memory as far as `client_body_buffer_size` goes, else
    /// what is there goes to a file.
    fn make_room_for_body(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        if !exchange.input.is_full() {
            return Ok(());
        }
        let limit = exchange
            .location
            .as_ref()
            .map_or(0, |location| location.client_body.buffer_size)
            .max(LEAST_ROOM);
        let (capacity, head) = (exchange.input.capacity(), exchange.input.head().len());
        let whole = exchange
            .upload
            .received()
            .saturating_add(exchange.upload.announced());
        let fits = whole <= limit as u64 && exchange.upload.spool().is_none();
        let least = head.saturating_add(LEAST_ROOM);
        let most = if fits {
            head.saturating_add(limit)
        } else {
            least
        };
        if capacity < most {
            let grown = exchange.input.grow((capacity * 2).clamp(least, most));
            return self.with_memory(exchange, grown);
        }
        self.store_body(exchange)
    }

    /// The body is whole: once a part of it is in a file, all of it is.
    fn store_rest(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        if exchange.is_body_for_file() || exchange.upload.spool().is_some() {
            self.store_body(exchange)?;
        }
        Ok(())
    }

    /// Writes what has come to the body's file.
    fn store_body(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        if exchange.upload.spool().is_none() {
            self.open_body_file(exchange)?;
        }
        let Exchange { upload, input, .. } = &mut *exchange;
        let Err(error) = upload.store(input) else {
            return Ok(());
        };
        self.log_request(exchange, Level::Crit, format_args!("{error}"));
        Err(Stop::Client(500))
    }

    fn open_body_file(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        let Some(location) = exchange.location.clone() else {
            return Err(Stop::Client(500));
        };
        let (name, level) = match location.client_body.in_file_only {
            InFileOnly::Off => (Name::None, Level::Warn),
            InFileOnly::Clean => (Name::Clean, Level::Notice),
            InFileOnly::On => (Name::Kept, Level::Notice),
        };
        let folder = &location.client_body.temp;
        let mut made = self.shared.temp.create(folder, name);
        if let Err(error) = &made
            && error.is_shortage()
            && self.free_descriptor(None)
        {
            made = self.shared.temp.create(folder, name);
        }
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                self.log_request(exchange, Level::Crit, format_args!("{error}"));
                return Err(Stop::Client(500));
            }
        };
        self.log_request(
            exchange,
            level,
            format_args!(
                "a client request body is buffered to a temporary file {}",
                file.path().display()
            ),
        );
        let mut spool = Spool::new(0, u64::MAX);
        spool.set_file(file);
        *exchange.upload.spool() = Some(Box::new(spool));
        Ok(())
    }

    fn client_left_body(&mut self, exchange: &mut Exchange, error: Option<&io::Error>) -> Stop {
        match error {
            Some(error) => self.log_request(
                exchange,
                Level::Info,
                format_args!("recv() failed ({})", errno(error)),
            ),
            None => self.log_request(
                exchange,
                Level::Info,
                format_args!("client prematurely closed connection"),
            ),
        }
        exchange.status = 400;
        Stop::Abandon
    }
}
