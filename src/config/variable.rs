//! Values with variables.

use weir_worker::settings::{Part, Template, Variable};

/// What is wrong with a value.
pub enum Wrong {
    /// From this `$` on there is no name of a variable.
    Name(String),
    /// In nginx's words.
    Variable(String),
}

/// Compiles a value; the error is a message without its place.
pub fn template(text: &str) -> Result<Template, String> {
    template_with(text, &[])
}

/// As [`template`], beside a pattern whose groups have these names and numbers.
pub fn template_with(text: &str, groups: &[(&str, usize)]) -> Result<Template, String> {
    match compile(text, groups) {
        Ok(parts) => Ok(Template { parts }),
        Err(Wrong::Name(_)) => Err("invalid variable name".into()),
        Err(Wrong::Variable(message)) => Err(message),
    }
}

/// The parts of a value.
pub fn compile(text: &str, groups: &[(&str, usize)]) -> Result<Vec<Part>, Wrong> {
    let mut parts: Vec<Part> = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        push_text(&mut parts, before);
        if let Some((number, next)) = group_after(after) {
            parts.push(Part::Variable(Variable::Capture(number)));
            rest = next;
            continue;
        }
        let (name, next) = name_after(after)?;
        let named = groups.iter().find(|(group, _)| *group == name);
        if let Some((_, number)) = named {
            parts.push(Part::Variable(Variable::Capture(*number)));
            rest = next;
            continue;
        }
        let variable = variable(name).ok_or_else(|| {
            Wrong::Variable(match is_missing(name) {
                true => format!("the \"{name}\" variable is not supported by weir"),
                false => format!("unknown \"{name}\" variable"),
            })
        })?;
        parts.push(Part::Variable(variable));
        rest = next;
    }
    push_text(&mut parts, rest);
    Ok(parts)
}

/// Whether a value has a variable in it.
pub fn has_variables(text: &str) -> bool {
    text.contains('$')
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.as_bytes().to_vec()));
    }
}

/// `1` to `9` after a `$`: a group of the pattern that is at work, one digit.
fn group_after(after: &str) -> Option<(usize, &str)> {
    let digit = after
        .bytes()
        .next()
        .filter(|byte| (b'1'..=b'9').contains(byte))?;
    Some((usize::from(digit - b'0'), &after[1..]))
}

/// The name of a variable after its `$`, and what follows it.
fn name_after(after: &str) -> Result<(&str, &str), Wrong> {
    let braced = after.strip_prefix('{');
    let body = braced.unwrap_or(after);
    let end = body
        .find(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .unwrap_or(body.len());
    let (name, mut next) = body.split_at(end);
    if braced.is_some() && !body.is_empty() {
        next = next.strip_prefix('}').ok_or_else(|| {
            Wrong::Variable(format!(
                "the closing bracket in \"{name}\" variable is missing"
            ))
        })?;
    }
    if name.is_empty() {
        return Err(Wrong::Name(format!("${after}")));
    }
    Ok((name, next))
}

/// A variable by its name, in any case of letters, as in nginx.
pub fn variable(name: &str) -> Option<Variable> {
    let name = name.to_ascii_lowercase();
    if let Some((_, known)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
        return Some(known.clone());
    }
    FAMILIES.iter().find_map(|(prefix, family)| {
        let rest = name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        Some(match family {
            Family::Fields(variable) => variable(rest.replace('_', "-").into_bytes()),
            Family::Names(variable) => variable(rest.as_bytes().to_vec()),
        })
    })
}

/// The names of all variables; the end of a family is `NAME`.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = String> {
    let plain = PLAIN.iter().map(|(name, _)| (*name).to_owned());
    plain.chain(FAMILIES.iter().map(|(name, _)| format!("{name}NAME")))
}

/// nginx has it, and weir does not.
fn is_missing(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    MISSING.iter().any(|prefix| name.starts_with(prefix))
}

/// Beginnings of names that operators may know from nginx.
const MISSING: &[&str] = &[
    "ancient_browser",
    "date_gmt",
    "date_local",
    "document_root",
    "fastcgi_",
    "geoip_",
    "gzip_ratio",
    "http2",
    "http3",
    "invalid_referer",
    "limit_conn_status",
    "limit_req_status",
    "modern_browser",
    "msie",
    "proxy_internal_",
    "proxy_protocol_",
    "realip_remote_",
    "realpath_root",
    "request_filename",
    "secure_link",
    "slice_range",
    "ssl_",
    "tcpinfo_",
    "uid_",
    "upstream_cache_",
];

/// What the end of a name stands for.
enum Family {
    /// The name of a field, with `_` for `-`.
    Fields(fn(Vec<u8>) -> Variable),
    /// A name as it is.
    Names(fn(Vec<u8>) -> Variable),
}

/// Variables with a suffix, by their prefixes.
const FAMILIES: &[(&str, Family)] = &[
    ("arg_", Family::Names(Variable::Arg)),
    ("cookie_", Family::Names(Variable::Cookie)),
    ("http_", Family::Fields(Variable::Http)),
    ("sent_http_", Family::Fields(Variable::SentHttp)),
    ("sent_trailer_", Family::Fields(Variable::SentTrailer)),
    ("upstream_cookie_", Family::Names(Variable::UpstreamCookie)),
    ("upstream_http_", Family::Fields(Variable::UpstreamHttp)),
    (
        "upstream_trailer_",
        Family::Fields(Variable::UpstreamTrailer),
    ),
];

