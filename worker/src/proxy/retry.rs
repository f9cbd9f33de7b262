//! What becomes of a request whose attempt at a server failed (`proxy_next_upstream error
//! timeout`, nginx's default).

use crate::http::Method;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection could not be made, or broke.
    Error,
    /// `proxy_connect_timeout`, `proxy_send_timeout` or `proxy_read_timeout`.
    Timeout,
    /// The answer was no HTTP answer. nginx tries the next server only when `invalid_header` is
    /// configured, which the default is not.
    InvalidHeader,
}

impl Failure {
    /// The status of the client's answer when nobody else is asked.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Failure::Timeout => 504,
            Failure::Error | Failure::InvalidHeader => 502,
        }
    }
}

/// What is known of a failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempted {
    /// The request's method.
    pub method: Method,
    /// Something of the request was written to the server.
    pub sent: bool,
    /// All of the request's body that was read is still at hand.
    pub repeatable: bool,
    /// The connection had been kept alive, and nothing came back on it.
    pub stale: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask the same server again, on a new connection: the old one was closed while it was idle,
    /// which says nothing of the server.
    Again,
    /// Ask another server.
    Next,
    /// Answer with [`Failure::status`].
    GiveUp,
}

/// Decides.
#[must_use]
pub fn decide(failure: Failure, attempted: Attempted) -> Verdict {
    let may_repeat = attempted.repeatable && (!attempted.sent || attempted.method.is_retriable());
    match failure {
        _ if !may_repeat => Verdict::GiveUp,
        Failure::Error if attempted.stale => Verdict::Again,
        Failure::Error | Failure::Timeout => Verdict::Next,
        Failure::InvalidHeader => Verdict::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Attempted = Attempted {
        method: Method::Get,
        sent: true,
        repeatable: true,
        stale: false,
    };

    #[test]
    fn what_was_sent_goes_elsewhere_only_if_it_may_be_repeated() {
        for method in [Method::Post, Method::Patch] {
            let sent = Attempted { method, ..FRESH };
            assert_eq!(decide(Failure::Error, sent), Verdict::GiveUp);
            assert_eq!(decide(Failure::Timeout, sent), Verdict::GiveUp);
            let unsent = Attempted {
                sent: false,
                ..sent
            };
            assert_eq!(decide(Failure::Error, unsent), Verdict::Next);
        }
        for method in [Method::Get, Method::Head, Method::Put, Method::Delete] {
            let sent = Attempted { method, ..FRESH };
            assert_eq!(decide(Failure::Error, sent), Verdict::Next);
            assert_eq!(decide(Failure::Timeout, sent), Verdict::Next);
            assert_eq!(decide(Failure::InvalidHeader, sent), Verdict::GiveUp);
        }
    }

    #[test]
    fn a_body_that_is_gone_cannot_be_sent_again() {
        let gone = Attempted {
            repeatable: false,
            ..FRESH
        };
        assert_eq!(decide(Failure::Error, gone), Verdict::GiveUp);
        let stale = Attempted {
            stale: true,
            ..gone
        };
        assert_eq!(decide(Failure::Error, stale), Verdict::GiveUp);
    }

    #[test]
    fn a_connection_that_was_closed_while_idle_is_no_failure_of_the_server() {
        let stale = Attempted {
            stale: true,
            ..FRESH
        };
        assert_eq!(decide(Failure::Error, stale), Verdict::Again);
        assert_eq!(decide(Failure::Timeout, stale), Verdict::Next);
        let post = Attempted {
            method: Method::Post,
            ..stale
        };
        assert_eq!(decide(Failure::Error, post), Verdict::GiveUp);
        let unsent = Attempted {
            sent: false,
            ..post
        };
        assert_eq!(decide(Failure::Error, unsent), Verdict::Again);
    }
}
