//! Who has which counter row: rows are given to servers, held while they leave, and freed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::counters;
use crate::latch::{Load, Store};
use crate::layout::{Layout, row};
use crate::reconcile::Places;
use crate::table::{Address, CounterId, Leaving, Table, Upstream};
use crate::word::WordsMut;

/// The counter rows as the publisher deals them out.
#[derive(Debug)]
pub(crate) struct Rows {
    words: WordsMut,
    layout: Layout,
    /// Indices that nobody has, the lowest first, so that counters stay close together.
    free: BinaryHeap<Reverse<u32>>,
}

impl Rows {
    /// Every row is free that the table neither lists nor still holds.
    pub(crate) fn new(words: WordsMut, layout: Layout, table: &Table) -> Self {
        let mut held = vec![false; layout.capacity.servers as usize];
        let listed = table
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.servers);
        for server in listed.chain(table.leaving.iter().map(|leaving| &leaving.server)) {
            held[server.counter.index as usize] = true;
        }
        let free = (0..layout.capacity.servers).filter(|index| !held[*index as usize]);
        let free = free.map(Reverse).collect();
        Rows {
            words,
            layout,
            free,
        }
    }

    /// A free row under its next incarnation. That is in the region before the table that uses it,
    /// so that no writer after this one gives it out again.
    pub(crate) fn take(&mut self) -> Option<CounterId> {
        let Reverse(index) = self.free.pop()?;
        let word = self.layout.tenancy + index as usize;
        let incarnation = (self.words.load(word) as u32).wrapping_add(1).max(1);
        self.words.store(word, u64::from(incarnation));
        Some(CounterId { index, incarnation })
    }

    /// The rows of these servers are free again.
    pub(crate) fn release(&mut self, freed: &[Leaving]) {
        self.free.extend(
            freed
                .iter()
                .map(|leaving| Reverse(leaving.server.counter.index)),
        );
    }

    /// Parts the leaving servers into those that somebody may still use and the others: nobody
    /// does when every live worker routes by a table without the server and none has a request in
    /// flight to it.
    pub(crate) fn part(&self, leaving: &[Leaving]) -> (Vec<Leaving>, Vec<Leaving>) {
        let live: Vec<u32> = (0..self.layout.capacity.workers)
            .filter(|slot| self.words.load_acquire(self.layout.row(*slot) + row::PID) != 0)
            .collect();
        let version = |slot: &u32| self.words.load_acquire(self.layout.row(*slot) + row::TABLE);
        let oldest = live.iter().map(version).min().unwrap_or(u64::MAX);
        let mut held: Vec<bool> = leaving
            .iter()
            .map(|leaving| leaving.dropped > oldest)
            .collect();
        // A worker at a time: its rows lie in order.
        for slot in live {
            for (held, leaving) in held.iter_mut().zip(leaving).filter(|(held, _)| !**held) {
                let id = leaving.server.counter;
                *held = counters::in_flight(&self.words, &self.layout, slot, id);
            }
        }
        let mut held = held.into_iter();
        leaving
            .iter()
            .cloned()
            .partition(|_| held.next().unwrap_or(true))
    }
}

/// Gives new servers that are still leaving their rows back; the rest are really new.
pub(crate) fn take_back(
    upstreams: &mut [Upstream],
    new: Vec<(usize, usize)>,
    leaving: &mut Vec<Leaving>,
) -> Vec<(usize, usize)> {
    if leaving.is_empty() || new.is_empty() {
        return new;
    }
    let mut places = Places::new(
        leaving
            .iter()
            .map(|leaving| (&*leaving.upstream, &leaving.server.address)),
    );
    let found: Vec<Option<usize>> = new
        .iter()
        .map(|(upstream, server)| {
            let upstream = &upstreams[*upstream];
            let key: (&str, &Address) = (&upstream.name, &upstream.servers[*server].address);
            places.take(&key)
        })
        .collect();
    let mut back = vec![false; leaving.len()];
    let mut rest = Vec::new();
    for ((upstream, server), place) in new.into_iter().zip(found) {
        match place {
            Some(place) => {
                upstreams[upstream].servers[server].counter = leaving[place].server.counter;
                back[place] = true;
            }
            None => rest.push((upstream, server)),
        }
    }
    let mut back = back.into_iter();
    leaving.retain(|_| !back.next().unwrap_or(false));
    rest
}
