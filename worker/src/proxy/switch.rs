//! When a connection may become a tunnel for another protocol (RFC 9110, section 7.8).

use super::Network;
use super::exchange::Exchange;
use super::session::Session;
use crate::http::Known;
use crate::http::fields::{Fields, tokens};

impl<N: Network> Session<'_, N> {
    /// Whether an answer of 101 names a protocol that the client has asked for and that the server
    /// was told of. Bytes that are passed on unread after any other would be requests that nobody
    /// has checked.
    pub(super) fn may_switch(&self, exchange: &Exchange) -> bool {
        let Some(proxy) = exchange.proxy() else {
            return false;
        };
        let upgrade = proxy
            .set_headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(b"upgrade"));
        let Some((_, upgrade)) = upgrade else {
            return false;
        };
        let spoken = proxy.http_minor > 0 && exchange.response.minor > 0;
        if !exchange.head.upgrade || !exchange.upload.is_done() || !spoken {
            return false;
        }
        let mut told = Vec::new();
        self.render(exchange, upgrade, &mut told);
        let mut chosen = protocols(&exchange.response.fields, exchange.output.head()).peekable();
        let head = exchange.input.head();
        chosen.peek().is_some()
            && chosen.all(|protocol| {
                let same = |other: &[u8]| other.eq_ignore_ascii_case(protocol);
                tokens(&told).any(same) && protocols(&exchange.head.fields, head).any(same)
            })
    }
}

/// What the `Upgrade` fields of a head list.
fn protocols<'a>(fields: &'a Fields, head: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(|field| field.known == Known::Upgrade)
        .flat_map(|field| tokens(field.value.of(head)))
}
