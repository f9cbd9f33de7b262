//! Letting clients in, and holding that back while there is no room for them: then the listening
//! sockets are not even watched, and who comes waits in the kernel's queue.

use std::io;
use std::rc::Rc;

use crate::conf::Conf;
use crate::cycle::Cycle;
use crate::listening::Accept;
use crate::log::Sparse;
use crate::proxy::errno;
use crate::settings::Level;
use crate::transport::Socket;

/// Connections accepted from one socket in one turn of the loop without `multi_accept`.
const ACCEPTS_A_TURN: usize = 8;
/// With it: all that wait, but one socket must not keep the others waiting for ever.
const MULTI_ACCEPTS_A_TURN: usize = 512;
/// How long accepting pauses at most when the system is short of descriptors or memory, in
/// milliseconds, as nginx's `accept_mutex_delay`.
const PAUSE_MS: u64 = 500;
/// How many who wait at a socket are still let in before a graceful end: a full queue of the usual
/// length. A flood of connections must not hold the end up.
const ACCEPTS_BEFORE_QUIT: usize = 4096;

/// Why nobody is let in, and until when.
#[derive(Clone, Copy, Debug)]
enum Hold {
    /// There are as many connections as there may be: until there is room.
    Full,
    /// The system gives no descriptor: until there are fewer connections than these, and at the
    /// latest until this time in milliseconds.
    Short { connections: usize, until_ms: u64 },
}

/// What a worker remembers of it.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    hold: Option<Hold>,
    full: Sparse,
    short: Sparse,
}

impl Accepting {
    /// Whether listening sockets are watched.
    pub fn is_open(&self) -> bool {
        self.hold.is_none()
    }

    /// When a pause ends whatever happens, in milliseconds.
    pub fn due_ms(&self) -> Option<u64> {
        match self.hold {
            Some(Hold::Short { until_ms, .. }) => Some(until_ms),
            Some(Hold::Full) | None => None,
        }
    }
}

impl Cycle {
    /// Whether someone may be let in now.
    pub(crate) fn lets_in(&self) -> bool {
        match self.accepting.hold {
            None => self.listeners.is_any_ready(),
            Some(Hold::Full) => self.has_room() || self.proxy.has_idle(),
            Some(Hold::Short {
                connections,
                until_ms,
            }) => self.proxy.connections() < connections || self.proxy.shared.now_ms >= until_ms,
        }
    }

    /// Lets clients in.
    pub(crate) fn accept(&mut self) {
        let reserve = &mut self.proxy.shared.reserve;
        if self.accepting.is_open() && !reserve.is_whole() && !reserve.restore() {
            // A request in flight needed it. Whoever came now would find no descriptor either.
            self.hold_short();
        }
        if !self.lets_in() || !self.reopen() {
            return;
        }
        let conf = Rc::clone(&self.proxy.shared.conf);
        let budget = if conf.settings.multi_accept {
            MULTI_ACCEPTS_A_TURN
        } else {
            ACCEPTS_A_TURN
        };
        for number in 0..self.listeners.numbers() {
            for _ in 0..budget {
                if !self.listeners.is_ready(number) || !self.accept_one(&conf, number) {
                    break;
                }
            }
        }
    }

    /// Lets in who already waits; then the sockets are left to others.
    pub(crate) fn accept_the_last(&mut self) {
        let conf = Rc::clone(&self.proxy.shared.conf);
        for number in 0..self.listeners.numbers() {
            self.listeners.ready(number);
            for _ in 0..ACCEPTS_BEFORE_QUIT {
                if !self.accept_one(&conf, number) {
                    break;
                }
            }
            self.listeners.remove(number, &self.watcher);
        }
        self.accepting.hold = None;
    }

    /// Lets those in who wait at the sockets of a neighbour that is late.
    pub(crate) fn help(&mut self) {
        let shared = &self.proxy.shared;
        let look = |slot| shared.region.neighbour(slot);
        let sockets = self.listeners.late_sockets(shared.now_ms, look);
        if sockets == 0 || !self.accepting.is_open() {
            return;
        }
        let conf = Rc::clone(&self.proxy.shared.conf);
        let local = |socket: &Socket| conf.uses_server_addr.then(|| socket.local())?;
        for index in 0..sockets {
            for _ in 0..ACCEPTS_A_TURN {
                if !self.has_room() {
                    return;
                }
                match self.listeners.accept_for_neighbour(index, local) {
                    Accept::Client(socket, accepted) => self.proxy.accept(socket, accepted),
                    Accept::Lost(_) => {}
                    // Who is short of descriptors notices it at a socket of its own.
                    Accept::Empty | Accept::Short(_) => break,
                }
                self.listeners.try_again();
            }
        }
    }

