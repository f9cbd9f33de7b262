//! The written list of differences that are meant to be.

use super::compare::Difference;

/// `PLACE | WHAT | NGINX | WEIR | REASON`; a `*` in the first four stands for anything.
pub struct Intended {
    line: String,
    patterns: [String; 4],
}

/// Reads the list; a line without a reason fails the test.
pub fn read(text: &str) -> Vec<Intended> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            // An empty column is no wider than its bar.
            let columns = line.replace("| |", "|  |");
            let parts: Vec<_> = columns.split(" | ").map(str::trim).collect();
            let [place, what, nginx, weir, reason] = parts[..] else {
                panic!("five columns are needed: {line}");
            };
            assert!(reason.contains(' '), "a reason is needed: {line}");
            Intended {
                line: line.to_owned(),
                patterns: [place, what, nginx, weir].map(str::to_owned),
            }
        })
        .collect()
}

impl Intended {
    pub fn covers(&self, found: &Difference) -> bool {
        let values = [&found.place, &found.what, &found.nginx, &found.weir];
        let mut pairs = self.patterns.iter().zip(values);
        pairs.all(|(pattern, value)| matches(pattern, value.trim()))
    }

    pub fn line(&self) -> &str {
        &self.line
    }

    /// Whether it speaks of this group.
    pub fn concerns(&self, group: &str) -> bool {
        let place = self.patterns[0].split('/').next().unwrap_or_default();
        matches(place, group)
    }
}

fn matches(pattern: &str, value: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == value,
        Some((before, after)) => value.strip_prefix(before).is_some_and(|rest| {
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|at| matches(after, &rest[at..]))
        }),
    }
}

#[test]
fn stars_stand_for_anything() {
    for (pattern, value, expected) in [
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("*", "", true),
        ("", "", true),
        ("a", "ab", false),
        ("*b", "abab", true),
        ("a*b*c", "axbyc", true),
        ("a*b", "abc", false),
    ] {
        assert_eq!(matches(pattern, value), expected, "{pattern} {value}");
    }
}
