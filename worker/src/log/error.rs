//! The error log, in nginx's format: `2026/01/02 15:04:05 [error] PID#0: *CONN message`.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;

use super::clock::Clock;
use super::files::Files;
use crate::settings::{Level, LogTarget};

/// A line has at most this many bytes, its newline included, as nginx's `NGX_MAX_ERROR_STR`.
pub const MAX_LINE: usize = 2048;

/// Where a process or a location logs its errors to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ErrorLog {
    files: Arc<Files>,
    targets: Arc<[LogTarget]>,
    stderr: Option<Level>,
}

impl ErrorLog {
    /// Lines go to every target whose level takes them.
    pub fn new(files: Arc<Files>, targets: Arc<[LogTarget]>) -> ErrorLog {
        ErrorLog {
            files,
            targets,
            stderr: None,
        }
    }

    /// Lines go to standard error, as long as no log is open.
    pub fn stderr(level: Level) -> ErrorLog {
        ErrorLog {
            files: Arc::default(),
            targets: Arc::new([]),
            stderr: Some(level),
        }
    }

    /// The files behind it.
    pub fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Whether a line of this level goes anywhere; ask before building a costly one.
    pub fn enabled(&self, level: Level) -> bool {
        let to_files = self.targets.iter().any(|target| level <= target.level);
        to_files || self.stderr.is_some_and(|least| level <= least)
    }

    /// Writes a line. What cannot be written is lost: there is nobody to tell.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        self.write(level, None, message);
    }

    /// Writes a line about the connection of this number.
    pub fn connection(&self, level: Level, number: u64, message: fmt::Arguments<'_>) {
        self.write(level, Some(number), message);
    }

    fn write(&self, level: Level, connection: Option<u64>, message: fmt::Arguments<'_>) {
        if !self.enabled(level) {
            return;
        }
        let write = |scratch: &mut Scratch| {
            scratch.clock.set(Clock::system_millis());
            let pid = std::process::id();
            line(
                &mut scratch.line,
                &scratch.clock,
                level,
                pid,
                connection,
                message,
            );
            self.send(level, &scratch.line);
            self.tell_lost(level, scratch);
        };
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => write(&mut scratch),
            // A message whose Display logs by itself.
            Err(_) => write(&mut Scratch::new()),
        });
    }

    /// In a log that works again: how many lines it lacks.
    fn tell_lost(&self, level: Level, scratch: &mut Scratch) {
        for target in self.targets.iter().filter(|target| level <= target.level) {
            let now = scratch.clock.millis() / 1000;
            let count = self.files.lost_before(target.resource, now);
            if count > 0 {
                line(
                    &mut scratch.line,
                    &scratch.clock,
                    Level::Warn,
                    std::process::id(),
                    None,
                    format_args!("{count} lines of this log could not be written"),
                );
                let _ = self.files.write(target.resource, &scratch.line);
            }
        }
    }

    fn send(&self, level: Level, line: &[u8]) {
        for target in self.targets.iter().filter(|target| level <= target.level) {
            let _ = self.files.write(target.resource, line);
        }
        if self.stderr.is_some_and(|least| level <= least) {
            let _ = std::io::stderr().write_all(line);
        }
    }
}

struct Scratch {
    clock: Clock,
    line: Vec<u8>,
}

impl Scratch {
    fn new() -> Scratch {
        Scratch {
            clock: Clock::new(0),
            line: Vec::with_capacity(MAX_LINE),
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// nginx's name of a level.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Emerg => "emerg",
        Level::Alert => "alert",
        Level::Crit => "crit",
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Notice => "notice",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

/// Puts one line with its newline into `out`, in place of what was there.
pub fn line(
    out: &mut Vec<u8>,
    clock: &Clock,
    level: Level,
    pid: u32,
    connection: Option<u64>,
    message: fmt::Arguments<'_>,
) {
    out.clear();
    out.extend_from_slice(clock.error());
    // Errors come from the message's own Display; what it wrote so far is worth keeping.
    let _ = write!(out, " [{}] {pid}#0: ", level_name(level));
    if let Some(number) = connection {
        let _ = write!(out, "*{number} ");
    }
    let _ = Escaped(out).write_fmt(message);
    out.push(b'\n');
}

/// Takes text and writes it so that it stays one line and does nothing to a terminal.
struct Escaped<'a>(&'a mut Vec<u8>);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            let mut bytes = [0; 4];
            let bytes = char.encode_utf8(&mut bytes).as_bytes();
            let size = if char.is_control() {
                bytes.len() * 4
            } else {
                bytes.len()
            };
            if self.0.len() + size >= MAX_LINE {
                return Err(fmt::Error);
            }
            if char.is_control() {
                for byte in bytes {
                    let _ = write!(self.0, "\\x{byte:02X}");
                }
            } else {
                self.0.extend_from_slice(bytes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn text(connection: Option<u64>, message: fmt::Arguments<'_>) -> String {
        let mut out = b"old".to_vec();
        line(
            &mut out,
            &Clock::new(784_111_777_000),
            Level::Error,
            42,
            connection,
            message,
        );
        String::from_utf8(out).unwrap()[19..].to_owned()
    }

    #[test]
    fn a_line_is_in_nginx_format() {
        assert_eq!(text(None, format_args!("a {}", 1)), " [error] 42#0: a 1\n");
        assert_eq!(text(Some(7), format_args!("b")), " [error] 42#0: *7 b\n");
    }

    #[test]
    fn foreign_bytes_stay_on_their_line() {
        assert_eq!(
            text(None, format_args!("a\nb\r\x1b[2J\0é\u{9b}\t")),
            " [error] 42#0: a\\x0Ab\\x0D\\x1B[2J\\x00é\\xC2\\x9B\\x09\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_at_its_limit() {
        for filler in ["x", "é", "\n"] {
            let mut out = Vec::new();
            let message = filler.repeat(3000);
            line(
                &mut out,
                &Clock::new(0),
                Level::Info,
                1,
                None,
                format_args!("{message}"),
            );
            assert!(
                out.len() <= MAX_LINE && out.len() > MAX_LINE - 5,
                "{}",
                out.len()
            );
            assert!(out.ends_with(b"\n") && std::str::from_utf8(&out).is_ok());
        }
    }

    #[test]
    fn each_target_takes_its_levels() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("0"), folder.path().join("1")];
        let files = Files::new(
            paths
                .iter()
                .map(|path| File::create(path).unwrap())
                .collect(),
        );
        let targets = [(0, Level::Error), (1, Level::Info)]
            .map(|(resource, level)| LogTarget { resource, level });
        let log = ErrorLog::new(Arc::new(files), Arc::new(targets));
        assert!(log.enabled(Level::Info) && !log.enabled(Level::Debug));
        log.log(Level::Error, format_args!("both"));
        log.log(Level::Info, format_args!("one"));
        log.connection(Level::Debug, 1, format_args!("none"));
        let lines = |at: usize| std::fs::read_to_string(&paths[at]).unwrap().lines().count();
        assert_eq!((lines(0), lines(1)), (1, 2));
    }
}
