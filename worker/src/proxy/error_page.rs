//! Errors: `error_page`, and nginx's own page where there is none.

use super::Network;
use super::client::Next;
use super::exchange::Exchange;
use super::redirect::Destination;
use super::session::Session;
use crate::http::status;
use crate::settings::{ErrorAnswer, ErrorPage, LocationSettings};

/// `return 444`, which nginx treats like a client that timed out.
const CLOSE: u16 = 444;

impl LocationSettings {
    /// The `error_page` of a status.
    fn error_page(&self, status: u16) -> Option<&ErrorPage> {
        self.error_pages.iter().find(|page| page.status == status)
    }
}

impl Exchange {
    /// Whether its location has an `error_page` for this status: what `proxy_intercept_errors` asks.
    #[must_use]
    pub fn has_error_page(&self, status: u16) -> bool {
        let location = self.location.as_ref();
        location.is_some_and(|location| location.error_page(status).is_some())
    }

    /// The status of an answer whose handler would give it `own`: that of the error which it is the
    /// page of.
    #[must_use]
    pub fn status_or(&self, own: u16) -> u16 {
        match self.course.status {
            0 => own,
            error => error,
        }
    }

    /// Whether an error page may be looked for now.
    fn may_have_error_page(&mut self) -> bool {
        let Some(location) = self.location.as_deref() else {
            return false;
        };
        if self.course.error_page || location.error_pages.is_empty() || self.course.is_spent() {
            return false;
        }
        self.course.error_page = !location.recursive_error_pages;
        true
    }
}

impl<N: Network> Session<'_, N> {
    /// Ends a request by a status: shows its error page. 408, 444 and 499 close without an answer.
    pub(super) fn answer_error(&mut self, mut exchange: Box<Exchange>, status: u16) -> Next {
        if status::is_silent(status) {
            exchange.status = status;
            if status == CLOSE {
                self.reset_if_asked(&exchange);
            }
            return self.abandon(exchange);
        }
        exchange.persist &= !status::closes(status);
        exchange.course.status = status;
        if exchange.may_have_error_page()
            && let Some(location) = exchange.location.clone()
            && let Some(page) = location.error_page(status)
        {
            return self.show(exchange, page);
        }
        self.answer_page(exchange)
    }

    fn show(&mut self, mut exchange: Box<Exchange>, page: &ErrorPage) -> Next {
        let course = &mut exchange.course;
        course.status = match page.answer {
            ErrorAnswer::Code(status) => status,
            ErrorAnswer::Handlers => 0,
            ErrorAnswer::Kept if matches!(course.status, 494..=497) => 400,
            ErrorAnswer::Kept => course.status,
        };
        let mut target = Vec::new();
        self.render(&exchange, &page.target, &mut target);
        match target.first() {
            Some(b'/') => {
                let query = target.iter().position(|&byte| byte == b'?');
                let (path, args) = target.split_at(query.unwrap_or(target.len()));
                let args = args.strip_prefix(b"?").unwrap_or_default();
                exchange.head.become_get();
                self.redirect_internally(exchange, Destination::Uri(path, args))
            }
            Some(b'@') => self.redirect_internally(exchange, Destination::Named(&target)),
            _ => {
                if !status::is_moved(exchange.course.status) {
                    exchange.course.status = 302;
                }
                self.move_to(&mut exchange, target);
                self.answer_page(exchange)
            }
        }
    }
}