/// Variables without a suffix.
const PLAIN: &[(&str, Variable)] = &[
    ("args", Variable::Args),
    ("binary_remote_addr", Variable::BinaryRemoteAddr),
    ("body_bytes_sent", Variable::BodyBytesSent),
    ("bytes_sent", Variable::BytesSent),
    ("connection", Variable::Connection),
    ("connection_requests", Variable::ConnectionRequests),
    ("connection_time", Variable::ConnectionTime),
    ("connections_active", Variable::ConnectionsActive),
    ("connections_reading", Variable::ConnectionsReading),
    ("connections_waiting", Variable::ConnectionsWaiting),
    ("connections_writing", Variable::ConnectionsWriting),
    ("content_length", Variable::ContentLength),
    ("content_type", Variable::ContentType),
    ("document_uri", Variable::DocumentUri),
    ("host", Variable::Host),
    ("hostname", Variable::Hostname),
    ("https", Variable::Https),
    ("is_args", Variable::IsArgs),
    ("is_request_port", Variable::IsRequestPort),
    ("limit_rate", Variable::LimitRate),
    ("msec", Variable::Msec),
    ("nginx_version", Variable::NginxVersion),
    ("pid", Variable::Pid),
    ("pipe", Variable::Pipe),
    ("proxy_add_x_forwarded_for", Variable::ProxyAddXForwardedFor),
    ("proxy_host", Variable::ProxyHost),
    ("proxy_port", Variable::ProxyPort),
    ("query_string", Variable::QueryString),
    ("remote_addr", Variable::RemoteAddr),
    ("remote_port", Variable::RemotePort),
    ("remote_user", Variable::RemoteUser),
    ("request", Variable::Request),
    ("request_body", Variable::RequestBody),
    ("request_body_file", Variable::RequestBodyFile),
    ("request_completion", Variable::RequestCompletion),
    ("request_id", Variable::RequestId),
    ("request_length", Variable::RequestLength),
    ("request_method", Variable::RequestMethod),
    ("request_port", Variable::RequestPort),
    ("request_time", Variable::RequestTime),
    ("request_uri", Variable::RequestUri),
    ("scheme", Variable::Scheme),
    ("server_addr", Variable::ServerAddr),
    ("server_name", Variable::ServerName),
    ("server_port", Variable::ServerPort),
    ("server_protocol", Variable::ServerProtocol),
    ("status", Variable::Status),
    ("time_iso8601", Variable::TimeIso8601),
    ("time_local", Variable::TimeLocal),
    ("upstream_addr", Variable::UpstreamAddr),
    ("upstream_bytes_received", Variable::UpstreamBytesReceived),
    ("upstream_bytes_sent", Variable::UpstreamBytesSent),
    ("upstream_connect_time", Variable::UpstreamConnectTime),
    ("upstream_header_time", Variable::UpstreamHeaderTime),
    ("upstream_response_length", Variable::UpstreamResponseLength),
    ("upstream_response_time", Variable::UpstreamResponseTime),
    ("upstream_status", Variable::UpstreamStatus),
    ("uri", Variable::Uri),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Part {
        Part::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn splits_text_and_variables() {
        let parts = template("a$host-${uri}b$HTTP_X_Forwarded_For")
            .unwrap()
            .parts;
        let field = Variable::Http(b"x-forwarded-for".to_vec());
        let expected = [
            text("a"),
            Part::Variable(Variable::Host),
            text("-"),
            Part::Variable(Variable::Uri),
            text("b"),
            Part::Variable(field),
        ];
        assert_eq!(parts, expected);
        assert_eq!(template("").unwrap().parts, []);
        assert_eq!(template("{x}").unwrap().parts, [text("{x}")]);
    }

    #[test]
    fn prefixes_need_a_suffix() {
        assert_eq!(variable("arg_a_B"), Some(Variable::Arg(b"a_b".to_vec())));
        assert_eq!(
            variable("cookie_sid"),
            Some(Variable::Cookie(b"sid".to_vec()))
        );
        assert_eq!(
            variable("sent_http_x_y"),
            Some(Variable::SentHttp(b"x-y".to_vec()))
        );
        assert_eq!(
            variable("upstream_http_x"),
            Some(Variable::UpstreamHttp(b"x".to_vec()))
        );
        for name in [
            "arg_",
            "cookie_",
            "http_",
            "sent_http_",
            "upstream_http_",
            "",
            "nothing",
        ] {
            assert_eq!(variable(name), None, "{name:?}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (value, message) in [
            (
                "$tcpinfo_rtt",
                "the \"tcpinfo_rtt\" variable is not supported by weir",
            ),
            (
                "$proxy_protocol_addr",
                "the \"proxy_protocol_addr\" variable is not supported by weir",
            ),
            (
                "$SSL_protocol",
                "the \"SSL_protocol\" variable is not supported by weir",
            ),
            (
                "$request_filename",
                "the \"request_filename\" variable is not supported by weir",
            ),
            ("$nothing", "unknown \"nothing\" variable"),
            ("a$", "invalid variable name"),
            ("$-", "invalid variable name"),
            ("${", "invalid variable name"),
            (
                "${host",
                "the closing bracket in \"host\" variable is missing",
            ),
            (
                "${host-}",
                "the closing bracket in \"host\" variable is missing",
            ),
            ("${}", "invalid variable name"),
        ] {
            assert_eq!(template(value).unwrap_err(), message, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_value_compiles_or_says_why(value in "[a-z$\\{\\}_ä-]{0,20}") {
            match template(&value) {
                Ok(compiled) => prop_assert_eq!(
                    compiled.parts.iter().any(|part| matches!(part, Part::Variable(_))),
                    has_variables(&value)
                ),
                Err(message) => prop_assert!(message.contains("variable")),
            }
        }
    }
}
