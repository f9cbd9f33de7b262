//! The answers that weir gives itself.

use super::Network;
use super::client::{Next, State};
use super::describe::shows_version;
use super::exchange::Exchange;
use super::forward::set_header;
use super::numbers::Phase;
use super::receive::Stop;
use super::relay::{self, Framing, Read};
use super::request::answering;
use super::session::Session;
use crate::handler::{stub_status, upstream_show};
use crate::http::answer;
use crate::http::{Answer, Body, Method, Persist, status};
use crate::settings::Return;

/// No answer at all: `return 444`.
const CLOSE_SILENTLY: u16 = 444;

/// The methods that are passed on, save those that RFC 9110 does not name.
const ALLOWED: &[u8] = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// An answer with a body of our own.
struct Content<'a> {
    status: u16,
    content_type: &'a [u8],
    body: &'a [u8],
}

impl<N: Network> Session<'_, N> {
    /// `add_header`.
    pub(super) fn write_added_fields(&self, exchange: &Exchange, out: &mut Vec<u8>) {
        let Some(location) = &exchange.location else {
            return;
        };
        if location.add_headers.is_empty() {
            return;
        }
        let values = self.values(exchange);
        for added in &location.add_headers {
            if added.always || answer::takes_added_fields(exchange.status) {
                set_header(out, &added.name, |out| added.value.write(&values, out));
            }
        }
    }

    /// What the client is told of its connection.
    pub(super) fn persist(&self, exchange: &Exchange) -> Persist {
        if exchange.switched {
            return Persist::Upgrade;
        }
        if !exchange.persist {
            return Persist::Close;
        }
        let location = exchange.location.as_deref();
        let header = location.and_then(|location| location.keepalive_header);
        Persist::KeepAlive(header.map(|header| header.as_secs()))
    }

    pub(super) fn keep_sent_head(&self, exchange: &mut Exchange, head: &[u8]) {
        exchange.answer_head = head.len() as u64;
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        if conf.uses_sent_http {
            exchange.sent_head.clear();
            exchange.sent_head.extend_from_slice(head);
        }
    }

    /// nginx's page for a status.
    pub(super) fn answer_error(&mut self, mut exchange: Box<Exchange>, status: u16) -> Next {
        exchange.persist &= !status::closes(status);
        let write = |session: &Self, exchange: &Exchange, out: &mut Vec<u8>| {
            let head = session.own_head(exchange);
            answer::write_page(out, &head, exchange.head.method, |out| {
                session.write_added_fields(exchange, out);
            });
        };
        self.answer_with(&mut exchange, status, write);
        answering(exchange)
    }

    fn own_head<'a>(&'a self, exchange: &Exchange) -> Answer<'a> {
        Answer {
            status: exchange.status,
            reason: None,
            date: self.shared.clock.http(),
            server: true,
            content_type: None,
            length: None,
            location: None,
            chunked: false,
            persist: self.persist(exchange),
            tokens: shows_version(exchange),
        }
    }

    /// Makes an answer of our own: nothing of it may be read from a server any more.
    fn answer_with(
        &mut self,
        exchange: &mut Exchange,
        status: u16,
        write: impl FnOnce(&Self, &Exchange, &mut Vec<u8>),
    ) {
        self.drop_attempt(exchange);
        exchange.status = status;
        exchange.answered = true;
        // A client that waits for our word before it sends its body need not send it at all.
        exchange.persist &= !exchange.expects_continue && !exchange.head.expect_continue;
        let location = exchange.location.as_deref();
        exchange.persist &= !location.is_some_and(|location| self.is_last(location));
        exchange.upload.drop_pending(&mut exchange.input);
        let mut out = std::mem::take(exchange.download.lead());
        let begin = out.len();
        write(self, exchange, &mut out);
        let mut end = out[begin..].windows(4);
        let head = end
            .position(|four| four == b"\r\n\r\n")
            .map_or(out.len() - begin, |at| at + 4);
        self.keep_sent_head(exchange, &out[begin..begin + head]);
        *exchange.download.lead() = out;
        exchange.download.begin(Body::None, Framing::Plain);
    }

    fn answer_content(&mut self, mut exchange: Box<Exchange>, content: &Content<'_>) -> Next {
        self.answer_with(&mut exchange, content.status, |session, exchange, out| {
            let with_body = !matches!(content.status, 100..=199 | 204 | 304);
            Answer {
                content_type: with_body.then_some(content.content_type),
                length: with_body.then_some(content.body.len() as u64),
                ..session.own_head(exchange)
            }
            .write(out);
            session.write_added_fields(exchange, out);
            answer::end(out);
            if with_body && exchange.head.method != Method::Head {
                out.extend_from_slice(content.body);
            }
        });
        answering(exchange)
    }

    /// `return`.
    pub(super) fn answer_return(&mut self, mut exchange: Box<Exchange>, ret: &Return) -> Next {
        let status = ret.status;
        if status == CLOSE_SILENTLY {
            exchange.status = status;
            self.reset_if_asked(&exchange);
            return self.abandon(exchange);
        }
        let Some(template) = &ret.text else {
            return self.answer_error(exchange, status);
        };
        let mut text = Vec::new();
        self.render(&exchange, template, &mut text);
        if matches!(status, 301 | 302 | 303 | 307 | 308) {
            return self.answer_redirect(exchange, status, &text);
        }
        let location = exchange.location.clone();
        let content_type = location.as_ref().map_or(&b"text/plain"[..], |location| {
            location.default_type.as_slice()
        });
        self.answer_content(
            exchange,
            &Content {
                status,
                content_type,
                body: &text,
            },
        )
    }

    /// The absolute URL of a path on this server.
    pub(super) fn write_absolute(&self, exchange: &Exchange, path: &[u8], out: &mut Vec<u8>) {
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        let host = match exchange.head.host() {
            b"" => conf.server_name(exchange.server).as_bytes(),
            host => host,
        };
        let port = self.client.local.map(|local| local.port());
        answer::absolute_url(out, false, host, port, path);
    }

    /// Sends the client elsewhere; a path is one on this server.
    pub(super) fn answer_redirect(
        &mut self,
        mut exchange: Box<Exchange>,
        status: u16,
        to: &[u8],
    ) -> Next {
        let mut url = Vec::new();
        if to.first() == Some(&b'/') {
            self.write_absolute(&exchange, to, &mut url);
        } else {
            url.extend_from_slice(to);
        }
        answer::keep_to_one_line(&mut url, 0);
        self.answer_with(&mut exchange, status, |session, exchange, out| {
            let head = Answer {
                location: Some(&url),
                ..session.own_head(exchange)
            };
            answer::write_page(out, &head, exchange.head.method, |out| {
                session.write_added_fields(exchange, out);
            });
        });
        answering(exchange)
    }

    /// OPTIONS that may be forwarded no more (RFC 9110, section 7.6.2).
    pub(super) fn answer_options(&mut self, mut exchange: Box<Exchange>) -> Next {
        self.answer_with(&mut exchange, 200, |session, exchange, out| {
            Answer {
                length: Some(0),
                ..session.own_head(exchange)
            }
            .write(out);
            answer::field(out, b"Allow", ALLOWED);
            session.write_added_fields(exchange, out);
            answer::end(out);
        });
        answering(exchange)
    }

    /// `upstream_show`.
    pub(super) fn answer_upstream_show(&mut self, exchange: Box<Exchange>) -> Next {
        if !matches!(exchange.head.method, Method::Get | Method::Head) {
            return self.answer_error(exchange, 405);
        }
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        let plan = &self.shared.plan;
        let shown = conf
            .settings
            .upstreams
            .iter()
            .filter(|upstream| !upstream.implicit);
        let shown = shown.map(|upstream| {
            let plan = plan.upstream(&upstream.name);
            let servers = plan.map_or(&[][..], |plan| plan.servers.as_slice());
            (upstream.name.as_str(), servers)
        });
        let query = exchange.head.target.args(exchange.input.head());
        let mut body = Vec::new();
        upstream_show::write(query, shown, &mut body);
        self.answer_content(
            exchange,
            &Content {
                status: 200,
                content_type: upstream_show::CONTENT_TYPE,
                body: &body,
            },
        )
    }

    /// `stub_status`.
    pub(super) fn answer_stub_status(&mut self, exchange: Box<Exchange>) -> Next {
        if !matches!(exchange.head.method, Method::Get | Method::Head) {
            return self.answer_error(exchange, 405);
        }
        // The one who asks is being answered, although it has not come to wait for anything yet.
        self.count_as(Some(Phase::Writing));
        self.shared.publish_numbers();
        let mut body = Vec::new();
        stub_status::write(&self.shared.region.status(), &mut body);
        self.answer_content(
            exchange,
            &Content {
                status: 200,
                content_type: stub_status::CONTENT_TYPE,
                body: &body,
            },
        )
    }

    /// Writes an answer of our own, then reads and drops the rest of the request.
    pub(super) fn answer_on(&mut self, mut exchange: Box<Exchange>) -> Next {
        if let Err(Stop::Abandon | Stop::Client(_) | Stop::Upstream(_)) =
            self.flush_to_client(&mut exchange)
        {
            return self.abandon(exchange);
        }
        if exchange.download.is_pending() {
            let timeout = exchange
                .location
                .as_ref()
                .map(|location| location.send_timeout);
            self.shared
                .arm_client(self.key, timeout.unwrap_or_default());
            return Next::Wait(State::Answering(exchange));
        }
        if !exchange.persist {
            return self.finish(exchange);
        }
        loop {
            let Exchange { upload, input, .. } = &mut *exchange;
            if upload.take(input, false).is_err() {
                exchange.persist = false;
                return self.finish(exchange);
            }
            upload.discard(input);
            if upload.is_ended() {
                return self.finish(exchange);
            }
            let client = &mut *self.client;
            if !client.ready.readable {
                if !self.await_rest(&mut exchange) {
                    return self.abandon(exchange);
                }
                return Next::Wait(State::Answering(exchange));
            }
            match relay::read(input, &mut client.stream, &mut client.ready) {
                Ok(Read::Some(_) | Read::Blocked) => {}
                Ok(Read::End) | Err(_) => {
                    exchange.persist = false;
                    return self.finish(exchange);
                }
            }
        }
    }
}
