//! Heads of servers' answers for clients.

use super::Network;
use super::added::{Owed, is_replaced};
use super::describe::shows_version;
use super::exchange::Exchange;
use super::rewrite;
use super::session::Session;
use crate::http::answer::{self, field};
use crate::http::{Answer, Body, Known, Method};
use crate::settings::Proxy;

impl<N: Network> Session<'_, N> {
    /// Writes the head of the upstream's answer for the client into the download's lead.
    pub(super) fn write_answer_head(&mut self, exchange: &mut Exchange, chunked: bool) {
        let mut out = std::mem::take(exchange.download.lead());
        let begin = out.len();
        let from = exchange.output.head();
        let response = &exchange.response;
        let has_length = match response.body {
            Body::Length(_) => !chunked,
            Body::None => !chunked && !matches!(exchange.status, 100..=199 | 204),
            Body::Chunked | Body::UntilClose => false,
        };
        let length = match response.content_length.filter(|_| has_length) {
            // The server was asked for the head alone, not the client.
            Some(_) if is_headless(exchange) => Some(0),
            length => length,
        };
        let content_type = response.fields.known(Known::ContentType, from);
        let hides_type = |proxy: &Proxy| proxy.hidden.hides_name(b"content-type");
        let content_type = content_type.filter(|_| !exchange.proxy().is_some_and(hides_type));
        // The page of an error has the error's status, in nginx's words.
        let reason = (exchange.course.status == 0).then(|| response.reason.of(from));
        Answer {
            status: exchange.status,
            reason,
            date: match is_passed(exchange, Known::Date) {
                true => b"",
                false => self.shared.clock.http(),
            },
            server: !is_passed(exchange, Known::Server),
            content_type,
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
        let mut owed = self.owed_fields(exchange);
        self.write_sent_fields(exchange, &mut owed, &mut out);
        if exchange.download.keeps_trailers()
            && let Some(names) = response.fields.known(Known::Trailer, from)
        {
            field(&mut out, b"Trailer", names);
        }
        self.write_added_fields(exchange, owed, &mut out);
        answer::end(&mut out);
        self.keep_sent_head(exchange, &out[begin..]);
        *exchange.download.lead() = out;
    }

    /// The server's fields that the client is to get, with what is to be changed of them.
    fn write_sent_fields(&self, exchange: &Exchange, owed: &mut Owed, out: &mut Vec<u8>) {
        let (Some(proxy), Some(location)) = (exchange.proxy(), &exchange.location) else {
            return;
        };
        let head = exchange.output.head();
        for sent in exchange.response.forwarded() {
            if proxy.hidden.hides(sent, head) {
                continue;
            }
            let (name, value) = (sent.name.of(head), sent.value.of(head));
            if owed.replace(sent, name, out) || is_replaced(location, exchange.status, name) {
                continue;
            }
            match self.rewritten(exchange, proxy, sent.known, value) {
                Some(new) => {
                    let start = out.len() + name.len() + 2;
                    out.extend_from_slice(name);
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(&new);
                    answer::keep_to_one_line(out, start);
                    out.extend_from_slice(b"\r\n");
                }
                None => field(out, name, value),
            }
        }
    }

    /// What `proxy_redirect` and `proxy_cookie_…` make of a field's value.
    pub(super) fn rewritten(
        &self,
        exchange: &Exchange,
        proxy: &Proxy,
        known: Known,
        value: &[u8],
    ) -> Option<Vec<u8>> {
        match known {
            Known::Location if !proxy.redirects.is_empty() => {
                let values = self.values(exchange);
                let url = rewrite::rewritten(&proxy.redirects, value, &values)?;
                let mut whole = Vec::new();
                if let Some(absolute) = self.absolute(exchange, &url) {
                    absolute.write(&mut whole);
                    return Some(whole);
                }
                Some(url)
            }
            Known::Refresh if !proxy.redirects.is_empty() => {
                rewrite::refresh(&proxy.redirects, value, &self.values(exchange))
            }
            Known::SetCookie if proxy.changes_cookies() => {
                rewrite::set_cookie(proxy, value, &self.values(exchange))
            }
            _ => None,
        }
    }
}

/// `proxy_pass_header` gives the client the server's own field of this kind, if there is one.
fn is_passed(exchange: &Exchange, known: Known) -> bool {
    let passed = exchange
        .proxy()
        .is_some_and(|proxy| proxy.hidden.passed.contains(&known));
    let fields = &exchange.response.fields;
    passed && fields.known(known, exchange.output.head()).is_some()
}

/// `proxy_method HEAD` has left out the body that the client asked for.
fn is_headless(exchange: &Exchange) -> bool {
    exchange.asked == Method::Head
        && exchange.head.method != Method::Head
        && exchange.response.status != 304
}
