//! What a process does to itself or to a child: fork, title, signals' dispositions.
//! The only unsafe code of this crate is here.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Pid};
use rustix::io::FdFlags;
use weir_shm::fault::{self, Call};

use crate::privileges;
use crate::settings::User;

/// Takes over a descriptor that this process was started with. To be called once for a number that
/// whoever started the process has named, before anything else is opened and kept.
///
/// # Errors
/// Nothing is open under that number.
pub(crate) fn own_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // A number that is not open can be nobody's.
    fs::symlink_metadata(format!("/proc/self/fd/{number}"))?;
    // SAFETY: the number is open, and was so when the process began, since nothing of this process
    // has it: whoever started the process gave it away with its name.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&owned, FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// The caller, with the child's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks. The calling process must have one thread.
pub(crate) fn fork() -> Result<Fork, Errno> {
    fault::check(Call::Fork).map_err(planned)?;
    // SAFETY: the master, and weir before it becomes one, has a single thread, so no lock is held
    // by a thread that the child lacks.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// What a test has planned.
fn planned(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Runs `check` in a child that has become `user` for good, and reports its error.
pub(crate) fn as_user(user: &User, check: impl FnOnce() -> Result<(), Errno>) -> io::Result<()> {
    let child = match fork()? {
        Fork::Parent(child) => child,
        Fork::Child => {
            let code = match privileges::give_up(Some(user)) {
                Ok(()) => check().map_or_else(|error| error as i32, |()| 0),
                Err(_) => Errno::EPERM as i32,
            };
            std::process::exit(code);
        }
    };
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, code)) => return Err(io::Error::from_raw_os_error(code)),
            Ok(_) => return Err(io::Error::other("the checking process was killed")),
        }
    }
}

/// Puts the signals of the master into a known state, whatever the parent process ignored: an
/// inherited SIG_IGN of SIGCHLD would let the kernel reap the workers.
pub(crate) fn default_signals(signals: &[Signal]) -> Result<(), Errno> {
    for &each in signals {
        // SAFETY: SIG_DFL is no function of ours, so nothing runs in signal context.
        unsafe { signal(each, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// Takes a variable out of the environment. To be called while the process has one thread.
pub(crate) fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// Ignores signals that are the master's alone.
pub(crate) fn ignore_signals(signals: &[Signal]) -> Result<(), Errno> {
    for &each in signals {
        // SAFETY: SIG_IGN is no function of ours, so nothing runs in signal context.
        unsafe { signal(each, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// The memory of the command line and the environment, which `ps` shows as the process title.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Title {
    start: usize,
    room: usize,
}

impl Title {
    /// Moves the environment elsewhere and claims the memory; `None` where the kernel does not
    /// tell its place. To be called once, while the process has one thread.
    pub(crate) fn claim() -> Option<Title> {
        let title = Title::area(&fs::read_to_string("/proc/self/stat").ok()?)?;
        for (name, value) in std::env::vars_os() {
            // A name that holds `=` cannot be set; no program can look it up either.
            if !name.as_encoded_bytes().contains(&b'=') {
                // SAFETY: one thread, so nobody reads the environment meanwhile.
                unsafe { std::env::set_var(&name, &value) };
            }
        }
        Some(title)
    }

    /// From arg_start, arg_end, env_start and env_end, fields 48 to 51 of `proc_pid_stat(5)`.
    fn area(stat: &str) -> Option<Title> {
        // The command's name, field 2, may hold anything; what follows its `)` may not.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..]
            .split_ascii_whitespace()
            .collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
        let (start, end) = (field(48)?, field(49)?);
        let end = if field(50)? == end { field(51)? } else { end };
        let room = end.checked_sub(start)?;
        (start != 0 && room > 1).then_some(Title { start, room })
    }

    /// Shows `text` as the title, cut to the room that there is.
    pub(crate) fn set(self, text: &str) {
        let bytes = text.as_bytes();
        let shown = bytes.len().min(self.room - 1);
        let area = self.start as *mut u8;
        // SAFETY: the kernel put the strings of argv and environ there, writable for the life of
        // the process; claim() moved the environment away and nobody reads argv afterwards.
        unsafe {
            std::ptr::write_bytes(area, 0, self.room);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), area, shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_area_is_found_behind_any_name() {
        let mut fields = vec!["0"; 49];
        fields[45] = "1000";
        fields[46] = "1040";
        fields[47] = "1040";
        fields[48] = "1100";
        let stat = format!("7 (a) b) (c) S {}", fields[1..].join(" "));
        let title = Title::area(&stat).unwrap();
        assert_eq!((title.start, title.room), (1000, 100));
        fields[47] = "2000";
        let stat = format!("7 (weir) S {}", fields[1..].join(" "));
        assert_eq!(Title::area(&stat).unwrap().room, 40);
        assert!(Title::area("7 (weir) S 0 0").is_none());
        assert!(Title::area("").is_none());
    }
}
