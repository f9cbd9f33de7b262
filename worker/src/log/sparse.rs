//! A line that would come again and again is written once a second at most.

/// Between two of them, in milliseconds.
const PAUSE_MS: u64 = 1000;

/// When the line was written last, and how often it was left out since.
#[derive(Debug, Default)]
pub struct Sparse {
    /// Not before this time, in milliseconds.
    next_ms: u64,
    left_out: u64,
}

impl Sparse {
    /// Whether the line is to be written now; what to put at its end, which is empty if none was
    /// left out since the last.
    pub fn admit(&mut self, now_ms: u64) -> Option<String> {
        if now_ms < self.next_ms {
            self.left_out += 1;
            return None;
        }
        self.next_ms = now_ms + PAUSE_MS;
        Some(match std::mem::take(&mut self.left_out) {
            0 => String::new(),
            count => format!(", {count} such lines were left out"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_says_how_many_it_stands_for() {
        let mut sparse = Sparse::default();
        assert_eq!(sparse.admit(5000).as_deref(), Some(""));
        for now_ms in [5000, 5001, 5999] {
            assert_eq!(sparse.admit(now_ms), None);
        }
        let told = sparse.admit(6000);
        assert_eq!(told.as_deref(), Some(", 3 such lines were left out"));
        assert_eq!(sparse.admit(6999), None);
        assert!(sparse.admit(9000).unwrap().starts_with(", 1 such"));
        assert_eq!(sparse.admit(10_000).as_deref(), Some(""));
    }
}
