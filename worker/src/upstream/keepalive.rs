//! The idle connections to servers (nginx's `keepalive`): put, take and evict are O(1).
//!
//! A connection is on two lists, both with the latest first: that of its server, from which the
//! next request takes, and that of its upstream, whose last one goes when there are too many.

use weir_shm::CounterId;

const NONE: u32 = u32::MAX;
/// One list for a server's connections, one for an upstream's.
const LISTS: usize = 2;
const SERVER: usize = 0;
const UPSTREAM: usize = 1;

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Where it is listed; `None` when it is not idle.
    home: Option<Home>,
    previous: [u32; LISTS],
    next: [u32; LISTS],
}

#[derive(Clone, Copy, Debug)]
struct Home {
    server: CounterId,
    upstream: usize,
}

const NOWHERE: Node = Node {
    home: None,
    previous: [NONE; LISTS],
    next: [NONE; LISTS],
};

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    count: usize,
}

const EMPTY: List = List {
    head: NONE,
    tail: NONE,
    count: 0,
};

/// Idle connections by their number, which is their place in the slab.
#[derive(Debug, Default)]
pub struct Keepalive {
    nodes: Vec<Node>,
    servers: Vec<(u32, List)>,
    upstreams: Vec<List>,
}

impl Keepalive {
    /// `who` is idle now. More than `limit` (above 0) in the upstream: the answer is the one that
    /// has been idle the longest and is listed no more. It can be `who` itself.
    #[must_use = "the evicted connection has to be closed"]
    pub fn put(
        &mut self,
        who: u32,
        server: CounterId,
        upstream: usize,
        limit: usize,
    ) -> Option<u32> {
        let (index, row) = (who as usize, server.index as usize);
        grow(&mut self.nodes, index, NOWHERE);
        grow(&mut self.servers, row, (0, EMPTY));
        grow(&mut self.upstreams, upstream, EMPTY);
        if self.nodes[index].home.is_some() {
            self.remove(who);
        }
        if self.servers[row].1.count == 0 {
            self.servers[row].0 = server.incarnation;
        } else if self.servers[row].0 != server.incarnation {
            // Connections of the row's former server are still listed; theirs are not mixed.
            return Some(who);
        }
        self.nodes[index].home = Some(Home { server, upstream });
        push(&mut self.servers[row].1, &mut self.nodes, SERVER, who);
        push(
            &mut self.upstreams[upstream],
            &mut self.nodes,
            UPSTREAM,
            who,
        );
        if self.upstreams[upstream].count <= limit {
            return None;
        }
        let oldest = self.upstreams[upstream].tail;
        self.remove(oldest);
        Some(oldest)
    }

    /// The latest idle connection to a server, listed no more.
    pub fn take(&mut self, server: CounterId) -> Option<u32> {
        let (incarnation, list) = self.servers.get(server.index as usize)?;
        if *incarnation != server.incarnation || list.count == 0 {
            return None;
        }
        let who = list.head;
        self.remove(who);
        Some(who)
    }

    /// `who` is not idle any more, or gone. Whether it was listed.
    pub fn remove(&mut self, who: u32) -> bool {
        let Some(node) = self.nodes.get_mut(who as usize) else {
            return false;
        };
        let Some(home) = node.home.take() else {
            return false;
        };
        let server = &mut self.servers[home.server.index as usize].1;
        drop_from(server, &mut self.nodes, SERVER, who);
        drop_from(
            &mut self.upstreams[home.upstream],
            &mut self.nodes,
            UPSTREAM,
            who,
        );
        true
    }

    /// How many connections to a server are idle.
    #[must_use]
    pub fn idle(&self, server: CounterId) -> usize {
        match self.servers.get(server.index as usize) {
            Some((incarnation, list)) if *incarnation == server.incarnation => list.count,
            _ => 0,
        }
    }

    /// How many connections of an upstream are idle.
    #[must_use]
    pub fn idle_of_upstream(&self, upstream: usize) -> usize {
        self.upstreams.get(upstream).map_or(0, |list| list.count)
    }
}

