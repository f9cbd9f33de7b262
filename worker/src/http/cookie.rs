//! `Set-Cookie` taken apart and its flags changed, as nginx does.

use std::borrow::Cow;

/// A `Set-Cookie` value: the cookie, then its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie<'a> {
    /// The cookie comes first.
    pub parts: Vec<Part<'a>>,
}

/// `name` or `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Without blanks around it.
    pub name: Cow<'a, [u8]>,
    /// What follows `=`, without blanks around it.
    pub value: Option<Cow<'a, [u8]>>,
}

/// Flags to be set or taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    secure: Option<bool>,
    http_only: Option<bool>,
    same_site: Option<SameSite>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SameSite {
    Off,
    None,
    Lax,
    Strict,
}

impl SameSite {
    fn text(self) -> Option<&'static [u8]> {
        match self {
            SameSite::Off => None,
            SameSite::None => Some(b"None"),
            SameSite::Lax => Some(b"Lax"),
            SameSite::Strict => Some(b"Strict"),
        }
    }
}

impl Flags {
    /// Adds a flag by its name in `proxy_cookie_flags`; false if it is none. One that sets goes
    /// before one that takes away.
    pub fn add(&mut self, name: &[u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("secure") {
            self.secure = Some(true);
        } else if is("nosecure") {
            self.secure.get_or_insert(false);
        } else if is("httponly") {
            self.http_only = Some(true);
        } else if is("nohttponly") {
            self.http_only.get_or_insert(false);
        } else if is("samesite=strict") {
            self.same_site = self.same_site.max(Some(SameSite::Strict));
        } else if is("samesite=lax") {
            self.same_site = self.same_site.max(Some(SameSite::Lax));
        } else if is("samesite=none") {
            self.same_site = self.same_site.max(Some(SameSite::None));
        } else if is("nosamesite") {
            self.same_site = self.same_site.max(Some(SameSite::Off));
        } else {
            return false;
        }
        true
    }

    /// Nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        *self == Flags::default()
    }
}

impl<'a> SetCookie<'a> {
    /// Takes a value apart.
    pub fn parse(value: &'a [u8]) -> Self {
        let part = |text: &'a [u8]| {
            let (name, value) = match text.iter().position(|&byte| byte == b'=') {
                Some(at) => (&text[..at], Some(&text[at + 1..])),
                None => (text, None),
            };
            Part {
                name: trim(name).into(),
                value: value.map(|value| trim(value).into()),
            }
        };
        Self {
            parts: value.split(|&byte| byte == b';').map(part).collect(),
        }
    }

    /// The cookie's name; `None` for what is no cookie.
    pub fn name(&self) -> Option<&[u8]> {
        let first = self.parts.first()?;
        first.value.as_ref().map(|_| first.name.as_ref())
    }

    /// Sets and takes away flags.
    pub fn set_flags(&mut self, flags: Flags) {
        self.set_one(b"Secure", flags.secure);
        self.set_one(b"HttpOnly", flags.http_only);
        let Some(same_site) = flags.same_site else {
            return;
        };
        let Some(text) = same_site.text() else {
            return self.remove(b"SameSite");
        };
        let value = Some(Cow::Borrowed(text));
        let mut attributes = self.parts.iter_mut().skip(1);
        match attributes.find(|part| part.name.eq_ignore_ascii_case(b"samesite")) {
            Some(part) => {
                let same = part.value.as_deref().unwrap_or_default();
                if !same.eq_ignore_ascii_case(text) {
                    part.name = Cow::Borrowed(b"SameSite");
                    part.value = value;
                }
            }
            None => self.parts.push(Part {
                name: Cow::Borrowed(b"SameSite"),
                value,
            }),
        }
    }

    fn set_one(&mut self, name: &'static [u8], on: Option<bool>) {
        let mut attributes = self.parts.iter().skip(1);
        let has = attributes.any(|part| part.name.eq_ignore_ascii_case(name));
        match on {
            Some(true) if !has => self.parts.push(Part {
                name: Cow::Borrowed(name),
                value: None,
            }),
            Some(false) if has => self.remove(name),
            _ => {}
        }
    }

    fn remove(&mut self, name: &[u8]) {
        let mut first = true;
        self.parts
            .retain(|part| std::mem::take(&mut first) || !part.name.eq_ignore_ascii_case(name));
    }

    /// Appends it as a value.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(&part.name);
            if let Some(value) = &part.value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
    }
}

/// nginx passes over blanks alone, not over tabs.
fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| byte != b' ');
    let end = text.iter().rposition(|&byte| byte != b' ');
    match (start, end) {
        (Some(start), Some(end)) => &text[start..=end],
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changed(value: &str, names: &[&str]) -> String {
        let mut flags = Flags::default();
        for name in names {
            assert!(flags.add(name.as_bytes()), "{name}");
        }
        let mut cookie = SetCookie::parse(value.as_bytes());
        cookie.set_flags(flags);
        let mut out = Vec::new();
        cookie.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn flags_are_set_and_taken_away() {
        for (value, names, expected) in [
            ("a=b", &["secure"][..], "a=b; Secure"),
            (
                "a=b; SECURE",
                &["secure", "httponly"],
                "a=b; SECURE; HttpOnly",
            ),
            ("a=b; Secure; Path=/", &["nosecure"], "a=b; Path=/"),
            ("a=b; Secure", &["nosecure", "secure"], "a=b; Secure"),
            ("a=b; httponly ;x", &["nohttponly"], "a=b; x"),
            ("a=b", &["samesite=strict"], "a=b; SameSite=Strict"),
            ("a=b; samesite=lax", &["samesite=LAX"], "a=b; samesite=lax"),
            (
                "a=b; samesite=lax",
                &["samesite=none"],
                "a=b; SameSite=None",
            ),
            ("a=b; SameSite=Lax", &["nosamesite"], "a=b"),
            ("secure=b", &["nosecure"], "secure=b"),
            ("a=b", &["nosecure"], "a=b"),
        ] {
            assert_eq!(changed(value, names), expected, "{value} {names:?}");
        }
        assert!(!Flags::default().add(b"partitioned"));
    }

    #[test]
    fn names_and_values_lose_their_blanks() {
        let cookie = SetCookie::parse(b" a = b c ;Path = / ; x;");
        assert_eq!(cookie.name(), Some(&b"a"[..]));
        let mut out = Vec::new();
        cookie.write(&mut out);
        assert_eq!(out, b"a=b c; Path=/; x; ");
        assert_eq!(SetCookie::parse(b"a; b=c").name(), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_the_same(value in "[a-c=; ]{0,24}") {
            let cookie = SetCookie::parse(value.as_bytes());
            let mut once = Vec::new();
            cookie.write(&mut once);
            prop_assert_eq!(&SetCookie::parse(&once), &cookie);
        }
    }
}
