//! nginx's variables: their names, templates of them, and their values for one request.

use std::fmt;

use crate::settings::{Part, Template, Variable};

pub mod values;

pub use values::{Answered, Attempt, Values};

/// Names without a suffix.
const NAMES: &[(&str, Variable)] = &[
    ("args", Variable::Args),
    ("binary_remote_addr", Variable::BinaryRemoteAddr),
    ("body_bytes_sent", Variable::BodyBytesSent),
    ("bytes_sent", Variable::BytesSent),
    ("connection", Variable::Connection),
    ("connection_requests", Variable::ConnectionRequests),
    ("content_length", Variable::ContentLength),
    ("content_type", Variable::ContentType),
    ("document_uri", Variable::DocumentUri),
    ("host", Variable::Host),
    ("hostname", Variable::Hostname),
    ("https", Variable::Https),
    ("is_args", Variable::IsArgs),
    ("msec", Variable::Msec),
    ("nginx_version", Variable::NginxVersion),
    ("pid", Variable::Pid),
    ("proxy_add_x_forwarded_for", Variable::ProxyAddXForwardedFor),
    ("proxy_host", Variable::ProxyHost),
    ("proxy_port", Variable::ProxyPort),
    ("query_string", Variable::QueryString),
    ("remote_addr", Variable::RemoteAddr),
    ("remote_port", Variable::RemotePort),
    ("remote_user", Variable::RemoteUser),
    ("request", Variable::Request),
    ("request_length", Variable::RequestLength),
    ("request_method", Variable::RequestMethod),
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
    ("upstream_status", Variable::UpstreamStatus),
    ("upstream_response_time", Variable::UpstreamResponseTime),
    ("uri", Variable::Uri),
];

/// `$nginx_version`: the release whose language weir follows.
pub const NGINX_VERSION: &str = "1.29.7";

impl Variable {
    /// By name, without the `$`. nginx takes names in any case.
    pub fn from_name(name: &str) -> Option<Variable> {
        let name = name.to_ascii_lowercase();
        if let Some((_, variable)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(variable.clone());
        }
        let (suffix, make) = FAMILIES
            .iter()
            .find_map(|(prefix, make)| Some((name.strip_prefix(prefix)?, make)))?;
        (!suffix.is_empty()).then(|| make(suffix))
    }
}

type Make = fn(&str) -> Variable;

/// Names with a suffix.
const FAMILIES: &[(&str, Make)] = &[
    ("upstream_http_", |suffix| {
        Variable::UpstreamHttp(field_name(suffix))
    }),
    ("sent_http_", |suffix| {
        Variable::SentHttp(field_name(suffix))
    }),
    ("http_", |suffix| Variable::Http(field_name(suffix))),
    ("arg_", |suffix| Variable::Arg(suffix.as_bytes().to_vec())),
    ("cookie_", |suffix| {
        Variable::Cookie(suffix.as_bytes().to_vec())
    }),
];

fn field_name(suffix: &str) -> Vec<u8> {
    suffix.replace('_', "-").into_bytes()
}

/// Why a text with variables is refused, in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// A `$` without a name, or `${` without its `}`.
    InvalidName,
    /// No variable has this name.
    Unknown(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::InvalidName => f.write_str("invalid variable name"),
            TemplateError::Unknown(name) => write!(f, "unknown \"{name}\" variable"),
        }
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// A text in which `$name` and `${name}` are variables.
    ///
    /// # Errors
    ///
    /// nginx's own for names that are missing or unknown.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            push_text(&mut parts, &rest[..at]);
            let (name, after) = split_name(&rest[at + 1..]).ok_or(TemplateError::InvalidName)?;
            let variable =
                Variable::from_name(name).ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            parts.push(Part::Variable(variable));
            rest = after;
        }
        push_text(&mut parts, rest);
        Ok(Template { parts })
    }

    /// The text of a template without variables.
    pub fn as_text(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the value for one request.
    pub fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(variable) => {
                    values.write(variable, out);
                }
            }
        }
    }

    /// Appends the access log's line with its newline: what is not there is `-`, and foreign bytes
    /// are escaped, as in nginx by default.
    pub fn write_log_line(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(variable) => {
                    let start = out.len();
                    if values.write(variable, out) {
                        escape(out, start);
                    } else {
                        out.truncate(start);
                        out.push(b'-');
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.as_bytes().to_vec()));
    }
}

/// The name after a `$`, and what follows it.
fn split_name(text: &str) -> Option<(&str, &str)> {
    let (name, after) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => {
            let name = |char: char| char.is_ascii_alphanumeric() || char == '_';
            text.split_at(text.find(|char| !name(char)).unwrap_or(text.len()))
        }
    };
    let good = |char: char| char.is_ascii_alphanumeric() || char == '_';
    (!name.is_empty() && name.chars().all(good)).then_some((name, after))
}

/// nginx's `escape=default`: `"`, `\`, and what is no printable ASCII become `\xXX`.
fn escape(out: &mut Vec<u8>, start: usize) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let is_foreign = |byte: &u8| *byte < b' ' || *byte > 0x7e || matches!(byte, b'"' | b'\\');
    let foreign = out[start..].iter().filter(|byte| is_foreign(byte)).count();
    if foreign == 0 {
        return;
    }
    let (mut from, mut to) = (out.len(), out.len() + foreign * 3);
    out.resize(to, 0);
    // From the end, so that no byte is overwritten before it was moved.
    while from > start {
        from -= 1;
        let byte = out[from];
        if is_foreign(&byte) {
            to -= 4;
            out[to] = b'\\';
            out[to + 1] = b'x';
            out[to + 2] = DIGITS[usize::from(byte >> 4)];
            out[to + 3] = DIGITS[usize::from(byte & 15)];
        } else {
            to -= 1;
            out[to] = byte;
        }
    }
}

#[cfg(test)]
mod tests;
