//! `server NAME resolve`: one thread that asks name servers, each name again when its answer has
//! grown old, for as long as the syncer lives.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;
use weir_worker::event::{Queue, Token, Watcher};
use weir_worker::resolver::{Clients, Failure, Found, Lines, Lookup};
use weir_worker::settings::{Level, Resolver};

use super::book::FeedId;
use super::log::Log;

/// A name is not asked for more often than this.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// After an answer that there is no such name it is asked for again so much later, unless `valid=`
/// says otherwise (nginx's).
const NOT_FOUND_PAUSE: Duration = Duration::from_secs(10);

/// A name to resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// In lower case.
    pub name: String,
    /// Whom to ask.
    pub resolver: Arc<Resolver>,
    /// How long one resolution may take.
    pub timeout: Duration,
}

/// What became of a resolution: the addresses, none of a name that does not exist; `None` is a
/// failure, after which the last ones stay.
pub type Resolved = Option<Vec<IpAddr>>;

enum Order {
    Watch(FeedId, Name),
    Forget(FeedId),
}

/// The thread, from the outside. It ends with this.
#[derive(Debug)]
pub struct Names {
    orders: Option<Sender<Order>>,
    wake: Arc<OwnedFd>,
}

impl Names {
    /// Starts the thread. `tell` gets the outcome of each resolution.
    ///
    /// # Errors
    /// No event queue or no thread can be had.
    pub fn start<T>(tell: T, log: Log) -> io::Result<Names>
    where
        T: FnMut(FeedId, Resolved) + Send + 'static,
    {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let wake = Arc::new(rustix::event::eventfd(0, flags)?);
        let queue = Queue::new()?;
        let watcher = queue.watcher()?;
        watcher.watch_readable(&*wake, Token::Wake)?;
        let (orders, received) = mpsc::channel();
        let woken = Arc::clone(&wake);
        let asker = move || {
            let asker = Asker {
                queue,
                watcher,
                _woken: woken,
                orders: received,
                tasks: BTreeMap::new(),
                clients: Clients::default(),
                lines: Lines::default(),
                began: Instant::now(),
                tell,
                log,
            };
            asker.run();
        };
        thread::Builder::new()
            .name("names".to_owned())
            .spawn(asker)?;
        Ok(Names {
            orders: Some(orders),
            wake,
        })
    }

    /// Resolves a name from now on.
    pub fn watch(&self, id: FeedId, name: Name) {
        self.order(Order::Watch(id, name));
    }

    /// Leaves a name alone.
    pub fn forget(&self, id: FeedId) {
        self.order(Order::Forget(id));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends only with this.
            let _ = orders.send(order);
        }
        self.wake();
    }

    fn wake(&self) {
        // EAGAIN: the counter is full, so that the thread is about to wake anyway.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.orders = None;
        self.wake();
    }
}

/// A name and when something is to be done about it, in milliseconds.
struct Task {
    name: Name,
    due_ms: u64,
    /// It is being asked for; otherwise it is to be.
    asking: bool,
}

struct Asker<T> {
    queue: Queue,
    watcher: Watcher,
    /// Watched by the queue.
    _woken: Arc<OwnedFd>,
    orders: Receiver<Order>,
    tasks: BTreeMap<FeedId, Task>,
    clients: Clients<FeedId>,
    lines: Lines,
    began: Instant,
    tell: T,
    log: Log,
}

impl<T: FnMut(FeedId, Resolved)> Asker<T> {
    fn run(mut self) {
        while self.obey() {
            let now_ms = self.now_ms();
            self.clients.expire(now_ms);
            while let Some(outcome) = self.clients.next_outcome() {
                self.conclude(outcome.who, outcome.found, now_ms);
            }
            self.look_at_tasks(now_ms);
            let log = self.log.current();
            self.lines.carry_out(&mut self.clients, &self.watcher, &log);
            let dues = self.tasks.values().map(|task| task.due_ms);
            let next = dues.chain(self.clients.next_ms()).min();
            let pause = next.map(|next| Duration::from_millis(next.saturating_sub(now_ms)));
            if let Err(error) = self.queue.wait(pause) {
                log.log(
                    Level::Alert,
                    format_args!("epoll_wait() failed: {error}, names are not resolved any more"),
                );
                return;
            }
            let now_ms = self.now_ms();
            for (token, _) in self.queue.events() {
                if let Token::Resolver(line) = token {
                    self.lines.ready(line, &mut self.clients, now_ms, &log);
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// Takes the orders that are there; false when there will be no more.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Watch(id, name)) => {
                    let due_ms = self.now_ms();
                    let asking = false;
                    self.tasks.insert(
                        id,
                        Task {
                            name,
                            due_ms,
                            asking,
                        },
                    );
                }
                Ok(Order::Forget(id)) => {
                    if let Some(Task { name, .. }) = self.tasks.remove(&id) {
                        self.clients.forget(&name.resolver, &name.name, id);
                    }
                    if self.tasks.is_empty() {
                        self.clients.renew();
                    }
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Asks for the names whose time has come, and gives up on those that took too long.
    fn look_at_tasks(&mut self, now_ms: u64) {
        let due = self.tasks.iter().filter(|(_, task)| task.due_ms <= now_ms);
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            let Name {
                name,
                resolver,
                timeout,
            } = &task.name;
            if task.asking {
                self.clients.forget(resolver, name, id);
                self.conclude(id, Err(Failure::TimedOut), now_ms);
                continue;
            }
            task.asking = true;
            task.due_ms = now_ms.saturating_add(millis(*timeout));
            match self.clients.look_up(resolver, name, id, now_ms) {
                Lookup::Waiting => {}
                Lookup::Found(found) => self.conclude(id, Ok(found), now_ms),
                Lookup::Failed(failure) => self.conclude(id, Err(failure), now_ms),
            }
        }
    }

    /// Tells what came of a name, and sets when it is asked for again.
    fn conclude(&mut self, id: FeedId, found: Result<Found, Failure>, now_ms: u64) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let (resolved, pause) = match found {
            Ok(found) => {
                let left = Duration::from_millis(found.until_ms.saturating_sub(now_ms));
                (Some(found.addresses.to_vec()), left)
            }
            Err(failure) => {
                self.log.log(
                    Level::Error,
                    format_args!("{} could not be resolved ({failure})", task.name.name),
                );
                match failure {
                    Failure::NotFound => {
                        let valid = task.name.resolver.valid;
                        (Some(Vec::new()), valid.unwrap_or(NOT_FOUND_PAUSE))
                    }
                    _ => (None, task.name.timeout),
                }
            }
        };
        task.asking = false;
        task.due_ms = now_ms.saturating_add(millis(pause.max(LEAST_PAUSE)));
        (self.tell)(id, resolved);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
