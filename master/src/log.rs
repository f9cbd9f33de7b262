//! The master's error log. While it starts, whoever started it reads along on standard error.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use weir_worker::log::error::level_name;
use weir_worker::log::{ErrorLog, Files};
use weir_worker::settings::{Level, LogTarget};

use crate::resources;
use crate::settings::{Resource, Settings};

/// The error log and, during a start, standard error.
pub(crate) struct Log {
    error: ErrorLog,
    /// Lines of [`Level::Warn`] and worse go to standard error too, as nginx's do.
    starting: bool,
    /// The error log is standard error, where a line need not be twice.
    is_stderr: bool,
}

impl Log {
    /// Before any log is open: standard error alone.
    pub(crate) fn stderr() -> Log {
        Log {
            error: ErrorLog::new(Arc::new(Files::new(Vec::new())), Arc::new([])),
            starting: true,
            is_stderr: false,
        }
    }

    /// The logs of `settings`, of which `files` are the opened resources.
    ///
    /// # Errors
    /// As `dup`.
    pub(crate) fn open(settings: &Settings, files: &[File], starting: bool) -> io::Result<Log> {
        let targets: Arc<[LogTarget]> = settings.error_logs.clone();
        let is_stderr = targets
            .iter()
            .any(|target| settings.resources.get(target.resource) == Some(&Resource::Stderr));
        let files = Arc::new(Files::new(resources::duplicate(files)?));
        Ok(Log {
            error: ErrorLog::new(files, targets),
            starting,
            is_stderr,
        })
    }

    /// From now on standard error is left alone.
    pub(crate) fn started(&mut self) {
        self.starting = false;
    }

    /// Whether standard error is the error log.
    pub(crate) fn is_stderr(&self) -> bool {
        self.is_stderr
    }

    /// The error log itself.
    pub(crate) fn error(&self) -> &ErrorLog {
        &self.error
    }

    /// Writes a line.
    pub(crate) fn line(&self, level: Level, message: fmt::Arguments<'_>) {
        self.error.log(level, message);
        if self.starting && !self.is_stderr && level <= Level::Warn {
            let level = level_name(level);
            let line = format!("weir: [{level}] {message}\n");
            // Whoever closed standard error does not want to know.
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    pub(crate) fn emerg(&self, message: impl fmt::Display) {
        self.line(Level::Emerg, format_args!("{message}"));
    }

    pub(crate) fn alert(&self, message: impl fmt::Display) {
        self.line(Level::Alert, format_args!("{message}"));
    }

    pub(crate) fn error_line(&self, message: impl fmt::Display) {
        self.line(Level::Error, format_args!("{message}"));
    }

    pub(crate) fn warn(&self, message: impl fmt::Display) {
        self.line(Level::Warn, format_args!("{message}"));
    }

    pub(crate) fn notice(&self, message: impl fmt::Display) {
        self.line(Level::Notice, format_args!("{message}"));
    }
}
