//! Bodies in chunks as they come: the data without its framing, and when there is too much of it.

use crate::buffer::Buffer;
use crate::http::{ChunkError, Decoder};

/// How long a body may be.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// In bytes; 0 is no limit.
    pub most: u64,
    /// The first chunk that goes beyond.
    pub excess: Option<Excess>,
}

/// A chunk that makes a body too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Bytes of the body before it.
    pub before: u64,
    /// Its own.
    pub chunk: u64,
}

impl Bound {
    /// Counts on from `received` bytes.
    pub fn meter(&mut self, received: u64) -> Meter<'_> {
        Meter {
            bound: self,
            received,
        }
    }
}

/// Counts the bytes of a body.
pub(super) struct Meter<'a> {
    bound: &'a mut Bound,
    received: u64,
}

impl Meter<'_> {
    /// So many bytes of a chunk are there, and so many are sure to follow.
    fn count(&mut self, there: usize, to_come: u64) {
        let (before, chunk) = (self.received, (there as u64).saturating_add(to_come));
        self.received += there as u64;
        let bound = &mut *self.bound;
        if bound.most > 0 && bound.excess.is_none() && before.saturating_add(chunk) > bound.most {
            bound.excess = Some(Excess { before, chunk });
        }
    }
}

/// Puts the data of all chunks behind the first `front` bytes of the input, which were put there
/// before, and says how much it is. What follows the body stays behind it.
pub(super) fn unchunk_behind(
    decoder: &mut Decoder,
    input: &mut Buffer,
    front: usize,
    meter: &mut Meter<'_>,
) -> Result<usize, ChunkError> {
    let (mut to, mut read) = (front, front);
    while read < input.len() && !decoder.is_end() {
        let piece = decoder.decode(&input.data()[read..])?;
        meter.count(piece.data, decoder.remaining());
        let from = read + piece.framing;
        input.data_mut().copy_within(from..from + piece.data, to);
        to += piece.data;
        read += piece.consumed();
    }
    let rest = input.len() - read;
    input.data_mut().copy_within(read.., to);
    input.truncate(to + rest);
    Ok(to - front)
}

/// Puts the data of all chunks that came together at the beginning of the input and says how much
/// it is. What follows the body stays behind it.
pub(super) fn unchunk(
    decoder: &mut Decoder,
    input: &mut Buffer,
    keep: bool,
    mut trailers: Option<&mut Vec<u8>>,
    meter: &mut Meter<'_>,
) -> Result<usize, ChunkError> {
    let mut data = 0;
    let mut read = 0;
    while read < input.len() && !decoder.is_end() {
        let piece = decoder.decode_keeping(&input.data()[read..], trailers.as_deref_mut())?;
        meter.count(piece.data, decoder.remaining());
        if data == 0 && !keep {
            // Nothing in front yet: stepping over the framing is cheaper than moving the data.
            input.consume(read + piece.framing);
            data = piece.data;
            read = piece.data;
            continue;
        }
        let from = read + piece.framing;
        input.data_mut().copy_within(from..from + piece.data, data);
        data += piece.data;
        read += piece.consumed();
    }
    let rest = input.len() - read;
    if data < read {
        input.data_mut().copy_within(read.., data);
        input.truncate(data + rest);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_chunk_beyond_is_told_however_it_comes() {
        let body = b"4\r\nabcd\r\n3\r\nefg\r\n5\r\nhijkl\r\n0\r\n\r\n";
        for (most, expected) in [
            (0, None),
            (12, None),
            (11, Some((7, 5))),
            (6, Some((4, 3))),
            (3, Some((0, 4))),
        ] {
            let expected = expected.map(|(before, chunk)| Excess { before, chunk });
            for step in 1..=body.len() {
                for behind in [true, false] {
                    let mut bound = Bound {
                        most,
                        ..Bound::default()
                    };
                    let mut decoder = Decoder::new();
                    let mut received = 0;
                    for part in body.chunks(step) {
                        let mut input = Buffer::new(part.len());
                        input.space()[..part.len()].copy_from_slice(part);
                        input.filled(part.len());
                        let mut meter = bound.meter(received);
                        let data = match behind {
                            true => unchunk_behind(&mut decoder, &mut input, 0, &mut meter),
                            false => unchunk(&mut decoder, &mut input, true, None, &mut meter),
                        };
                        received += data.unwrap() as u64;
                    }
                    assert_eq!((received, bound.excess), (12, expected), "{most} {step}");
                }
            }
        }
    }
}
