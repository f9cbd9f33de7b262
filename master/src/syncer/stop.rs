//! Cuts a watch short, whatever it is blocked in.

use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::Socket;

/// Shared between a watch and whoever may end it.
#[derive(Debug, Default)]
pub struct Stop {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// What the watch asks with has changed since it last [began](Stop::begin).
    nudged: bool,
    /// The watch's connection.
    socket: Option<Arc<Socket>>,
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

    /// Makes the watch ask anew, with what has changed: wakes it from its sleep and shuts the
    /// socket down that it waits on.
    pub fn nudge(&self) {
        let mut state = self.lock();
        state.nudged = true;
        if let Some(socket) = state.socket.take() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.stopped.notify_all();
    }

    /// The watch is about to look at what it asks with: what was changed before counts no more.
    pub fn begin(&self) {
        self.lock().nudged = false;
    }

    /// Whether the watch is to ask anew.
    pub fn is_nudged(&self) -> bool {
        self.lock().nudged
    }

    /// Whether the watch is to end.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Makes `socket` the one that [`stop`](Stop::stop) and [`nudge`](Stop::nudge) shut down;
    /// `false` when one of them was called already.
    pub fn watch(&self, socket: &Arc<Socket>) -> bool {
        let mut state = self.lock();
        let goes_on = !state.stopped && !state.nudged;
        if goes_on {
            state.socket = Some(Arc::clone(socket));
        }
        goes_on
    }

    /// Lets a connection go that is not used any more, so that it is closed.
    pub fn forget(&self) {
        self.lock().socket = None;
    }

    /// Waits for `delay`, not to its end after a [`nudge`](Stop::nudge); `false` when the watch is to
    /// end.
    pub fn sleep(&self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        let mut state = self.lock();
        while !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.nudged {
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
    use std::net::{SocketAddr, TcpListener, TcpStream};

    const LONG: Duration = Duration::from_secs(60);

    fn connected(address: SocketAddr) -> Arc<Socket> {
        Arc::new(TcpStream::connect(address).unwrap().into())
    }

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
            let socket = connected(address);
            if stop.watch(&socket) {
                assert_eq!((&*socket).read(&mut [0]).unwrap(), 0);
            }
        });
        let stop = Stop::default();
        stop.stop();
        assert!(!stop.watch(&connected(address)));
    }

    #[test]
    fn a_nudge_cuts_the_next_wait_short_and_ends_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::default();
        let socket = connected(address);
        assert!(stop.watch(&socket));
        stop.nudge();
        assert_eq!((&*socket).read(&mut [0]).unwrap(), 0);
        let began = Instant::now();
        assert!(stop.sleep(LONG) && began.elapsed() < LONG / 2);
        assert!(stop.is_nudged() && !stop.is_stopped());
        assert!(!stop.watch(&connected(address)));
        stop.begin();
        assert!(stop.watch(&connected(address)));
        assert!(stop.sleep(Duration::from_millis(1)));
    }
}
