//! Cuts a watch short, whatever it is blocked in.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    socket: Option<Arc<TcpStream>>,
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

    /// Makes `socket` the one that [`stop`](Stop::stop) shuts down; `false` when it was called
    /// already.
    pub fn watch(&self, socket: &Arc<TcpStream>) -> bool {
        let mut state = self.lock();
        if !state.stopped {
            state.socket = Some(Arc::clone(socket));
        }
        !state.stopped
    }

    /// Lets a connection go that is not used any more, so that it is closed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(60);

    /// Runs `blocked` in a thread until it says that it is about to block, then stops it.
    fn is_cut_short(blocked: impl FnOnce(&Stop) + Send + 'static) {
        let stop = Arc::new(Stop::default());
        let began = Instant::now();
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || blocked(&stop))
        };
        stop.stop();
        thread.join().unwrap();
        assert!(began.elapsed() < LONG / 2);
        assert!(stop.is_stopped());
    }

    #[test]
    fn a_sleep_is_cut_short_before_and_after_it_begins() {
        is_cut_short(|stop| assert!(!stop.sleep(LONG)));
        let stop = Stop::default();
        assert!(stop.sleep(Duration::from_millis(1)));
        stop.stop();
        assert!(!stop.sleep(LONG));
    }

    #[test]
    fn a_read_is_cut_short_before_and_after_it_begins() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        is_cut_short(move |stop| {
            let socket = Arc::new(TcpStream::connect(address).unwrap());
            if stop.watch(&socket) {
                assert_eq!((&*socket).read(&mut [0]).unwrap(), 0);
            }
        });
        let stop = Stop::default();
        stop.stop();
        assert!(!stop.watch(&Arc::new(TcpStream::connect(address).unwrap())));
    }
}
