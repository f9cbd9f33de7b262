//! Signals as a descriptor. They are blocked, so that none interrupts a request or is lost before
//! the loop looks for it.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// TERM, INT: end now.
    Stop,
    /// QUIT: finish what is in flight, then end.
    Quit,
}

/// TERM, INT and QUIT.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks them for this thread and takes them in from now on.
    ///
    /// # Errors
    /// As `signalfd(2)`.
    pub fn new() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// The next one that has come.
    pub fn next(&self) -> Option<Asked> {
        let info = self.0.read_signal().ok().flatten()?;
        let quit =
            i32::try_from(info.ssi_signo).is_ok_and(|number| number == Signal::SIGQUIT as i32);
        Some(if quit { Asked::Quit } else { Asked::Stop })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
