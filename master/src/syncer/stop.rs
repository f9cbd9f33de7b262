//! Cuts a watch short, whatever it is blocked in.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared between a watch and whoever may end it.
#[derive(Debug, Default)]
pub struct Stop {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// The watch's connection.
    socket: Option<TcpStream>,
}

impl Stop {
    /// Ends the watch: wakes it from its sleep and shuts its socket down.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        if let Some(socket) = state.socket.take() {
            // An error means that the connection is gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.stopped.notify_all();
    }

    /// Whether the watch is to end.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Makes `socket` the one that [`stop`](Stop::stop) shuts down.
    ///
    /// # Errors
    /// `Interrupted` when it was called already; else as `dup`.
    pub fn watch(&self, socket: &TcpStream) -> io::Result<()> {
        let socket = socket.try_clone()?;
        let mut state = self.lock();
        if state.stopped {
            return Err(io::ErrorKind::Interrupted.into());
        }
        state.socket = Some(socket);
        Ok(())
    }

    /// Lets the clone of a closed connection go.
    pub fn forget(&self) {
        self.lock().socket = None;
    }

    /// Waits for `delay`; `false` when it was cut short.
    pub fn sleep(&self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        let mut state = self.lock();
        while !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = match self.stopped.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
