//! Bytes that one side has sent and the other does not take yet: in memory up to a limit, then in
//! a temporary file. They come out in the order in which they went in.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::buffer::{NoMemory, room_for};
use crate::temp::{TempError, TempFile};
use crate::transport::{Readiness, Transport};

/// Bytes that one write takes from a file where the system does not send them by itself.
const FILE_READ: usize = 32 * 1024;

/// What waits. What is in memory is older than what is in the file.
#[derive(Debug, Default)]
pub struct Spool {
    memory: VecDeque<u8>,
    memory_limit: usize,
    file: Option<TempFile>,
    file_limit: u64,
    /// How much of the file was taken out and put in.
    read: u64,
    written: u64,
}

/// Why bytes could not be put into a [`Spool`], in nginx's words.
#[derive(Debug)]
pub enum Unstored {
    /// The file does not take them.
    File(TempError),
    /// There is no memory for them.
    Memory(NoMemory),
}

impl fmt::Display for Unstored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unstored::File(error) => error.fmt(f),
            Unstored::Memory(error) => error.fmt(f),
        }
    }
}

impl Spool {
    /// Takes so many bytes into memory, and so many into a file.
    pub fn new(memory_limit: usize, file_limit: u64) -> Self {
        Self {
            memory_limit,
            file_limit,
            ..Self::default()
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.read == self.written
    }

    /// Whether so many bytes more are within the limits.
    pub fn has_room(&self, count: usize) -> bool {
        self.is_for_memory(count) || self.next_in_file() + count as u64 <= self.file_limit
    }

    /// Whether a file has to be there before so many bytes go in.
    pub fn wants_file(&self, count: usize) -> bool {
        self.file.is_none() && !self.is_for_memory(count)
    }

    /// This is its file from now on.
    pub fn set_file(&mut self, file: TempFile) {
        self.file = Some(file);
    }

    /// The name that its file has or had.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(TempFile::path)
    }

    /// Whether a file is in use.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    fn is_for_memory(&self, count: usize) -> bool {
        self.read == self.written && self.memory.len() + count <= self.memory_limit
    }

    /// Where the next bytes go in the file: at its beginning once all of it was taken out.
    fn next_in_file(&self) -> u64 {
        if self.read == self.written {
            0
        } else {
            self.written
        }
    }

    /// Puts bytes in, all or none; [`Spool::wants_file`] has said whether a file is needed.
    ///
    /// # Errors
    /// As `pwrite(2)`, and if there is no memory.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), Unstored> {
        let count = parts.iter().map(|part| part.len()).sum();
        let file = match &self.file {
            Some(file) if !self.is_for_memory(count) => file,
            _ => {
                room_for(&mut self.memory, count).map_err(Unstored::Memory)?;
                for part in parts {
                    self.memory.extend(*part);
                }
                return Ok(());
            }
        };
        let mut at = self.next_in_file();
        let begin = at;
        for part in parts {
            file.write_at(part, at).map_err(Unstored::File)?;
            at += part.len() as u64;
        }
        if begin == 0 {
            self.read = 0;
        }
        self.written = at;
        Ok(())
    }

    /// All that is in the file is to come out again, from its beginning.
    pub fn rewind(&mut self) {
        self.read = 0;
    }

    /// Writes what waits, at most `limit` bytes of it; `ready` learns when there is no room.
    /// Returns how many bytes went out.
    ///
    /// # Errors
    /// As [`Transport::write`], save `WouldBlock`, and as `pread(2)`.
    pub fn flush<T: Transport>(
        &mut self,
        to: &mut T,
        ready: &mut Readiness,
        limit: usize,
        sendfile: bool,
    ) -> io::Result<usize> {
        let mut total = 0;
        while !self.is_empty() && ready.writable && total < limit {
            let (wanted, written) = match &self.file {
                Some(file) if self.memory.is_empty() => {
                    let left = usize::try_from(self.written - self.read).unwrap_or(usize::MAX);
                    let wanted = left.min(limit - total);
                    if sendfile {
                        (wanted, to.send_file(file.file(), self.read, wanted))
                    } else {
                        let wanted = wanted.min(FILE_READ);
                        let written = copy(file, self.read, wanted, to);
                        (wanted, written)
                    }
                }
                _ => {
                    let (front, back) = self.memory.as_slices();
                    let front = &front[..front.len().min(limit - total)];
                    let back = &back[..back.len().min(limit - total - front.len())];
                    let parts = [IoSlice::new(front), IoSlice::new(back)];
                    let parts = &parts[..1 + usize::from(!back.is_empty())];
                    (front.len() + back.len(), to.write(parts))
                }
            };
            match written {
                Ok(written) => {
                    total += written;
                    ready.writable = written == wanted;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn advance(&mut self, written: usize) {
        if self.memory.is_empty() {
            self.read += written as u64;
        } else {
            self.memory.drain(..written);
        }
    }
}

/// Reads from the file and writes what was read.
fn copy<T: Transport>(file: &TempFile, from: u64, count: usize, to: &mut T) -> io::Result<usize> {
    let mut bytes = [0; FILE_READ];
    let bytes = &mut bytes[..count];
    file.file().read_exact_at(bytes, from)?;
    to.write(&[IoSlice::new(bytes)])
}
