//! Read buffers and the pool that lends them.
//!
//! A connection holds a buffer only while a request is in flight; an idle one holds none. The
//! pool is a stack, so that the buffer lent next is the one that the caches still know.

use std::collections::VecDeque;
use std::fmt;

use weir_shm::fault::{self, Call};

/// Bytes of a pooled buffer: what one read can take.
pub const BUFFER_SIZE: usize = 32 * 1024;

/// At most this many free buffers are kept for later (64 MB).
const FREE_BUFFERS: usize = 2048;

/// Bytes that were read and not yet used, behind a floor under which a message head stays.
///
/// `0..floor` is the head, `start..end` the window of unread bytes, `floor..start` was used up.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    floor: usize,
    start: usize,
    end: usize,
    /// Used-up bytes were overwritten: the window cannot go back to the floor.
    lost: bool,
}

impl Default for Buffer {
    /// One without any room, which costs nothing.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Buffer {
    /// An empty buffer of `size` bytes.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn with_room(size: usize) -> Result<Self, NoMemory> {
        let mut bytes = Vec::new();
        lengthen(&mut bytes, size)?;
        Ok(Self {
            bytes: bytes.into_boxed_slice(),
            ..Self::default()
        })
    }

    /// An empty buffer of `size` bytes.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            bytes: vec![0; size].into_boxed_slice(),
            floor: 0,
            start: 0,
            end: 0,
            lost: false,
        }
    }

    /// The unread bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The unread bytes, to be decoded in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// The message head that [`Buffer::keep_head`] set aside.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.floor]
    }

    /// How many unread bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is unread.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes that it holds in all, the head included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Room for the next read. Used-up bytes are reclaimed when the window is empty or the room
    /// is out; after that [`Buffer::rewind`] fails.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > self.floor {
            if self.start == self.end {
                self.start = self.floor;
                self.end = self.floor;
                self.lost = true;
            } else if self.end == self.bytes.len() {
                self.bytes.copy_within(self.start..self.end, self.floor);
                self.end -= self.start - self.floor;
                self.start = self.floor;
                self.lost = true;
            }
        }
        &mut self.bytes[self.end..]
    }

    /// Whether a read would find no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.start == self.floor && self.end == self.bytes.len()
    }

    /// `count` bytes of [`Buffer::space`] were written.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.end, "more than fits");
        self.end += count;
    }

    /// The first `count` unread bytes are used up.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "more than there is");
        self.start += count;
    }

    /// Drops unread bytes from the end, leaving `length`.
    pub fn truncate(&mut self, length: usize) {
        assert!(length <= self.len(), "more than there is");
        self.end = self.start + length;
    }

    /// The first `length` unread bytes are a message head: they stay where they are, at the
    /// beginning of the buffer, and the window begins behind them.
    pub fn keep_head(&mut self, length: usize) {
        assert!(self.start == 0 && length <= self.end, "a head is in front");
        self.floor = length;
        self.start = length;
        self.lost = false;
    }

    /// Makes everything behind the head unread again; false if some of it was overwritten.
    pub fn rewind(&mut self) -> bool {
        if self.lost {
            return false;
        }
        self.start = self.floor;
        true
    }

    /// Everything behind the head, used up or not, as long as none of it was overwritten.
    #[must_use]
    pub fn behind_head(&self) -> Option<&[u8]> {
        (!self.lost).then(|| &self.bytes[self.floor..self.end])
    }

    /// Whether [`Buffer::rewind`] would succeed.
    #[must_use]
    pub fn can_rewind(&self) -> bool {
        !self.lost
    }

    /// Forgets the head and moves the unread bytes to the front: the next message begins there.
    pub fn next_message(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.floor = 0;
        self.lost = false;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.floor = 0;
        self.start = 0;
        self.end = 0;
        self.lost = false;
    }

    /// Makes room for at least `size` bytes in all.
    ///
    /// # Errors
    /// There is not so much memory; the buffer is as it was.
    pub fn grow(&mut self, size: usize) -> Result<(), NoMemory> {
        if size <= self.bytes.len() {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        let grown = lengthen(&mut bytes, size);
        self.bytes = bytes.into_boxed_slice();
        grown
    }
}

/// Fills up with zeros to `size` bytes.
fn lengthen(bytes: &mut Vec<u8>, size: usize) -> Result<(), NoMemory> {
    let more = size.saturating_sub(bytes.len());
    let planned = fault::check(Call::Allocate);
    if planned.is_err() || bytes.try_reserve_exact(more).is_err() {
        return Err(NoMemory { size });
    }
    bytes.resize(size, 0);
    Ok(())
}

