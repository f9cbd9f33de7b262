//! Opened logs by their numbers.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::buffer::LineBuffer;
use crate::proxy::errno;
use crate::settings::{LogFile, ResourceId};

/// Between two complaints about one log, in seconds, as in nginx.
pub const COMPLAINT_PAUSE: u64 = 60;

/// No buffer waits for its time.
const NEVER: u64 = u64::MAX;

/// The opened logs of one process, shared by its threads.
#[derive(Debug)]
pub struct Files {
    logs: Vec<Option<Arc<Log>>>,
    /// When a buffer is to be written at the latest, in milliseconds. All configurations of a
    /// worker have one clock for it.
    due_ms: Arc<AtomicU64>,
}

/// An opened log. Whatever configurations name it have the same one, so that all go on in the file
/// that was opened last.
#[derive(Debug)]
struct Log {
    path: String,
    file: RwLock<Arc<File>>,
    buffer: Mutex<Option<LineBuffer>>,
    /// The second in which its disk was full.
    full_at: AtomicU64,
    /// The second of the latest complaint.
    complained_at: AtomicU64,
}

/// A line or more that could not be written.
#[derive(Debug)]
pub struct Lost {
    /// The log.
    pub path: String,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, reason) = (&self.path, errno(&self.error));
        write!(f, "write() to \"{path}\" failed ({reason})")
    }
}

impl Default for Files {
    /// None.
    fn default() -> Files {
        Files::numbered(Vec::new())
    }
}

impl Files {
    /// By resource number, without names and buffers.
    pub fn new(files: Vec<File>) -> Files {
        Files::numbered(files.into_iter().enumerate().collect())
    }

    /// The same, each with its number.
    pub fn numbered(files: Vec<(ResourceId, File)>) -> Files {
        let mut logs: Vec<Option<Arc<Log>>> = Vec::new();
        for (id, file) in files {
            if id >= logs.len() {
                logs.resize_with(id + 1, || None);
            }
            logs[id] = Some(Arc::new(Log::new(file, &LogFile::default())));
        }
        Files {
            logs,
            due_ms: Arc::new(AtomicU64::new(NEVER)),
        }
    }

    /// The logs of a worker's new configuration, of which `files` were opened by the master. What
    /// `old` had open under the same name is that log; what nobody will write to any more but
    /// requests in flight is written without a buffer.
    pub fn succeed(old: &Files, files: Vec<File>, names: &[LogFile]) -> (Files, Vec<Lost>) {
        let mut lost = Vec::new();
        let known = |path: &str| old.logs().find(|log| !path.is_empty() && log.path == path);
        let nameless = LogFile::default();
        let mut logs = Vec::with_capacity(files.len());
        for (id, file) in files.into_iter().enumerate() {
            let name = names.get(id).unwrap_or(&nameless);
            logs.push(Some(match known(&name.path) {
                Some(log) => {
                    lost.extend(log.reopen(file));
                    *log.lock() = name.buffer.map(LineBuffer::new);
                    Arc::clone(log)
                }
                None => Arc::new(Log::new(file, name)),
            }));
        }
        let files = Files {
            logs,
            due_ms: Arc::clone(&old.due_ms),
        };
        for gone in old.logs() {
            if !files.logs().any(|log| Arc::ptr_eq(log, gone)) {
                lost.extend(gone.flush());
                *gone.lock() = None;
            }
        }
        (files, lost)
    }

    fn logs(&self) -> impl Iterator<Item = &Arc<Log>> {
        self.logs.iter().flatten()
    }