    /// Lets one client in; false when no more can be.
    fn accept_one(&mut self, conf: &Conf, number: u32) -> bool {
        if !self.has_room() && (!self.listeners.is_waited_at(number) || !self.make_room()) {
            return false;
        }
        let local = |socket: &Socket| conf.uses_server_addr.then(|| socket.local())?;
        let mut accepted = self.listeners.accept(number, local);
        if matches!(accepted, Accept::Short(_)) && !self.listeners.is_waited_at(number) {
            // The system looks for a descriptor before it looks for a client.
            accepted = Accept::Empty;
        }
        // What idles holds a descriptor that is needed now.
        if matches!(accepted, Accept::Short(_)) && self.proxy.close_an_idle_one() {
            accepted = self.listeners.accept(number, local);
        }
        match accepted {
            Accept::Client(socket, accepted) => {
                self.proxy.accept(socket, accepted);
                true
            }
            Accept::Empty => false,
            Accept::Short(error) => {
                self.tell_failed(error.into());
                self.hold_short();
                false
            }
            Accept::Lost(error) => {
                self.tell_failed(error.into());
                true
            }
        }
    }

    /// Whether another client would be let in now.
    pub(crate) fn takes_another(&self) -> bool {
        self.accepting.is_open() && (self.has_room() || self.proxy.has_idle())
    }

    /// Whether one client more, and a connection to a server for it, are within the limit. The first
    /// client always is, or a small limit would let nobody in.
    fn has_room(&self) -> bool {
        let used = self.proxy.connections() + self.listeners.len();
        used + 2 <= self.proxy.shared.limit || self.proxy.clients.is_empty()
    }

    /// Sees to that by closing what is idle; false if there is not enough of it.
    fn make_room(&mut self) -> bool {
        let mut room = false;
        while !room && self.proxy.close_an_idle_one() {
            room = self.has_room();
        }
        self.tell_full(room);
        if !room {
            self.hold(Hold::Full);
        }
        room
    }

    fn hold_short(&mut self) {
        self.hold(Hold::Short {
            connections: self.proxy.connections(),
            until_ms: self.proxy.shared.now_ms + PAUSE_MS,
        });
    }

    fn hold(&mut self, hold: Hold) {
        if self.accepting.is_open() {
            self.listeners.unwatch(&self.watcher);
        }
        self.accepting.hold = Some(hold);
    }

    /// Ends the holding back; false if the system is still short of descriptors.
    fn reopen(&mut self) -> bool {
        if self.accepting.is_open() {
            return true;
        }
        if !self.proxy.shared.reserve.restore() {
            self.hold_short();
            return false;
        }
        if let Err(error) = self.listeners.watch(&self.watcher) {
            self.proxy.shared.log().log(
                Level::Alert,
                format_args!("epoll_ctl() failed ({})", errno(&error)),
            );
            self.listeners.unwatch(&self.watcher);
            self.hold_short();
            return false;
        }
        self.accepting.hold = None;
        true
    }

    /// nginx's warning, once a second at most as there.
    fn tell_full(&mut self, reused: bool) {
        let shared = &self.proxy.shared;
        let Some(more) = self.accepting.full.admit(shared.now_ms) else {
            return;
        };
        let what = match reused {
            true => "reusing connections",
            false => "new ones wait",
        };
        let limited = shared.limited();
        shared
            .log()
            .log(Level::Warn, format_args!("{limited}, {what}{more}"));
    }

    fn tell_failed(&mut self, error: io::Error) {
        let shared = &self.proxy.shared;
        if let Some(more) = self.accepting.short.admit(shared.now_ms) {
            let reason = errno(&error);
            shared.log().log(
                Level::Crit,
                format_args!("accept4() failed ({reason}){more}"),
            );
        }
    }
}
