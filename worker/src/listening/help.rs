//! Help for a neighbour: the kernel deals connections out over the workers' sockets without looking
//! who has time, so what waits at the socket of a worker that is late or full is let in by the next.
//!
//! Nothing is watched for it. A worker that is awake looks at its neighbour's row of the scoreboard
//! once a millisecond at most, and tries its sockets when that is late; one that sleeps wakes for it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use weir_shm::{Address, WorkerState};

use super::{Accept, Listeners};
use crate::channel::Role;
use crate::transport::Socket;

/// A neighbour at work that has not turned its loop for so long is late, in milliseconds.
pub(crate) const LATE_MS: u64 = 10;
/// One that waits for events is looked after this seldom, should it not get them, in milliseconds.
const IDLE_MS: u64 = 100;
/// How long one may sleep whose neighbour waits for events, in milliseconds. Nothing tells it that the
/// neighbour is stopped then: this is what a client on an otherwise idle weir may wait for, no more than
/// for a packet that is sent again.
const NAP_MS: u64 = 1000;

/// The neighbour that is helped.
#[derive(Debug)]
pub(super) struct Helping {
    slot: u32,
    sockets: Vec<(Address, OwnedFd)>,
    /// No look before this, in milliseconds.
    look_ms: u64,
    /// No try before this, in milliseconds.
    try_ms: u64,
    /// The last look has met it at work, or full.
    is_at_work: bool,
    /// The last try has let somebody in: there may be more.
    has_more: bool,
}

impl Listeners {
    /// Looks after the sockets of the worker of a slot from now on, and after no other's.
    pub fn help(&mut self, slot: u32, passed: Vec<(Role, OwnedFd)>) {
        let own = self.addresses();
        let sockets = passed.into_iter().filter_map(|(role, socket)| {
            let Role::Listener(name) = role else {
                return None;
            };
            let mut own = own.iter().flatten();
            let address = own.find(|address| address.to_string() == name)?;
            Some((address.clone(), socket))
        });
        let sockets: Vec<_> = sockets.collect();
        self.helping = (!sockets.is_empty()).then_some(Helping {
            slot,
            sockets,
            look_ms: 0,
            try_ms: 0,
            is_at_work: false,
            has_more: false,
        });
    }

    /// Lets go of the neighbour's sockets at these addresses.
    pub fn stop_helping(&mut self, is_gone: impl Fn(&Address) -> bool) {
        if let Some(helping) = &mut self.helping {
            helping.sockets.retain(|(address, _)| !is_gone(address));
        }
    }

    /// How many of the neighbour's sockets are to be tried now; `look` tells what the worker of a
    /// slot does, and when its loop last turned.
    pub fn late_sockets(
        &mut self,
        now_ms: u64,
        look: impl Fn(u32) -> Option<(WorkerState, u64)>,
    ) -> usize {
        let Some(helping) = &mut self.helping else {
            return 0;
        };
        if now_ms < helping.look_ms {
            return 0;
        }
        helping.look_ms = now_ms + 1;
        let Some((state, heartbeat_ms)) = look(helping.slot) else {
            // Its successor is on the way.
            helping.is_at_work = false;
            return 0;
        };
        let age = now_ms.saturating_sub(heartbeat_ms);
        helping.is_at_work = matches!(state, WorkerState::Running | WorkerState::Full);
        let (is_late, pause_ms) = match state {
            WorkerState::Running => (age >= LATE_MS, LATE_MS),
            WorkerState::Full => (true, LATE_MS),
            WorkerState::Parked => (age >= IDLE_MS, IDLE_MS),
            WorkerState::Starting | WorkerState::Quitting => (false, 0),
        };
        if !is_late || now_ms < helping.try_ms {
            return 0;
        }
        helping.try_ms = now_ms + pause_ms;
        helping.has_more = false;
        helping.sockets.len()
    }

    /// There were clients at the neighbour's sockets: there may be more.
    pub fn try_again(&mut self) {
        if let Some(helping) = &mut self.helping {
            helping.try_ms = 0;
            helping.has_more = true;
        }
    }

    /// When to look at the neighbour again, whatever else happens, in milliseconds.
    pub fn next_look_ms(&self, now_ms: u64) -> Option<u64> {
        let helping = self.helping.as_ref()?;
        let nap = match helping {
            Helping { has_more: true, .. } => 1,
            Helping {
                is_at_work: true, ..
            } => LATE_MS,
            _ => NAP_MS,
        };
        (!helping.sockets.is_empty()).then_some(now_ms + nap)
    }

