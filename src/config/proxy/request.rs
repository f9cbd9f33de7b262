//! What is sent to upstream servers.

use weir_worker::settings::{Proxy, Template};

use crate::config::directive::{Directive, LEVELS, Set, once, row, take};
use crate::config::draft::Common;
use crate::config::error::Fault;
use crate::config::parser::{Call, Parser};
use crate::config::variable::template;

use super::is_token;

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "proxy_http_version",
        LEVELS,
        take(1),
        Set::Call(proxy_http_version),
    ),
    row("proxy_method", LEVELS, take(1), Set::Call(proxy_method)),
    row(
        "proxy_pass_request_body",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().proxy_pass_request_body),
    ),
    row(
        "proxy_pass_request_headers",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().proxy_pass_request_headers),
    ),
    row("proxy_set_body", LEVELS, take(1), Set::Call(proxy_set_body)),
    row(
        "proxy_set_header",
        LEVELS,
        take(2),
        Set::Call(proxy_set_header),
    ),
];

fn proxy_http_version(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(
        &mut parser.draft.common().proxy_http_minor,
        call,
        || match call.value() {
            "1.0" => Ok(0),
            "1.1" => Ok(1),
            "2" => Err(call.fault("HTTP/2 to upstream servers is not supported by weir")),
            value => Err(call.fault(format!("invalid value \"{value}\""))),
        },
    )
}

fn proxy_set_header(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let name = call.value().to_owned();
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(call.fault(format!("invalid header name \"{name}\"")));
    }
    let value = template(&call.values()[1]).map_err(|message| call.fault(message))?;
    parser
        .draft
        .common()
        .proxy_set_headers
        .get_or_insert_default()
        .push((name, value));
    Ok(())
}

fn proxy_method(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.common().proxy_method, call, || {
        value(call)
    })
}

fn proxy_set_body(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.common().proxy_set_body, call, || {
        value(call)
    })
}

fn value(call: &Call) -> Result<Template, Fault> {
    template(call.value()).map_err(|message| call.fault(message))
}

/// Fills in what these directives say of a location's requests.
pub fn settings(proxy: &mut Proxy, common: &Common) {
    proxy.http_minor = common.proxy_http_minor.unwrap_or(proxy.http_minor);
    proxy.method.clone_from(&common.proxy_method);
    proxy.set_body.clone_from(&common.proxy_set_body);
    proxy.pass_request_headers = common
        .proxy_pass_request_headers
        .unwrap_or(proxy.pass_request_headers);
    proxy.pass_request_body = common
        .proxy_pass_request_body
        .unwrap_or(proxy.pass_request_body);
    let given = common.proxy_set_headers.as_deref().unwrap_or_default();
    for (name, value) in given {
        if name.eq_ignore_ascii_case("Host") {
            proxy.set_host = Some(value.clone());
        } else if name.eq_ignore_ascii_case("Content-Length") {
            proxy.drop_length = value.parts.is_empty();
        } else if !name.eq_ignore_ascii_case("Transfer-Encoding") {
            let name = name.clone().into_bytes();
            proxy.set_headers.push((name, value.clone()));
        }
    }
}
