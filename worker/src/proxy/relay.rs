//! One direction of a message: a head, then a body that is taken apart, framed anew and written,
//! never holding more than one buffer of it.

use std::io::{self, IoSlice};

use super::spool::{Spool, Unstored};
use super::unchunk::{Bound, Excess, unchunk, unchunk_behind};
use crate::buffer::Buffer;
use crate::http::{Body, ChunkError, ChunkHead, Decoder, LAST_CHUNK, chunked};
use crate::transport::{Readiness, Transport};

/// What follows a chunk's data, and what follows the data of the last one.
const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";

/// How the body that comes in ends.
#[derive(Debug, Default)]
enum Source {
    #[default]
    Ended,
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

/// How the body that goes out is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// As it is: by its length, by the end of the connection, or there is none.
    #[default]
    Plain,
    /// In chunks.
    Chunked,
    /// Not at all: what comes is dropped.
    Dropped,
}

/// The body ended before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// One direction of a message. `lead`, the first `owed` bytes of the input and `tail` are what
/// waits to be written, in this order.
#[derive(Debug, Default)]
pub struct Relay {
    source: Source,
    framing: Framing,
    lead: Vec<u8>,
    lead_sent: usize,
    owed: usize,
    tail: &'static [u8],
    /// The lines of the trailer section, where they are kept.
    trailers: Vec<u8>,
    keeps_trailers: bool,
    /// The last chunk is not made before [`Relay::end`].
    holds_end: bool,
    /// Only the end of the connection tells the other side that the body is complete.
    until_close: bool,
    bound: Bound,
    received: u64,
    sent: u64,
    /// What was taken out of the input and waits elsewhere. Of a request's body it is all, behind
    /// the head in the lead; of an answer what is older than everything above.
    spool: Option<Box<Spool>>,
}

/// Bytes of a body that are copied behind its head.
const SMALL_BODY: usize = 1024;

/// A lead that grew beyond this is not kept for the next request.
const LEAD_KEPT: usize = 64 * 1024;

impl Relay {
    /// Forgets everything but its room.
    pub fn clear(&mut self) {
        self.lead.clear();
        self.lead.shrink_to(LEAD_KEPT);
        self.trailers.clear();
        *self = Self {
            lead: std::mem::take(&mut self.lead),
            trailers: std::mem::take(&mut self.trailers),
            ..Self::default()
        };
    }

    /// A body begins.
    pub fn begin(&mut self, body: Body, framing: Framing) {
        self.source = match body {
            Body::None => Source::Ended,
            Body::Length(length) => Source::Length(length),
            Body::Chunked => Source::Chunked(Decoder::new()),
            Body::UntilClose => Source::UntilClose,
        };
        self.framing = framing;
        self.keeps_trailers = false;
        self.holds_end = false;
        self.bound = Bound::default();
        self.until_close =
            framing == Framing::Plain && matches!(body, Body::Chunked | Body::UntilClose);
    }

    /// The body goes out in another framing than it was begun with, before anything of it did.
    pub fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// A body in chunks may be so many bytes long; 0 is no limit. After [`Relay::begin`].
    pub fn limit(&mut self, most: u64) {
        self.bound.most = most;
    }

    /// The chunk that makes the body longer than it may be.
    pub fn excess(&self) -> Option<Excess> {
        self.bound.excess
    }

    /// Nothing of the body goes out.
    pub fn is_dropped(&self) -> bool {
        self.framing == Framing::Dropped
    }

    /// Trailer fields that come are kept. After [`Relay::begin`].
    pub fn keep_trailers(&mut self) {
        self.keeps_trailers = true;
    }

    /// See [`Relay::keep_trailers`].
    pub fn keeps_trailers(&self) -> bool {
        self.keeps_trailers
    }

    /// The lines of the trailer section that came, where they are kept.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// The chunks that go out are ended by [`Relay::end`], once the source has. After
    /// [`Relay::begin`].
    pub fn hold_end(&mut self) {
        self.holds_end = true;
    }

    /// The source has ended, and [`Relay::end`] has to follow.
    pub fn is_end_held(&self) -> bool {
        self.holds_end && self.is_ended()
    }

    /// The last chunk, with the lines of a trailer section. What still waits in the input comes
    /// before it and is copied.
    pub fn end(&mut self, trailers: &[u8], input: &mut Buffer) {
        self.holds_end = false;
        self.lead.extend_from_slice(&input.data()[..self.owed]);
        self.lead.extend_from_slice(self.tail);
        self.discard(input);
        chunked::end(&mut self.lead, trailers);
    }

    /// What is missing would not be missed: the other side takes the end of the connection for the
    /// end of the body.
    pub fn is_cut(&self) -> bool {
        self.until_close && !self.is_done()
    }

    /// Bytes to be written before the body, to be appended to.
    pub fn lead(&mut self) -> &mut Vec<u8> {
        &mut self.lead
    }

