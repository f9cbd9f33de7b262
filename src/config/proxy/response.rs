//! What becomes of the answers of upstream servers.

use weir_worker::http::Known;
use weir_worker::http::cookie::Flags;
use weir_worker::settings::{
    CookieFlags, CookieName, Hidden, IgnoredHeaders, Part, Pattern, Proxy, Rewrite, RewriteFrom,
    Template,
};

use super::failover::mask;
use crate::config::directive::{Directive, LEVELS, Set, at_least, between, row, take};
use crate::config::draft::{Common, HandlerDraft, Level, ProxyPass};
use crate::config::error::Fault;
use crate::config::parser::{Call, Parser};
use crate::config::variable::{template, template_with};

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "proxy_cookie_domain",
        LEVELS,
        between(1, 2),
        Set::Call(proxy_cookie_domain),
    ),
    row(
        "proxy_cookie_flags",
        LEVELS,
        between(1, 4),
        Set::Call(proxy_cookie_flags),
    ),
    row(
        "proxy_cookie_path",
        LEVELS,
        between(1, 2),
        Set::Call(proxy_cookie_path),
    ),
    row(
        "proxy_hide_header",
        LEVELS,
        take(1),
        Set::Call(proxy_hide_header),
    ),
    row(
        "proxy_ignore_headers",
        LEVELS,
        at_least(1),
        Set::Call(proxy_ignore_headers),
    ),
    row(
        "proxy_intercept_errors",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().proxy_intercept_errors),
    ),
    row(
        "proxy_pass_header",
        LEVELS,
        take(1),
        Set::Call(proxy_pass_header),
    ),
    row(
        "proxy_redirect",
        LEVELS,
        between(1, 2),
        Set::Call(proxy_redirect),
    ),
];

const IGNORED: &[(&str, u16)] = &[
    ("X-Accel-Redirect", IgnoredHeaders::REDIRECT.0),
    ("X-Accel-Expires", IgnoredHeaders::EXPIRES_IN.0),
    ("X-Accel-Limit-Rate", IgnoredHeaders::LIMIT_RATE.0),
    ("X-Accel-Buffering", IgnoredHeaders::BUFFERING.0),
    ("X-Accel-Charset", IgnoredHeaders::CHARSET.0),
    ("Expires", IgnoredHeaders::EXPIRES.0),
    ("Cache-Control", IgnoredHeaders::CACHE_CONTROL.0),
    ("Set-Cookie", IgnoredHeaders::SET_COOKIE.0),
    ("Vary", IgnoredHeaders::VARY.0),
];

fn proxy_ignore_headers(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let before = parser.draft.common().proxy_ignore_headers;
    let mask = mask(parser, call, IGNORED, before.unwrap_or_default())?;
    parser.draft.common().proxy_ignore_headers = Some(mask);
    Ok(())
}

fn proxy_hide_header(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let names = parser
        .draft
        .common()
        .proxy_hide_headers
        .get_or_insert_default();
    names.push(call.value().to_ascii_lowercase());
    Ok(())
}

fn proxy_pass_header(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let names = parser
        .draft
        .common()
        .proxy_pass_headers
        .get_or_insert_default();
    names.push(call.value().to_ascii_lowercase());
    Ok(())
}

/// Adds a rule to those of the level, or empties them for good: `off`.
fn add<T>(
    rules: &mut Option<Vec<T>>,
    call: &Call,
    rule: impl FnOnce() -> Result<T, Fault>,
) -> Result<(), Fault> {
    let is_off = call.values().len() == 1 && call.value() == "off";
    match rules {
        Some(rules) if rules.is_empty() || is_off => Err(call.blame("is duplicate")),
        None if is_off => {
            *rules = Some(Vec::new());
            Ok(())
        }
        rules => {
            let rule = rule()?;
            rules.get_or_insert_default().push(rule);
            Ok(())
        }
    }
}

fn proxy_redirect(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let rule = match call.values() {
        [one] if one == "default" => Some(default_redirect(parser.draft.level(), call)?),
        _ => None,
    };
    add(&mut parser.draft.common().proxy_redirects, call, || {
        rule.map_or_else(|| path_rule(call), Ok)
    })
}

fn default_redirect(level: &Level, call: &Call) -> Result<Rewrite, Fault> {
    match &level.handler {
        Some(HandlerDraft::Proxy(pass @ ProxyPass::Known { .. })) => {
            redirect_of(pass, &level.path).ok_or_else(|| call.invalid_parameter("default"))
        }
        Some(HandlerDraft::Proxy(ProxyPass::Named(_))) => Err(call.fault(
            "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables",
        )),
        _ => Err(call.fault(
            "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive",
        )),
    }
}

/// The redirect that undoes a `proxy_pass` without variables.
fn redirect_of(pass: &ProxyPass, location: &str) -> Option<Rewrite> {
    let ProxyPass::Known { url, uri, .. } = pass else {
        return None;
    };
    let (from, to) = match uri {
        Some(_) => (url.clone(), location),
        None => (format!("{url}/"), "/"),
    };
    Some(Rewrite {
        from: RewriteFrom::Prefix(literal(&from)),
        to: literal(to),
    })
}

