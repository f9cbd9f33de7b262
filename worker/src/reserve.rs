//! A descriptor in reserve: given up when there is no other for a request that is in flight, taken
//! again before anybody else is let in.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};

/// A descriptor that is of no use but to be closed.
#[derive(Debug, Default)]
pub struct Reserve(Option<OwnedFd>);

impl Reserve {
    /// Gives it up, so that one call more that makes a descriptor succeeds; false if it is given up
    /// already.
    pub fn release(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Takes it; false if the system does not give one. That is also how to find out whether there
    /// are descriptors again.
    pub fn restore(&mut self) -> bool {
        if self.0.is_none() {
            self.0 = eventfd(0, EventfdFlags::CLOEXEC).ok();
        }
        self.0.is_some()
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_given_up_once() {
        let mut reserve = Reserve::default();
        assert!(!reserve.is_whole() && !reserve.release());
        assert!(reserve.restore() && reserve.is_whole());
        assert!(reserve.release());
        assert!(!reserve.is_whole() && !reserve.release());
        assert!(reserve.restore());
    }
}
