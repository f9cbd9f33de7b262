//! Where the server of each counter is, in chunks that plans share: a new plan costs what it changes.

use std::rc::Rc;

use weir_shm::CounterId;

/// Counters of a chunk.
const CHUNK: usize = 256;

/// Where a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The number that stays with its upstream's name.
    pub upstream: u32,
    /// Its place there.
    pub server: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// 0: nobody is there.
    incarnation: u32,
    place: Place,
}

/// See the module. A clone shares all of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    chunks: Vec<Rc<[Entry; CHUNK]>>,
}

impl Places {
    pub fn find(&self, counter: CounterId) -> Option<Place> {
        let index = counter.index as usize;
        let entry = self.chunks.get(index / CHUNK)?[index % CHUNK];
        (entry.incarnation != 0 && entry.incarnation == counter.incarnation).then_some(entry.place)
    }

    pub fn set(&mut self, counter: CounterId, place: Place) {
        let index = counter.index as usize;
        while index / CHUNK >= self.chunks.len() {
            self.chunks.push(Rc::new([Entry::default(); CHUNK]));
        }
        let entry = Entry {
            incarnation: counter.incarnation,
            place,
        };
        let chunk = &mut self.chunks[index / CHUNK];
        if chunk[index % CHUNK] != entry {
            Rc::make_mut(chunk)[index % CHUNK] = entry;
        }
    }

    /// The counter's server is nowhere; another incarnation's stays.
    pub fn clear(&mut self, counter: CounterId) {
        if self.find(counter).is_some() {
            let index = counter.index as usize;
            Rc::make_mut(&mut self.chunks[index / CHUNK])[index % CHUNK] = Entry::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(index: u32, incarnation: u32) -> CounterId {
        CounterId { index, incarnation }
    }

    #[test]
    fn a_copy_is_left_alone_and_only_what_changes_is_copied() {
        let place = |server| Place {
            upstream: 3,
            server,
        };
        let mut old = Places::default();
        for index in 0..3 * CHUNK as u32 {
            old.set(counter(index, 1), place(index));
        }
        let mut new = old.clone();
        new.set(counter(300, 2), place(7));
        new.set(counter(10, 1), place(10));
        new.clear(counter(301, 1));
        new.clear(counter(302, 9));
        assert_eq!(old.find(counter(300, 1)), Some(place(300)));
        assert_eq!(new.find(counter(300, 1)), None);
        assert_eq!(new.find(counter(300, 2)), Some(place(7)));
        assert_eq!(new.find(counter(301, 1)), None);
        assert_eq!(new.find(counter(302, 1)), Some(place(302)));
        assert_eq!(new.find(counter(5000, 1)), None);
        let shared = |chunk: usize| Rc::ptr_eq(&old.chunks[chunk], &new.chunks[chunk]);
        assert_eq!([shared(0), shared(1), shared(2)], [true, false, true]);
    }
}