fn literal(text: &str) -> Template {
    let part = Part::Text(text.as_bytes().to_vec());
    Template {
        parts: (!text.is_empty()).then_some(part).into_iter().collect(),
    }
}

fn proxy_cookie_path(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    add(&mut parser.draft.common().proxy_cookie_paths, call, || {
        path_rule(call)
    })
}

fn proxy_cookie_domain(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    add(
        &mut parser.draft.common().proxy_cookie_domains,
        call,
        || {
            let (from, to) = pair(call)?;
            if let Some(text) = from.strip_prefix('~') {
                return matching(call, text, true, to);
            }
            let bare = |text| template(str::strip_prefix(text, ".").unwrap_or(text));
            Ok(Rewrite {
                from: RewriteFrom::Domain(bare(from).map_err(|message| call.fault(message))?),
                to: bare(to).map_err(|message| call.fault(message))?,
            })
        },
    )
}

/// A prefix, `~` or `~*` with a regular expression, and what takes its place.
fn path_rule(call: &Call) -> Result<Rewrite, Fault> {
    let (from, to) = pair(call)?;
    if let Some(text) = from.strip_prefix("~*") {
        return matching(call, text, true, to);
    }
    if let Some(text) = from.strip_prefix('~') {
        return matching(call, text, false, to);
    }
    Ok(Rewrite {
        from: RewriteFrom::Prefix(template(from).map_err(|message| call.fault(message))?),
        to: template(to).map_err(|message| call.fault(message))?,
    })
}

fn pair(call: &Call) -> Result<(&str, &str), Fault> {
    match call.values() {
        [from, to] => Ok((from, to)),
        _ => Err(call.invalid_parameter(call.value())),
    }
}

fn matching(call: &Call, text: &str, caseless: bool, to: &str) -> Result<Rewrite, Fault> {
    let pattern = pattern(call, text, caseless)?;
    let names: Vec<_> = pattern.names().collect();
    let to = template_with(to, &names).map_err(|message| call.fault(message))?;
    Ok(Rewrite {
        from: RewriteFrom::Pattern(pattern),
        to,
    })
}

fn pattern(call: &Call, text: &str, caseless: bool) -> Result<Pattern, Fault> {
    Pattern::new(text, caseless)
        .map_err(|reason| call.fault(format!("regex \"{text}\" compilation failed: {reason}")))
}

fn proxy_cookie_flags(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    add(&mut parser.draft.common().proxy_cookie_flags, call, || {
        let [cookie, flags @ ..] = call.values() else {
            return Err(call.invalid_parameter(call.value()));
        };
        if flags.is_empty() {
            return Err(call.invalid_parameter(cookie));
        }
        let value = |text: &str| template(text).map_err(|message| call.fault(message));
        let cookie = match cookie.strip_prefix('~') {
            Some(text) => CookieName::Pattern(pattern(call, text, true)?),
            None => CookieName::Named(value(cookie)?),
        };
        let flags = flags.iter().map(|flag| {
            let compiled = value(flag)?;
            let known = |text| Flags::default().add(text);
            match compiled.as_text().is_none_or(known) {
                true => Ok(compiled),
                false => Err(call.invalid_parameter(flag)),
            }
        });
        Ok(CookieFlags {
            cookie,
            flags: flags.collect::<Result<_, Fault>>()?,
        })
    })
}

/// Fills in what these directives say of the answers that a location gets.
pub fn settings(proxy: &mut Proxy, common: &Common, pass: &ProxyPass, location: &str) {
    proxy.hidden = hidden(common);
    proxy.intercept_errors = common
        .proxy_intercept_errors
        .unwrap_or(proxy.intercept_errors);
    proxy.ignored = IgnoredHeaders(common.proxy_ignore_headers.unwrap_or_default());
    proxy.redirects = match &common.proxy_redirects {
        Some(redirects) => redirects.clone(),
        None => redirect_of(pass, location).into_iter().collect(),
    };
    let rules = |rules: &Option<Vec<Rewrite>>| rules.clone().unwrap_or_default();
    proxy.cookie_domains = rules(&common.proxy_cookie_domains);
    proxy.cookie_paths = rules(&common.proxy_cookie_paths);
    proxy.cookie_flags = common.proxy_cookie_flags.clone().unwrap_or_default();
}

fn hidden(common: &Common) -> Hidden {
    let passed = common.proxy_pass_headers.as_deref().unwrap_or_default();
    let names = common.proxy_hide_headers.as_deref().unwrap_or_default();
    let known = |name: &String| Some(Known::of(name.as_bytes()));
    Hidden {
        names: names
            .iter()
            .filter(|name| !passed.contains(name))
            .map(|name| name.clone().into_bytes())
            .collect(),
        passed: passed
            .iter()
            .filter_map(known)
            .filter(|known| known.is_hidden_from_client())
            .collect(),
    }
}
