//! The loop of a worker.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use weir_shm::{Address, WorkerState};

use crate::accepting::Accepting;
use crate::channel::{Answer, Channel};
use crate::conf::Conf;
use crate::descriptors;
use crate::event::{Queue, Token, Watcher};
use crate::follow::Follower;
use crate::listening::Listeners;
use crate::log::files::Lost;
use crate::log::{Clock, Files, panics_to};
use crate::proxy::shared::Shared;
use crate::proxy::{Network, Proxy};
use crate::reload::Reload;
use crate::resolver::Lines;
use crate::settings::Level;
use crate::signal::{Asked, Signals};
use crate::start::Start;
use crate::transport::{Origin, Socket, Unconnected};

/// Sockets, watched by the loop's queue.
pub(crate) struct Sockets(Watcher);

impl Network for Sockets {
    type Stream = Socket;

    fn connect(
        &mut self,
        address: &Address,
        origin: &Origin,
    ) -> Result<(Socket, bool), Unconnected> {
        Socket::connect_from(address, origin)
    }

    fn watch(&mut self, stream: &Socket, token: Token) -> io::Result<()> {
        self.0.watch(stream.as_raw_fd(), token)
    }

    fn set_nodelay(&mut self, stream: &Socket, on: bool) {
        stream.set_nodelay(on);
    }
}

/// A worker.
pub(crate) struct Cycle {
    queue: Queue,
    pub(crate) watcher: Watcher,
    pub(crate) proxy: Proxy<Sockets>,
    pub(crate) listeners: Listeners,
    pub(crate) channel: Channel,
    pub(crate) reload: Reload,
    signals: Signals,
    /// Written after a publish; edge-triggered, so it need not be read.
    _wake: OwnedFd,
    follower: Follower,
    /// The sockets on which name servers answer.
    lines: Lines,
    pub(crate) accepting: Accepting,
    quit: Option<Quit>,
}

/// How a worker ends.
#[derive(Clone, Copy, Debug)]
struct Quit {
    /// When what is left is closed (`worker_shutdown_timeout`), in milliseconds.
    deadline_ms: Option<u64>,
}

/// The whole life of a worker: returns when it has ended.
///
/// # Errors
/// What the system refuses a worker without which there is none, such as an event queue.
pub fn run(start: Start) -> Result<(), String> {
    let mut cycle = Cycle::new(start)?;
    panics_to(Some(cycle.proxy.shared.log()));
    cycle.catch_up();
    cycle.answer(&Answer::Ready);
    while cycle.turn()? {}
    Ok(())
}

impl Cycle {
    fn new(start: Start) -> Result<Self, String> {
        let queue = Queue::new().map_err(|error| format!("epoll_create1() failed: {error}"))?;
        let watcher = || {
            let watcher = queue.watcher();
            watcher.map_err(|error| format!("dup() failed: {error}"))
        };
        let (watcher, sockets) = (watcher()?, Sockets(watcher()?));
        let signals = Signals::new().map_err(|error| format!("signalfd() failed: {error}"))?;
        let channel = Channel::new(start.channel);
        let watch = |error: io::Error| format!("epoll_ctl() failed: {error}");
        channel
            .set_nonblocking(true)
            .map_err(|error| format!("ioctl() failed: {error}"))?;
        watcher
            .watch_readable(&channel, Token::Channel)
            .map_err(watch)?;
        watcher
            .watch_readable(&signals, Token::Signals)
            .map_err(watch)?;
        watcher
            .watch_readable(&start.wake, Token::Wake)
            .map_err(watch)?;
        let logs = &start.settings.logs.files;
        let (files, _) = Files::succeed(&Files::default(), start.files, logs);
        let files = Arc::new(files);
        let mut conf = Conf::new(start.settings, start.generation, files, &[]);
        let mut listeners = Listeners::default();
        for (address, socket) in start.listeners {
            let nodelay = conf.nodelay(&address);
            let number = listeners
                .add(address.clone(), socket, nodelay, true, &watcher)
                .map_err(watch)?;
            conf.add_socket(number, &address);
        }
        let region = start.region;
        region.scoreboard().set_pid(std::process::id());
        region.scoreboard().set_generation(start.generation);
        let shared = Shared::new(sockets, Rc::new(conf), region, now_ms());
        let mut cycle = Self {
            queue,
            watcher,
            proxy: Proxy::new(shared),
            listeners,
            channel,
            reload: Reload::new(start.build),
            signals,
            _wake: start.wake,
            follower: Follower::default(),
            lines: Lines::default(),
            accepting: Accepting::default(),
            quit: None,
        };
        cycle.proxy.shared.reserve.restore();
        cycle.limit();
        Ok(cycle)
    }

