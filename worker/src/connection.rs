//! A slab of connections with generation-tagged keys: a late event of a connection that is gone
//! finds nothing, even when its place was taken again.

/// Where a connection lies. 32 bits of place, 28 bits of generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The place in the slab.
    pub index: u32,
    generation: u32,
}

/// Generations wrap here: a key shares its 64 bits with four bits of kind.
const GENERATIONS: u32 = 1 << 28;

impl Key {
    /// The key as the low 60 bits of a number.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// What [`Key::to_bits`] made.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32 % GENERATIONS,
        }
    }
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// Values under keys, at places that are used again.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// The key that the next [`Slab::insert`] will give.
    #[must_use]
    pub fn next_key(&self) -> Key {
        match self.free.last() {
            Some(&index) => self.key_at(index),
            None => Key {
                index: self.places.len() as u32,
                generation: 0,
            },
        }
    }

    /// Puts a value in and says where it is.
    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        match self.free.pop() {
            Some(index) => self.places[index as usize].value = Some(value),
            None => self.places.push(Place {
                generation: 0,
                value: Some(value),
            }),
        }
        key
    }

    /// Takes the value out; its key finds nothing from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = (place.generation + 1) % GENERATIONS;
        self.free.push(key.index);
        Some(value)
    }

    /// The value under this key.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation {
            place.value.as_ref()
        } else {
            None
        }
    }

    /// The value under this key.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation {
            place.value.as_mut()
        } else {
            None
        }
    }

    /// The key of what lies at a place, if something does.
    #[must_use]
    pub fn key_of(&self, index: u32) -> Option<Key> {
        self.places.get(index as usize)?.value.as_ref()?;
        Some(self.key_at(index))
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key in use, in order of place.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.places.len() as u32).filter_map(|index| self.key_of(index))
    }

    fn key_at(&self, index: u32) -> Key {
        Key {
            index,
            generation: self.places[index as usize].generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_value() {
        let mut slab = Slab::default();
        let one = slab.insert("one");
        let two = slab.insert("two");
        assert_eq!(slab.remove(one), Some("one"));
        assert_eq!(slab.remove(one), None);
        assert_eq!(slab.next_key().index, one.index);
        let three = slab.insert("three");
        assert_eq!(three.index, one.index);
        assert_eq!(slab.get(one), None);
        assert_eq!(slab.get(three), Some(&"three"));
        assert_eq!(slab.get_mut(two), Some(&mut "two"));
        assert_eq!(slab.len(), 2);
        assert_eq!(slab.keys().collect::<Vec<_>>(), [three, two]);
    }

    #[test]
    fn a_key_survives_the_way_through_bits() {
        let mut slab = Slab::default();
        for _ in 0..3 {
            let key = slab.insert(());
            slab.remove(key);
        }
        let key = slab.insert(());
        assert_eq!(Key::from_bits(key.to_bits()), key);
        assert!(key.to_bits() < 1 << 60);
    }
}
