//! Answers of servers that the client does not get: `proxy_intercept_errors` and `X-Accel-Redirect`.

use super::Network;
use super::client::Next;
use super::exchange::Exchange;
use super::receive::Stop;
use super::redirect::Destination;
use super::session::Session;
use crate::http::answer::field;
use crate::http::target::hex;
use crate::http::{Body, Field, Known};
use crate::settings::{IgnoredHeaders, Level};

/// The least status that an error page can take the place of.
const SPECIAL: u16 = 300;

impl<N: Network> Session<'_, N> {
    /// What is done instead of passing on an answer whose head is there, if something is.
    pub(super) fn instead(&self, exchange: &Exchange) -> Option<Stop> {
        let proxy = exchange.proxy()?;
        let status = exchange.response.status;
        if proxy.intercept_errors && status >= SPECIAL && exchange.has_error_page(status) {
            return Some(Stop::Intercepted);
        }
        let fields = &exchange.response.fields;
        let redirect = fields.known(Known::XAccelRedirect, exchange.output.head());
        (redirect.is_some() && !proxy.ignored.has(IgnoredHeaders::REDIRECT))
            .then_some(Stop::Redirected)
    }

    /// The error page of the answer's status is shown in its place; what a 401 asks for stays.
    pub(super) fn intercept(&mut self, mut exchange: Box<Exchange>) -> Next {
        let status = exchange.response.status;
        if status == 401 {
            let is_challenge = |name: &[u8]| name.eq_ignore_ascii_case(b"WWW-Authenticate");
            self.carry(&mut exchange, |_, name| is_challenge(name));
        }
        self.leave_answer(&mut exchange);
        self.answer_error(exchange, status)
    }

    /// `X-Accel-Redirect`: the request is served again as one for what that names, with some of the
    /// fields of this answer.
    pub(super) fn follow_redirect(&mut self, mut exchange: Box<Exchange>) -> Next {
        self.carry(&mut exchange, |sent, name| {
            sent.known == Known::SetCookie
                || sent.known == Known::CacheControl
                || name.eq_ignore_ascii_case(b"Content-Disposition")
                || name.eq_ignore_ascii_case(b"Expires")
        });
        let fields = &exchange.response.fields;
        let to = fields.known(Known::XAccelRedirect, exchange.output.head());
        let to = to.unwrap_or_default().to_vec();
        self.leave_answer(&mut exchange);
        if to.first() == Some(&b'@') {
            return self.redirect_internally(exchange, Destination::Named(&to));
        }
        let query = to.iter().position(|&byte| byte == b'?');
        let (path, args) = to.split_at(query.unwrap_or(to.len()));
        let args = args.strip_prefix(b"?").unwrap_or_default();
        let Some(path) = safe(path) else {
            let shown = to.escape_ascii();
            self.log_request(
                &exchange,
                Level::Error,
                format_args!("unsafe URI \"{shown}\" was detected while reading response header from upstream"),
            );
            return self.answer_error(exchange, 404);
        };
        exchange.head.become_get();
        self.redirect_internally(exchange, Destination::Uri(&path, args))
    }

    /// The answer goes no further: its server is free, and so is the connection if no body follows.
    fn leave_answer(&mut self, exchange: &mut Exchange) {
        exchange.response.keep_alive &= exchange.response.body == Body::None;
        self.end_attempt(exchange);
    }

    /// Keeps fields of the server's answer for whatever answer the client gets.
    fn carry(&self, exchange: &mut Exchange, which: impl Fn(&Field, &[u8]) -> bool) {
        let mut carried = std::mem::take(&mut exchange.carried);
        let head = exchange.output.head();
        if let Some(proxy) = exchange.proxy() {
            for sent in exchange.response.forwarded() {
                let (name, value) = (sent.name.of(head), sent.value.of(head));
                if which(sent, name) {
                    let new = self.rewritten(exchange, proxy, sent.known, value);
                    field(&mut carried, name, new.as_deref().unwrap_or(value));
                }
            }
        }
        exchange.carried = carried;
    }
}

/// A path with its percent-encoding resolved; `None` if it is empty, broken or has a `..`.
fn safe(path: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        plain.push(hex(*rest.first()?)? << 4 | hex(*rest.get(1)?)?);
        rest = &rest[2..];
    }
    let mut segments = plain.split(|&byte| byte == b'/');
    let is_bad = plain.is_empty() || plain.contains(&0) || segments.any(|part| part == b"..");
    (!is_bad).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_up_are_not_safe() {
        for (path, plain) in [
            ("/a/b", Some("/a/b")),
            ("/a%20b%2Fc", Some("/a b/c")),
            ("/..a/b..", Some("/..a/b..")),
            ("/a/../b", None),
            ("/a/%2e%2E", None),
            ("/%00", None),
            ("/%4", None),
            ("/%+1", None),
            ("", None),
        ] {
            let expected = plain.map(|plain| plain.as_bytes().to_vec());
            assert_eq!(safe(path.as_bytes()), expected, "{path}");
        }
    }
}
