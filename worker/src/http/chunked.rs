//! The chunked transfer coding (RFC 9112, section 7.1), read strictly and in any pieces.

use std::ops::Range;

use super::fields::is_token;

/// A chunk's size has at most this many hexadecimal digits.
pub const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of extension (and blanks) after one chunk's size.
pub const MAX_EXTENSION: u32 = 256;
/// Bytes of extensions in one message: tiny chunks with long extensions would cost far more than they carry.
pub const MAX_EXTENSIONS: u32 = 16 * 1024;
/// Bytes of trailer fields, their line ends included.
pub const MAX_TRAILER: u32 = 8 * 1024;
/// A size is below this: nginx's `off_t`.
pub const SIZE_BOUND: u64 = 1 << 63;

/// What ends a chunked body without trailer fields.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Ends a chunked body with these trailer fields, lines with their ends.
pub fn end(out: &mut Vec<u8>, trailers: &[u8]) {
    let (size, empty) = LAST_CHUNK.split_at(3);
    for part in [size, trailers, empty] {
        out.extend_from_slice(part);
    }
}

/// Takes a chunked body apart, whatever pieces it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    /// Size of the chunk being read, or what is left of its data.
    left: u64,
    digits: u8,
    extension: u32,
    extensions: u32,
    trailer: u32,
    /// The trailer line being read has the beginning of a name.
    named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// Blanks after a size: an extension may follow, or the end of the line.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// What the start of an input is: framing, then data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of framing, to be passed over.
    pub framing: usize,
    /// Bytes of data after them.
    pub data: usize,
    /// The body ends after these bytes.
    pub end: bool,
}

impl Piece {
    /// Where the data lies in the input.
    pub fn range(&self) -> Range<usize> {
        self.framing..self.framing + self.data
    }

    /// How much of the input this is.
    pub fn consumed(&self) -> usize {
        self.framing + self.data
    }
}

