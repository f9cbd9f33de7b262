//! Fields that the configuration adds to answers: `expires` and `add_header`.

use super::Network;
use super::exchange::Exchange;
use super::forward::set_header;
use super::session::Session;
use crate::http::expires::{self, Validity};
use crate::http::{Expires, Field, Known, answer};
use crate::log::clock;
use crate::settings::{AddHeader, ExpiresRule, LocationSettings};

/// What `expires` has still to write: each of its fields takes the place of the server's own, if
/// there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owed {
    validity: Option<Validity>,
    expires_written: bool,
    cache_written: bool,
}

impl Owed {
    /// Writes the field that takes the place of this one of the server; false if it stays.
    pub(super) fn replace(&mut self, sent: &Field, name: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(validity) = self.validity else {
            return false;
        };
        if sent.known == Known::CacheControl {
            if !std::mem::replace(&mut self.cache_written, true) {
                write_cache_control(validity, out);
            }
        } else if name.eq_ignore_ascii_case(b"expires") {
            if !std::mem::replace(&mut self.expires_written, true) {
                write_expires(validity, out);
            }
        } else {
            return false;
        }
        true
    }

    fn write_rest(self, out: &mut Vec<u8>) {
        let Some(validity) = self.validity else {
            return;
        };
        if !self.expires_written {
            write_expires(validity, out);
        }
        if !self.cache_written {
            write_cache_control(validity, out);
        }
    }
}

fn write_expires(validity: Validity, out: &mut Vec<u8>) {
    answer::field(out, b"Expires", &clock::http_date(validity.until));
}

fn write_cache_control(validity: Validity, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Cache-Control: ");
    match validity.max_age {
        Some(seconds) => {
            out.extend_from_slice(b"max-age=");
            answer::decimal(out, seconds.unsigned_abs());
        }
        None => out.extend_from_slice(b"no-cache"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether an `add_header` or `add_trailer` applies to an answer of this status.
pub(super) fn applies(added: &AddHeader, status: u16) -> bool {
    added.always || answer::takes_added_fields(status)
}

/// Whether an `add_header` of this location stands in for a field of the server.
pub(super) fn is_replaced(location: &LocationSettings, status: u16, name: &[u8]) -> bool {
    let mut added = location.add_headers.iter();
    added.any(|added| {
        added.replaces && applies(added, status) && added.name.eq_ignore_ascii_case(name)
    })
}

impl<N: Network> Session<'_, N> {
    /// What `expires` makes of this answer.
    pub(super) fn owed_fields(&self, exchange: &Exchange) -> Owed {
        let location = exchange.location.as_deref();
        let Some(rule) = location.and_then(|location| location.expires.as_ref()) else {
            return Owed::default();
        };
        if !answer::takes_added_fields(exchange.status) {
            return Owed::default();
        }
        let expires = match rule {
            ExpiresRule::Fixed(expires) => *expires,
            ExpiresRule::Variable { modified, value } => {
                let mut text = Vec::new();
                self.render(exchange, value, &mut text);
                let text = std::str::from_utf8(&text);
                let parsed = text.map(|text| Expires::parse(text, *modified));
                // As in nginx, what makes no sense adds nothing.
                parsed.ok().and_then(Result::ok).unwrap_or(Expires::Off)
            }
        };
        let head = exchange.output.head();
        let modified = exchange.response.fields.known(Known::LastModified, head);
        let now = i64::try_from(self.shared.clock.millis() / 1000).unwrap_or(i64::MAX);
        let validity = expires.validity(now, modified.and_then(expires::date), &chrono::Local);
        Owed {
            validity,
            ..Owed::default()
        }
    }

    /// What is carried over from a server's answer, what is left of `expires`, then `add_header`.
    pub(super) fn write_added_fields(&self, exchange: &Exchange, owed: Owed, out: &mut Vec<u8>) {
        out.extend_from_slice(&exchange.carried);
        owed.write_rest(out);
        let Some(location) = &exchange.location else {
            return;
        };
        if location.add_headers.is_empty() {
            return;
        }
        let values = self.values(exchange);
        for added in &location.add_headers {
            if applies(added, exchange.status) {
                set_header(out, &added.name, |out| added.value.write(&values, out));
            }
        }
    }
}
