//! The guard: which answers are not believed at once, or not at all until somebody says so. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use weir_shm::{Address, Server};

use super::book::content;
use super::lesson::{Heard, Origin};
use crate::settings::Guard;

/// Why an answer is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has no server.
    Empty,
    /// It has no server because every entry of it was refused.
    Refused,
    /// Its source left out what the token may not read.
    Filtered,
    /// It takes all servers down at once.
    AllDown,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Empty => "it has no server",
            Why::Refused => "every entry of it is refused",
            Why::Filtered => "its source left out what the token may not read",
            Why::AllDown => "it takes all servers down",
        })
    }
}

/// An answer that waits for somebody to accept it, or for a better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it says, in key order.
    pub servers: Arc<[Server]>,
    /// Why it was not applied.
    pub why: Why,
    /// Where it came from.
    pub origin: Origin,
}

/// Servers that an answer takes away.
pub type Removed = BTreeSet<Address>;

/// What is to be done with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It goes into force.
    Apply,
    /// It does not until somebody says so.
    Hold(Why),
    /// It is to be read a second time: it takes many servers away.
    Confirm(Removed),
}

/// Judges an answer against `base`, the list that was learned before: without one there is nothing
/// to guard. `asked` is what a first read took away, of which this is the second.
#[must_use]
pub fn judge(guard: &Guard, base: &[Server], heard: &Heard, asked: Option<&Removed>) -> Ruling {
    if base.is_empty() {
        return Ruling::Apply;
    }
    let is_up = |server: &Server| !server.down;
    let servers = &heard.servers;
    if servers.is_empty() {
        return Ruling::Hold(match (heard.filtered, heard.refused.is_empty()) {
            (true, _) => Why::Filtered,
            (false, false) => Why::Refused,
            (false, true) => Why::Empty,
        });
    }
    if heard.filtered && !is_same(base, servers) {
        return Ruling::Hold(Why::Filtered);
    }
    if base.iter().any(is_up) && !servers.iter().any(is_up) {
        return Ruling::Hold(Why::AllDown);
    }
    let stays: HashSet<&Address, RandomState> =
        servers.iter().map(|server| &server.address).collect();
    let gone = || base.iter().filter(|s| !stays.contains(&s.address));
    let count = gone().count();
    if count < guard.servers || count * 100 <= usize::from(guard.share) * base.len() {
        return Ruling::Apply;
    }
    let removed: Removed = gone().map(|server| server.address.clone()).collect();
    match asked {
        Some(asked) if *asked == removed => Ruling::Apply,
        _ => Ruling::Confirm(removed),
    }
}

