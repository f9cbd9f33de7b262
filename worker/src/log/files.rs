//! Opened logs by their numbers.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Lines that were lost, in all of them.
    lost_lines: Arc<AtomicU64>,
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
    /// Lines that were lost and not yet told of.
    lost: AtomicU64,
    /// It took the latest line.
    works: AtomicBool,
    /// The second in which lost lines were told of last.
    told_at: AtomicU64,
    /// Those of all logs.
    lost_lines: Arc<AtomicU64>,
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
        let lost_lines = Arc::default();
        for (id, file) in files {
            if id >= logs.len() {
                logs.resize_with(id + 1, || None);
            }
            logs[id] = Some(Arc::new(Log::new(file, &LogFile::default(), &lost_lines)));
        }
        Files {
            logs,
            due_ms: Arc::new(AtomicU64::new(NEVER)),
            lost_lines,
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
                None => Arc::new(Log::new(file, name, &old.lost_lines)),
            }));
        }
        let files = Files {
            logs,
            due_ms: Arc::clone(&old.due_ms),
            lost_lines: Arc::clone(&old.lost_lines),
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
    /// lost, and counted. `NotFound` for a number without a file.
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
            log.lose(line);
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

    /// How many lines a log has lost, once it works again and if that is to be told in the second
    /// `now`: once in each. Else 0.
    #[inline]
    pub fn lost_before(&self, id: ResourceId, now: u64) -> u64 {
        self.log(id).map_or(0, |log| log.lost_before(now))
    }

    /// How many lines all logs have lost.
    #[inline]
    pub fn lost_lines(&self) -> u64 {
        self.lost_lines.load(Ordering::Relaxed)
    }

    /// The name of a log.
    pub fn path(&self, id: ResourceId) -> &str {
        self.log(id).map_or("", |log| log.path.as_str())
    }

    /// Counts lines that were lost in a log that is none of these.
    pub fn count_lost(&self, lines: u64) {
        self.lost_lines.fetch_add(lines, Ordering::Relaxed);
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
    fn new(file: File, name: &LogFile, lost_lines: &Arc<AtomicU64>) -> Log {
        Log {
            path: name.path.clone(),
            file: RwLock::new(Arc::new(file)),
            buffer: Mutex::new(name.buffer.map(LineBuffer::new)),
            full_at: AtomicU64::new(NEVER),
            complained_at: AtomicU64::new(NEVER),
            lost: AtomicU64::new(0),
            works: AtomicBool::new(true),
            told_at: AtomicU64::new(NEVER),
            lost_lines: Arc::clone(lost_lines),
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
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = match (&**file).write(rest) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            match written {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.works.store(false, Ordering::Relaxed);
                    self.lose(rest);
                    return Err(error);
                }
            }
        }
        // Nearly always so already, and then other processors need not hear of it.
        if !self.works.load(Ordering::Relaxed) {
            self.works.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    #[cold]
    fn lose(&self, lines: &[u8]) {
        let count = lines.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lost.fetch_add(count, Ordering::Relaxed);
        self.lost_lines.fetch_add(count, Ordering::Relaxed);
    }

    #[inline]
    fn lost_before(&self, now: u64) -> u64 {
        if self.lost.load(Ordering::Relaxed) == 0
            || !self.works.load(Ordering::Relaxed)
            || self.told_at.swap(now, Ordering::Relaxed) == now
        {
            return 0;
        }
        self.lost.swap(0, Ordering::Relaxed)
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
