//! Lines that wait to be written together (`access_log … buffer= flush=`).

use std::io;

use crate::settings::LogBuffer;

/// Whole lines, as many as fit.
#[derive(Debug)]
pub struct LineBuffer {
    lines: Vec<u8>,
    size: usize,
    flush_ms: Option<u64>,
    due_ms: Option<u64>,
}

impl LineBuffer {
    /// An empty one; its room is taken with the first line.
    pub fn new(settings: LogBuffer) -> LineBuffer {
        let flush_ms = |flush: std::time::Duration| u64::try_from(flush.as_millis());
        LineBuffer {
            lines: Vec::new(),
            size: settings.size,
            flush_ms: settings
                .flush
                .map(|flush| flush_ms(flush).unwrap_or(u64::MAX)),
            due_ms: None,
        }
    }

    /// When the first of the lines is as old as it may become, in milliseconds.
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Keeps a line. What it does not fit behind is written first; one that does not fit at all is
    /// written itself. Returns when it is due, if it is the first.
    ///
    /// # Errors
    /// Those of `write`; what could not be written is gone.
    pub fn append(
        &mut self,
        line: &[u8],
        now_ms: u64,
        write: impl Fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<u64>> {
        let mut flushed = Ok(());
        if line.len() > self.size - self.lines.len() {
            flushed = self.flush(&write);
        }
        if line.len() > self.size {
            return flushed.and(write(line)).map(|()| None);
        }
        if self.lines.capacity() < self.size
            && self
                .lines
                .try_reserve_exact(self.size - self.lines.len())
                .is_err()
        {
            // Not now; without it the log is slower, and that is all.
            return flushed.and(write(line)).map(|()| None);
        }
        if self.lines.is_empty() {
            self.due_ms = self
                .flush_ms
                .map(|flush_ms| now_ms.saturating_add(flush_ms));
        }
        let first = self.lines.is_empty();
        self.lines.extend_from_slice(line);
        flushed.map(|()| self.due_ms.filter(|_| first))
    }

    /// Writes all lines.
    ///
    /// # Errors
    /// Those of `write`; what could not be written is gone.
    pub fn flush(&mut self, write: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.due_ms = None;
        if self.lines.is_empty() {
            return Ok(());
        }
        let written = write(&self.lines);
        self.lines.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::time::Duration;

    use proptest::prelude::*;

    fn buffer(size: usize, flush_ms: Option<u64>) -> LineBuffer {
        LineBuffer::new(LogBuffer {
            size,
            flush: flush_ms.map(Duration::from_millis),
        })
    }

    #[test]
    fn the_first_line_says_when_it_is_due() {
        let mut buffer = buffer(10, Some(50));
        let none = |_: &[u8]| -> io::Result<()> { panic!("nothing is to be written yet") };
        assert_eq!(buffer.append(b"one\n", 100, none).unwrap(), Some(150));
        assert_eq!(buffer.append(b"two\n", 120, none).unwrap(), None);
        assert_eq!(buffer.due_ms(), Some(150));
        buffer.flush(|_| Ok(())).unwrap();
        assert_eq!(buffer.due_ms(), None);
        assert_eq!(buffer.append(b"x\n", 200, none).unwrap(), Some(250));
    }

    #[test]
    fn without_memory_for_it_lines_are_written_as_they_come() {
        let mut buffer = buffer(usize::MAX, Some(50));
        let out = RefCell::new(Vec::new());
        let write = |bytes: &[u8]| -> io::Result<()> {
            out.borrow_mut().extend_from_slice(bytes);
            Ok(())
        };
        assert_eq!(buffer.append(b"one\n", 100, write).unwrap(), None);
        assert_eq!(buffer.append(b"two\n", 100, write).unwrap(), None);
        assert_eq!(out.into_inner(), b"one\ntwo\n");
        assert_eq!(buffer.due_ms(), None);
    }

    #[test]
    fn what_cannot_be_written_is_dropped_and_the_next_line_is_kept() {
        let mut buffer = buffer(6, None);
        let full = |_: &[u8]| -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) };
        buffer.append(b"one\n", 0, full).unwrap();
        buffer.append(b"two\n", 0, full).unwrap_err();
        let out = RefCell::new(Vec::new());
        let write = |bytes: &[u8]| -> io::Result<()> {
            out.borrow_mut().extend_from_slice(bytes);
            Ok(())
        };
        buffer.flush(write).unwrap();
        assert_eq!(out.into_inner(), b"two\n");
    }

    proptest! {
        #![proptest_config(crate::testing::cases(256))]
        #[test]
        fn every_line_is_written_once_and_in_order(
            size in 1usize..40,
            lines in prop::collection::vec((0usize..50, any::<bool>()), 0..60),
        ) {
            let mut buffer = buffer(size, None);
            let (out, mut all) = (RefCell::new(Vec::new()), Vec::new());
            let write = |bytes: &[u8]| -> io::Result<()> {
                prop_assert_whole(bytes);
                out.borrow_mut().extend_from_slice(bytes);
                Ok(())
            };
            for (number, (length, flush)) in lines.into_iter().enumerate() {
                let mut line = number.to_string().repeat(length).into_bytes();
                line.push(b'\n');
                all.extend_from_slice(&line);
                buffer.append(&line, 0, write).unwrap();
                prop_assert!(buffer.lines.len() <= size);
                if flush {
                    buffer.flush(write).unwrap();
                    prop_assert_eq!(&*out.borrow(), &all);
                }
            }
            buffer.flush(write).unwrap();
            prop_assert_eq!(out.into_inner(), all);
        }
    }

    fn prop_assert_whole(bytes: &[u8]) {
        assert!(bytes.ends_with(b"\n"), "lines are never cut");
    }
}
