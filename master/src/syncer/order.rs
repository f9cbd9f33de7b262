//! The order of an upstream's servers: the most recently added first, as upsync lists them.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use weir_shm::{Address, Server};

/// `old` brought up to `new`, which is in key order with each address once.
///
/// A server that stays keeps its place and takes its new parameters, one that went vanishes, and
/// of those that came each in key order is put first, so that the last of them leads.
pub fn merge(old: &[Server], new: &[Server]) -> Vec<Server> {
    let mut places: HashMap<&Address, usize, RandomState> =
        HashMap::with_capacity_and_hasher(old.len(), RandomState::default());
    for (place, server) in old.iter().enumerate() {
        places.entry(&server.address).or_insert(place);
    }
    let mut stayed: Vec<(usize, Server)> = Vec::with_capacity(new.len());
    let mut came: Vec<Server> = Vec::new();
    for server in new {
        match places.get(&server.address) {
            Some(&place) => stayed.push((place, server.clone())),
            None => came.push(server.clone()),
        }
    }
    came.reverse();
    stayed.sort_unstable_by_key(|(place, _)| *place);
    came.extend(stayed.into_iter().map(|(_, server)| server));
    came
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_shm::CounterId;

    fn server(port: u16, weight: u32) -> Server {
        Server {
            address: Address::Ip(([192, 168, 56, 12], port).into()),
            weight,
            max_fails: 2,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        }
    }

    fn servers(ports: &[u16]) -> Vec<Server> {
        ports.iter().map(|port| server(*port, 1)).collect()
    }

    #[test]
    fn the_articles_order() {
        let at_once = merge(&servers(&[11111]), &servers(&[8001, 8002, 8003]));
        assert_eq!(at_once, servers(&[8003, 8002, 8001]));
        let mut list = servers(&[11111]);
        for count in 1..=3 {
            list = merge(&list, &servers(&[8001, 8002, 8003][..count]));
        }
        assert_eq!(list, at_once);
    }

    #[test]
    fn an_update_keeps_the_place_and_a_removal_closes_up() {
        let old = servers(&[3, 2, 1]);
        let updated = merge(&old, &[server(1, 1), server(2, 9), server(3, 1)]);
        assert_eq!(updated, [server(3, 1), server(2, 9), server(1, 1)]);
        assert_eq!(merge(&old, &servers(&[1, 3])), servers(&[3, 1]));
        assert_eq!(merge(&old, &servers(&[1, 3, 4])), servers(&[4, 3, 1]));
        assert_eq!(merge(&old, &servers(&[])), servers(&[]));
    }

    proptest! {
        #[test]
        fn new_ones_lead_and_old_ones_keep_their_order(
            old in proptest::collection::hash_set(1u16..60, 0..30),
            new in proptest::collection::btree_map(1u16..60, 1u32..5, 0..30),
        ) {
            let old: Vec<Server> = old.into_iter().map(|port| server(port, 7)).collect();
            let wanted: Vec<Server> = new.iter().map(|(port, weight)| server(*port, *weight)).collect();
            let merged = merge(&old, &wanted);

            let mut sorted = merged.clone();
            sorted.sort_by(|one, other| one.address.cmp(&other.address));
            prop_assert_eq!(&sorted, &wanted);

            let is_old = |s: &Server| old.iter().any(|o| o.address == s.address);
            let came: Vec<_> = wanted.iter().rev().filter(|s| !is_old(s)).cloned().collect();
            prop_assert_eq!(&merged[..came.len()], &came[..]);
            let stayed: Vec<_> = merged[came.len()..].iter().map(|s| s.address.clone()).collect();
            let kept: Vec<_> = old.iter().map(|s| s.address.clone())
                .filter(|a| wanted.iter().any(|s| s.address == *a)).collect();
            prop_assert_eq!(stayed, kept);
            prop_assert_eq!(merge(&merged, &wanted), merged);
        }
    }
}
