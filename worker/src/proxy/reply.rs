//! Heads of servers' answers for clients.

use super::Network;
use super::describe::shows_version;
use super::exchange::Exchange;
use super::session::Session;
use crate::http::answer::{self, field};
use crate::http::{Answer, Body, Known, Method};

impl<N: Network> Session<'_, N> {
    /// Writes the head of the upstream's answer for the client into the download's lead.
    pub(super) fn write_answer_head(&mut self, exchange: &mut Exchange, chunked: bool) {
        let mut out = std::mem::take(exchange.download.lead());
        let begin = out.len();
        let from = exchange.output.head();
        let response = &exchange.response;
        let has_length = matches!(response.body, Body::Length(_))
            || (response.body == Body::None && !matches!(response.status, 100..=199 | 204));
        let length = match response.content_length.filter(|_| has_length) {
            // The server was asked for the head alone, not the client.
            Some(_) if is_headless(exchange) => Some(0),
            length => length,
        };
        Answer {
            status: response.status,
            reason: Some(response.reason.of(from)),
            date: self.shared.clock.http(),
            content_type: response.fields.known(Known::ContentType, from),
            length,
            location: None,
            chunked,
            persist: self.persist(exchange),
            tokens: shows_version(exchange),
        }
        .write(&mut out);
        if exchange.switched {
            let protocol = response.fields.known(Known::Upgrade, from);
            field(&mut out, b"Upgrade", protocol.unwrap_or_default());
        }
        for sent in response.forwarded() {
            field(&mut out, sent.name.of(from), sent.value.of(from));
        }
        if exchange.download.passes_trailers()
            && let Some(names) = response.fields.known(Known::Trailer, from)
        {
            field(&mut out, b"Trailer", names);
        }
        self.write_added_fields(exchange, &mut out);
        answer::end(&mut out);
        self.keep_sent_head(exchange, &out[begin..]);
        *exchange.download.lead() = out;
    }
}

/// `proxy_method HEAD` has left out the body that the client asked for.
fn is_headless(exchange: &Exchange) -> bool {
    exchange.asked == Method::Head
        && exchange.head.method != Method::Head
        && exchange.response.status != 304
}
