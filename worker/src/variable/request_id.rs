//! `$request_id`: 16 random bytes a request, for those that ask.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write;

use rustix::rand::{GetRandomFlags, getrandom};

/// Random bytes that are fetched from the system at once: 256 ids.
const STOCK: usize = 4096;
/// Bytes of an id.
const SIZE: usize = size_of::<u128>();

/// Where ids come from: the system's own randomness.
pub struct RequestIds(RefCell<Stock>);

struct Stock {
    bytes: Vec<u8>,
    left: usize,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self(RefCell::new(Stock {
            bytes: Vec::new(),
            left: 0,
        }))
    }
}

impl fmt::Debug for RequestIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestIds")
    }
}

impl RequestIds {
    /// The next one; `None` where the system has no randomness to give.
    fn next(&self) -> Option<u128> {
        let stock = &mut *self.0.borrow_mut();
        if stock.left < SIZE {
            stock.bytes.resize(STOCK, 0);
            stock.left = getrandom(&mut stock.bytes[..], GetRandomFlags::empty()).ok()?;
        }
        let id = stock.bytes[..stock.left].last_chunk::<SIZE>()?;
        stock.left -= SIZE;
        Some(u128::from_ne_bytes(*id))
    }
}

/// The id of one request, which it has from the first time that somebody asks for it.
#[derive(Clone, Copy, Debug)]
pub struct RequestId<'a> {
    /// It, once it is known.
    pub known: &'a Cell<Option<u128>>,
    /// Where it comes from.
    pub source: &'a RequestIds,
}

impl RequestId<'_> {
    /// Appends 32 hexadecimal digits.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        let id = match self.known.get() {
            Some(id) => id,
            None => self.source.next()?,
        };
        self.known.set(Some(id));
        // Writing to a Vec does not fail.
        let _ = write!(out, "{id:032x}");
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_request_has_one_of_its_own() {
        let source = RequestIds::default();
        let mut seen = HashSet::new();
        for _ in 0..STOCK / SIZE * 3 + 1 {
            let known = Cell::default();
            let id = RequestId {
                known: &known,
                source: &source,
            };
            let (mut first, mut second) = (Vec::new(), Vec::new());
            id.write(&mut first).unwrap();
            id.write(&mut second).unwrap();
            assert_eq!(first, second);
            let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
            assert!(first.len() == 32 && first.iter().all(is_digit));
            assert!(seen.insert(first));
        }
    }
}
