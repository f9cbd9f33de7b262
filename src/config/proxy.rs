//! `proxy_pass` and what shapes it.

pub mod connection;
pub mod failover;
pub mod request;
pub mod response;

use weir_master::settings::Server;

use super::directive::{Directive, LEVELS, LOCATION, Set, row, take};
use super::draft::{Draft, HandlerDraft, ProxyPass, UpstreamDraft};
use super::error::Fault;
use super::parser::{Call, Parser};
use super::url::{self, Rules, Url};
use super::variable::{has_variables, template};

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "proxy_connect_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().proxy_connect_timeout),
    ),
    row("proxy_pass", LOCATION, take(1), Set::Call(proxy_pass)),
    row(
        "proxy_pass_trailers",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().proxy_pass_trailers),
    ),
    row(
        "proxy_read_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().proxy_read_timeout),
    ),
    row(
        "proxy_send_timeout",
        LEVELS,
        take(1),
        Set::Millis(|draft| &mut draft.common().proxy_send_timeout),
    ),
];

/// A byte of a field's name (RFC 9110, section 5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn proxy_pass(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    if matches!(parser.draft.level().handler, Some(HandlerDraft::Proxy(_))) {
        return Err(call.blame("is duplicate"));
    }
    let pass = if has_variables(call.value()) {
        check_scheme(call)?;
        ProxyPass::Named(template(call.value()).map_err(|message| call.fault(message))?)
    } else {
        let target = after_scheme(call)?;
        let rules = Rules {
            listen: false,
            uri: true,
            default_port: 80,
        };
        let url = url::parse(target, rules)
            .map_err(|reason| call.fault(format!("{reason} in upstream \"{target}\"")))?;
        if parser.draft.level().named && url.uri.is_some() {
            return Err(call.fault(
                "\"proxy_pass\" cannot have URI part in location given by regular expression, \
                 or inside named location, or inside \"if\" statement, or inside \"limit_except\" block",
            ));
        }
        let upstream = reference(&mut parser.draft, call, &url)?;
        ProxyPass::Known {
            upstream,
            host: url.host_header(),
            port: url.port,
            url: call.value().to_owned(),
            uri: url.uri,
        }
    };
    parser.draft.level().handler = Some(HandlerDraft::Proxy(pass));
    Ok(())
}

/// What follows `http://`.
fn after_scheme(call: &Call) -> Result<&str, Fault> {
    check_scheme(call)?;
    let value = call.value();
    if starts_with(value, "http://") {
        Ok(&value["http://".len()..])
    } else {
        Err(call.fault("invalid URL prefix"))
    }
}

fn check_scheme(call: &Call) -> Result<(), Fault> {
    if starts_with(call.value(), "https://") {
        return Err(call
            .fault("https protocol requires SSL support")
            .with_note("weir does not have it"));
    }
    Ok(())
}

fn starts_with(value: &str, scheme: &str) -> bool {
    let start = value.get(..scheme.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// The upstream that a URL names: a block, which may come later, or one of its own.
fn reference(draft: &mut Draft, call: &Call, url: &Url) -> Result<usize, Fault> {
    let upstreams = &mut draft.http().upstreams;
    for (index, known) in upstreams.iter().enumerate() {
        if !known.name.eq_ignore_ascii_case(&url.text) {
            continue;
        }
        if known.explicit && !url.no_port {
            return Err(call.fault(format!(
                "upstream \"{}\" may not have port {}",
                url.text, url.port
            )));
        }
        if known.explicit || known.port == url.port {
            return Ok(index);
        }
    }
    let server = Server {
        // nginx names what has no block without its port.
        host: url::server(url, &url.text),
        weight: 1,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        resolve: false,
        place: call.place(),
    };
    upstreams.push(UpstreamDraft {
        name: url.text.clone(),
        port: url.port,
        no_port: url.no_port,
        place: call.place(),
        servers: vec![server],
        ..UpstreamDraft::default()
    });
    Ok(upstreams.len() - 1)
}
