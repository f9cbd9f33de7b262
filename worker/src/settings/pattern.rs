//! Regular expressions.

use regex::bytes::{CaptureLocations, Regex, RegexBuilder};

/// A regular expression over bytes, as nginx's are without `(*UTF8)`: `.` is one byte, and classes
/// and letters' cases are those of ASCII. Its syntax is that of the `regex` crate, which takes time
/// linear in the text and for that has neither look-around nor back references.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    caseless: bool,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.caseless) == (&other.text, other.caseless)
    }
}

impl Pattern {
    /// Compiles one; `caseless` takes letters in either case.
    ///
    /// # Errors
    /// It is not well formed, or too large: why.
    pub fn new(text: &str, caseless: bool) -> Result<Self, String> {
        let built = RegexBuilder::new(text)
            .unicode(false)
            .case_insensitive(caseless)
            .build();
        let regex = built.map_err(|error| {
            // The crate shows the place over several lines; the reason is the last.
            let shown = error.to_string();
            let reason = shown.lines().last().unwrap_or_default().trim();
            reason.strip_prefix("error: ").unwrap_or(reason).to_owned()
        })?;
        Ok(Self {
            text: text.to_owned(),
            caseless,
            regex,
        })
    }

    /// The names of its groups with their numbers.
    pub fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        let names = self.regex.capture_names().enumerate();
        names.filter_map(|(number, name)| Some((name?, number)))
    }

    /// Where its groups are in a text that it matches.
    #[must_use]
    pub fn captures<'a>(&self, text: &'a [u8]) -> Option<Captures<'a>> {
        let mut places = self.regex.capture_locations();
        self.regex.captures_read(&mut places, text)?;
        Some(Captures { text, places })
    }

    /// Whether it matches somewhere in a text.
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }
}

/// What the groups of a pattern have matched.
#[derive(Clone, Debug)]
pub struct Captures<'a> {
    text: &'a [u8],
    places: CaptureLocations,
}

impl Captures<'_> {
    /// A group's text; empty where it took no part.
    #[must_use]
    pub fn group(&self, number: usize) -> &[u8] {
        match self.places.get(number) {
            Some((start, end)) => &self.text[start..end],
            None => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_bytes() {
        let pattern = Pattern::new("^(.)(?P<rest>[a-z]+)(x)?", false).unwrap();
        let captures = pattern.captures(b"\xffabC").unwrap();
        assert_eq!(captures.group(0), b"\xffab");
        assert_eq!(captures.group(1), b"\xff");
        assert_eq!((captures.group(3), captures.group(9)), (&b""[..], &b""[..]));
        assert_eq!(pattern.names().collect::<Vec<_>>(), [("rest", 2)]);
        assert!(pattern.captures(b"A").is_none());
        assert!(Pattern::new("a", true).unwrap().is_match(b"xA"));
        assert!(!Pattern::new("a", false).unwrap().is_match(b"xA"));
        assert_ne!(Pattern::new("a", true), Pattern::new("a", false));
    }

    #[test]
    fn what_is_none_is_refused_with_one_line() {
        for text in ["(", "[", "a{2,1}", "(?=a)", "\\1"] {
            let reason = Pattern::new(text, false).unwrap_err();
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
        }
    }
}
