//! What comes behind the chunks of an answer: trailer fields of its server, and `add_trailer`.

use std::sync::Arc;

use super::Network;
use super::added::applies;
use super::attempt::note_end;
use super::exchange::Exchange;
use super::forward::set_header;
use super::session::Session;
use crate::http::framing::has_body;
use crate::http::trailers;
use crate::settings::LocationSettings;

impl Exchange {
    /// Whether chunks would tell the client how the answer ends.
    pub(super) fn takes_chunks(&self) -> bool {
        let location = self.location.as_deref();
        self.head.minor > 0 && location.is_none_or(|location| location.chunked_transfer_encoding)
    }

    /// Whether `add_trailer` applies to the answer, which goes out in chunks then, even if its
    /// length is known.
    pub(super) fn adds_trailers(&self) -> bool {
        let Some(LocationSettings { add_trailers, .. }) = self.location.as_deref() else {
            return false;
        };
        !add_trailers.is_empty()
            && self.takes_chunks()
            && has_body(self.head.method, self.status)
            && add_trailers.iter().any(|added| applies(added, self.status))
    }
}

impl<N: Network> Session<'_, N> {
    /// All of a server's answer is there: ends it for the client.
    pub(super) fn end_chunks(&mut self, exchange: &mut Exchange) {
        if let Some(attempt) = exchange.attempt.take() {
            note_end(exchange, &attempt, self.shared.now_ms);
            exchange.attempt = Some(attempt);
        }
        self.collect_trailers(exchange);
        let Exchange {
            download,
            output,
            sent_trailers,
            ..
        } = exchange;
        download.end(sent_trailers, output);
    }

    /// The trailer section that the client gets. Each added field sees those before it.
    pub(super) fn collect_trailers(&mut self, exchange: &mut Exchange) {
        let mut sent = std::mem::take(&mut exchange.sent_trailers);
        sent.clear();
        if let Some(proxy) = exchange.proxy() {
            for (name, line) in trailers::passable(exchange.download.trailers()) {
                if !proxy.hidden.hides_name(name) {
                    sent.extend_from_slice(line);
                }
            }
        }
        exchange.sent_trailers = sent;
        if !exchange.adds_trailers() {
            return;
        }
        let location = exchange.location.as_ref().map(Arc::clone);
        let mut line = std::mem::take(&mut self.shared.line);
        line.clear();
        for added in location.iter().flat_map(|location| &location.add_trailers) {
            if applies(added, exchange.status) {
                set_header(&mut line, &added.name, |out| {
                    self.render(exchange, &added.value, out);
                });
                exchange.sent_trailers.append(&mut line);
            }
        }
        self.shared.line = line;
    }
}