    /// Body bytes that came in so far, without their framing.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that were written so far, heads and framing included.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the source has given its last byte.
    pub fn is_ended(&self) -> bool {
        matches!(self.source, Source::Ended)
    }

    /// Whether something waits to be written.
    pub fn is_pending(&self) -> bool {
        self.is_owing() || self.is_spooled()
    }

    /// Whether something waits in front of the input.
    pub fn is_owing(&self) -> bool {
        self.lead_sent < self.lead.len() || self.owed > 0 || !self.tail.is_empty()
    }

    /// Bytes that wait in front of the input, those at its beginning included.
    pub fn waiting(&self) -> usize {
        self.lead.len() - self.lead_sent + self.owed + self.tail.len()
    }

    /// Whether something waits in the spool.
    pub fn is_spooled(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| !spool.is_empty())
    }

    /// Whether something is or was in a file.
    pub fn has_file(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.has_file())
    }

    /// What waits elsewhere, or was sent from there.
    pub fn stored(&self) -> Option<&Spool> {
        self.spool.as_deref()
    }

    /// Bytes at the beginning of the input that wait to be written.
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// Whether everything came and was written.
    pub fn is_done(&self) -> bool {
        self.is_ended() && !self.is_pending()
    }

    /// Takes what has come of the body, to be written next. `keep` leaves the data of chunks in
    /// one piece behind the head, so that [`Relay::restart`] can send it again.
    ///
    /// # Errors
    /// The chunks are not well formed.
    pub fn take(&mut self, input: &mut Buffer, keep: bool) -> Result<(), ChunkError> {
        if self.owed > 0 || !self.tail.is_empty() || self.is_ended() {
            return Ok(());
        }
        let mut meter = self.bound.meter(self.received);
        let data = match &mut self.source {
            Source::Ended => 0,
            Source::UntilClose => input.len(),
            Source::Length(left) => {
                let data = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= data as u64;
                if *left == 0 {
                    self.source = Source::Ended;
                }
                data
            }
            Source::Chunked(decoder) => {
                let trailers = self.keeps_trailers.then_some(&mut self.trailers);
                let data = unchunk(decoder, input, keep, trailers, &mut meter)?;
                if decoder.is_end() {
                    self.source = Source::Ended;
                }
                data
            }
        };
        self.received += data as u64;
        if self.framing == Framing::Dropped {
            input.consume(data);
            return Ok(());
        }
        self.frame(data);
        Ok(())
    }

    /// Takes what has come of the body to what waits in the input already: all of it stays there, in
    /// one piece.
    ///
    /// # Errors
    /// The chunks are not well formed.
    pub fn gather(&mut self, input: &mut Buffer) -> Result<(), ChunkError> {
        let mut meter = self.bound.meter(self.received);
        let data = match &mut self.source {
            Source::Ended => 0,
            Source::UntilClose => input.len() - self.owed,
            Source::Length(left) => {
                let there = input.len() - self.owed;
                let data = usize::try_from(*left).map_or(there, |left| left.min(there));
                *left -= data as u64;
                data
            }
            Source::Chunked(decoder) => unchunk_behind(decoder, input, self.owed, &mut meter)?,
        };
        let ended = match &self.source {
            Source::Length(left) => *left == 0,
            Source::Chunked(decoder) => decoder.is_end(),
            Source::Ended | Source::UntilClose => false,
        };
        if ended {
            self.source = Source::Ended;
        }
        self.received += data as u64;
        if self.framing == Framing::Dropped {
            input.consume(data);
        } else {
            self.owed += data;
        }
        Ok(())
    }

    /// Bytes of the body that are sure to come.
    pub fn announced(&self) -> u64 {
        match &self.source {
            Source::Length(left) => *left,
            Source::Chunked(decoder) => decoder.remaining(),
            Source::Ended | Source::UntilClose => 0,
        }
    }

    /// Where [`Relay::store`] puts what it takes.
    pub fn spool(&mut self) -> &mut Option<Box<Spool>> {
        &mut self.spool
    }

    /// Moves everything that waits in front of the input into the spool, which has room for it.
    ///
    /// # Errors
    /// As [`Spool::push`]; all is as before then.
    pub fn store(&mut self, input: &mut Buffer) -> Result<(), Unstored> {
        let Some(spool) = &mut self.spool else {
            return Ok(());
        };
        let lead = &self.lead[self.lead_sent..];
        spool.push(&[lead, &input.data()[..self.owed], self.tail])?;
        self.lead.clear();
        self.lead_sent = 0;
        self.discard(input);
        Ok(())
    }

    /// The input ends here: right for a body that lasts until then.
    ///
    /// # Errors
    /// The body is not complete.
    pub fn end_of_input(&mut self) -> Result<(), Truncated> {
        match self.source {
            Source::Ended => Ok(()),
            Source::UntilClose => {
                self.source = Source::Ended;
                self.frame(0);
                Ok(())
            }
            Source::Length(_) | Source::Chunked(_) => Err(Truncated),
        }
    }

    /// Everything that came is to be sent again, behind a new head. Possible as long as the input
    /// still holds it.
    pub fn restart(&mut self, input: &mut Buffer) -> bool {
        let mut again = 0;
        if let Some(spool) = &mut self.spool {
            spool.rewind();
        } else if self.framing != Framing::Dropped {
            let Ok(received) = usize::try_from(self.received) else {
                return false;
            };
            if !input.rewind() {
                return false;
            }
            again = received;
        }
        self.lead.clear();
        self.lead_sent = 0;
        self.tail = b"";
        self.sent = 0;
        debug_assert!(again <= input.len(), "kept whole");
        self.owed = again;
        true
    }

    /// Whether [`Relay::restart`] would succeed.
    pub fn can_restart(&self, input: &Buffer) -> bool {
        self.spool.is_some() || self.framing == Framing::Dropped || input.can_rewind()
    }

    /// After [`Relay::restart`] the head is in the lead: frames what is sent again.
    pub fn frame_again(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 || self.is_ended() {
            self.frame(owed);
        }
    }

    fn frame(&mut self, data: usize) {
        self.owed = data;
        if self.framing != Framing::Chunked {
            return;
        }
        let ended = self.is_ended() && !self.holds_end;
        if data > 0 {
            self.lead
                .extend_from_slice(ChunkHead::new(data as u64).as_bytes());
            self.tail = if ended { LAST_CHUNK_END } else { CHUNK_END };
        } else if ended {
            self.lead.extend_from_slice(LAST_CHUNK);
        }
    }

    /// Nobody takes what waits to be written: drops it.
    pub fn drop_pending(&mut self, input: &mut Buffer) {
        self.lead.clear();
        self.lead_sent = 0;
        self.spool = None;
        self.discard(input);
    }

    /// Drops what came instead of writing it.
    pub fn discard(&mut self, input: &mut Buffer) {
        input.consume(self.owed);
        self.owed = 0;
        self.tail = b"";
    }

    /// Writes what waits, at most `limit` bytes, as far as there is room; `ready` learns when there is none. Returns how
    /// many bytes went out.
    ///
    /// # Errors
    /// As [`Transport::write`], save `WouldBlock`.
    pub fn flush<T: Transport>(
        &mut self,
        input: &mut Buffer,
        to: &mut T,
        ready: &mut Readiness,
        limit: usize,
    ) -> io::Result<usize> {
        let mut total = 0;
        self.join_small(input);
        while self.is_owing() && ready.writable && total < limit {
            let (mut lead, mut data) = (&self.lead[self.lead_sent..], &input.data()[..self.owed]);
            let mut tail = self.tail;
            let mut waiting = lead.len() + data.len() + tail.len();
            if waiting > limit - total {
                waiting = limit - total;
                lead = &lead[..lead.len().min(waiting)];
                data = &data[..data.len().min(waiting - lead.len())];
                tail = &tail[..tail.len().min(waiting - lead.len() - data.len())];
            }
            let parts = [IoSlice::new(lead), IoSlice::new(data), IoSlice::new(tail)];
            let written = match (lead.is_empty(), data.is_empty(), tail.is_empty()) {
                (false, true, true) => to.write(&parts[..1]),
                (true, false, true) => to.write(&parts[1..2]),
                _ => to.write(&parts),
            };
            match written {
                Ok(written) => {
                    total += written;
                    // What did not fit will fit when the event loop says so.
                    ready.writable = written == waiting;
                    self.advance(written, input);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Writes what waits in the spool, at most `limit` bytes, as far as there is room; `ready`
    /// learns when there is none. Returns how many bytes went out.
    ///
    /// # Errors
    /// As [`Spool::flush`].
    pub fn flush_spool<T: Transport>(
        &mut self,
        to: &mut T,
        ready: &mut Readiness,
        limit: usize,
        sendfile: bool,
    ) -> io::Result<usize> {
        let Some(spool) = &mut self.spool else {
            return Ok(0);
        };
        let written = spool.flush(to, ready, limit, sendfile)?;
        self.sent += written as u64;
        Ok(written)
    }

    /// A small body goes behind its head: copying it costs less than a second part of a write.
    fn join_small(&mut self, input: &mut Buffer) {
        let small = self.owed + self.tail.len() <= SMALL_BODY;
        if small && self.owed > 0 && self.lead_sent < self.lead.len() {
            self.lead.extend_from_slice(&input.data()[..self.owed]);
            self.lead.extend_from_slice(self.tail);
            self.tail = b"";
            input.consume(self.owed);
            self.owed = 0;
        }
    }

    fn advance(&mut self, written: usize, input: &mut Buffer) {
        self.sent += written as u64;
        let lead = written.min(self.lead.len() - self.lead_sent);
        self.lead_sent += lead;
        if self.lead_sent == self.lead.len() {
            self.lead.clear();
            self.lead_sent = 0;
        }
        let data = (written - lead).min(self.owed);
        input.consume(data);
        self.owed -= data;
        self.tail = &self.tail[written - lead - data..];
    }
}
