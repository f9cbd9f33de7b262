//! Why a request's head is not taken: the status, and nginx's words for the log.

use std::fmt;

use super::fields::{Fields, Known, Span};
use super::framing::Ambiguous;

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status; 494 is nginx's own for a head that is too large, shown as 400.
    pub status: u16,
    /// For the error log at level info, in nginx's words; foreign bytes are for the log to escape.
    pub reason: Reason,
}

/// A sentence, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What happened.
    pub text: &'static str,
    /// The part of the head that it is about; [`Span::of`] it for the log.
    pub about: Option<Span>,
    /// That part goes on.
    pub cut: bool,
    /// It is about the request line, not about the fields.
    pub in_line: bool,
}

impl Refusal {
    pub(super) const fn new(status: u16, text: &'static str) -> Refusal {
        Refusal {
            status,
            reason: Reason {
                text,
                about: None,
                cut: false,
                in_line: false,
            },
        }
    }

    pub(super) const fn of_line(status: u16, text: &'static str) -> Refusal {
        let mut refusal = Refusal::new(status, text);
        refusal.reason.in_line = true;
        refusal
    }

    /// The reason with the bytes that it is about, which are in `buffer`.
    pub fn describe<'b>(&self, buffer: &'b [u8]) -> Description<'b> {
        Description {
            text: self.reason.text,
            about: self.reason.about.map(|span| span.of(buffer)),
            cut: self.reason.cut,
        }
    }
}

/// A [`Refusal`] in words.
#[derive(Clone, Copy, Debug)]
pub struct Description<'b> {
    text: &'static str,
    about: Option<&'b [u8]>,
    cut: bool,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.about {
            Some(bytes) => {
                let more = if self.cut { "..." } else { "" };
                write!(f, "{}: \"{}{more}\"", self.text, bytes.escape_ascii())
            }
            None => f.write_str(self.text),
        }
    }
}

pub(super) const INVALID_METHOD: Refusal = Refusal::of_line(400, "client sent invalid method");
pub(super) const INVALID_REQUEST: Refusal = Refusal::of_line(400, "client sent invalid request");
pub(super) const INVALID_VERSION: Refusal = Refusal::of_line(505, "client sent invalid version");
pub(super) const TOO_LONG_LINE: Refusal = Refusal::of_line(414, "client sent too long URI");
pub(super) const INVALID_LINE_HOST: Refusal =
    Refusal::of_line(400, "client sent invalid host in request line");
pub(super) const INVALID_HEADER: Refusal = Refusal::new(400, "client sent invalid header line");
pub(super) const TOO_MANY_FIELDS: Refusal = Refusal::new(494, "client sent too many header lines");
pub(super) const BLANK_LINES: Refusal =
    Refusal::new(400, "client sent more than one empty line before a request");
pub(super) const BARE_LF: Refusal = Refusal::new(400, "client sent a line that ends with LF alone");

/// The refusal of a request whose end is not clear.
pub(super) fn refuse(why: Ambiguous, fields: &Fields) -> Refusal {
    let about = |known| {
        fields
            .iter()
            .rfind(|field| field.known == known)
            .map(|field| field.value)
    };
    let (status, text, about) = match why {
        Ambiguous::DuplicateLength => (
            400,
            "client sent duplicate header line: \"Content-Length\"",
            about(Known::ContentLength),
        ),
        Ambiguous::DuplicateEncoding => (
            400,
            "client sent duplicate header line: \"Transfer-Encoding\"",
            about(Known::TransferEncoding),
        ),
        Ambiguous::InvalidLength => (
            400,
            "client sent invalid \"Content-Length\" header",
            about(Known::ContentLength),
        ),
        Ambiguous::LengthAndEncoding => (
            400,
            "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
            None,
        ),
        Ambiguous::EncodingInHttp10 => (
            400,
            "client sent HTTP/1.0 request with \"Transfer-Encoding\" header",
            None,
        ),
        Ambiguous::UnknownEncoding => (
            501,
            "client sent unknown \"Transfer-Encoding\"",
            about(Known::TransferEncoding),
        ),
    };
    let mut refusal = Refusal::new(status, text);
    refusal.reason.about = about;
    refusal
}
