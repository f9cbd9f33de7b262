//! Lines of access logs.

use super::Values;
use crate::settings::{Escape, LogFormat, Part};

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

impl LogFormat {
    /// Appends the line of one request with its newline.
    pub fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.line.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(variable) => {
                    let start = out.len();
                    let found = values.write(variable, out);
                    match self.escape {
                        Escape::Default if !found => out.push(b'-'),
                        Escape::Default => escape(out, start),
                        Escape::Json => escape_json(out, start),
                        Escape::None => {}
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

/// `escape=default`: `"`, `\`, and what is no printable ASCII become `\xXX`.
fn escape(out: &mut Vec<u8>, start: usize) {
    let is_foreign = |byte: u8| !(b' '..=0x7e).contains(&byte) || matches!(byte, b'"' | b'\\');
    grow(
        out,
        start,
        |byte| if is_foreign(byte) { 4 } else { 1 },
        |byte, into| {
            into.copy_from_slice(&[b'\\', b'x', high(byte), low(byte)]);
        },
    );
}

/// `escape=json`: what a string of JSON cannot hold. Unlike nginx's, the line is JSON whatever a
/// client sends: bytes that are no UTF-8 become U+FFFD.
fn escape_json(out: &mut Vec<u8>, start: usize) {
    if std::str::from_utf8(&out[start..]).is_err() {
        let text = String::from_utf8_lossy(&out[start..]).into_owned();
        out.truncate(start);
        out.extend_from_slice(text.as_bytes());
    }
    let size = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    grow(out, start, size, |byte, into| match byte {
        b'\n' => into.copy_from_slice(b"\\n"),
        b'\r' => into.copy_from_slice(b"\\r"),
        b'\t' => into.copy_from_slice(b"\\t"),
        0x08 => into.copy_from_slice(b"\\b"),
        0x0c => into.copy_from_slice(b"\\f"),
        0..=0x1f => into.copy_from_slice(&[b'\\', b'u', b'0', b'0', high(byte), low(byte)]),
        _ => into.copy_from_slice(&[b'\\', byte]),
    });
}

fn high(byte: u8) -> u8 {
    DIGITS[usize::from(byte >> 4)]
}

fn low(byte: u8) -> u8 {
    DIGITS[usize::from(byte & 15)]
}

/// Replaces each byte from `start` on that takes more than one by what `write` makes of it.
fn grow(
    out: &mut Vec<u8>,
    start: usize,
    size: impl Fn(u8) -> usize,
    write: impl Fn(u8, &mut [u8]),
) {
    let more: usize = out[start..].iter().map(|&byte| size(byte) - 1).sum();
    if more == 0 {
        return;
    }
    let (mut from, mut to) = (out.len(), out.len() + more);
    out.resize(to, 0);
    // From the end, so that no byte is overwritten before it was moved.
    while from > start {
        from -= 1;
        let byte = out[from];
        let size = size(byte);
        to -= size;
        match size {
            1 => out[to] = byte,
            _ => write(byte, &mut out[to..to + size]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(escape: fn(&mut Vec<u8>, usize), bytes: &[u8], before: usize) -> Vec<u8> {
        let mut out = vec![b'"'; before];
        out.extend_from_slice(bytes);
        escape(&mut out, before);
        assert_eq!(out[..before], vec![b'"'; before], "what stood before stays");
        out.split_off(before)
    }

    #[test]
    fn json_is_escaped_as_nginx_does() {
        let text = b"a\"b\\c/\n\r\t\x08\x0c\x00\x1f\x7f\xc3\xa9";
        let expected = b"a\\\"b\\\\c/\\n\\r\\t\\b\\f\\u0000\\u001F\x7f\xc3\xa9";
        assert_eq!(escaped(escape_json, text, 3), expected);
        assert_eq!(escaped(escape_json, b"a\xff\"", 0), b"a\xef\xbf\xbd\\\"");
    }

    proptest! {
        #![proptest_config(crate::testing::cases(256))]

        #[test]
        fn escaping_is_right_for_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60), before in 0usize..5) {
            let mut expected = Vec::new();
            for &byte in &bytes {
                if byte.is_ascii_graphic() && byte != b'"' && byte != b'\\' || byte == b' ' {
                    expected.push(byte);
                } else {
                    expected.extend(format!("\\x{byte:02X}").bytes());
                }
            }
            prop_assert_eq!(escaped(escape, &bytes, before), expected);
        }

        #[test]
        fn any_bytes_make_a_string_of_json(bytes in prop::collection::vec(any::<u8>(), 0..60), before in 0usize..5) {
            let line = [b"\"", &escaped(escape_json, &bytes, before)[..], b"\""].concat();
            let read: String = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
        }
    }
}
