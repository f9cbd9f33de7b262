//! Heads of requests for servers.

use super::Network;
use super::describe::upstream_uri;
use super::exchange::Exchange;
use super::session::Session;
use crate::http::answer::{self, field};
use crate::http::{Body, Known};
use crate::settings::Proxy;
use crate::variable::Values;

impl<N: Network> Session<'_, N> {
    /// Writes the head for the server into the upload's lead, and the body behind it that
    /// `proxy_set_body` puts in place of the client's.
    pub(super) fn write_upstream_head(&mut self, exchange: &mut Exchange) {
        let mut out = std::mem::take(exchange.upload.lead());
        let mut body = std::mem::take(&mut self.shared.line);
        body.clear();
        if let Some(proxy) = exchange.proxy() {
            let values = self.values(exchange);
            if let Some(template) = &proxy.set_body {
                template.write(&values, &mut body);
            }
            write_line(&mut out, exchange, proxy);
            write_host(&mut out, proxy, &values);
            for (name, value) in &proxy.set_headers {
                set_header(&mut out, name, |out| value.write(&values, out));
            }
            write_framing(&mut out, exchange, proxy, body.len() as u64);
            if proxy.pass_request_headers {
                write_sent_fields(&mut out, exchange, proxy);
            }
            answer::end(&mut out);
            out.extend_from_slice(&body);
        }
        self.shared.line = body;
        *exchange.upload.lead() = out;
        exchange.upload.frame_again();
    }
}

fn write_line(out: &mut Vec<u8>, exchange: &Exchange, proxy: &Proxy) {
    let head = exchange.input.head();
    match &proxy.method {
        Some(_) => out.extend_from_slice(&exchange.asked_name),
        None => out.extend_from_slice(exchange.head.method_name(head)),
    }
    out.push(b' ');
    upstream_uri(exchange, out);
    out.extend_from_slice(if proxy.http_minor == 0 {
        b" HTTP/1.0\r\n"
    } else {
        b" HTTP/1.1\r\n"
    });
}

/// `Host` comes first. An empty one is left out of HTTP/1.0 alone.
fn write_host(out: &mut Vec<u8>, proxy: &Proxy, values: &Values<'_>) {
    let begin = out.len();
    if let Some(host) = &proxy.set_host {
        set_header(out, b"Host", |out| host.write(values, out));
        if out.len() > begin || proxy.http_minor == 0 {
            return;
        }
    }
    set_header(out, b"Host", |out| out.extend_from_slice(values.proxy_host));
}

/// How the body ends that is sent, whatever `proxy_set_header` says of it.
fn write_framing(out: &mut Vec<u8>, exchange: &Exchange, proxy: &Proxy, own_length: u64) {
    let body = match exchange.head.body {
        _ if proxy.set_body.is_some() => Body::Length(own_length),
        _ if !proxy.pass_request_body => Body::None,
        body => body,
    };
    let length = match body {
        Body::Length(length) => length,
        Body::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            return;
        }
        // A length of zero says that there is none, where one could be expected.
        Body::None => {
            let fields = &exchange.head.fields;
            let named = fields.known(Known::ContentLength, exchange.input.head());
            if named.is_none() || proxy.drop_length {
                return;
            }
            0
        }
        Body::UntilClose => return,
    };
    out.extend_from_slice(b"Content-Length: ");
    answer::decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The client's fields that end at no hop and that no `proxy_set_header` replaces.
fn write_sent_fields(out: &mut Vec<u8>, exchange: &Exchange, proxy: &Proxy) {
    let head = exchange.input.head();
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
                answer::decimal(out, hops.saturating_sub(1));
                out.extend_from_slice(b"\r\n");
            }
            _ => field(out, name, sent.value.of(head)),
        }
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
