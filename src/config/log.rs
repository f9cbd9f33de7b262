//! `access_log`, `error_log`, `log_format` and `open_log_file_cache`.

use std::sync::Arc;
use std::time::Duration;

use weir_master::settings::{Resource, UpsyncLog};
use weir_worker::settings::{
    AccessLog, Escape, Level, LogBuffer, LogFileCache, LogFormat, LogName, LogTarget, Part,
    Template, Variable,
};

use super::directive::{Directive, HTTP, LEVELS, MAIN, Set, at_least, between, once, row, take};
use super::error::Fault;
use super::listen::unsupported;
use super::parser::{Call, Parser};
use super::unit;
use super::variable::{Wrong, compile, has_variables, template};

/// nginx's `combined`.
pub const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
    $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// nginx's levels, the most severe first, and ours.
const LEVEL_NAMES: [(&str, Level); 8] = [
    ("emerg", Level::Emerg),
    ("alert", Level::Alert),
    ("crit", Level::Crit),
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("notice", Level::Notice),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

/// nginx's defaults of `open_log_file_cache`; it has none of `max`.
const CACHE: LogFileCache = LogFileCache {
    max: 0,
    inactive: Duration::from_secs(10),
    valid: Duration::from_secs(60),
    min_uses: 1,
};

/// The most files that `open_log_file_cache` may keep open.
const MOST_CACHED: u64 = 1 << 20;

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("access_log", LEVELS, at_least(1), Set::Call(access_log)),
    row(
        "error_log",
        MAIN.or(LEVELS),
        at_least(1),
        Set::Call(error_log),
    ),
    row("log_format", HTTP, at_least(2), Set::Call(log_format)),
    // weir looks for no files and makes no subrequests.
    row("log_not_found", LEVELS, take(1), Set::IgnoredFlag),
    row("log_subrequest", LEVELS, take(1), Set::IgnoredFlag),
    row(
        "open_log_file_cache",
        LEVELS,
        between(1, 4),
        Set::Call(open_log_file_cache),
    ),
    row("upsync_log", HTTP, between(1, 2), Set::Call(upsync_log)),
];

fn error_log(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let name = call.value();
    let resource = if name == "stderr" {
        Resource::Stderr
    } else if name.starts_with("syslog:") || name.starts_with("memory:") {
        return Err(call.fault(format!("error_log to \"{name}\" is not supported by weir")));
    } else {
        Resource::Log(parser.source.paths().full(name).into())
    };
    let level = level(call)?;
    let resource = parser.draft.resource(resource);
    let target = LogTarget { resource, level };
    let logs = if call.context == MAIN {
        &mut parser.draft.main.error_logs
    } else {
        &mut parser.draft.common().error_logs
    };
    logs.get_or_insert_default().push(target);
    Ok(())
}

/// The level of an `error_log`: a name, or some of nginx's `debug_*`, which here are all `debug`.
fn level(call: &Call) -> Result<Level, Fault> {
    let names = &call.values()[1..];
    let known = |name: &String| {
        let level = LEVEL_NAMES.iter().find(|(known, _)| known == name);
        level.map(|(_, level)| *level)
    };
    let debug = |name: &str| {
        ["core", "alloc", "mutex", "event", "http"]
            .iter()
            .any(|part| name.strip_prefix("debug_") == Some(part))
    };
    let (mut level, mut parts) = (None, false);
    for name in names {
        match known(name) {
            Some(found) if level.is_none() && !parts => level = Some(found),
            Some(_) => return Err(call.fault(format!("duplicate log level \"{name}\""))),
            None if level.is_none() && debug(name) => parts = true,
            None => return Err(call.fault(format!("invalid log level \"{name}\""))),
        }
    }
    Ok(match level {
        _ if parts => Level::Debug,
        level => level.unwrap_or(Level::Error),
    })
}

/// `upsync_log FILE [json]`
fn upsync_log(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let json = match call.values().get(1).map(String::as_str) {
        None => false,
        Some("json") => true,
        Some(other) => return Err(call.invalid_parameter(other)),
    };
    let path = parser.source.paths().full(call.value());
    let resource = parser.draft.resource(Resource::Log(path.into()));
    once(&mut parser.draft.http().upsync_log, call, || {
        Ok(UpsyncLog { resource, json })
    })
}

fn access_log(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let [name, rest @ ..] = call.values() else {
        return Ok(());
    };
    if name == "off" {
        if let Some(more) = rest.first() {
            return Err(call.invalid_parameter(more));
        }
        let level = parser.draft.level();
        level.access_off = true;
        level.common.access_logs = Some(Vec::new());
        return Ok(());
    }
    if name.starts_with("syslog:") {
        return Err(call.fault(format!("access_log to \"{name}\" is not supported by weir")));
    }
    let path = parser.source.paths().full(name);
    let to = if has_variables(name) {
        LogName::Path(template(&path).map_err(|message| call.fault(message))?)
    } else {
        LogName::File(parser.draft.resource(Resource::Log(path.into())))
    };
    let log = AccessLog {
        format: format(parser, call, rest.first())?,
        filter: parameters(parser, call, &to)?,
        to,
    };
    if parser.draft.level().access_off {
        return Ok(());
    }
    parser
        .draft
        .common()
        .access_logs
        .get_or_insert_default()
        .push(log);
    Ok(())
}

