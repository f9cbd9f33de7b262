//! Which servers of a new table were in the last one: those keep their counters.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::table::{Server, Upstream};

/// A new table's upstreams held against the last table's.
pub(crate) struct Matched {
    /// The new upstreams: known servers with their counters, `changed` 0 where it has to be set.
    pub(crate) upstreams: Vec<Upstream>,
    /// Servers that need a counter, as (upstream, server).
    pub(crate) new: Vec<(usize, usize)>,
    /// Servers that the new table has no more, with the name of their upstream.
    pub(crate) gone: Vec<(Arc<str>, Server)>,
    /// Whether anything differs.
    pub(crate) changed: bool,
    /// The names, or their order.
    pub(crate) renamed: bool,
}

/// Matches by upstream name and address; of equal ones the first with the first.
pub(crate) fn reconcile(last: &[Upstream], upstreams: Vec<Upstream>) -> Matched {
    let mut known = Places::new(last.iter().map(|upstream| upstream.name.as_str()));
    let mut kept = vec![false; last.len()];
    let same_order = last.len() == upstreams.len()
        && last
            .iter()
            .zip(&upstreams)
            .all(|(old, new)| old.name == new.name);
    let mut matched = Matched {
        upstreams,
        new: Vec::new(),
        gone: Vec::new(),
        changed: !same_order,
        renamed: !same_order,
    };
    // Looked up apart: the names are borrowed for the whole of it.
    let olds: Vec<Option<usize>> = matched
        .upstreams
        .iter()
        .map(|upstream| known.take(&upstream.name.as_str()))
        .collect();
    for (number, (upstream, place)) in matched.upstreams.iter_mut().zip(olds).enumerate() {
        let old = place.map(|place| {
            kept[place] = true;
            &last[place]
        });
        let name = OnceCell::new();
        let name = || Arc::clone(name.get_or_init(|| Arc::from(upstream.name.as_str())));
        let old_servers = old.map_or(&[][..], |old| &old.servers);
        let equal = match_servers(old_servers, &mut upstream.servers, |event| match event {
            Event::New(server) => matched.new.push((number, server)),
            Event::Gone(server) => matched.gone.push((name(), server.clone())),
        });
        upstream.changed = match old {
            Some(old)
                if equal
                    && old.learned == upstream.learned
                    && old.template == upstream.template =>
            {
                old.changed
            }
            _ => 0,
        };
        matched.changed |= upstream.changed == 0;
    }
    for (upstream, _) in last.iter().zip(&kept).filter(|(_, kept)| !**kept) {
        let name: Arc<str> = Arc::from(upstream.name.as_str());
        let servers = upstream.servers.iter();
        matched
            .gone
            .extend(servers.map(|server| (Arc::clone(&name), server.clone())));
    }
    matched
}

enum Event<'a> {
    New(usize),
    Gone(&'a Server),
}

/// Gives known servers their counters; whether old and new are the same in everything else.
fn match_servers<'a>(
    old: &'a [Server],
    new: &mut [Server],
    mut event: impl FnMut(Event<'a>),
) -> bool {
    let mut equal = old.len() == new.len();
    let mut keep = |old: &Server, new: &mut Server| {
        new.counter = old.counter;
        equal &= old == new;
    };
    // A change touches few servers: what is alike at both ends needs no look-up.
    let alike = |(old, new): &(&Server, &mut Server)| old.address == new.address;
    let head = old
        .iter()
        .zip(new.iter_mut())
        .take_while(alike)
        .map(|(o, n)| keep(o, n))
        .count();
    let (old, new) = (&old[head..], &mut new[head..]);
    let ends = old.iter().rev().zip(new.iter_mut().rev());
    let tail = ends.take_while(alike).map(|(o, n)| keep(o, n)).count();
    let old = &old[..old.len() - tail];
    let last = new.len() - tail;
    let new = &mut new[..last];
    equal &= old.is_empty() && new.is_empty();

    let mut places = Places::new(old.iter().map(|server| &server.address));
    let mut kept = vec![false; old.len()];
    let found: Vec<Option<usize>> = new
        .iter()
        .map(|server| places.take(&&server.address))
        .collect();
    for (number, (server, place)) in new.iter_mut().zip(found).enumerate() {
        match place {
            Some(place) => {
                kept[place] = true;
                server.counter = old[place].counter;
            }
            None => event(Event::New(head + number)),
        }
    }
    for (server, _) in old.iter().zip(&kept).filter(|(_, kept)| !**kept) {
        event(Event::Gone(server));
    }
    equal
}

/// Where each key is, the first place of equal keys first.
pub(crate) struct Places<K> {
    first: HashMap<K, usize>,
    /// For each place the next one of the same key, or its own.
    next: Vec<usize>,
}

impl<K: Hash + Eq> Places<K> {
    pub(crate) fn new(keys: impl DoubleEndedIterator<Item = K> + ExactSizeIterator) -> Self {
        let mut first = HashMap::with_capacity(keys.len());
        let mut next: Vec<usize> = (0..keys.len()).collect();
        for (place, key) in keys.enumerate().rev() {
            if let Some(later) = first.insert(key, place) {
                next[place] = later;
            }
        }
        Places { first, next }
    }

    /// The key's first place that has not been taken yet.
    pub(crate) fn take(&mut self, key: &K) -> Option<usize> {
        let place = self.first.get_mut(key)?;
        let taken = *place;
        if self.next[taken] == taken {
            self.first.remove(key);
        } else {
            *place = self.next[taken];
        }
        Some(taken)
    }
}
