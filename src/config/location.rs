//! `location`, and who may come in.

use std::net::IpAddr;

use weir_worker::settings::{AccessFrom, AccessRule, LocationKind};

use super::directive::{
    Contexts, Directive, LEVELS, LOCATION, SERVER, Set, between, block, once, row, take,
};
use super::draft::{HandlerDraft, Level};
use super::error::Fault;
use super::parser::{Call, Parser};

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("allow", LEVELS, take(1), Set::Call(access)),
    row("deny", LEVELS, take(1), Set::Call(access)),
    row("internal", LOCATION, take(0), Set::Call(internal)),
    row(
        "location",
        SERVER.or(LOCATION),
        block(1, 2),
        Set::Call(location),
    ),
    row(
        "stub_status",
        SERVER.or(LOCATION),
        between(0, 1),
        Set::Call(stub_status),
    ),
    row("upstream_show", LOCATION, take(0), Set::Call(upstream_show)),
];

fn location(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let (kind, path) = match call.values() {
        [modifier, path] => match modifier.as_str() {
            "=" => (LocationKind::Exact, path.as_str()),
            "^~" => (LocationKind::PrefixNoRegex, path.as_str()),
            "~" | "~*" => return Err(regex(call, path)),
            _ => return Err(call.fault(format!("invalid location modifier \"{modifier}\""))),
        },
        _ => {
            let value = call.value();
            if let Some(path) = value.strip_prefix('=') {
                (LocationKind::Exact, path)
            } else if let Some(path) = value.strip_prefix("^~") {
                (LocationKind::PrefixNoRegex, path)
            } else if value.starts_with('~') {
                return Err(regex(call, value.trim_start_matches(['~', '*'])));
            } else {
                (LocationKind::Prefix, value)
            }
        }
    };
    let named = call.values().len() == 1 && path.starts_with('@') && kind == LocationKind::Prefix;
    let named = named && call.value() == path;
    if call.context == LOCATION {
        check_nesting(parser.draft.level(), call, path, named)?;
    }
    let level = Level {
        place: call.place(),
        kind: Some(kind),
        named,
        path: path.to_owned(),
        ..Level::default()
    };
    add(parser, call, level, LOCATION)
}

fn regex(call: &Call, pattern: &str) -> Fault {
    call.fault(format!(
        "location by regular expression \"{pattern}\" is not supported by weir"
    ))
}

fn check_nesting(outer: &Level, call: &Call, path: &str, named: bool) -> Result<(), Fault> {
    if outer.kind == Some(LocationKind::Exact) {
        return Err(call.fault(format!(
            "location \"{path}\" cannot be inside the exact location \"{}\"",
            outer.path
        )));
    }
    if outer.named {
        return Err(call.fault(format!(
            "location \"{path}\" cannot be inside the named location \"{}\"",
            outer.path
        )));
    }
    if named {
        return Err(call.fault(format!(
            "named location \"{path}\" can be on the server level only"
        )));
    }
    if !path.starts_with(&outer.path) {
        return Err(call.fault(format!(
            "location \"{path}\" is outside location \"{}\"",
            outer.path
        )));
    }
    Ok(())
}

fn add(parser: &mut Parser, call: &Call, level: Level, context: Contexts) -> Result<(), Fault> {
    let exact = level.kind == Some(LocationKind::Exact);
    let twin = |known: &Level| {
        (known.kind == Some(LocationKind::Exact)) == exact && known.path == level.path
    };
    // nginx takes the first of several named locations of one name, and says nothing of the others.
    if !level.named && parser.draft.level().locations.iter().any(twin) {
        return Err(call.fault(format!("duplicate location \"{}\"", level.path)));
    }
    parser.draft.enter(level);
    let read = parser.block(context);
    let level = parser.draft.leave();
    parser.draft.level().locations.push(level);
    read
}

fn access(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let value = call.value();
    let from = match value {
        "all" => AccessFrom::All,
        "unix:" => AccessFrom::Unix,
        _ => {
            let (from, exact) = network(value).ok_or_else(|| call.invalid_parameter(value))?;
            if !exact {
                let warning = call.fault(format!("low address bits of {value} are meaningless"));
                parser.warnings.push(warning);
            }
            from
        }
    };
    let rule = AccessRule {
        allow: call.name() == "allow",
        from,
    };
    parser
        .draft
        .common()
        .access
        .get_or_insert_default()
        .push(rule);
    Ok(())
}

/// An address or a network, and whether its host bits were clear.
fn network(text: &str) -> Option<(AccessFrom, bool)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => super::unit::number(length).and_then(|length| u8::try_from(length).ok())?,
        None => width,
    };
    if length > width {
        return None;
    }
    let cleared = match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    };
    Some((AccessFrom::Network(cleared, length), cleared == address))
}

fn internal(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.common().internal, call, || Ok(true))
}

fn stub_status(parser: &mut Parser, _: &Call) -> Result<(), Fault> {
    parser.draft.level().handler = Some(HandlerDraft::StubStatus);
    Ok(())
}

fn upstream_show(parser: &mut Parser, _: &Call) -> Result<(), Fault> {
    parser.draft.level().handler = Some(HandlerDraft::UpstreamShow);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let of = |text| {
            network(text).map(|(from, exact)| match from {
                AccessFrom::Network(ip, length) => (format!("{ip}/{length}"), exact),
                _ => unreachable!(),
            })
        };
        assert_eq!(of("10.0.0.1"), Some(("10.0.0.1/32".into(), true)));
        assert_eq!(of("10.0.0.1/8"), Some(("10.0.0.0/8".into(), false)));
        assert_eq!(of("0.0.0.0/0"), Some(("0.0.0.0/0".into(), true)));
        assert_eq!(of("1.2.3.4/0"), Some(("0.0.0.0/0".into(), false)));
        assert_eq!(of("2001:db8::/32"), Some(("2001:db8::/32".into(), true)));
        assert_eq!(of("::1/0"), Some(("::/0".into(), false)));
        for bad in [
            "",
            "x",
            "10.0.0.1/33",
            "10.0.0.1/",
            "10.0.0.1/-1",
            "::1/129",
            "10.0.0/8",
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
