//! The idle connections to servers (nginx's `keepalive`): put, take and evict are O(1).
//!
//! A connection is on two lists, both with the latest first: that of its server, from which the
//! next request takes, and that of its upstream, whose last one goes when there are too many.
//!
//! nginx's `keepalive N local` keeps the idle connections of each location apart, as locations may
//! connect in different ways; here a connection knows how it was made, and locations that connect in
//! the same way share it.

use weir_shm::CounterId;

use crate::links::{Links, List};

#[derive(Clone, Copy, Debug)]
struct Home {
    server: CounterId,
    upstream: usize,
}

/// A server's list, and the incarnation of the counter that the connections on it are of.
#[derive(Clone, Copy, Debug, Default)]
struct ServerList {
    incarnation: u32,
    list: List,
}

/// Idle connections by their number, which is their place in the slab.
#[derive(Debug, Default)]
pub struct Keepalive {
    /// Where each connection is listed; `None` when it is not idle.
    homes: Vec<Option<Home>>,
    by_server: Links,
    by_upstream: Links,
    servers: Vec<ServerList>,
    upstreams: Vec<List>,
    count: usize,
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
        grow(&mut self.homes, index);
        grow(&mut self.servers, row);
        grow(&mut self.upstreams, upstream);
        self.remove(who);
        let of_server = &mut self.servers[row];
        if of_server.list.is_empty() {
            of_server.incarnation = server.incarnation;
        } else if of_server.incarnation != server.incarnation {
            // Connections of the row's former server are still listed; theirs are not mixed.
            return Some(who);
        }
        self.homes[index] = Some(Home { server, upstream });
        self.count += 1;
        self.by_server.push(&mut of_server.list, who);
        let of_upstream = &mut self.upstreams[upstream];
        self.by_upstream.push(of_upstream, who);
        if of_upstream.len() <= limit {
            return None;
        }
        let oldest = of_upstream.oldest()?;
        self.remove(oldest);
        Some(oldest)
    }

    /// The latest idle connection to a server, listed no more.
    pub fn take(&mut self, server: CounterId) -> Option<u32> {
        let of_server = self.servers.get(server.index as usize)?;
        if of_server.incarnation != server.incarnation {
            return None;
        }
        let who = of_server.list.latest()?;
        self.remove(who);
        Some(who)
    }

    /// The latest idle connection to a server that `is_fit`, listed no more.
    pub fn take_fit(&mut self, server: CounterId, is_fit: impl Fn(u32) -> bool) -> Option<u32> {
        let of_server = self.servers.get(server.index as usize)?;
        if of_server.incarnation != server.incarnation {
            return None;
        }
        let mut next = of_server.list.latest();
        while let Some(who) = next {
            if is_fit(who) {
                self.remove(who);
                return Some(who);
            }
            next = self.by_server.after(who);
        }
        None
    }

    /// `who` is not idle any more, or gone. Whether it was listed.
    pub fn remove(&mut self, who: u32) -> bool {
        let Some(home) = self.homes.get_mut(who as usize).and_then(Option::take) else {
            return false;
        };
        self.count -= 1;
        let of_server = &mut self.servers[home.server.index as usize];
        self.by_server.remove(&mut of_server.list, who);
        self.by_upstream
            .remove(&mut self.upstreams[home.upstream], who);
        true
    }

    /// How many connections to a server are idle.
    #[must_use]
    pub fn idle(&self, server: CounterId) -> usize {
        match self.servers.get(server.index as usize) {
            Some(of_server) if of_server.incarnation == server.incarnation => of_server.list.len(),
            _ => 0,
        }
    }

    /// How many connections of an upstream are idle.
    #[must_use]
    pub fn idle_of_upstream(&self, upstream: usize) -> usize {
        self.upstreams.get(upstream).map_or(0, List::len)
    }

    /// The upstream connection that has been idle the longest in this upstream.
    #[must_use]
    pub fn oldest(&self, upstream: usize) -> Option<u32> {
        self.upstreams.get(upstream)?.oldest()
    }

    /// The one that has been idle the longest in the upstream that has most of them.
    #[must_use]
    pub fn oldest_of_most(&self) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        self.upstreams
            .iter()
            .max_by_key(|list| list.len())?
            .oldest()
    }

    /// Whether no connection is idle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn grow<T: Clone + Default>(rows: &mut Vec<T>, index: usize) {
    if index >= rows.len() {
        rows.resize(index + 1, T::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cases;
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
    fn the_latest_that_fits_is_taken() {
        let mut idle = Keepalive::default();
        for who in [1, 2, 3] {
            assert_eq!(idle.put(who, server(0), 0, 9), None);
        }
        assert_eq!(idle.take_fit(server(0), |who| who != 3), Some(2));
        assert_eq!(idle.take_fit(server(0), |who| who == 2), None);
        assert_eq!(idle.take_fit(server(0), |_| true), Some(3));
        assert_eq!(idle.take_fit(server(0), |_| true), Some(1));
        assert_eq!(idle.take_fit(server(0), |_| true), None);
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
        #![proptest_config(cases(256))]
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
                prop_assert_eq!(idle.is_empty(), model.is_empty());
                let of = |upstream| model.iter().filter(move |entry| entry.2 == upstream);
                let most = idle.oldest_of_most().map(|who| {
                    model.iter().find(|entry| entry.0 == who).unwrap().2
                });
                prop_assert_eq!(most.map(|upstream| of(upstream).count()),
                    (0..2).map(|upstream| of(upstream).count()).max().filter(|&count| count > 0));
                for row in 0..4 {
                    let count = model.iter().filter(|entry| entry.1 == row).count();
                    prop_assert_eq!(idle.idle(server(row)), count);
                }
            }
        }
    }
}
