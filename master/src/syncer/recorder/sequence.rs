//! How one list became another: which items went, which came, which moved. Pure.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

/// An item that is in both lists and changed places with its neighbours: its positions, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// In the list before.
    pub from: usize,
    /// In the list after.
    pub to: usize,
}

/// The difference between two lists, by position.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    /// Positions in the list before, ascending.
    pub removed: Vec<usize>,
    /// Positions in the list after, ascending.
    pub added: Vec<usize>,
    /// What is in both, in the order of the list after.
    pub kept: Vec<Moved>,
    /// The fewest of `kept` that would have to move, in the same order.
    pub moved: Vec<Moved>,
}

/// Aligns two lists of keys. A key that is there several times is matched one by one.
pub fn align<K: Hash + Eq + Copy>(before: &[K], after: &[K]) -> Alignment {
    let same = |(one, other): &(&K, &K)| one == other;
    let head = before.iter().zip(after).take_while(same).count();
    let (rest_before, rest_after) = (&before[head..], &after[head..]);
    let reversed = rest_before.iter().rev().zip(rest_after.iter().rev());
    let tail = reversed.take_while(same).count();
    let ends = (before.len() - tail, after.len() - tail);

    let mut places: HashMap<K, Vec<usize>> = HashMap::new();
    for at in (head..ends.0).rev() {
        places.entry(before[at]).or_default().push(at);
    }
    let mut alignment = Alignment::default();
    let pair = |from, to| Moved { from, to };
    alignment.kept.extend((0..head).map(|at| pair(at, at)));
    for (to, key) in after.iter().enumerate().take(ends.1).skip(head) {
        match places.get_mut(key).and_then(Vec::pop) {
            Some(from) => alignment.kept.push(pair(from, to)),
            None => alignment.added.push(to),
        }
    }
    alignment.removed = places.into_values().flatten().collect();
    alignment.removed.sort_unstable();
    alignment.moved = moved(&alignment.kept);
    let tails = (0..tail).map(|at| pair(ends.0 + at, ends.1 + at));
    alignment.kept.extend(tails);
    alignment
}

/// The pairs outside a longest row of pairs that keep their order.
fn moved(kept: &[Moved]) -> Vec<Moved> {
    if kept.is_sorted_by_key(|pair| pair.from) {
        return Vec::new();
    }
    // For each length, the row that ends with the smallest `from`, as the number of its last pair.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous = vec![None; kept.len()];
    for (number, pair) in kept.iter().enumerate() {
        let length = ends.partition_point(|&end| kept[end].from < pair.from);
        previous[number] = length.checked_sub(1).map(|length| ends[length]);
        if length == ends.len() {
            ends.push(number);
        } else {
            ends[length] = number;
        }
    }
    let mut stays = vec![false; kept.len()];
    let mut at = ends.last().copied();
    while let Some(number) = at {
        stays[number] = true;
        at = previous[number];
    }
    let all = kept.iter().zip(stays);
    all.filter(|(_, stays)| !stays)
        .map(|(pair, _)| *pair)
        .collect()
}

/// Takes the items at `places` out of a list: those, in the order of `places`, and the rest.
/// `None` if a place is not there, or is named twice.
pub fn take_out<T>(list: Vec<T>, places: &[usize]) -> Option<(Vec<T>, Vec<T>)> {
    let mut list: Vec<Option<T>> = list.into_iter().map(Some).collect();
    let taken = places.iter().map(|&at| list.get_mut(at)?.take());
    let taken = taken.collect::<Option<Vec<T>>>()?;
    Some((taken, list.into_iter().flatten().collect()))
}

/// Puts items into a list, so that each is at its place in the end. `None` if that cannot be.
pub fn put_in<T>(rest: Vec<T>, mut items: Vec<(usize, T)>) -> Option<Vec<T>> {
    items.sort_by_key(|(at, _)| *at);
    let mut list = Vec::with_capacity(rest.len() + items.len());
    let mut rest = rest.into_iter();
    for (at, item) in items {
        while list.len() < at {
            list.push(rest.next()?);
        }
        if list.len() != at {
            return None;
        }
        list.push(item);
    }
    list.extend(rest);
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_that_moves_is_one_move() {
        let alignment = align(&[1, 2, 3, 4, 5], &[5, 1, 2, 3, 4]);
        assert_eq!(alignment.moved, [Moved { from: 4, to: 0 }]);
        assert!(alignment.removed.is_empty() && alignment.added.is_empty());
    }

    #[test]
    fn places_that_are_not_there_are_refused() {
        assert_eq!(take_out(vec![1], &[1]), None);
        assert_eq!(take_out(vec![1, 2], &[0, 0]), None);
        assert_eq!(put_in(vec![1], vec![(2, 9)]), None);
        assert_eq!(put_in(vec![1], vec![(0, 9), (0, 8)]), None);
        assert_eq!(put_in(vec![1], vec![(2, 9), (0, 8)]), Some(vec![8, 1, 9]));
    }

    proptest! {
        #[test]
        fn a_list_is_rebuilt(
            before in proptest::collection::vec(0u8..12, 0..20),
            after in proptest::collection::vec(0u8..12, 0..20),
        ) {
            let alignment = align(&before, &after);
            prop_assert_eq!(alignment.kept.len() + alignment.removed.len(), before.len());
            prop_assert_eq!(alignment.kept.len() + alignment.added.len(), after.len());
            for pair in &alignment.kept {
                prop_assert_eq!(before[pair.from], after[pair.to]);
            }
            let places: Vec<usize> = alignment.added.iter().copied()
                .chain(alignment.moved.iter().map(|pair| pair.to)).collect();
            let (taken, rest) = take_out(after, &places).unwrap();
            let moved = alignment.moved.iter().zip(&taken[alignment.added.len()..]);
            let items = alignment.removed.iter().map(|&at| (at, before[at]))
                .chain(moved.map(|(pair, item)| (pair.from, *item)));
            prop_assert_eq!(put_in(rest, items.collect()), Some(before));
        }
    }
}