fn grow<T: Clone>(rows: &mut Vec<T>, index: usize, value: T) {
    if index >= rows.len() {
        rows.resize(index + 1, value);
    }
}

fn push(list: &mut List, nodes: &mut [Node], kind: usize, who: u32) {
    let old = list.head;
    nodes[who as usize].previous[kind] = NONE;
    nodes[who as usize].next[kind] = old;
    if old == NONE {
        list.tail = who;
    } else {
        nodes[old as usize].previous[kind] = who;
    }
    list.head = who;
    list.count += 1;
}

fn drop_from(list: &mut List, nodes: &mut [Node], kind: usize, who: u32) {
    let (previous, next) = {
        let node = &nodes[who as usize];
        (node.previous[kind], node.next[kind])
    };
    if previous == NONE {
        list.head = next;
    } else {
        nodes[previous as usize].next[kind] = next;
    }
    if next == NONE {
        list.tail = previous;
    } else {
        nodes[next as usize].previous[kind] = previous;
    }
    list.count -= 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(index: u32) -> CounterId {
        CounterId {
            index,
            incarnation: 1,
        }
    }

    #[test]
    fn the_latest_is_taken_and_the_oldest_evicted() {
        let mut idle = Keepalive::default();
        assert_eq!(idle.put(1, server(0), 0, 2), None);
        assert_eq!(idle.put(2, server(1), 0, 2), None);
        assert_eq!(idle.put(3, server(0), 0, 2), Some(1));
        assert_eq!(idle.put(1, server(0), 0, 9), None);
        assert_eq!(idle.take(server(0)), Some(1));
        assert_eq!(idle.take(server(0)), Some(3));
        assert_eq!(idle.take(server(0)), None);
        assert_eq!(idle.idle_of_upstream(0), 1);
    }

    #[test]
    fn a_row_that_went_to_another_server_gives_nothing() {
        let mut idle = Keepalive::default();
        assert_eq!(idle.put(1, server(7), 0, 2), None);
        let next = CounterId {
            index: 7,
            incarnation: 2,
        };
        assert_eq!(idle.take(next), None);
        assert!(idle.remove(1));
        assert_eq!(idle.put(4, next, 0, 2), None);
        assert_eq!(idle.take(server(7)), None);
        assert_eq!(idle.take(next), Some(4));
    }

    proptest! {
        #[test]
        fn behaves_as_a_list_by_age(
            steps in prop::collection::vec((0u32..12, 0u32..4, 0usize..3, 1usize..5), 1..300)
        ) {
            let mut idle = Keepalive::default();
            // Newest last: (who, server, upstream)
            let mut model: Vec<(u32, u32, usize)> = Vec::new();
            for (who, row, action, limit) in steps {
                let upstream = (row / 2) as usize;
                match action {
                    0 => {
                        model.retain(|entry| entry.0 != who);
                        model.push((who, row, upstream));
                        let in_it = model.iter().filter(|entry| entry.2 == upstream).count();
                        let evicted = idle.put(who, server(row), upstream, limit);
                        if in_it > limit {
                            let at = model.iter().position(|entry| entry.2 == upstream).unwrap();
                            prop_assert_eq!(evicted, Some(model.remove(at).0));
                        } else {
                            prop_assert_eq!(evicted, None);
                        }
                    }
                    1 => {
                        let at = model.iter().rposition(|entry| entry.1 == row);
                        prop_assert_eq!(idle.take(server(row)), at.map(|at| model.remove(at).0));
                    }
                    _ => {
                        let had = model.iter().any(|entry| entry.0 == who);
                        model.retain(|entry| entry.0 != who);
                        prop_assert_eq!(idle.remove(who), had);
                    }
                }
                for row in 0..4 {
                    let count = model.iter().filter(|entry| entry.1 == row).count();
                    prop_assert_eq!(idle.idle(server(row)), count);
                }
            }
        }
    }
}
