//! Bodies: how much of them is held, where, and how fast they go.

use std::sync::Arc;

use weir_worker::settings::{
    Buffering, ClientBody, InFileOnly, LocationSettings, TempFolder, Template,
};

use super::directive::{Directive, LEVELS, Set, between, once, row, take};
use super::draft::{Common, Level};
use super::error::Fault;
use super::parser::{Call, Parser};
use super::unit;
use super::variable::{has_variables, template};

/// Digits that a temporary file's name has: the folders below `*_temp_path` are named after some.
const NAME_DIGITS: usize = 10;

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row(
        "client_body_buffer_size",
        LEVELS,
        take(1),
        Set::Size(|draft| &mut draft.common().client_body_buffer_size),
    ),
    row(
        "client_body_in_file_only",
        LEVELS,
        take(1),
        Set::Call(client_body_in_file_only),
    ),
    row(
        "client_body_in_single_buffer",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().client_body_in_single_buffer),
    ),
    row(
        "client_body_temp_path",
        LEVELS,
        between(1, 4),
        Set::Call(client_body_temp_path),
    ),
    row("limit_rate", LEVELS, take(1), Set::Call(limit_rate)),
    row(
        "limit_rate_after",
        LEVELS,
        take(1),
        Set::Call(limit_rate_after),
    ),
    row(
        "proxy_buffer_size",
        LEVELS,
        take(1),
        Set::Size(|draft| &mut draft.common().proxy_buffer_size),
    ),
    row(
        "proxy_buffering",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().proxy_buffering),
    ),
    row("proxy_buffers", LEVELS, take(2), Set::Call(proxy_buffers)),
    row(
        "proxy_busy_buffers_size",
        LEVELS,
        take(1),
        Set::Size(|draft| &mut draft.common().proxy_busy_buffers_size),
    ),
    row(
        "proxy_limit_rate",
        LEVELS,
        take(1),
        Set::Call(proxy_limit_rate),
    ),
    row(
        "proxy_max_temp_file_size",
        LEVELS,
        take(1),
        Set::Size(|draft| &mut draft.common().proxy_max_temp_file_size),
    ),
    row(
        "proxy_request_buffering",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().proxy_request_buffering),
    ),
    row(
        "proxy_temp_file_write_size",
        LEVELS,
        take(1),
        Set::Size(|draft| &mut draft.common().proxy_temp_file_write_size),
    ),
    row(
        "proxy_temp_path",
        LEVELS,
        between(1, 4),
        Set::Call(proxy_temp_path),
    ),
];

fn client_body_in_file_only(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = &mut parser.draft.common().client_body_in_file_only;
    once(place, call, || {
        match call.value().to_ascii_lowercase().as_str() {
            "off" => Ok(InFileOnly::Off),
            "on" => Ok(InFileOnly::On),
            "clean" => Ok(InFileOnly::Clean),
            _ => Err(call.fault(format!("invalid value \"{}\"", call.value()))),
        }
    })
}

fn client_body_temp_path(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let folder = temp_path(parser, call);
    let place = &mut parser.draft.common().client_body_temp_path;
    once(place, call, || folder)
}

fn proxy_temp_path(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let folder = temp_path(parser, call);
    once(&mut parser.draft.common().proxy_temp_path, call, || folder)
}

/// A folder and the widths of the names of the folders below it.
fn temp_path(parser: &Parser, call: &Call) -> Result<Arc<TempFolder>, Fault> {
    let mut levels = Vec::new();
    for level in &call.values()[1..] {
        match unit::number(level).and_then(|level| usize::try_from(level).ok()) {
            Some(level @ 1..=NAME_DIGITS) => levels.push(level),
            _ => return Err(call.blame("invalid value")),
        }
    }
    if levels.iter().sum::<usize>() > NAME_DIGITS {
        return Err(call.blame("invalid value"));
    }
    let path = call.value().strip_suffix('/').unwrap_or(call.value());
    let path = parser.source.paths().full(path).into();
    Ok(Arc::new(TempFolder { path, levels }))
}

fn proxy_buffers(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.common().proxy_buffers, call, || {
        let number = unit::number(call.value()).filter(|number| *number > 0);
        let size = unit::size(&call.values()[1]).filter(|size| *size > 0);
        number.zip(size).ok_or_else(|| call.blame("invalid value"))
    })
}

fn limit_rate(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = &mut parser.draft.common().limit_rate;
    once(place, call, || size_or_variables(call))
}

fn limit_rate_after(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = &mut parser.draft.common().limit_rate_after;
    once(place, call, || size_or_variables(call))
}

fn proxy_limit_rate(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = &mut parser.draft.common().proxy_limit_rate;
    once(place, call, || size_or_variables(call))
}

/// A size as nginx writes them; with variables it is known with the request only.
fn size_or_variables(call: &Call) -> Result<Template, Fault> {
    let value = call.value();
    if !has_variables(value) && unit::size(value).is_none() {
        return Err(call.blame("invalid value"));
    }
    template(value).map_err(|message| call.fault(message))
}

/// What becomes of a request's body.
pub fn client_body(common: &Common) -> ClientBody {
    let nginx = LocationSettings::default().client_body;
    ClientBody {
        buffer_size: common
            .client_body_buffer_size
            .map_or(nginx.buffer_size, whole),
        temp: common.client_body_temp_path.clone().unwrap_or(nginx.temp),
        in_file_only: common
            .client_body_in_file_only
            .unwrap_or(nginx.in_file_only),
    }
}

/// What becomes of the bodies of a `proxy_pass`.
pub fn buffering(common: &Common) -> Buffering {
    let nginx = Buffering::default();
    Buffering {
        request: common.proxy_request_buffering.unwrap_or(nginx.request),
        response: common.proxy_buffering.unwrap_or(nginx.response),
        head_size: common.proxy_buffer_size.map_or(nginx.head_size, whole),
        buffers: common
            .proxy_buffers
            .map_or(nginx.buffers, |(number, size)| (whole(number), whole(size))),
        max_temp_file_size: common
            .proxy_max_temp_file_size
            .unwrap_or(nginx.max_temp_file_size),
        temp: common.proxy_temp_path.clone().unwrap_or(nginx.temp),
        limit_rate: common.proxy_limit_rate.clone(),
    }
}

/// nginx's rules between the sizes, which hold at every level.
pub fn check(level: &Level, common: &Common) -> Result<(), Fault> {
    let refuse = |message: &str| Err(Fault::at(level.place.clone(), message));
    let buffering = buffering(common);
    let (number, size) = buffering.buffers;
    if number < 2 {
        return refuse("there must be at least 2 \"proxy_buffers\"");
    }
    let largest = buffering.head_size.max(size) as u64;
    let busy = common.proxy_busy_buffers_size.unwrap_or(2 * largest);
    if busy < largest {
        return refuse(
            "\"proxy_busy_buffers_size\" must be equal to or greater than the maximum of the \
             value of \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        );
    }
    if busy > (number as u64 - 1).saturating_mul(size as u64) {
        return refuse(
            "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" \
             minus one buffer",
        );
    }
    if common.proxy_temp_file_write_size.unwrap_or(largest) < largest {
        return refuse(
            "\"proxy_temp_file_write_size\" must be equal to or greater than the maximum of the \
             value of \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        );
    }
    if (1..largest).contains(&buffering.max_temp_file_size) {
        return refuse(
            "\"proxy_max_temp_file_size\" must be equal to zero to disable temporary files usage \
             or must be equal to or greater than the maximum of the value of \
             \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        );
    }
    Ok(())
}

/// Sizes are below 2^63, and so is memory.
fn whole(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
