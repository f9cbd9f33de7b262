//! Who helps whom: each worker looks after the listening sockets of the next, in a ring.

use std::time::{Duration, Instant};

use weir_worker::channel::Order;

use super::seat::{Child, Helps, Seat};
use super::{Master, Phase, Role};
use crate::orders;

/// When a worker that had no descriptors for its neighbour's sockets is told again.
const PAUSE: Duration = Duration::from_secs(5);

impl Master {
    /// Tells each worker whose neighbour is another than it was told.
    pub(super) fn arrange_help(&mut self, now: Instant) {
        let children = self
            .workers
            .iter_mut()
            .filter_map(|seat| seat.child.as_mut());
        children
            .filter(|child| child.help_at.is_some_and(|at| at <= now))
            .for_each(|child| child.help_at = None);
        if self.phase != Phase::Running || self.reload.is_some() {
            return;
        }
        let works = |slot: &usize| is_at_work(&self.workers[*slot]);
        let ring: Vec<usize> = (0..self.workers.len()).filter(works).collect();
        for (place, &slot) in ring.iter().enumerate() {
            let next = ring[(place + 1) % ring.len()];
            let helps = (next != slot).then(|| Helps {
                slot: next,
                sets: self.workers[next].sets.clone(),
                version: self.listening_version,
            });
            let told = self.workers[slot].child.as_ref();
            let is_other = |child: &Child| child.helps != helps && child.help_at.is_none();
            if told.is_some_and(is_other) && self.tell_help(slot, &helps) {
                let child = self.workers[slot].child.as_mut();
                child
                    .into_iter()
                    .for_each(|child| child.helps.clone_from(&helps));
            }
        }
    }

    /// A worker could not take its neighbour's sockets, and helps nobody now.
    pub(super) fn help_later(&mut self, role: Role) {
        if let Some(child) = self.seat(role).child.as_mut() {
            child.helps = None;
            child.help_at = Some(Instant::now() + PAUSE);
        }
    }

    /// False when it does not hear just now.
    fn tell_help(&self, slot: usize, helps: &Option<Helps>) -> bool {
        let Some(child) = self.workers[slot].staying() else {
            return false;
        };
        let (next, passed) = match helps {
            Some(helps) => (helps.slot as u32, self.passed(&helps.sets)),
            None => (0, Vec::new()),
        };
        let order = |descriptors, more| Order::Help {
            slot: next,
            descriptors,
            more,
        };
        orders::send(&child.channel, &passed, order).is_ok()
    }
}

fn is_at_work(seat: &Seat) -> bool {
    seat.wanted && seat.staying().is_some_and(|child| child.ready)
}
