//! `daemon on`: the first process waits until the master serves, and tells the shell by its code.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::stat::{Mode, umask};
use nix::unistd;

use crate::process::{self, Fork};

/// How a start goes on.
pub(crate) enum Daemon {
    /// This is the first process: exit with this code.
    First(ExitCode),
    /// This is the master.
    Master(Waiting),
}

/// The first process waits at the other end, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pipe: Option<File>,
}

/// Forks the master off into a session of its own.
///
/// # Errors
/// As `pipe`, `fork` and `setsid`.
pub(crate) fn detach() -> io::Result<Daemon> {
    let (reading, writing) = io::pipe()?;
    if let Fork::Parent(_) = process::fork()? {
        drop(writing);
        let mut status = [0];
        let told = File::from(OwnedFd::from(reading)).read_exact(&mut status);
        let code = if told.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
        return Ok(Daemon::First(code));
    }
    unistd::setsid()?;
    // As nginx: files have the modes that they are made with, whatever the shell's umask was.
    umask(Mode::empty());
    let null = null()?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    let pipe = Some(File::from(OwnedFd::from(writing)));
    Ok(Daemon::Master(Waiting { pipe }))
}

impl Waiting {
    /// Lets the first process exit 0, and lets go of its standard error for `error_log`.
    ///
    /// # Errors
    /// As `dup2`.
    pub(crate) fn release(mut self, error_log: Option<&File>) -> io::Result<()> {
        let Some(mut pipe) = self.pipe.take() else {
            return Ok(());
        };
        redirect(error_log)?;
        // The first process may be gone by now; the master serves all the same.
        let _ = pipe.write_all(&[1]);
        Ok(())
    }
}

/// Points a daemon's standard error to its error log, or nowhere.
///
/// # Errors
/// As `open` and `dup2`.
pub(crate) fn redirect(error_log: Option<&File>) -> io::Result<()> {
    match error_log {
        Some(log) => unistd::dup2_stderr(log)?,
        None => unistd::dup2_stderr(null()?)?,
    }
    Ok(())
}

/// In a child of a daemon: its standard descriptors lead nowhere, so that it holds neither the
/// shell's pipes nor a log that was rotated away.
///
/// # Errors
/// As `open` and `dup2`.
pub(crate) fn silence() -> io::Result<()> {
    let null = null()?;
    unistd::dup2_stdin(null.as_fd())?;
    unistd::dup2_stdout(null.as_fd())?;
    unistd::dup2_stderr(null.as_fd())?;
    Ok(())
}

fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}
