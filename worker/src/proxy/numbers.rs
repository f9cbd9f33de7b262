//! What `stub_status` counts.

/// What a client is doing, as `stub_status` puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its request's head is arriving.
    Reading,
    /// Its request is in flight.
    Writing,
    /// It is between two requests, or before its first.
    Waiting,
    /// It is between two requests and must not be closed yet: nginx counts it as active alone.
    Kept,
}

/// Connections and requests of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    phases: [u64; 4],
    /// Clients ever accepted.
    pub accepted: u64,
    /// Clients ever handled.
    pub handled: u64,
    /// Requests ever.
    pub requests: u64,
}

impl Numbers {
    /// Clients in this phase.
    #[must_use]
    pub fn of(&self, phase: Phase) -> u64 {
        self.phases[phase as usize]
    }

    /// Clients connected.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.phases.iter().sum()
    }

    /// A client goes from one phase to another; `None` is not connected.
    #[inline]
    pub fn shift(&mut self, from: Option<Phase>, to: Option<Phase>) {
        if let Some(from) = from {
            self.phases[from as usize] -= 1;
        }
        if let Some(to) = to {
            self.phases[to as usize] += 1;
        }
    }
}
