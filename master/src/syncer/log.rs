//! The syncer's error log, shared by its threads and exchanged by a reload.

use std::fmt;
use std::fs::File;
use std::sync::{Arc, PoisonError, RwLock};

use weir_worker::log::{ErrorLog, Files, panics_to};
use weir_worker::settings::{Level, LogTarget};

/// A handle on the log in force. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log(Arc<RwLock<ErrorLog>>);

impl Log {
    /// Logs to `targets` among `files` (by resource number).
    pub fn new(files: Vec<File>, targets: Arc<[LogTarget]>) -> Log {
        let log = ErrorLog::new(Arc::new(Files::new(files)), targets);
        panics_to(Some(&log));
        Log(Arc::new(RwLock::new(log)))
    }

    /// Writes one line.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        self.current().log(level, message);
    }

    /// Puts logs that were opened anew in the place of the old ones.
    pub fn reopen(&self, files: Vec<(usize, File)>) {
        let log = self.current();
        for (id, file) in files {
            log.files().replace(id, file);
        }
    }

    /// From now on logs to `targets` among `files`.
    pub fn exchange(&self, files: Vec<(usize, File)>, targets: Arc<[LogTarget]>) {
        let log = ErrorLog::new(Arc::new(Files::numbered(files)), targets);
        panics_to(Some(&log));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = log;
    }

    /// The log in force.
    pub fn current(&self) -> ErrorLog {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
