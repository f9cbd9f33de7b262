//! nginx's variables evaluated for one request.

use crate::settings::{Part, Template};

mod lookup;
mod request_id;
mod upstream;
pub mod values;

pub use request_id::{RequestId, RequestIds};
pub use upstream::Attempt;
pub use values::{Answered, Values};

/// `$nginx_version`: the release whose language weir follows.
pub const NGINX_VERSION: &str = "1.29.7";

impl Template {
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