    /// Accepts one client of the neighbour.
    pub fn accept_for_neighbour(
        &self,
        index: usize,
        local: impl Fn(&Socket) -> Option<SocketAddr>,
    ) -> Accept {
        let helped = |helping: &'_ Helping| helping.sockets.get(index).map(|(at, _)| at.clone());
        let Some(address) = self.helping.as_ref().and_then(helped) else {
            return Accept::Empty;
        };
        let mut own = self.sockets.iter().enumerate();
        let own = own.find_map(|(number, own)| {
            let own = own.as_ref().filter(|own| own.address == address)?;
            Some((number as u32, own))
        });
        match (own, &self.helping) {
            (Some((number, own)), Some(helping)) => {
                own.accept(&helping.sockets[index].1, number, local)
            }
            _ => Accept::Empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::event::Queue;

    /// Listeners with a socket of their own, and the neighbour's, of the same name.
    fn helping() -> (Listeners, SocketAddr) {
        let queue = Queue::new().unwrap();
        let watcher = queue.watcher().unwrap();
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Ip(own.local_addr().unwrap());
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        let at = other.local_addr().unwrap();
        let mut listeners = Listeners::default();
        let number = listeners.add(address.clone(), own.into(), false, true, &watcher);
        assert_eq!(number.unwrap(), 0);
        let passed = vec![
            (Role::Listener(address.to_string()), other.into()),
            (
                Role::Listener("192.0.2.1:80".into()),
                TcpListener::bind("127.0.0.1:0").unwrap().into(),
            ),
        ];
        listeners.help(3, passed);
        (listeners, at)
    }

    #[test]
    fn only_one_that_is_late_or_full_is_helped() {
        let (mut listeners, _) = helping();
        let mut at = |now, state, heartbeat| {
            listeners.late_sockets(now, |slot| {
                assert_eq!(slot, 3);
                Some((state, heartbeat))
            })
        };
        assert_eq!(at(1000, WorkerState::Running, 991), 0);
        assert_eq!(at(1000, WorkerState::Full, 1000), 0, "a look a millisecond");
        assert_eq!(at(1001, WorkerState::Running, 991), 1);
        assert_eq!(at(1002, WorkerState::Running, 991), 0, "tried just now");
        assert_eq!(at(1011, WorkerState::Running, 991), 1);
        assert_eq!(at(1021, WorkerState::Full, 1021), 1);
        assert_eq!(at(2000, WorkerState::Parked, 1901), 0);
        assert_eq!(at(2001, WorkerState::Parked, 1901), 1);
        assert_eq!(at(3000, WorkerState::Quitting, 0), 0);
        assert_eq!(at(4000, WorkerState::Starting, 0), 0);
        listeners.try_again();
        assert_eq!(
            listeners.next_look_ms(4000),
            Some(4001),
            "there may be more"
        );
        let mut at = |now| listeners.late_sockets(now, |_| Some((WorkerState::Parked, 3000)));
        assert_eq!(at(4001), 1);
        assert_eq!(listeners.next_look_ms(4001), Some(4001 + NAP_MS));
        let full = |_| Some((WorkerState::Full, 0));
        assert_eq!(listeners.late_sockets(6000, full), 1);
        assert_eq!(listeners.next_look_ms(6000), Some(6000 + LATE_MS));
        assert_eq!(listeners.late_sockets(7000, |_| None), 0);
        listeners.stop_helping(|_| true);
        assert_eq!(listeners.next_look_ms(7000), None, "nobody to wake for");
    }

    #[test]
    fn its_clients_come_as_ones_of_the_own_socket() {
        let (mut listeners, at) = helping();
        assert!(matches!(
            listeners.accept_for_neighbour(0, |_| None),
            Accept::Empty
        ));
        let _client = TcpStream::connect(at).unwrap();
        match listeners.accept_for_neighbour(0, |_| None) {
            Accept::Client(_, accepted) => assert_eq!(accepted.listener, 0),
            other => panic!("{other:?}"),
        }
        listeners.stop_helping(|_| true);
        let _client = TcpStream::connect(at);
        assert!(matches!(
            listeners.accept_for_neighbour(0, |_| None),
            Accept::Empty
        ));
    }
}
