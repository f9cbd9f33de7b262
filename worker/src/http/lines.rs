//! Finds where a head ends, line by line, taking each byte once however the head is split.

use super::limits::{Limits, Room};

/// How far a head has been looked through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Bytes before this belong to complete lines.
    line: usize,
    /// Bytes before this hold no further LF.
    seen: usize,
    /// Where the first line starts, after the empty line that may stand before it.
    first: usize,
    /// Where the first line ends, its CRLF included; 0 until it is there.
    first_end: usize,
    room: Room,
}

/// What [`Lines::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The head goes on beyond the bytes.
    Partial,
    /// The head ends before this index.
    End(usize),
    /// A LF without CR before it.
    BareLf,
    /// A second empty line before the first line.
    Blank,
    /// No room for a line; `true` for the first line.
    TooLong(bool),
}

impl Lines {
    /// Where the first line starts.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// Where the line starts that is not complete, or has no room.
    pub(crate) fn last(&self) -> usize {
        self.line
    }

    /// The first line is complete.
    pub(crate) fn has_first_line(&self) -> bool {
        self.first_end > 0
    }

    /// The first line without its CRLF, once it is complete.
    pub(crate) fn first_line<'b>(&self, buffer: &'b [u8]) -> Option<&'b [u8]> {
        let end = self.first_end.checked_sub(2)?;
        buffer.get(self.first..end)
    }

    /// Goes on where the last call with the same, shorter `buffer` stopped.
    pub(crate) fn scan(&mut self, buffer: &[u8], limits: &Limits) -> Scan {
        while let Some(fresh) = buffer.get(self.seen..) {
            let Some(at) = memchr::memchr(b'\n', fresh) else {
                self.seen = buffer.len();
                break;
            };
            let lf = self.seen + at;
            self.seen = lf + 1;
            if lf == self.line || buffer[lf - 1] != b'\r' {
                return Scan::BareLf;
            }
            let empty = lf == self.line + 1;
            let is_first = self.first_end == 0;
            let large = if is_first { limits.line } else { limits.field };
            let line = lf + 1 - self.line;
            let counts = !is_first || !empty;
            if counts && !self.room.take(line, limits.first, large) {
                return Scan::TooLong(is_first);
            }
            self.line = lf + 1;
            if is_first {
                if empty {
                    // RFC 9112, section 2.2: an empty line before a request line is passed over.
                    if self.first > 0 {
                        return Scan::Blank;
                    }
                    self.first = self.line;
                } else {
                    self.first_end = self.line;
                }
            } else if empty {
                return Scan::End(self.line);
            }
        }
        let is_first = self.first_end == 0;
        let large = if is_first { limits.line } else { limits.field };
        let begun = buffer.len() - self.line;
        if !self.room.can_take(begun, limits.first, large) {
            return Scan::TooLong(is_first);
        }
        Scan::Partial
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::LargeBuffers;
    use super::*;

    fn whole(text: &[u8], longest: usize) -> Scan {
        let large = LargeBuffers {
            number: 10,
            size: longest,
        };
        let limits = Limits {
            first: longest,
            line: large,
            field: large,
            ..Limits::default()
        };
        Lines::default().scan(text, &limits)
    }

    #[test]
    fn the_end_is_the_empty_line_after_a_first_line() {
        assert_eq!(whole(b"a\r\n\r\nrest", 100), Scan::End(5));
        assert_eq!(whole(b"\r\na\r\nb\r\n\r\n", 100), Scan::End(10));
        assert_eq!(whole(b"\r\n", 100), Scan::Partial);
        assert_eq!(whole(b"a\r\n\r", 100), Scan::Partial);
        assert_eq!(whole(b"", 100), Scan::Partial);
    }

    #[test]
    fn one_empty_line_may_stand_before_the_first() {
        assert_eq!(whole(b"\r\n\r", 100), Scan::Partial);
        assert_eq!(whole(b"\r\n\r\n", 100), Scan::Blank);
        assert_eq!(whole(b"\r\n\r\na\r\n\r\n", 100), Scan::Blank);
    }

    #[test]
    fn a_bare_lf_is_found_wherever_it_stands() {
        for text in [&b"a\nb"[..], b"\n", b"a\r\n\n", b"a\r\nb\n\r\n", b"\r\n\n"] {
            assert_eq!(whole(text, 100), Scan::BareLf, "{text:?}");
        }
    }

    #[test]
    fn the_limit_of_a_line_is_exact() {
        assert_eq!(whole(b"abc\r\n\r\n", 5), Scan::End(7));
        assert_eq!(whole(b"abc\r\n\r\n", 4), Scan::TooLong(true));
        assert_eq!(whole(b"abc", 4), Scan::Partial);
        assert_eq!(whole(b"abcd", 4), Scan::TooLong(true));
        assert_eq!(whole(b"a\r\nbcd", 4), Scan::Partial);
        assert_eq!(whole(b"a\r\nbcde", 4), Scan::TooLong(false));
    }
}
