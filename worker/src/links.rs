//! Doubly linked lists of small numbers, such as places in a slab: whoever is on one can be taken
//! off at once, and nothing is allocated once the links have grown.

const NONE: u32 = u32::MAX;

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub struct List {
    head: u32,
    tail: u32,
    count: usize,
}

impl Default for List {
    fn default() -> Self {
        Self {
            head: NONE,
            tail: NONE,
            count: 0,
        }
    }
}

impl List {
    /// The one pushed last.
    #[must_use]
    pub fn latest(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// The one pushed first.
    #[must_use]
    pub fn oldest(&self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }

    /// How many are on it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nobody is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    listed: bool,
    previous: u32,
    next: u32,
}

const UNLISTED: Link = Link {
    listed: false,
    previous: NONE,
    next: NONE,
};

/// The links of any number of lists over the same numbers, each of which is on at most one.
#[derive(Debug, Default)]
pub struct Links(Vec<Link>);

impl Links {
    /// Puts `who`, who is on no list, in front of one.
    pub fn push(&mut self, list: &mut List, who: u32) {
        let index = who as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, UNLISTED);
        }
        if self.0[index].listed {
            return;
        }
        self.0[index] = Link {
            listed: true,
            previous: NONE,
            next: list.head,
        };
        match list.head {
            NONE => list.tail = who,
            head => self.0[head as usize].previous = who,
        }
        list.head = who;
        list.count += 1;
    }

    /// Takes `who` off the list that it is on; false if it is on none.
    pub fn remove(&mut self, list: &mut List, who: u32) -> bool {
        let Some(link) = self.0.get_mut(who as usize).filter(|link| link.listed) else {
            return false;
        };
        let Link { previous, next, .. } = std::mem::replace(link, UNLISTED);
        match previous {
            NONE => list.head = next,
            previous => self.0[previous as usize].next = next,
        }
        match next {
            NONE => list.tail = previous,
            next => self.0[next as usize].previous = previous,
        }
        list.count -= 1;
        true
    }

    /// Who was pushed just before `who`, on the same list.
    #[must_use]
    pub fn after(&self, who: u32) -> Option<u32> {
        let link = self.0.get(who as usize).filter(|link| link.listed)?;
        (link.next != NONE).then_some(link.next)
    }

    /// Whether `who` is on a list.
    #[must_use]
    pub fn is_listed(&self, who: u32) -> bool {
        self.0.get(who as usize).is_some_and(|link| link.listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cases;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(256))]
        #[test]
        fn behaves_as_a_queue(steps in prop::collection::vec((0u32..9, any::<bool>()), 0..200)) {
            let (mut links, mut list) = (Links::default(), List::default());
            let mut model: Vec<u32> = Vec::new();
            for (who, push) in steps {
                if push {
                    links.push(&mut list, who);
                    if !model.contains(&who) {
                        model.push(who);
                    }
                } else {
                    let had = model.contains(&who);
                    model.retain(|other| *other != who);
                    prop_assert_eq!(links.remove(&mut list, who), had);
                }
                prop_assert_eq!(list.latest(), model.last().copied());
                prop_assert_eq!(list.oldest(), model.first().copied());
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(links.is_listed(who), model.contains(&who));
            }
        }
    }
}
