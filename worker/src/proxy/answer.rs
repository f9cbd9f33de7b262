//! The answers that weir gives itself.

use super::Network;
use super::client::{Next, State};
use super::describe::shows_version;
use super::exchange::{Exchange, Wait};
use super::numbers::Phase;
use super::receive::{READS_A_TURN, Stop};
use super::relay::Framing;
use super::request::answering;
use super::session::Session;
use crate::handler::{stub_status, upstream_show};
use crate::http::answer::{self, Host, OwnUrl};
use crate::http::framing::has_body;
use crate::http::{Answer, Body, ChunkHead, Known, Method, Persist};
use crate::http::{browser, chunked, page, status};
use crate::settings::Return;
use crate::transport::{self, Read};

/// The methods that are passed on, save those that RFC 9110 does not name.
const ALLOWED: &[u8] = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// The body of an answer of our own, in parts.
struct Content<'a> {
    content_type: Option<&'a [u8]>,
    body: &'a [&'a [u8]],
}

impl<N: Network> Session<'_, N> {
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

    /// nginx's page for the status that the request has come to.
    pub(super) fn answer_page(&mut self, mut exchange: Box<Exchange>) -> Next {
        let status = exchange.course.status;
        self.answer_with(&mut exchange, status, |session, exchange, out| {
            let page = page::of(status);
            let content = if page.is_empty() {
                Content {
                    content_type: None,
                    body: &[],
                }
            } else {
                Content {
                    content_type: Some(page::CONTENT_TYPE),
                    body: &[
                        page,
                        page::tail(shows_version(exchange)),
                        page_padding(exchange),
                    ],
                }
            };
            session.write_own(exchange, &content, |_| (), out);
        });
        answering(exchange)
    }

    /// A whole answer of our own. `fields` go before those that the configuration adds.
    fn write_own(
        &self,
        exchange: &Exchange,
        content: &Content<'_>,
        fields: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        let status = exchange.status;
        // An interim status has neither a body nor its length; 304 tells of what it does not send.
        let describes = !matches!(status, 0..=199 | 204);
        let length: usize = content.body.iter().map(|part| part.len()).sum();
        let chunked = exchange.adds_trailers();
        let own_url = self.own_url(exchange);
        let is_own = own_url.is_some();
        Answer {
            status,
            reason: None,
            date: self.shared.clock.http(),
            server: true,
            content_type: content.content_type.filter(|_| describes),
            length: (describes && !chunked).then_some(length as u64),
            location: own_url,
            chunked,
            persist: self.persist(exchange),
            tokens: shows_version(exchange),
        }
        .write(out);
        if exchange.moves && !is_own {
            answer::field(out, b"Location", &exchange.moved_to);
        }
        fields(out);
        self.write_added_fields(exchange, self.owed_fields(exchange), out);
        answer::end(out);
        if !describes || !has_body(exchange.head.method, status) {
            return;
        }
        let framed = chunked && length > 0;
        if framed {
            out.extend_from_slice(ChunkHead::new(length as u64).as_bytes());
        }
        for part in content.body {
            out.extend_from_slice(part);
        }
        if framed {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The absolute URL of a `Location` that is a path on this server.
    fn own_url<'a>(&'a self, exchange: &'a Exchange) -> Option<OwnUrl<'a>> {
        let path = exchange.moved_to.as_slice();
        self.absolute(exchange, path).filter(|_| exchange.moves)
    }

    /// The URL of a path on this server, where a Location is to have it.
    pub(super) fn absolute<'a>(
        &'a self,
        exchange: &'a Exchange,
        path: &'a [u8],
    ) -> Option<OwnUrl<'a>> {
        let location = exchange.location.as_deref()?;
        if path.first() != Some(&b'/') || !location.absolute_redirect {
            return None;
        }
        let conf = exchange.conf.as_ref().unwrap_or(&self.shared.conf);
        let local = self.client.local;
        let host = if location.server_name_in_redirect {
            Host::Name(conf.server_name(exchange.server).as_bytes())
        } else {
            match (exchange.head.host(), local) {
                (b"", Some(address)) => Host::Address(address.ip()),
                (host, _) => Host::Name(host),
            }
        };
        Some(OwnUrl {
            https: false,
            host,
            port: local
                .map(|local| local.port())
                .filter(|_| location.port_in_redirect),
            path,
        })
    }

    /// The answer has this `Location`.
    pub(super) fn move_to(&self, exchange: &mut Exchange, mut url: Vec<u8>) {
        answer::keep_to_one_line(&mut url, 0);
        exchange.moved_to = url;
        exchange.moves = true;
    }

    /// Sends the client elsewhere; a path is one on this server.
    pub(super) fn answer_moved(
        &mut self,
        mut exchange: Box<Exchange>,
        status: u16,
        to: Vec<u8>,
    ) -> Next {
        self.move_to(&mut exchange, to);
        self.answer_error(exchange, status)
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
        // After an interim status a client waits for another answer, which will not come.
        exchange.persist &= status >= 200;
        exchange.upload.drop_pending(&mut exchange.input);
        let mut out = std::mem::take(exchange.download.lead());
        let begin = out.len();
        write(self, exchange, &mut out);
        let mut end = out[begin..].windows(4);
        let head = end
            .position(|four| four == b"\r\n\r\n")
            .map_or(out.len() - begin, |at| at + 4);
        self.keep_sent_head(exchange, &out[begin..begin + head]);
        if exchange.adds_trailers() {
            self.collect_trailers(exchange);
            chunked::end(&mut out, &exchange.sent_trailers);
        }
        *exchange.download.lead() = out;
        exchange.download.begin(Body::None, Framing::Plain);
        exchange.client_wait = Wait::default();
        self.begin_pace(exchange);
    }

    /// An answer with content of our own, whose status is that of an error if it is an error's page.
    fn answer_content(
        &mut self,
        mut exchange: Box<Exchange>,
        status: u16,
        content_type: &[u8],
        body: &[u8],
    ) -> Next {
        let status = exchange.status_or(status);
        self.answer_with(&mut exchange, status, |session, exchange, out| {
            let content = Content {
                content_type: Some(content_type),
                body: &[body],
            };
            session.write_own(exchange, &content, |_| (), out);
        });
        answering(exchange)
    }

    /// `return`.
    pub(super) fn answer_return(&mut self, mut exchange: Box<Exchange>, ret: &Return) -> Next {
        let status = ret.status;
        let template = ret.text.as_ref().filter(|text| !text.parts.is_empty());
        if status >= 400 && template.is_none() {
            return self.answer_error(exchange, status);
        }
        let moved = status::is_moved(status);
        let mut text = std::mem::take(if moved {
            &mut exchange.moved_to
        } else {
            &mut self.shared.line
        });
        text.clear();
        // The text may hold `$status`.
        exchange.status = exchange.status_or(status);
        if let Some(template) = template {
            self.render(&exchange, template, &mut text);
        }
        if moved {
            return self.answer_moved(exchange, status, text);
        }
        let location = exchange.location.clone();
        let path = exchange.head.target.normalized(exchange.input.head());
        let content_type = location
            .as_ref()
            .map_or(&b"text/plain"[..], |location| location.content_type(path));
        let next = self.answer_content(exchange, status, content_type, &text);
        self.shared.line = text;
        next
    }

    /// OPTIONS that may be forwarded no more (RFC 9110, section 7.6.2).
    pub(super) fn answer_options(&mut self, mut exchange: Box<Exchange>) -> Next {
        self.answer_with(&mut exchange, 200, |session, exchange, out| {
            let content = Content {
                content_type: None,
                body: &[],
            };
            let allow = |out: &mut Vec<u8>| answer::field(out, b"Allow", ALLOWED);
            session.write_own(exchange, &content, allow, out);
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
        let discovered = plan.upstreams().iter();
        let discovered = discovered.filter(|upstream| upstream.template.is_some());
        let shown = shown.chain(
            discovered.map(|upstream| (upstream.name.as_str(), upstream.servers.as_slice())),
        );
        let query = exchange.head.target.args(exchange.input.head());
        let mut body = Vec::new();
        upstream_show::write(query, shown, &mut body);
        self.answer_content(exchange, 200, upstream_show::CONTENT_TYPE, &body)
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
        self.answer_content(exchange, 200, stub_status::CONTENT_TYPE, &body)
    }

    /// Writes an answer of our own, then reads and drops the rest of the request.
    pub(super) fn answer_on(&mut self, mut exchange: Box<Exchange>) -> Next {
        if let Err(Stop::Abandon | Stop::Client(_) | Stop::Upstream(_)) =
            self.flush_to_client(&mut exchange)
        {
            return self.abandon(exchange);
        }
        if exchange.download.is_pending() {
            if let Some(location) = exchange.location.clone() {
                let wait = self.sending_waits(&exchange, &location);
                self.arm_client_for(&mut exchange, wait);
            }
            return Next::Wait(State::Answering(exchange));
        }
        exchange.client_wait = Wait::default();
        if !exchange.persist {
            return self.finish(exchange);
        }
        for _ in 0..READS_A_TURN {
            let Exchange { upload, input, .. } = &mut *exchange;
            if upload.take(input, false).is_err() {
                exchange.persist = false;
                return self.finish(exchange);
            }
            upload.drop_pending(input);
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
            match transport::read(input, &mut client.stream, &mut client.ready) {
                Ok(Read::Some(_) | Read::Blocked) => {}
                Ok(Read::End) | Err(_) => {
                    exchange.persist = false;
                    return self.finish(exchange);
                }
            }
        }
        if !self.await_rest(&mut exchange) {
            return self.abandon(exchange);
        }
        self.go_on_later();
        Next::Wait(State::Answering(exchange))
    }
}

/// `msie_padding`
fn page_padding(exchange: &Exchange) -> &'static [u8] {
    let location = exchange.location.as_deref();
    if exchange.status < 400 || location.is_some_and(|location| !location.msie_padding) {
        return b"";
    }
    let head = exchange.input.head();
    match exchange.head.fields.known(Known::UserAgent, head) {
        Some(agent) if browser::has_pages_of_its_own(agent) => page::PADDING,
        _ => b"",
    }
}
