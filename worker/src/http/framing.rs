//! Where a message ends (RFC 9112, section 6.3): decided here and nowhere else.

use super::fields::{Fields, Known};
use super::method::Method;

/// How the body of a message is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    #[default]
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Everything until the connection ends; only answers can have it.
    UntilClose,
}

/// Why the framing of a message cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguous {
    /// Several `Content-Length` fields, or a list in one.
    DuplicateLength,
    /// Several `Transfer-Encoding` fields.
    DuplicateEncoding,
    /// `Content-Length` is no decimal number below 2^63.
    InvalidLength,
    /// `Content-Length` and `Transfer-Encoding` together.
    LengthAndEncoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    EncodingInHttp10,
    /// A `Transfer-Encoding` other than `chunked`.
    UnknownEncoding,
}

/// The largest `Content-Length`, as nginx's `off_t` has it.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// What the fields say, before method and status have their word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
}

/// Digits only: no sign, no blank, no list.
pub fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))?;
    }
    (length <= MAX_LENGTH).then_some(length)
}

pub(crate) fn declared(fields: &Fields, minor: u8, buffer: &[u8]) -> Result<Declared, Ambiguous> {
    let mut lengths = fields
        .iter()
        .filter(|field| field.known == Known::ContentLength);
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Ambiguous::DuplicateLength),
        (Some(field), None) => {
            let value = field.value.of(buffer);
            Some(content_length(value).ok_or(Ambiguous::InvalidLength)?)
        }
    };
    let mut encodings = fields
        .iter()
        .filter(|field| field.known == Known::TransferEncoding);
    let Some(encoding) = encodings.next() else {
        return Ok(Declared {
            length,
            chunked: false,
        });
    };
    if encodings.next().is_some() {
        return Err(Ambiguous::DuplicateEncoding);
    }
    if minor == 0 {
        return Err(Ambiguous::EncodingInHttp10);
    }
    if length.is_some() {
        return Err(Ambiguous::LengthAndEncoding);
    }
    // The one coding that weir, as nginx, undoes. Anything before or after it is not understood.
    if !encoding.value.of(buffer).eq_ignore_ascii_case(b"chunked") {
        return Err(Ambiguous::UnknownEncoding);
    }
    Ok(Declared {
        length: None,
        chunked: true,
    })
}

impl Declared {
    /// A request without either field has no body.
    pub(crate) fn of_request(self) -> Body {
        match self {
            Declared { chunked: true, .. } => Body::Chunked,
            Declared {
                length: Some(length @ 1..),
                ..
            } => Body::Length(length),
            Declared { .. } => Body::None,
        }
    }

    /// An answer without either field lasts until the connection ends.
    pub(crate) fn of_response(self, method: Method, status: u16) -> Body {
        if !has_body(method, status) {
            return Body::None;
        }
        match self {
            Declared { chunked: true, .. } => Body::Chunked,
            Declared {
                length: Some(0), ..
            } => Body::None,
            Declared {
                length: Some(length),
                ..
            } => Body::Length(length),
            Declared {
                length: None,
                chunked: false,
            } => Body::UntilClose,
        }
    }
}

/// Whether an answer of this status to this method has a body at all.
pub fn has_body(method: Method, status: u16) -> bool {
    method != Method::Head && !matches!(status, 100..=199 | 204 | 304)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_below_two_to_the_63() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"00012"), Some(12));
        assert_eq!(content_length(b"9223372036854775806"), Some(MAX_LENGTH - 1));
        assert_eq!(content_length(b"9223372036854775807"), Some(MAX_LENGTH));
        assert_eq!(content_length(b"9223372036854775808"), None);
        assert_eq!(content_length(b"18446744073709551616"), None);
        for bad in ["", "+1", "-1", "1 ", " 1", "1 2", "1,1", "0x10", "1.0", "١"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn method_and_status_have_the_last_word_on_answers() {
        let length = Declared {
            length: Some(5),
            chunked: false,
        };
        let chunked = Declared {
            length: None,
            chunked: true,
        };
        let neither = Declared::default();
        for (method, status) in [
            (Method::Head, 200),
            (Method::Get, 204),
            (Method::Get, 304),
            (Method::Post, 101),
        ] {
            for declared in [length, chunked, neither] {
                assert_eq!(declared.of_response(method, status), Body::None);
            }
        }
        assert_eq!(length.of_response(Method::Get, 200), Body::Length(5));
        assert_eq!(chunked.of_response(Method::Get, 500), Body::Chunked);
        assert_eq!(neither.of_response(Method::Get, 200), Body::UntilClose);
        assert_eq!(neither.of_request(), Body::None);
        let empty = Declared {
            length: Some(0),
            chunked: false,
        };
        assert_eq!(empty.of_response(Method::Get, 200), Body::None);
    }
}