/// Why a body is not well chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// A size that is missing, too long or too large, or a byte after it that does not belong there.
    Size,
    /// Extensions beyond their bounds, or with control bytes.
    Extension,
    /// A line end other than CRLF.
    LineEnd,
    /// Trailer fields beyond their bound, or lines that are no fields.
    Trailer,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// At the start of a body.
    pub const fn new() -> Decoder {
        Decoder {
            state: State::Size,
            left: 0,
            digits: 0,
            extension: 0,
            extensions: 0,
            trailer: 0,
            named: false,
        }
    }

    /// The whole body has been read; no byte after it is looked at.
    pub fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// Bytes of data that are sure to come, for sizing a buffer.
    pub fn remaining(&self) -> u64 {
        if self.state == State::Data {
            self.left
        } else {
            0
        }
    }

    /// Reads the start of `input`: framing up to data, and the data of one chunk that is there. Call
    /// again with what follows until the input is used up or the end is reached. An empty result
    /// means that the input was empty or the end reached before. After an error the body is lost.
    ///
    /// # Errors
    /// Why the body is not well chunked.
    pub fn decode(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        self.decode_keeping(input, None)
    }

    /// As [`Decoder::decode`]; the lines of the trailer section, with their line ends, are appended
    /// to `trailers` as they come.
    ///
    /// # Errors
    /// Why the body is not well chunked.
    pub fn decode_keeping(
        &mut self,
        input: &[u8],
        mut trailers: Option<&mut Vec<u8>>,
    ) -> Result<Piece, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let there = input.len() - at;
                    let data = usize::try_from(self.left).map_or(there, |left| left.min(there));
                    self.left -= data as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Piece {
                        framing: at,
                        data,
                        end: false,
                    });
                }
                State::End => break,
                State::TrailerName | State::TrailerValue | State::TrailerLf => {
                    let part = &input[at..];
                    let length = self.trailer(part)?;
                    if let Some(kept) = trailers.as_deref_mut() {
                        kept.extend_from_slice(&part[..length]);
                    }
                    at += length;
                    continue;
                }
                State::TrailerStart if byte != b'\r' => {
                    self.state = State::TrailerName;
                    continue;
                }
                _ => self.framing(byte)?,
            }
            at += 1;
        }
        Ok(Piece {
            framing: at,
            data: 0,
            end: self.state == State::End,
        })
    }

    /// Every range of `input` that is data, and how much of the input belongs to the body.
    pub fn decode_all(
        &mut self,
        input: &[u8],
        mut data: impl FnMut(Range<usize>),
    ) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < input.len() && !self.is_end() {
            let piece = self.decode(&input[at..])?;
            if piece.data > 0 {
                data(at + piece.framing..at + piece.consumed());
            }
            at += piece.consumed();
        }
        Ok(at)
    }

    fn framing(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';' | b' ' | b'\t') if self.digits > 0 => {
                self.extension = 0;
                self.count_extension()?;
                after_size(byte)
            }
            (State::Blank, b';' | b' ' | b'\t') => {
                self.count_extension()?;
                after_size(byte)
            }
            (State::Blank, b'\r') => State::SizeLf,
            (State::Blank, _) => return Err(ChunkError::Size),
            (State::Size, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
                if self.digits == MAX_SIZE_DIGITS || self.left >= SIZE_BOUND >> 4 {
                    return Err(ChunkError::Size);
                }
                self.digits += 1;
                self.left = self.left << 4 | u64::from(digit);
                State::Size
            }
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) => {
                if is_control(byte) {
                    return Err(ChunkError::Extension);
                }
                self.count_extension()?;
                State::Extension
            }
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::End,
            _ => return Err(ChunkError::LineEnd),
        };
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), ChunkError> {
        self.extension += 1;
        self.extensions += 1;
        if self.extension > MAX_EXTENSION || self.extensions > MAX_EXTENSIONS {
            return Err(ChunkError::Extension);
        }
        Ok(())
    }

    /// Passes over a trailer line, or what there is of it, and says how many bytes that was.
    fn trailer(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        for (at, &byte) in input.iter().enumerate() {
            self.trailer += 1;
            if self.trailer > MAX_TRAILER {
                return Err(ChunkError::Trailer);
            }
            self.state = match (self.state, byte) {
                (State::TrailerName, b':') if self.named => State::TrailerValue,
                (State::TrailerName, byte) if is_token(byte) => {
                    self.named = true;
                    State::TrailerName
                }
                (State::TrailerValue, b'\r') => State::TrailerLf,
                (State::TrailerValue, byte) if !is_control(byte) => State::TrailerValue,
                (State::TrailerLf, b'\n') => {
                    self.named = false;
                    self.state = State::TrailerStart;
                    return Ok(at + 1);
                }
                (State::TrailerLf, _) => return Err(ChunkError::LineEnd),
                _ => return Err(ChunkError::Trailer),
            };
        }
        Ok(input.len())
    }
}

/// RFC 9112, section 7.1.1, lets blanks stand before the semicolon of an extension; old servers also
/// pad their sizes with them.
fn after_size(byte: u8) -> State {
    if byte == b';' {
        State::Extension
    } else {
        State::Blank
    }
}

/// No byte of a field's value (RFC 9110, section 5.5).
pub(super) fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// The line before a chunk's data, on the stack. CRLF goes after the data.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    text: [u8; 18],
    start: usize,
}

impl ChunkHead {
    /// For `size` bytes of data; 0 would end the body, so it makes an empty head.
    pub fn new(size: u64) -> ChunkHead {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut head = ChunkHead {
            text: *b"0000000000000000\r\n",
            start: 16,
        };
        let mut left = size;
        while left > 0 {
            head.start -= 1;
            head.text[head.start] = DIGITS[(left & 15) as usize];
            left >>= 4;
        }
        if size == 0 {
            head.start = head.text.len();
        }
        head
    }

    /// To be sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests;
