//! The servers that one request has been to.

/// So many bits need no allocation.
const INLINE_WORDS: usize = 4;
/// So many servers are remembered one by one, in order.
pub const LISTED: usize = 8;

/// A set of servers of one upstream, by index. Empty in nearly every request, and then free.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    few: [u64; INLINE_WORDS],
    /// Bits beyond the inline ones; keeps its room.
    many: Vec<u64>,
    list: [u32; LISTED],
    count: usize,
}

impl Tried {
    /// None.
    pub fn new() -> Tried {
        Tried::default()
    }

    /// None again, keeping the room.
    pub fn clear(&mut self) {
        if self.count > 0 {
            self.few = [0; INLINE_WORDS];
            self.many.clear();
            self.count = 0;
        }
    }

    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// None so far.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether this one is among them.
    #[inline]
    pub fn contains(&self, peer: usize) -> bool {
        let word = match (peer / 64).checked_sub(INLINE_WORDS) {
            None => self.few[peer / 64],
            Some(at) => self.many.get(at).copied().unwrap_or_default(),
        };
        word >> (peer % 64) & 1 == 1
    }

    /// Adds one.
    pub fn insert(&mut self, peer: usize) {
        if self.contains(peer) {
            return;
        }
        let bit = 1 << (peer % 64);
        match (peer / 64).checked_sub(INLINE_WORDS) {
            None => self.few[peer / 64] |= bit,
            Some(at) => {
                if at >= self.many.len() {
                    self.many.resize(at + 1, 0);
                }
                self.many[at] |= bit;
            }
        }
        if let Some(place) = self.list.get_mut(self.count) {
            *place = u32::try_from(peer).unwrap_or(u32::MAX);
        }
        self.count += 1;
    }

    /// All of them, by index.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.few.iter().chain(&self.many).enumerate();
        words.flat_map(|(at, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| at * 64 + bit)
        })
    }

    /// All of them while they are at most [`LISTED`], else `None`.
    pub(crate) fn listed(&self) -> Option<&[u32]> {
        self.list.get(..self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_set_at_any_index() {
        let mut tried = Tried::new();
        for peer in [0, 63, 64, 255, 256, 9_999] {
            assert!(!tried.contains(peer));
            tried.insert(peer);
            tried.insert(peer);
            assert!(tried.contains(peer) && !tried.contains(peer + 1));
        }
        assert_eq!((tried.len(), tried.listed().unwrap().len()), (6, 6));
        assert!(tried.iter().eq([0, 63, 64, 255, 256, 9_999]));
        for peer in 300..303 {
            tried.insert(peer);
        }
        assert!(tried.listed().is_none());
        tried.clear();
        assert!(
            tried.is_empty()
                && tried.iter().next().is_none()
                && !tried.contains(9_999)
                && !tried.contains(0)
        );
    }
}
