//! Signals, received as data: the master keeps them blocked and reads them from a signalfd in its
//! poll, so none runs code in between and a fork finds them in a known state. (A handler that
//! writes into a pipe would be inherited by children, and write into the master's pipe there.)

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc::SI_KERNEL;
use nix::sys::signal::{SigSet, Signal as Number, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::errno::{describe, describe_errno};
use crate::process;

/// What the master listens to.
const HANDLED: [Number; 10] = [
    Number::SIGHUP,
    Number::SIGINT,
    Number::SIGQUIT,
    Number::SIGTERM,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGWINCH,
    Number::SIGCHLD,
    Number::SIGTTIN,
    Number::SIGTTOU,
];

/// What ends the master.
const ENDING: [Number; 3] = [Number::SIGINT, Number::SIGQUIT, Number::SIGTERM];

/// What a child of the master leaves to the master.
const MASTERS_ALONE: [Number; 6] = [
    Number::SIGHUP,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGWINCH,
    Number::SIGTTIN,
    Number::SIGTTOU,
];

/// What a child does not die of: a file that may not grow is an error of the write that would make
/// it grow, and concerns one request.
const ERRORS: [Number; 1] = [Number::SIGXFSZ];

/// The master's inbox of signals.
pub(crate) struct Signals {
    inbox: SignalFd,
}

/// One signal that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Which.
    pub(crate) number: Number,
    /// Who sent it, if that can be seen from here: not the kernel, nor a process outside of the
    /// container that this one is in.
    pub(crate) sender: Option<i32>,
    /// The kernel sent it, as SIGWINCH when a terminal changes its size.
    pub(crate) is_kernels: bool,
}

impl Signals {
    /// Opens the inbox and blocks the master's signals, those of [`ENDING`] not yet: until
    /// [`hold`](Signals::hold) they end the process at once, whatever it is blocked in. Process 1, as in
    /// a container, cannot be ended so, and would lose them: it keeps them for later.
    pub(crate) fn open() -> io::Result<Signals> {
        process::default_signals(&HANDLED)?;
        let set = SigSet::from_iter(HANDLED);
        let mut blocked = set;
        for each in ENDING.into_iter().filter(|_| std::process::id() != 1) {
            blocked.remove(each);
        }
        blocked.thread_set_mask()?;
        let inbox = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { inbox })
    }

    /// Takes in all of the master's signals from now on.
    pub(crate) fn hold(&self) -> Result<(), Errno> {
        SigSet::from_iter(HANDLED).thread_block()
    }

    /// The next signal that waits.
    pub(crate) fn next(&self) -> Option<Received> {
        loop {
            let info = match self.inbox.read_signal() {
                Err(Errno::EINTR) => continue,
                Ok(Some(info)) => info,
                Ok(None) | Err(_) => return None,
            };
            let Ok(number) = Number::try_from(info.ssi_signo as i32) else {
                continue;
            };
            let sender = (info.ssi_pid != 0).then_some(info.ssi_pid as i32);
            return Some(Received {
                number,
                sender,
                is_kernels: info.ssi_code == SI_KERNEL,
            });
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.as_fd()
    }
}

/// In a new child: leaves the master's signals to the master and unblocks nothing yet. TERM, INT
/// and QUIT wait until the child's own handlers stand.
pub(crate) fn of_child() -> io::Result<()> {
    process::ignore_signals(&MASTERS_ALONE)?;
    process::ignore_signals(&ERRORS)?;
    Ok(())
}

/// What `weir -s` sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `stop`: fast, SIGTERM.
    Stop,
    /// `quit`: graceful, SIGQUIT.
    Quit,
    /// `reload`: SIGHUP.
    Reload,
    /// `reopen`: SIGUSR1.
    Reopen,
}

impl Signal {
    /// By the word after `-s`.
    pub fn from_name(name: &str) -> Option<Signal> {
        match name {
            "stop" => Some(Signal::Stop),
            "quit" => Some(Signal::Quit),
            "reload" => Some(Signal::Reload),
            "reopen" => Some(Signal::Reopen),
            _ => None,
        }
    }

    fn number(self) -> Number {
        match self {
            Signal::Stop => Number::SIGTERM,
            Signal::Quit => Number::SIGQUIT,
            Signal::Reload => Number::SIGHUP,
            Signal::Reopen => Number::SIGUSR1,
        }
    }
}

/// Sends `signal` to the master whose id `pid_file` holds.
///
/// # Errors
/// nginx's messages with their levels: `[error] open() "/run/weir.pid" failed (2: …)`,
/// `[error] invalid PID number "x" in "/run/weir.pid"`, `[alert] kill(123, 1) failed (3: No such process)`.
pub fn send_signal(pid_file: &Path, signal: Signal) -> Result<(), String> {
    let shown = pid_file.display();
    let text = std::fs::read_to_string(pid_file)
        .map_err(|error| format!("[error] open() \"{shown}\" failed {}", describe(&error)))?;
    let text = text.trim_end_matches(['\r', '\n']);
    let pid = text
        .parse()
        .ok()
        .filter(|&pid: &i32| pid > 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("[error] invalid PID number \"{text}\" in \"{shown}\""))?;
    let number = signal.number();
    kill(Pid::from_raw(pid), number).map_err(|error| {
        format!(
            "[alert] kill({pid}, {}) failed {}",
            number as i32,
            describe_errno(error)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.pid");
        std::fs::write(&path, text).unwrap();
        let shown = path.display().to_string();
        send_signal(&path, Signal::Reopen).map_err(|error| error.replace(&shown, "PID"))
    }

    #[test]
    fn bad_pid_files_are_told_in_nginx_words() {
        for bad in ["", "x", "-1", "0", "+5", "1 2", "99999999999"] {
            let expected = format!("[error] invalid PID number \"{bad}\" in \"PID\"");
            assert_eq!(sent(bad).unwrap_err(), expected);
        }
        let error = send_signal(Path::new("/nonexistent/weir.pid"), Signal::Stop).unwrap_err();
        let expected =
            "[error] open() \"/nonexistent/weir.pid\" failed (2: No such file or directory)";
        assert_eq!(error, expected);
    }

    #[test]
    fn the_process_gets_the_signal() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        sent(&format!("{}\n", child.id())).unwrap();
        use std::os::unix::process::ExitStatusExt;
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(Number::SIGUSR1 as i32));
        let error = sent(&child.id().to_string()).unwrap_err();
        let expected = format!(
            "[alert] kill({}, 10) failed (3: No such process)",
            child.id()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn names() {
        assert_eq!(Signal::from_name("quit"), Some(Signal::Quit));
        assert_eq!(Signal::from_name("QUIT"), None);
    }
}
