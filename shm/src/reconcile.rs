//! Which servers of a new table were in the last one: those keep their counters.

use std::collections::HashMap;
use std::hash::Hash;

use crate::table::{Server, Upstream};

/// A new table's upstreams held against the last table's.
pub(crate) struct Matched {
    /// The new upstreams: known servers with their counters, `changed` 0 where it has to be set.
    pub(crate) upstreams: Vec<Upstream>,
    /// Servers that need a counter, as (upstream, server).
    pub(crate) new: Vec<(usize, usize)>,
    /// Servers that the new table has no more, with the name of their upstream.
    pub(crate) gone: Vec<(String, Server)>,
    /// Whether anything differs.
    pub(crate) changed: bool,
}

/// Matches by upstream name and address; of equal ones the first with the first.
pub(crate) fn reconcile(last: &[Upstream], upstreams: Vec<Upstream>) -> Matched {
    let mut known = places(last.iter().map(|upstream| upstream.name.as_str()));
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
    };
    for (number, upstream) in matched.upstreams.iter_mut().enumerate() {
        let place = known.get_mut(upstream.name.as_str()).and_then(Vec::pop);
        let old = place.map(|place| {
            kept[place] = true;
            &last[place]
        });
        let old_servers = old.map_or(&[][..], |old| &old.servers);
        let equal = match_servers(old_servers, &mut upstream.servers, |event| match event {
            Event::New(server) => matched.new.push((number, server)),
            Event::Gone(server) => matched.gone.push((upstream.name.clone(), server.clone())),
        });
        upstream.changed = match old {
            Some(old) if equal => old.changed,
            _ => 0,
        };
        matched.changed |= upstream.changed == 0;
    }
    for (upstream, _) in last.iter().zip(&kept).filter(|(_, kept)| !**kept) {
        let servers = upstream.servers.iter();
        matched
            .gone
            .extend(servers.map(|server| (upstream.name.clone(), server.clone())));
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

    let mut places = places(old.iter().map(|server| &server.address));
    let mut kept = vec![false; old.len()];
    for (number, server) in new.iter_mut().enumerate() {
        match places.get_mut(&server.address).and_then(Vec::pop) {
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

/// Where each key is, its first place last, so that it is the first to be popped.
fn places<K: Hash + Eq>(
    keys: impl DoubleEndedIterator<Item = K> + ExactSizeIterator,
) -> HashMap<K, Vec<usize>> {
    let mut places: HashMap<K, Vec<usize>> = HashMap::with_capacity(keys.len());
    for (place, key) in keys.enumerate().rev() {
        places.entry(key).or_default().push(place);
    }
    places
}
