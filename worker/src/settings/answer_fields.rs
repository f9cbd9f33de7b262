//! Which fields of a server's answer are passed on and which are acted on.

use crate::http::{Field, Known};

/// `proxy_hide_header` and `proxy_pass_header`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Hidden beside nginx's own, in lower case.
    pub names: Vec<Vec<u8>>,
    /// Of nginx's own hidden ones, those that are passed on all the same.
    pub passed: Vec<Known>,
}

impl Hidden {
    /// Whether the client does not get this field, whose head's bytes are given.
    #[inline]
    #[must_use]
    pub fn hides(&self, field: &Field, head: &[u8]) -> bool {
        if field.known.is_hidden_from_client() && !self.passed.contains(&field.known) {
            return true;
        }
        !self.names.is_empty() && self.has(field.name.of(head))
    }

    fn has(&self, name: &[u8]) -> bool {
        let mut names = self.names.iter();
        names.any(|hidden| hidden.eq_ignore_ascii_case(name))
    }

    /// Whether a field of this name is hidden that weir writes itself.
    #[must_use]
    pub fn hides_name(&self, name: &[u8]) -> bool {
        !self.names.is_empty() && self.has(name)
    }
}

/// `proxy_ignore_headers`: fields that are not acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IgnoredHeaders(pub u16);

impl IgnoredHeaders {
    /// `X-Accel-Redirect`
    pub const REDIRECT: Self = Self(1 << 0);
    /// `X-Accel-Expires`
    pub const EXPIRES_IN: Self = Self(1 << 1);
    /// `X-Accel-Limit-Rate`
    pub const LIMIT_RATE: Self = Self(1 << 2);
    /// `X-Accel-Buffering`
    pub const BUFFERING: Self = Self(1 << 3);
    /// `X-Accel-Charset`
    pub const CHARSET: Self = Self(1 << 4);
    /// `Expires`
    pub const EXPIRES: Self = Self(1 << 5);
    /// `Cache-Control`
    pub const CACHE_CONTROL: Self = Self(1 << 6);
    /// `Set-Cookie`
    pub const SET_COOKIE: Self = Self(1 << 7);
    /// `Vary`
    pub const VARY: Self = Self(1 << 8);

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