/// The format of this name, in any case of letters as in nginx; without a name `combined`.
fn format(
    parser: &mut Parser,
    call: &Call,
    name: Option<&String>,
) -> Result<Arc<LogFormat>, Fault> {
    let name = name.map_or("combined", String::as_str);
    if name.eq_ignore_ascii_case("combined") {
        return Ok(combined());
    }
    let mut formats = parser.draft.http().formats.iter();
    match formats.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, format)) => Ok(Arc::clone(format)),
        None => Err(call.fault(format!("unknown log format \"{name}\""))),
    }
}

/// What follows the format: a buffer, which the file gets, and the condition.
fn parameters(parser: &mut Parser, call: &Call, to: &LogName) -> Result<Option<Template>, Fault> {
    let (mut size, mut flush, mut filter) = (None, None, None);
    for parameter in call.values().iter().skip(2) {
        match parameter.split_once('=') {
            Some(("buffer", value)) => match unit::size(value).filter(|&size| size > 0) {
                None => return Err(call.fault(format!("invalid buffer size \"{value}\""))),
                known => size = known,
            },
            Some(("flush", value)) => match unit::millis(value).filter(|time| !time.is_zero()) {
                None => return Err(call.fault(format!("invalid flush time \"{value}\""))),
                known => flush = known,
            },
            Some(("if", value)) => {
                filter = Some(template(value).map_err(|message| call.fault(message))?);
            }
            Some(("gzip", _)) => return Err(unsupported(call, parameter)),
            None if parameter == "gzip" => return Err(unsupported(call, parameter)),
            _ => return Err(call.invalid_parameter(parameter)),
        }
    }
    let name = call.value();
    match (size, to) {
        (None, _) if flush.is_some() => {
            Err(call.fault(format!("no buffer is defined for access_log \"{name}\"")))
        }
        (Some(_), LogName::Path(_)) => {
            Err(call.fault("buffered logs cannot have variables in name"))
        }
        (Some(size), LogName::File(id)) => {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let buffer = LogBuffer { size, flush };
            let known = parser.draft.http().log_buffers.insert(*id, buffer);
            if known.is_some_and(|known| known != buffer) {
                return Err(call.fault(format!(
                    "access_log \"{name}\" already defined with conflicting parameters"
                )));
            }
            Ok(filter)
        }
        (None, _) => Ok(filter),
    }
}

/// nginx's default format.
pub fn combined() -> Arc<LogFormat> {
    Arc::new(LogFormat {
        line: template(COMBINED).unwrap_or_default(),
        escape: Escape::Default,
    })
}

fn log_format(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let name = call.value();
    let mut known = parser.draft.http().formats.iter();
    if name == "combined" || known.any(|(known, _)| known == name) {
        return Err(call.fault(format!("duplicate \"log_format\" name \"{name}\"")));
    }
    let mut texts = &call.values()[1..];
    let mut escape = Escape::Default;
    if let Some(named) = texts[0].strip_prefix("escape=") {
        escape = match named {
            "default" => Escape::Default,
            "json" => Escape::Json,
            "none" => Escape::None,
            _ => return Err(call.fault(format!("unknown log format escaping \"{named}\""))),
        };
        texts = &texts[1..];
    }
    let mut line = Template::default();
    for text in texts {
        for part in compile(text, &[]).map_err(|wrong| wrong_format(call, &wrong))? {
            // A log has no pattern beside it whose groups could be meant.
            if let Part::Variable(Variable::Capture(group)) = part {
                return Err(call.fault(format!("unknown \"{group}\" variable")));
            }
            push(&mut line.parts, part);
        }
    }
    let format = Arc::new(LogFormat { line, escape });
    parser.draft.http().formats.push((name.to_owned(), format));
    Ok(())
}

fn wrong_format(call: &Call, wrong: &Wrong) -> Fault {
    match wrong {
        Wrong::Name(rest) => call.invalid_parameter(rest),
        Wrong::Variable(message) => call.fault(message),
    }
}

/// Texts of several parameters are one text.
fn push(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Text(text)), Part::Text(more)) => text.extend(more),
        (_, part) => parts.push(part),
    }
}

fn open_log_file_cache(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    if parser.draft.common().log_file_cache.is_some() {
        return Err(call.blame("is duplicate"));
    }
    let mut cache = CACHE;
    let mut off = false;
    for parameter in call.values() {
        let known = match parameter.split_once('=') {
            Some(("max", value)) => unit::number(value)
                .filter(|&max| max <= MOST_CACHED)
                .map(|max| cache.max = max as usize),
            Some(("inactive", value)) => unit::seconds(value).map(|time| cache.inactive = time),
            Some(("min_uses", value)) => unit::number(value).map(|uses| cache.min_uses = uses),
            Some(("valid", value)) => unit::seconds(value).map(|time| cache.valid = time),
            None if parameter == "off" => {
                off = true;
                Some(())
            }
            _ => None,
        };
        if known.is_none() {
            return Err(call.fault(format!(
                "invalid \"open_log_file_cache\" parameter \"{parameter}\""
            )));
        }
    }
    if !off && cache.max == 0 {
        return Err(call.fault("\"open_log_file_cache\" must have \"max\" parameter"));
    }
    let caches = &mut parser.draft.http().log_caches;
    let place = (!off).then(|| {
        caches.push(cache);
        caches.len() - 1
    });
    parser.draft.common().log_file_cache = Some(place);
    Ok(())
}
