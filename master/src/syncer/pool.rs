//! The watches of one address: a few threads ask for all of them, each when its [turn](turns) has
//! come, over connections that go from watch to watch.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Kept;
use super::turns::{Next, Turns, WatchId};
use super::watch::{Outcome, Watch};

/// A thread that asks has a small stack; the resolver needs some of it.
const STACK: usize = 512 * 1024;

/// See the module. Its threads end with its last watch.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There may be something to do for the thread that waits.
    changed: Condvar,
    began: Instant,
    random: RandomState,
}

#[derive(Default)]
struct State {
    turns: Turns,
    /// Those that are not asked for right now.
    watches: HashMap<WatchId, Watch>,
    /// Connections for the next requests.
    kept: Vec<Kept>,
    /// A thread waits for a time to come.
    is_attended: bool,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            began: Instant::now(),
            random: RandomState::new(),
        }))
    }
}

impl Pool {
    /// Asks for one more watch from now on. A steady one keeps its place while others take turns.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn add(&self, id: WatchId, steady: bool, watch: Watch) -> io::Result<()> {
        let mut state = self.0.lock();
        state.turns.add(id, steady, self.0.now());
        state.watches.insert(id, watch);
        self.0.attend(&state)
    }

    /// Ends a watch, which was told to stop before.
    pub fn remove(&self, id: WatchId) {
        let mut state = self.0.lock();
        state.turns.remove(id);
        let watch = state.watches.remove(&id);
        if state.turns.is_empty() {
            state.kept.clear();
        }
        // The thread that waits may have nothing to wait for any more.
        self.0.changed.notify_one();
        drop(state);
        drop(watch);
    }

    /// Asks for a watch at once, if it waits.
    pub fn wake(&self, id: WatchId) {
        let mut state = self.0.lock();
        state.turns.wake(id, self.0.now());
        // It fails only where others already ask.
        let _ = self.0.attend(&state);
    }

    /// Whether it has no watch.
    pub fn is_empty(&self) -> bool {
        self.0.lock().turns.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Sees to it that a thread looks at what is to be done.
    fn attend(self: &Arc<Self>, state: &State) -> io::Result<()> {
        if state.is_attended {
            self.changed.notify_one();
        } else if state.turns.is_waiting() {
            let shared = Arc::clone(self);
            thread::Builder::new()
                .name("watch".to_owned())
                .stack_size(STACK)
                .spawn(move || shared.run())?;
        }
        Ok(())
    }

    /// A thread's life: it asks for whoever has his turn, and ends when another waits already.
    fn run(self: Arc<Self>) {
        let mut state = self.lock();
        loop {
            let now = self.now();
            match state.turns.next(now) {
                Next::Ask(id, wait) => {
                    let Some(watch) = state.watches.remove(&id) else {
                        state.turns.answered(id, now, Duration::ZERO);
                        continue;
                    };
                    let kept = state.kept.pop();
                    // Should there be no thread for the next, this one comes back to it.
                    let _ = self.attend(&state);
                    drop(state);
                    state = self.ask(id, watch, wait, kept);
                }
                Next::At(time) if !state.is_attended => {
                    state.is_attended = true;
                    let waited = self.changed.wait_timeout(state, time - now);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                    state.is_attended = false;
                }
                Next::At(_) => {
                    // It may wait for a later time.
                    self.changed.notify_one();
                    return;
                }
                Next::Nothing => return,
            }
        }
    }

    fn ask(
        &self,
        id: WatchId,
        mut watch: Watch,
        wait: Option<Duration>,
        kept: Option<Kept>,
    ) -> MutexGuard<'_, State> {
        let outcome = watch.turn(wait, kept);
        let kept = watch.give();
        let mut state = self.lock();
        let now = self.now();
        match outcome {
            Outcome::Answered(delay) => state.turns.answered(id, now, delay),
            Outcome::Failed(failure) => {
                let random = self.random.hash_one(now);
                let was_known = state.turns.room().is_some();
                state.turns.failed(id, now, failure, random);
                // Once for all watches.
                if let Some(room) = state.turns.room().filter(|_| !was_known) {
                    watch.is_crowded(room);
                }
            }
            Outcome::Ended => {
                state.turns.answered(id, now, Duration::ZERO);
                state.turns.remove(id);
            }
        }
        if state.turns.has(id) {
            state.watches.insert(id, watch);
        }
        if state.kept.len() + state.turns.asking() < state.turns.connections() {
            state.kept.extend(kept);
        }
        state
    }
}