    /// How many connections there may be: `worker_connections`, or as many as there are descriptors
    /// for, if these are fewer.
    pub(crate) fn limit(&mut self) {
        let shared = &self.proxy.shared;
        let reload = 1 + shared.conf.files.len() + self.listeners.len();
        let room = descriptors::room(self.proxy.connections(), reload);
        let configured = shared.conf.settings.worker_connections;
        // The listening sockets are open already, but count.
        self.proxy.shared.limit = configured.min(room.saturating_add(self.listeners.len()));
    }

    /// See [`Follower::catch_up`].
    pub(crate) fn catch_up(&mut self) {
        self.follower.catch_up(&mut self.proxy);
    }

    /// One turn of the loop; false when the worker has ended.
    fn turn(&mut self) -> Result<bool, String> {
        self.follower.turn(&mut self.proxy);
        let timeout = self.timeout();
        self.proxy.shared.publish_numbers();
        let row = self.proxy.shared.region.scoreboard();
        if timeout != Some(Duration::ZERO) && self.quit.is_none() {
            row.set_state(match self.takes_another() {
                true => WorkerState::Parked,
                false => WorkerState::Full,
            });
        }
        let waited = self.queue.wait(timeout);
        waited.map_err(|error| format!("epoll_wait() failed: {error}"))?;
        self.tell_time();
        self.proxy.shared.take_failures();
        let mut asked = Others::default();
        for (token, readiness) in self.queue.events() {
            match token {
                Token::Client(_) | Token::Peer(_) => self.proxy.ready(token, readiness),
                Token::Listener(number) => self.listeners.ready(number),
                Token::Resolver(line) => {
                    let shared = &mut self.proxy.shared;
                    let (names, log) = (&mut shared.names, &shared.conf.log);
                    self.lines.ready(line, names, shared.now_ms, log);
                }
                Token::Wake => {}
                Token::Channel => asked.channel = true,
                Token::Signals => asked.signals = true,
            }
        }
        self.proxy.go_on();
        self.proxy.expire();
        self.flush_logs();
        self.accept();
        self.help();
        self.resolve();
        if asked.channel {
            self.hear();
        }
        if asked.signals {
            while let Some(signal) = self.signals.next() {
                match signal {
                    Asked::Stop => return Ok(self.stop()),
                    Asked::Quit => {
                        if self.quit.is_none() {
                            self.answer(&Answer::Leaving);
                        }
                        self.begin_quit();
                    }
                }
            }
        }
        Ok(!self.has_ended())
    }

    /// The time is asked for once a turn.
    fn tell_time(&mut self) {
        let shared = &mut self.proxy.shared;
        shared.now_ms = now_ms();
        shared.clock.set(Clock::system_millis());
        let row = shared.region.scoreboard();
        row.set_heartbeat_ms(shared.now_ms);
        row.set_state(match self.quit {
            None => WorkerState::Running,
            Some(_) => WorkerState::Quitting,
        });
    }

