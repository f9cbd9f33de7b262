//! `proxy_redirect` and `proxy_cookie_…` at work on the fields of a server's answer.

use std::borrow::Cow;

use crate::http::cookie::{Flags, SetCookie};
use crate::settings::{CookieFlags, CookieName, Proxy, Rewrite, RewriteFrom, Template};
use crate::variable::Values;

/// What the first rule that fits makes of a value; `None` if none does.
pub(super) fn rewritten(rules: &[Rewrite], value: &[u8], values: &Values<'_>) -> Option<Vec<u8>> {
    rules.iter().find_map(|rule| apply(rule, value, values))
}

fn apply(rule: &Rewrite, value: &[u8], values: &Values<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match &rule.from {
        RewriteFrom::Prefix(prefix) => {
            let rest = value.strip_prefix(text(prefix, values).as_ref())?;
            rule.to.write(values, &mut out);
            out.extend_from_slice(rest);
        }
        RewriteFrom::Domain(domain) => {
            let bare = value.strip_prefix(b".");
            if !bare
                .unwrap_or(value)
                .eq_ignore_ascii_case(&text(domain, values))
            {
                return None;
            }
            out.extend(bare.map(|_| b'.'));
            rule.to.write(values, &mut out);
        }
        RewriteFrom::Pattern(pattern) => {
            let captures = pattern.captures(value)?;
            let values = Values {
                captures: Some(&captures),
                ..*values
            };
            rule.to.write(&values, &mut out);
        }
    }
    Some(out)
}

/// `Refresh: 5; url=…`: the URL is what rules are for.
pub(super) fn refresh(rules: &[Rewrite], value: &[u8], values: &Values<'_>) -> Option<Vec<u8>> {
    const URL: &[u8] = b"url=";
    let at = value
        .windows(URL.len())
        .position(|part| part.eq_ignore_ascii_case(URL))?;
    let (before, url) = value.split_at(at + URL.len());
    let url = rewritten(rules, url, values)?;
    Some([before, &url].concat())
}

/// A `Set-Cookie` with what `proxy_cookie_domain`, `proxy_cookie_path` and `proxy_cookie_flags`
/// change of it; `None` if that is nothing.
pub(super) fn set_cookie(proxy: &Proxy, value: &[u8], values: &Values<'_>) -> Option<Vec<u8>> {
    let mut cookie = SetCookie::parse(value);
    cookie.name()?;
    let mut changed = false;
    for part in cookie.parts.iter_mut().skip(1) {
        let rules = if part.name.eq_ignore_ascii_case(b"domain") {
            &proxy.cookie_domains
        } else if part.name.eq_ignore_ascii_case(b"path") {
            &proxy.cookie_paths
        } else {
            continue;
        };
        let new = part.value.as_ref();
        if let Some(new) = new.and_then(|old| rewritten(rules, old, values)) {
            part.value = Some(new.into());
            changed = true;
        }
    }
    let flags = cookie.name().and_then(|name| {
        let mut rules = proxy.cookie_flags.iter();
        rules.find(|rule| is_meant(rule, name, values))
    });
    let flags = flags.map(|rule| flags_of(rule, values)).unwrap_or_default();
    if !flags.is_empty() {
        cookie.set_flags(flags);
        changed = true;
    }
    changed.then(|| {
        let mut out = Vec::new();
        cookie.write(&mut out);
        out
    })
}

fn is_meant(rule: &CookieFlags, name: &[u8], values: &Values<'_>) -> bool {
    match &rule.cookie {
        CookieName::Named(template) => text(template, values).eq_ignore_ascii_case(name),
        CookieName::Pattern(pattern) => pattern.is_match(name),
    }
}

/// A variable may give no flag, or none that is known.
fn flags_of(rule: &CookieFlags, values: &Values<'_>) -> Flags {
    let mut flags = Flags::default();
    for flag in &rule.flags {
        flags.add(&text(flag, values));
    }
    flags
}

fn text<'a>(template: &'a Template, values: &Values<'_>) -> Cow<'a, [u8]> {
    match template.as_text() {
        Some(text) => text.into(),
        None => {
            let mut out = Vec::new();
            template.write(values, &mut out);
            out.into()
        }
    }
}
