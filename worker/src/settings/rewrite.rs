//! `proxy_redirect`, `proxy_cookie_domain`, `proxy_cookie_path`, `proxy_cookie_flags`

use super::{Pattern, Template};

/// What a field's value is taken for, and what takes its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// What is replaced.
    pub from: From,
    /// What replaces it.
    pub to: Template,
}

/// What is replaced of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum From {
    /// Its beginning.
    Prefix(Template),
    /// All of it but a dot in front, in any case of letters: a domain.
    Domain(Template),
    /// All of it, when this matches somewhere in it.
    Pattern(Pattern),
}

/// One `proxy_cookie_flags`.
#[derive(Clone, Debug, PartialEq)]
pub struct CookieFlags {
    /// Of which cookies.
    pub cookie: CookieName,
    /// Their flags, by name: `secure`, `nosecure`, `httponly`, `nohttponly`, `samesite=strict`,
    /// `samesite=lax`, `samesite=none`, `nosamesite`.
    pub flags: Vec<Template>,
}

/// Which cookies are meant.
#[derive(Clone, Debug, PartialEq)]
pub enum CookieName {
    /// The one of this name, in any case of letters.
    Named(Template),
    /// Those whose name this matches.
    Pattern(Pattern),
}