    fn log(&self, id: ResourceId) -> io::Result<&Arc<Log>> {
        let log = self.logs.get(id).and_then(Option::as_ref);
        log.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Puts a log that was opened anew in the place of the old one, which gets what its buffer
    /// holds and is closed.
    pub fn replace(&self, id: ResourceId, file: File) -> Option<Lost> {
        self.log(id).ok()?.reopen(file)
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.logs.len()
    }

    /// No number at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes one line, its newline included, by one write(2) where the system takes it whole.
    ///
    /// # Errors
    ///
    /// The system's, such as a full disk, or a pipe that nobody empties; the rest of the line is
    /// lost. `NotFound` for a number without a file.
    pub fn write(&self, id: ResourceId, line: &[u8]) -> io::Result<()> {
        self.log(id)?.write(line)
    }

    /// Writes one line of an access log, or keeps it until its buffer is full or `flush=` has
    /// passed. What follows a full disk within the same second is dropped without a word, as in
    /// nginx.
    ///
    /// # Errors
    ///
    /// As [`Files::write`]; what was in the buffer is lost too.
    pub fn append(&self, id: ResourceId, line: &[u8], now_ms: u64) -> Result<(), Lost> {
        let Ok(log) = self.log(id) else {
            return Ok(());
        };
        if log.full_at.load(Ordering::Relaxed) == now_ms / 1000 {
            return Ok(());
        }
        let due_ms = log.append(line, now_ms).map_err(|error| {
            if error.kind() == io::ErrorKind::StorageFull {
                log.full_at.store(now_ms / 1000, Ordering::Relaxed);
            }
            log.lost(error)
        })?;
        if let Some(due_ms) = due_ms {
            self.due_ms.fetch_min(due_ms, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether it is time to complain about a log again; then it is not for a while.
    pub fn complains(&self, id: ResourceId, now_ms: u64) -> bool {
        self.log(id).is_ok_and(|log| {
            let (now, last) = (now_ms / 1000, log.complained_at.load(Ordering::Relaxed));
            let time = last == NEVER || now.abs_diff(last) >= COMPLAINT_PAUSE;
            if time {
                log.complained_at.store(now, Ordering::Relaxed);
            }
            time
        })
    }

    /// When [`Files::flush_due`] has something to do next, in milliseconds.
    #[inline]
    pub fn next_due_ms(&self) -> Option<u64> {
        Some(self.due_ms.load(Ordering::Relaxed)).filter(|&due_ms| due_ms != NEVER)
    }

    /// Writes the buffers whose time has come.
    pub fn flush_due(&self, now_ms: u64) -> Vec<Lost> {
        let mut lost = Vec::new();
        let mut next = NEVER;
        for log in self.logs() {
            let due_ms = log.lock().as_ref().and_then(LineBuffer::due_ms);
            match due_ms {
                Some(due_ms) if due_ms <= now_ms => lost.extend(log.flush()),
                Some(due_ms) => next = next.min(due_ms),
                None => {}
            }
        }
        self.due_ms.store(next, Ordering::Relaxed);
        lost
    }

    /// Writes all buffers.
    pub fn flush(&self) -> Vec<Lost> {
        self.logs().filter_map(|log| log.flush()).collect()
    }
}

impl Log {
    fn new(file: File, name: &LogFile) -> Log {
        Log {
            path: name.path.clone(),
            file: RwLock::new(Arc::new(file)),
            buffer: Mutex::new(name.buffer.map(LineBuffer::new)),
            full_at: AtomicU64::new(NEVER),
            complained_at: AtomicU64::new(NEVER),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<LineBuffer>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, error: io::Error) -> Lost {
        Lost {
            path: self.path.clone(),
            error,
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        // Goes on after a short write and after EINTR.
        (&**file).write_all(bytes)
    }

    fn append(&self, line: &[u8], now_ms: u64) -> io::Result<Option<u64>> {
        match &mut *self.lock() {
            None => self.write(line).map(|()| None),
            Some(buffer) => buffer.append(line, now_ms, |bytes| self.write(bytes)),
        }
    }

    fn flush(&self) -> Option<Lost> {
        let mut buffer = self.lock();
        let flushed = buffer.as_mut()?.flush(|bytes| self.write(bytes));
        flushed.err().map(|error| self.lost(error))
    }

    fn reopen(&self, file: File) -> Option<Lost> {
        let lost = self.flush();
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
        lost
    }
}

#[cfg(test)]
mod tests;
