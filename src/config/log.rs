//! `error_log`, `access_log`, `log_format`.

use weir_master::settings::Resource;
use weir_worker::settings::{AccessLog, Level, LogTarget, Template};

use super::directive::{Directive, HTTP, LEVELS, MAIN, Set, at_least, row};
use super::error::Fault;
use super::listen::unsupported;
use super::parser::{Call, Parser};
use super::unit;
use super::variable::{has_variables, template};

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

/// The level of an `error_log`; several parameters can only be nginx's `debug_*`.
fn level(call: &Call) -> Result<Level, Fault> {
    let names = &call.values()[1..];
    let known = |name: &String| {
        let level = LEVEL_NAMES.iter().find(|(known, _)| known == name);
        level.map(|(_, level)| *level)
    };
    match names {
        [] => Ok(Level::Error),
        [name] if known(name).is_some() => Ok(known(name).unwrap_or(Level::Error)),
        _ => {
            let debug = |name: &&String| {
                ["core", "alloc", "mutex", "event", "http"]
                    .iter()
                    .any(|part| name.strip_prefix("debug_") == Some(part))
            };
            match names.iter().find(|name| !debug(name)) {
                Some(name) => Err(call.fault(format!("invalid log level \"{name}\""))),
                None => Ok(Level::Debug),
            }
        }
    }
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
    if has_variables(name) {
        return Err(call.fault(format!(
            "variables in the name of an access_log are not supported by weir: \"{name}\""
        )));
    }
    let format = format(parser, call, rest)?;
    let path = parser.source.paths().full(name);
    let resource = parser.draft.resource(Resource::Log(path.into()));
    if parser.draft.level().access_off {
        return Ok(());
    }
    let log = AccessLog { resource, format };
    parser
        .draft
        .common()
        .access_logs
        .get_or_insert_default()
        .push(log);
    Ok(())
}

/// The format that an `access_log` names, and nginx's parameters after it.
fn format(parser: &mut Parser, call: &Call, rest: &[String]) -> Result<Template, Fault> {
    let name = rest.first().map_or("combined", String::as_str);
    let format = match parser.draft.http().formats.get(name) {
        Some(format) => format.clone(),
        None if name == "combined" => combined(),
        None => return Err(call.fault(format!("unknown log format \"{name}\""))),
    };
    for parameter in rest.iter().skip(1) {
        let fine = match parameter.split_once('=') {
            // Each line is written at once: nginx's buffer only saves system calls.
            Some(("buffer", size)) => unit::size(size).is_some_and(|size| size > 0),
            Some(("flush", time)) => unit::millis(time).is_some_and(|time| !time.is_zero()),
            Some(("gzip" | "if", _)) => return Err(unsupported(call, parameter)),
            None if parameter == "gzip" => return Err(unsupported(call, parameter)),
            _ => return Err(call.invalid_parameter(parameter)),
        };
        if !fine {
            let name = parameter.split('=').next().unwrap_or_default();
            let what = if name == "buffer" {
                "buffer size"
            } else {
                "flush time"
            };
            let value = &parameter[name.len() + 1..];
            return Err(call.fault(format!("invalid {what} \"{value}\"")));
        }
    }
    Ok(format)
}

/// nginx's default format.
pub fn combined() -> Template {
    template(COMBINED).unwrap_or_default()
}

fn log_format(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let name = call.value();
    if name == "combined" || parser.draft.http().formats.contains_key(name) {
        return Err(call.fault(format!("duplicate \"log_format\" name \"{name}\"")));
    }
    let mut parts = &call.values()[1..];
    if let Some(escape) = parts[0].strip_prefix("escape=") {
        match escape {
            "default" => {}
            "json" | "none" => return Err(unsupported(call, &parts[0])),
            _ => return Err(call.fault(format!("unknown log format escaping \"{escape}\""))),
        }
        parts = &parts[1..];
    }
    let format = template(&parts.concat()).map_err(|message| call.fault(message))?;
    parser.draft.http().formats.insert(name.to_owned(), format);
    Ok(())
}
