//! Where logs go and what their lines look like.

use std::sync::Arc;
use std::time::Duration;

use super::{ResourceId, Template};

/// All logs of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logs {
    /// What the master opens, by [`ResourceId`].
    pub files: Vec<LogFile>,
    /// `open_log_file_cache`, one a directive.
    pub caches: Vec<LogFileCache>,
}

/// A log that the master opens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogFile {
    /// Its path, by which it is the same log in another configuration; `stderr` for standard error.
    pub path: String,
    /// What an `access_log` asks for; it holds for all that go to the file.
    pub buffer: Option<LogBuffer>,
}

/// `access_log … buffer=SIZE flush=TIME`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBuffer {
    /// Bytes.
    pub size: usize,
    /// How old a line may become; `None`: until the buffer is full.
    pub flush: Option<Duration>,
}

/// `open_log_file_cache`, for logs with variables in their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFileCache {
    /// The most files in it.
    pub max: usize,
    /// A file that was not written to for so long is closed.
    pub inactive: Duration,
    /// After so long it is looked whether the file is still the one of this name.
    pub valid: Duration,
    /// Lines within `inactive` from which on a file stays open.
    pub min_uses: u64,
}

/// An `access_log`.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where its lines go.
    pub to: LogName,
    /// The lines; `combined` unless named.
    pub format: Arc<LogFormat>,
    /// `if=`: requests for which it is empty or `0` are not logged.
    pub filter: Option<Template>,
}

impl AccessLog {
    /// All values that it evaluates.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let name = match &self.to {
            LogName::File(_) => None,
            LogName::Path(name) => Some(name),
        };
        name.into_iter()
            .chain(&self.filter)
            .chain([&self.format.line])
    }
}

/// The name of a log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogName {
    /// One that the master opens.
    File(ResourceId),
    /// A path with variables, which the worker opens.
    Path(Template),
}

/// `log_format`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogFormat {
    /// The line, without its newline.
    pub line: Template,
    /// What is done to the values of its variables.
    pub escape: Escape,
}

/// `log_format … escape=`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `"`, `\` and what is no printable ASCII become `\xXX`; no value is `-`.
    #[default]
    Default,
    /// As JSON's strings need it; no value is empty.
    Json,
    /// Nothing; no value is empty.
    None,
}
