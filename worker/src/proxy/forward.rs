//! Heads of requests for servers.

use super::Network;
use super::describe::upstream_uri;
use super::exchange::Exchange;
use super::session::Session;
use crate::http::answer::{self, field};
use crate::http::{Body, Known};

impl<N: Network> Session<'_, N> {
    /// Writes the head for the server into the upload's lead.
    pub(super) fn write_upstream_head(&mut self, exchange: &mut Exchange) {
        let mut out = std::mem::take(exchange.upload.lead());
        if let Some(proxy) = exchange.proxy() {
            let head = exchange.input.head();
            out.extend_from_slice(exchange.head.method_name.of(head));
            out.push(b' ');
            upstream_uri(exchange, &mut out);
            out.extend_from_slice(if proxy.http_minor == 0 {
                b" HTTP/1.0\r\n"
            } else {
                b" HTTP/1.1\r\n"
            });
            let values = self.values(exchange);
            for (name, value) in &proxy.set_headers {
                set_header(&mut out, name, |out| value.write(&values, out));
            }
            match exchange.head.body {
                Body::Length(length) => {
                    out.extend_from_slice(b"Content-Length: ");
                    answer::decimal(&mut out, length);
                    out.extend_from_slice(b"\r\n");
                }
                Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
                // A length of zero says that there is none, where one could be expected.
                Body::None => {
                    if exchange
                        .head
                        .fields
                        .known(Known::ContentLength, head)
                        .is_some()
                    {
                        out.extend_from_slice(b"Content-Length: 0\r\n");
                    }
                }
                Body::UntilClose => {}
            }
            for sent in &exchange.head.fields {
                let kept = !sent.is_hop_by_hop()
                    && !matches!(
                        sent.known,
                        Known::Host | Known::ContentLength | Known::Expect
                    );
                let name = sent.name.of(head);
                let mut set = proxy.set_headers.iter();
                if !kept || set.any(|(set, _)| set.eq_ignore_ascii_case(name)) {
                    continue;
                }
                match exchange.head.max_forwards {
                    Some(hops) if sent.known == Known::MaxForwards => {
                        out.extend_from_slice(b"Max-Forwards: ");
                        answer::decimal(&mut out, hops.saturating_sub(1));
                        out.extend_from_slice(b"\r\n");
                    }
                    _ => field(&mut out, name, sent.value.of(head)),
                }
            }
            answer::end(&mut out);
        }
        *exchange.upload.lead() = out;
        exchange.upload.frame_again();
    }
}

/// Appends a field unless its value is empty.
pub(super) fn set_header(out: &mut Vec<u8>, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    let start = out.len();
    value(out);
    if out.len() == start {
        out.truncate(begin);
    } else {
        answer::keep_to_one_line(out, start);
        out.extend_from_slice(b"\r\n");
    }
}