/// Whether an answer changes nothing.
fn is_same(base: &[Server], servers: &[Server]) -> bool {
    let known = base.iter().map(|server| (&server.address, server));
    let known: HashMap<&Address, &Server> = known.collect();
    let is_known = |server: &Server| {
        let known = known.get(&server.address);
        known.is_some_and(|known| content(known) == content(server))
    };
    base.len() == servers.len() && servers.iter().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syncer::decode::Refused;
    use proptest::prelude::*;
    use weir_shm::CounterId;

    const GUARD: Guard = Guard {
        share: 50,
        servers: 3,
    };

    fn server(port: u16, down: bool) -> Server {
        Server {
            address: Address::Ip(([10, 0, 0, 1], port).into()),
            weight: 1,
            max_fails: 2,
            fail_timeout_ms: 10_000,
            down,
            backup: false,
            counter: CounterId::default(),
        }
    }

    fn servers(ports: impl IntoIterator<Item = u16>) -> Vec<Server> {
        ports.into_iter().map(|port| server(port, false)).collect()
    }

    fn heard(servers: Vec<Server>) -> Heard {
        Heard {
            servers: servers.into(),
            ..Heard::default()
        }
    }

    fn ruled(base: &[Server], answer: Vec<Server>) -> Ruling {
        judge(&GUARD, base, &heard(answer), None)
    }

    #[test]
    fn the_first_list_is_taken_as_it_is() {
        let mut first = heard(vec![server(1, true)]);
        first.filtered = true;
        assert_eq!(judge(&GUARD, &[], &first, None), Ruling::Apply);
    }

    #[test]
    fn what_would_leave_nothing_is_held() {
        let base = servers(1..3);
        let mut empty = heard(vec![]);
        let why = |heard: &Heard| judge(&GUARD, &base, heard, None);
        assert_eq!(why(&empty), Ruling::Hold(Why::Empty));
        empty.refused = vec![Refused {
            key: "a".into(),
            modify_index: 1,
            reason: "bad".into(),
        }];
        assert_eq!(why(&empty), Ruling::Hold(Why::Refused));
        empty.filtered = true;
        assert_eq!(why(&empty), Ruling::Hold(Why::Filtered));
        let mut more = heard(servers(1..4));
        assert_eq!(why(&more), Ruling::Apply);
        more.filtered = true;
        assert_eq!(why(&more), Ruling::Hold(Why::Filtered));
    }

    #[test]
    fn what_is_left_out_matters_only_where_something_changes() {
        let base = servers(1..4);
        let filtered = |mut servers: Vec<Server>| {
            servers.reverse();
            let mut heard = heard(servers);
            heard.filtered = true;
            judge(&GUARD, &base, &heard, None)
        };
        let held = Ruling::Hold(Why::Filtered);
        // As the first answer was, or one that was accepted.
        assert_eq!(filtered(base.clone()), Ruling::Apply);
        assert_eq!(filtered(servers(1..5)), held);
        assert_eq!(filtered(servers(1..3)), held);
        assert_eq!(filtered(servers(2..5)), held);
        let mut weighty = base.clone();
        weighty[0].weight = 9;
        assert_eq!(filtered(weighty), held);
    }

    #[test]
    fn all_down_at_once_is_held_unless_they_were() {
        let down = |ports: &[u16]| ports.iter().map(|p| server(*p, true)).collect::<Vec<_>>();
        let base = servers(1..3);
        assert_eq!(ruled(&base, down(&[1, 2])), Ruling::Hold(Why::AllDown));
        assert_eq!(ruled(&base, down(&[2])), Ruling::Hold(Why::AllDown));
        assert_eq!(ruled(&down(&[1, 2]), down(&[2])), Ruling::Apply);
        let one_up = vec![server(1, true), server(2, false)];
        assert_eq!(ruled(&base, one_up), Ruling::Apply);
    }

    #[test]
    fn a_large_removal_is_read_twice() {
        let confirm = |ruling| matches!(ruling, Ruling::Confirm(_));
        // More than half, and three at least.
        assert!(!confirm(ruled(&servers(0..6), servers(3..6))));
        assert!(confirm(ruled(&servers(0..6), servers(4..6))));
        assert!(confirm(ruled(&servers(0..5), servers(3..5))));
        assert!(!confirm(ruled(&servers(0..3), servers(2..3))));
        assert!(confirm(ruled(&servers(0..4), servers(3..9))));
        assert!(confirm(ruled(&servers(0..4), servers(7..20))), "replaced");

        let base = servers(0..6);
        let Ruling::Confirm(removed) = ruled(&base, servers(4..6)) else {
            panic!("four of six");
        };
        let again = |answer| judge(&GUARD, &base, &heard(answer), Some(&removed));
        assert_eq!(again(servers(4..9)), Ruling::Apply, "the same are gone");
        assert!(confirm(again(servers(5..6))), "others are gone");
        assert_eq!(again(servers(0..6)), Ruling::Apply, "none is gone");
        assert_eq!(again(vec![]), Ruling::Hold(Why::Empty));
    }

    #[test]
    fn the_share_and_the_least_number_are_the_guards() {
        let all = Guard {
            share: 100,
            servers: 1,
        };
        let any = Guard {
            share: 0,
            servers: 1,
        };
        let (base, one) = (servers(0..10), heard(servers(9..10)));
        assert_eq!(judge(&all, &base, &one, None), Ruling::Apply);
        let fewer = heard(servers(0..9));
        assert!(matches!(judge(&any, &base, &fewer, None), Ruling::Confirm(r) if r.len() == 1));
    }

    fn answer() -> impl Strategy<Value = (Heard, bool)> {
        let servers = prop::collection::btree_map(0u16..8, prop::bool::weighted(0.4), 0..8);
        let servers = prop_oneof![3 => servers, 1 => Just(Default::default())];
        (servers, prop::bool::weighted(0.1), any::<bool>()).prop_map(|(list, filtered, second)| {
            let list = list.into_iter();
            let heard = Heard {
                servers: list.map(|(port, down)| server(port, down)).collect(),
                refused: Vec::new(),
                filtered,
                ..Heard::default()
            };
            (heard, second)
        })
    }

    proptest! {
        /// Whatever is answered, once or twice, what was learned is never emptied, nor are all its
        /// servers down unless the first answer had them so.
        #[test]
        fn no_answers_empty_an_upstream(
            answers in prop::collection::vec(answer(), 0..60),
            share in 0u8..=100,
            least in 0usize..5,
        ) {
            let guard = Guard { share, servers: least };
            let mut base = servers(0..8);
            let mut asked = None;
            for (heard, second) in answers {
                let first = asked.take().filter(|_| second);
                match judge(&guard, &base, &heard, first.as_ref()) {
                    Ruling::Apply => base = heard.servers.to_vec(),
                    Ruling::Hold(_) => {}
                    Ruling::Confirm(removed) => {
                        prop_assert!(removed.len() >= least);
                        prop_assert_ne!(Some(&removed), first.as_ref());
                        asked = Some(removed);
                    }
                }
                prop_assert!(base.iter().any(|server| !server.down));
            }
        }

        #[test]
        fn a_large_removal_never_comes_by_one_read(keep in 0u16..4, more in 0u16..4) {
            let base = servers(0..8);
            let left = servers((0..keep).chain(100..100 + more));
            prop_assert_ne!(ruled(&base, left), Ruling::Apply);
        }
    }
}
