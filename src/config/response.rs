//! What answers carry: `return`, `error_page`, `add_header`, `add_trailer`, media types.

use std::sync::Arc;

use weir_worker::http::Expires;
use weir_worker::settings::{AddHeader, ErrorAnswer, ErrorPage, ExpiresRule, Return};

use super::directive::{
    Directive, LEVELS, LOCATION, SERVER, Set, at_least, between, block, once, row, take,
};
use super::draft::Inherit;
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;
use super::variable::{has_variables, template};

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "absolute_redirect",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().absolute_redirect),
    ),
    row("add_header", LEVELS, between(2, 3), Set::Call(add_header)),
    row(
        "default_type",
        LEVELS,
        take(1),
        Set::Text(|draft| &mut draft.common().default_type),
    ),
    row(
        "add_header_inherit",
        LEVELS,
        take(1),
        Set::Call(add_header_inherit),
    ),
    row("add_trailer", LEVELS, between(2, 3), Set::Call(add_trailer)),
    row(
        "add_trailer_inherit",
        LEVELS,
        take(1),
        Set::Call(add_trailer_inherit),
    ),
    row("expires", LEVELS, between(1, 2), Set::Call(expires)),
    row("error_page", LEVELS, at_least(2), Set::Call(error_page)),
    row(
        "msie_padding",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().msie_padding),
    ),
    row(
        "port_in_redirect",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().port_in_redirect),
    ),
    row(
        "recursive_error_pages",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().recursive_error_pages),
    ),
    row(
        "return",
        SERVER.or(LOCATION),
        between(1, 2),
        Set::Call(returned),
    ),
    row(
        "server_name_in_redirect",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().server_name_in_redirect),
    ),
    row("types", LEVELS, block(0, 0), Set::Call(types)),
];

fn add_header(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let mut header = added(call)?;
    header.replaces = ["last-modified", "etag"]
        .iter()
        .any(|replaced| header.name.eq_ignore_ascii_case(replaced.as_bytes()));
    let common = parser.draft.common();
    common.add_headers.get_or_insert_default().push(header);
    Ok(())
}

fn add_trailer(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let trailer = added(call)?;
    let common = parser.draft.common();
    common.add_trailers.get_or_insert_default().push(trailer);
    Ok(())
}

/// `NAME VALUE [always]`
fn added(call: &Call) -> Result<AddHeader, Fault> {
    let [name, value, rest @ ..] = call.values() else {
        return Err(call.blame("invalid number of arguments"));
    };
    if name.is_empty() || !name.bytes().all(super::proxy::is_token) {
        return Err(call.fault(format!("invalid header name \"{name}\"")));
    }
    let value = template(value).map_err(|message| call.fault(message))?;
    let always = match rest.first().map(String::as_str) {
        None => false,
        Some("always") => true,
        Some(other) => return Err(call.invalid_parameter(other)),
    };
    Ok(AddHeader {
        name: name.clone().into_bytes(),
        value,
        always,
        replaces: false,
    })
}

fn add_header_inherit(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    inherit(&mut parser.draft.common().add_header_inherit, call)
}

fn add_trailer_inherit(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    inherit(&mut parser.draft.common().add_trailer_inherit, call)
}

fn inherit(slot: &mut Option<Inherit>, call: &Call) -> Result<(), Fault> {
    once(slot, call, || match call.value() {
        "off" => Ok(Inherit::Off),
        "on" => Ok(Inherit::On),
        "merge" => Ok(Inherit::Merge),
        value => Err(call.fault(format!("invalid value \"{value}\""))),
    })
}

/// `expires [modified] TIME | epoch | max | off`
fn expires(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.common().expires, call, || {
        let (modified, value) = match call.values() {
            [value] => (false, value),
            [modified, value] if modified == "modified" => (true, value),
            _ => return Err(call.blame("invalid value")),
        };
        if has_variables(value) {
            let value = template(value).map_err(|message| call.fault(message))?;
            return Ok(ExpiresRule::Variable { modified, value });
        }
        let expires = Expires::parse(value, modified).map_err(|reason| call.blame(reason))?;
        Ok(ExpiresRule::Fixed(expires))
    })
}

/// `error_page CODE … [=[CODE]] TARGET`
fn error_page(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let [codes @ .., target] = call.values() else {
        return Ok(());
    };
    let invalid = |value: &str| call.fault(format!("invalid value \"{value}\""));
    let (codes, answer) = match codes {
        [codes @ .., last] if last.starts_with('=') => {
            let code = &last[1..];
            let answer = match code {
                "" => ErrorAnswer::Handlers,
                code => match unit::number(code).and_then(|code| u16::try_from(code).ok()) {
                    Some(0) => ErrorAnswer::Handlers,
                    Some(code) => ErrorAnswer::Code(code),
                    None => return Err(invalid(last)),
                },
            };
            if codes.is_empty() {
                return Err(invalid(last));
            }
            (codes, answer)
        }
        codes => (codes, ErrorAnswer::Kept),
    };
    let target = template(target).map_err(|message| call.fault(message))?;
    for code in codes {
        let status = unit::number(code)
            .filter(|&status| status != 499)
            .ok_or_else(|| invalid(code))?;
        let status = u16::try_from(status)
            .ok()
            .filter(|status| (300..=599).contains(status))
            .ok_or_else(|| call.fault(format!("value \"{code}\" must be between 300 and 599")))?;
        let pages = parser.draft.common().error_pages.get_or_insert_default();
        pages.push(ErrorPage {
            status,
            answer,
            target: target.clone(),
        });
    }
    Ok(())
}

fn returned(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let value = call.value();
    let bad = || call.fault(format!("invalid return code \"{value}\""));
    let is_url = ["http://", "https://", "$scheme"]
        .iter()
        .any(|start| value.starts_with(start));
    let (status, text) = match (unit::number(value), call.values().get(1)) {
        (Some(status), text) => (
            u16::try_from(status).map_err(|_| bad())?,
            text.map(String::as_str),
        ),
        (None, None) if is_url => (302, Some(value)),
        (None, _) => return Err(bad()),
    };
    if status > 999 {
        return Err(bad());
    }
    let text = match text {
        Some(text) => Some(template(text).map_err(|message| call.fault(message))?),
        None => None,
    };
    // The first of several ends the request; nginx checks the others and never comes to them.
    parser
        .draft
        .level()
        .ret
        .get_or_insert(Return { status, text });
    Ok(())
}

fn types(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    parser.draft.common().types.get_or_insert_default();
    parser.block_of(call.context, one_type)
}

/// A line of `types {}`: a media type and its file extensions.
fn one_type(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    if call.name() == "include" {
        if call.values().len() != 1 {
            return Err(call.fault("invalid number of arguments in \"include\" directive"));
        }
        return parser.include(call);
    }
    let media_type = call.name();
    let types = Arc::make_mut(parser.draft.common().types.get_or_insert_default());
    for extension in call.values() {
        let extension = extension.to_ascii_lowercase();
        let old = types.insert(
            extension.clone().into_bytes(),
            media_type.as_bytes().to_vec(),
        );
        if let Some(old) = old {
            let old = String::from_utf8_lossy(&old);
            parser.warnings.push(call.fault(format!(
                "duplicate extension \"{extension}\", content type: \"{media_type}\", previous content type: \"{old}\""
            )));
        }
    }
    Ok(())
}