/// Makes room for `count` bytes more.
///
/// # Errors
/// There is not so much memory.
pub fn room_for(bytes: &mut VecDeque<u8>, count: usize) -> Result<(), NoMemory> {
    let size = bytes.len() + count;
    if size <= bytes.capacity() {
        return Ok(());
    }
    if fault::check(Call::Allocate).is_err() || bytes.try_reserve(count).is_err() {
        return Err(NoMemory { size });
    }
    Ok(())
}

/// A buffer could not be had, in nginx's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory {
    /// How many bytes it would have had.
    pub size: usize,
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size;
        write!(f, "malloc({size}) failed (12: Cannot allocate memory)")
    }
}

/// Lends buffers of [`BUFFER_SIZE`].
#[derive(Debug, Default)]
pub struct Pool {
    free: Vec<Buffer>,
}

impl Pool {
    /// An empty buffer.
    ///
    /// # Errors
    /// None lies ready, and there is no memory for another.
    pub fn take(&mut self) -> Result<Buffer, NoMemory> {
        match self.free.pop() {
            Some(buffer) => Ok(buffer),
            None => Buffer::with_room(BUFFER_SIZE),
        }
    }

    /// Gives a buffer back. One that was grown, or is one too many, is freed.
    pub fn give(&mut self, mut buffer: Buffer) {
        if buffer.capacity() == BUFFER_SIZE && self.free.len() < FREE_BUFFERS {
            buffer.clear();
            self.free.push(buffer);
        }
    }

    /// How many buffers lie ready.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffer: &mut Buffer, bytes: &[u8]) {
        buffer.space()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
    }

    #[test]
    fn a_head_stays_while_the_body_flows_past() {
        let mut buffer = Buffer::new(8);
        put(&mut buffer, b"HEADab");
        buffer.keep_head(4);
        assert_eq!((buffer.head(), buffer.data()), (&b"HEAD"[..], &b"ab"[..]));
        buffer.consume(1);
        assert!(buffer.rewind());
        assert_eq!(buffer.data(), b"ab");
        buffer.consume(1);
        put(&mut buffer, b"cd");
        assert_eq!(buffer.data(), b"bcd");
        assert_eq!(buffer.space().len(), 1, "reclaimed: the room was out");
        assert!(!buffer.rewind());
        assert_eq!(buffer.data(), b"bcd");
        assert_eq!(buffer.head(), b"HEAD");
    }

    #[test]
    fn a_read_window_is_reclaimed_when_it_is_empty() {
        let mut buffer = Buffer::new(8);
        put(&mut buffer, b"Hab");
        buffer.keep_head(1);
        buffer.consume(2);
        assert!(buffer.can_rewind());
        assert_eq!(buffer.space().len(), 7);
        assert!(!buffer.can_rewind());
        put(&mut buffer, b"1234567");
        assert!(buffer.is_full());
    }

    #[test]
    fn the_next_message_moves_to_the_front() {
        let mut buffer = Buffer::new(8);
        put(&mut buffer, b"ONEbTWO");
        buffer.keep_head(3);
        buffer.consume(1);
        buffer.next_message();
        assert_eq!((buffer.head(), buffer.data()), (&b""[..], &b"TWO"[..]));
        assert_eq!(buffer.space().len(), 5);
    }

    #[test]
    fn the_pool_lends_what_came_back_and_drops_what_was_grown() {
        let mut pool = Pool::default();
        let mut one = pool.take().unwrap();
        put(&mut one, b"x");
        pool.give(one);
        assert_eq!(pool.free(), 1);
        assert!(pool.take().unwrap().is_empty());
        let mut big = Buffer::new(BUFFER_SIZE);
        big.grow(2 * BUFFER_SIZE).unwrap();
        assert_eq!(big.space().len(), 2 * BUFFER_SIZE);
        pool.give(big);
        assert_eq!(pool.free(), 0);
    }

    #[test]
    fn what_there_is_no_memory_for_is_refused() {
        let mut buffer = Buffer::with_room(4).unwrap();
        put(&mut buffer, b"abcd");
        let error = buffer.grow(1 << 60).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("failed (12: Cannot allocate memory)")
        );
        assert_eq!(buffer.data(), b"abcd");
        assert!(Buffer::with_room(usize::MAX).is_err());
    }
}
