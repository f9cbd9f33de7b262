//! Cuts a watch short, whatever it is blocked in: for good, or for one request.

use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::Socket;

/// Shared between a watch and whoever may end it.
#[derive(Debug, Default)]
pub struct Stop {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// The watch is wanted otherwise since it was last [renewed](Stop::renew).
    cut: bool,
    /// What the watch asks with has changed since it last [began](Stop::begin).
    nudged: bool,
    /// The watch's connection.
    socket: Option<Arc<Socket>>,
}

impl Stop {
    /// Ends the watch: shuts its socket down.
    pub fn stop(&self) {
        self.interrupt(|state| state.stopped = true);
    }

    /// Ends the request under way, or the one that is about to be sent, and what it is part of.
    pub fn cut(&self) {
        self.interrupt(|state| state.cut = true);
    }

    /// Makes the watch ask the same anew, with a token or a certificate that has changed.
    pub fn nudge(&self) {
        self.interrupt(|state| state.nudged = true);
    }

    fn interrupt(&self, mark: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        mark(&mut state);
        if let Some(socket) = state.socket.take() {
            // An error means that the connection is gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Requests pass again after a [`cut`](Stop::cut); `false` when the watch is to end.
    pub fn renew(&self) -> bool {
        let mut state = self.lock();
        state.cut = false;
        !state.stopped
    }

    /// Whether the request under way is to end, and not to be made again.
    pub fn is_cut(&self) -> bool {
        let state = self.lock();
        state.stopped || state.cut
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

    /// Makes `socket` the one that [`stop`](Stop::stop), [`cut`](Stop::cut) and
    /// [`nudge`](Stop::nudge) shut down; `false` when one of them was called already.
    pub fn watch(&self, socket: &Arc<Socket>) -> bool {
        let mut state = self.lock();
        let goes_on = !(state.stopped || state.cut || state.nudged);
        if goes_on {
            state.socket = Some(Arc::clone(socket));
        }
        goes_on
    }

    /// Lets a connection go that is not used any more, so that it is closed.
    pub fn forget(&self) {
        self.lock().socket = None;
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
    use std::time::{Duration, Instant};

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
        stop.cut();
        assert!(!stop.watch(&connected(address)) && stop.is_cut() && !stop.is_stopped());
        assert!(stop.renew() && stop.watch(&connected(address)) && !stop.is_cut());
        stop.stop();
        assert!(!stop.watch(&connected(address)) && !stop.renew() && stop.is_cut());
    }

    #[test]
    fn a_nudge_cuts_a_read_short_and_ends_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::default();
        let socket = connected(address);
        assert!(stop.watch(&socket));
        stop.nudge();
        assert_eq!((&*socket).read(&mut [0]).unwrap(), 0);
        assert!(stop.is_nudged() && !stop.is_cut());
        assert!(!stop.watch(&connected(address)));
        stop.begin();
        assert!(stop.watch(&connected(address)));
    }
}
