//! What is taken of a head: how large it may be, and which names its fields may have.

/// No head is longer than this, whatever the configuration says; spans count in `u32`.
pub const MAX_HEAD: usize = 1 << 30;

/// What is taken of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `client_header_buffer_size` in bytes.
    pub first: usize,
    /// `large_client_header_buffers` for the request line.
    pub line: LargeBuffers,
    /// `large_client_header_buffers` for the fields, which may be another server's.
    pub field: LargeBuffers,
    /// How many fields, those that are ignored too: `max_headers`.
    pub fields: usize,
    /// Fields with other names than of letters, digits and `-` are left out
    /// (`ignore_invalid_headers`).
    pub ignore_invalid: bool,
    /// `_` is as good as a letter in names (`underscores_in_headers`).
    pub underscores: bool,
    /// Repeated slashes of a path are one (`merge_slashes`).
    pub merge_slashes: bool,
}

/// `large_client_header_buffers`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeBuffers {
    /// How many.
    pub number: usize,
    /// Bytes of each.
    pub size: usize,
}

impl Default for Limits {
    /// nginx's.
    fn default() -> Limits {
        let large = LargeBuffers {
            number: 4,
            size: 8192,
        };
        Limits {
            first: 1024,
            line: large,
            field: large,
            fields: 1000,
            ignore_invalid: true,
            underscores: false,
            merge_slashes: true,
        }
    }
}

impl Limits {
    /// A head in one buffer of so many bytes.
    pub fn one_buffer(size: usize) -> Limits {
        let none = LargeBuffers { number: 0, size: 0 };
        Limits {
            first: size,
            line: none,
            field: none,
            ..Limits::default()
        }
    }

    /// Bytes of the longest head.
    pub fn longest(&self) -> usize {
        let most = |large: LargeBuffers| large.number.saturating_mul(large.size);
        let large = most(self.line).max(most(self.field));
        self.first.saturating_add(large).min(MAX_HEAD)
    }
}

/// Counts lines into nginx's buffers: one that does not fit into what is left of a buffer goes, as
/// a whole, into the next one, and what was left stays empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes of the current buffer that are filled.
    filled: usize,
    /// Large buffers that have been begun.
    begun: usize,
    /// The size of the current buffer, unless it is the first.
    size: usize,
}

impl Room {
    /// Puts a complete line in, its CRLF included; false when there is no room for it.
    pub(crate) fn take(&mut self, line: usize, first: usize, large: LargeBuffers) -> bool {
        if line > self.left(first) {
            if line > large.size || self.begun >= large.number {
                return false;
            }
            self.begun += 1;
            self.size = large.size;
            self.filled = 0;
        }
        self.filled += line;
        true
    }

    /// Whether a line of which so much has come can still become whole.
    pub(crate) fn can_take(&self, begun: usize, first: usize, large: LargeBuffers) -> bool {
        begun < self.left(first) || (begun < large.size && self.begun < large.number)
    }

    fn left(&self, first: usize) -> usize {
        let size = if self.begun == 0 { first } else { self.size };
        size.saturating_sub(self.filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether lines of these lengths fit.
    fn fit(lines: &[usize], first: usize, number: usize, size: usize) -> bool {
        let mut room = Room::default();
        let large = LargeBuffers { number, size };
        lines.iter().all(|&line| room.take(line, first, large))
    }

    #[test]
    fn lines_are_packed_as_nginx_does() {
        for (lines, fits) in [
            (&[100][..], true),
            (&[101], true),
            (&[200], true),
            (&[201], false),
            (&[60, 60, 140], true),
            // The second line takes a buffer, and the rest of the first is lost.
            (&[60, 190, 190, 10], true),
            (&[60, 190, 190, 11], false),
            (&[60, 150, 150, 50, 1], false),
        ] {
            assert_eq!(fit(lines, 100, 2, 200), fits, "{lines:?}");
        }
        // A first buffer that is larger than the others holds what fits into it.
        assert!(fit(&[300], 300, 1, 200));
        assert!(!fit(&[301], 300, 1, 200));
    }

    #[test]
    fn a_line_that_fills_everything_cannot_become_whole() {
        let large = LargeBuffers {
            number: 1,
            size: 20,
        };
        let mut room = Room::default();
        assert!(room.can_take(19, 10, large));
        assert!(!room.can_take(20, 10, large));
        assert!(room.take(10, 10, large));
        assert!(room.can_take(0, 10, large));
        assert!(room.take(20, 10, large));
        assert!(!room.can_take(0, 10, large));
    }
}