    /// How long the loop may sleep.
    fn timeout(&self) -> Option<Duration> {
        let now_ms = self.proxy.shared.now_ms;
        if self.proxy.is_busy() || self.follower.wants_turn() || self.lets_in() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.proxy.next_deadline_ms(),
            self.proxy.shared.conf.files.next_due_ms(),
            self.accepting.due_ms(),
            (!self.accepting.is_open())
                .then(|| self.proxy.next_idle_ms())
                .flatten(),
            (self.accepting.is_open())
                .then(|| self.listeners.next_look_ms(now_ms))
                .flatten(),
            self.quit.and_then(|quit| quit.deadline_ms),
            self.proxy.shared.names.next_ms(),
            self.follower.due_ms(now_ms),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(now_ms)))
    }

    /// Lets those go on whose names are resolved, and asks for the names that are needed.
    fn resolve(&mut self) {
        if self.proxy.shared.names.is_empty() {
            return;
        }
        let now_ms = self.proxy.shared.now_ms;
        self.proxy.shared.names.expire(now_ms);
        while let Some(outcome) = self.proxy.shared.names.next_outcome() {
            self.proxy.resolved(outcome);
        }
        let shared = &mut self.proxy.shared;
        let (names, log) = (&mut shared.names, &shared.conf.log);
        self.lines.carry_out(names, &self.watcher, log);
    }

    /// Tells the master. If it does not listen any more, its end of the channel will say so.
    pub(crate) fn answer(&mut self, answer: &Answer) {
        if let Err(error) = self.channel.send(answer, &[]) {
            self.proxy.shared.log().log(
                Level::Alert,
                format_args!("sendmsg() failed ({})", crate::proxy::errno(&error)),
            );
        }
    }

    /// Writes the buffers of logs whose time has come.
    fn flush_logs(&mut self) {
        let shared = &self.proxy.shared;
        let files = &shared.conf.files;
        if files.next_due_ms().is_some_and(|due| due <= shared.now_ms) {
            self.log_lost(files.flush_due(shared.now_ms));
        }
    }

    /// Lines of logs could not be written.
    pub(crate) fn log_lost(&self, lost: impl IntoIterator<Item = Lost>) {
        for lost in lost {
            let log = self.proxy.shared.log();
            log.log(Level::Alert, format_args!("{lost}"));
        }
    }

    /// Ends at once.
    fn stop(&mut self) -> bool {
        self.proxy.close_all();
        self.log_lost(self.proxy.shared.conf.files.flush());
        self.proxy.shared.publish_numbers();
        false
    }

    /// Lets in who already waits, then nobody; what is in flight is finished.
    pub(crate) fn begin_quit(&mut self) {
        if self.quit.is_some() {
            return;
        }
        let shared = &self.proxy.shared;
        shared
            .log()
            .log(Level::Notice, format_args!("gracefully shutting down"));
        let timeout = shared.conf.settings.shutdown_timeout;
        self.quit = Some(Quit {
            deadline_ms: timeout.map(|timeout| {
                shared
                    .now_ms
                    .saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
            }),
        });
        self.listeners.stop_helping(|_| true);
        self.accept_the_last();
        self.proxy.quit();
    }

    fn has_ended(&mut self) -> bool {
        let Some(quit) = self.quit else {
            return false;
        };
        let late = quit
            .deadline_ms
            .is_some_and(|deadline| self.proxy.shared.now_ms >= deadline);
        if !late && !self.proxy.clients.is_empty() {
            return false;
        }
        self.stop();
        true
    }
}

/// What the events of a turn ask for besides connections.
#[derive(Default)]
struct Others {
    channel: bool,
    signals: bool,
}

/// A clock that never goes back and that all processes of the machine share, in milliseconds.
pub(crate) fn now_ms() -> u64 {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(time) => {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
            let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or_default();
            seconds * 1000 + nanoseconds / 1_000_000
        }
        // The clock exists on every Linux.
        Err(_) => 0,
    }
}
