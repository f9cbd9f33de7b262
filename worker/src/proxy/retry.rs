//! What becomes of a request whose attempt at a server failed: `proxy_next_upstream` and its limits.

use crate::http::Method;
use crate::settings::NextUpstream;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection could not be made, or broke.
    Error,
    /// The server was removed, and its time is over.
    Removed,
    /// `proxy_connect_timeout`, `proxy_send_timeout` or `proxy_read_timeout`.
    Timeout,
    /// The answer was no HTTP answer.
    InvalidHeader,
    /// The server answered with this status, one that `proxy_next_upstream` can name.
    Answered(u16),
}

impl Failure {
    /// The status of the client's answer when nobody else is asked.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Failure::Timeout => 504,
            Failure::Error | Failure::Removed | Failure::InvalidHeader => 502,
            Failure::Answered(status) => status,
        }
    }

    /// Whether it counts for `max_fails`: 403 and 404 say nothing of the server's health, nor does it
    /// that it was removed.
    #[must_use]
    pub fn counts(self) -> bool {
        !matches!(self, Failure::Removed | Failure::Answered(403 | 404))
    }

    /// What `proxy_next_upstream` has to name for another server to be asked.
    fn named(self) -> Option<NextUpstream> {
        match self {
            Failure::Error | Failure::Removed => Some(NextUpstream::ERROR),
            Failure::Timeout => Some(NextUpstream::TIMEOUT),
            Failure::InvalidHeader => Some(NextUpstream::INVALID_HEADER),
            Failure::Answered(status) => NextUpstream::of_status(status),
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

/// What may still be done for a request.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// `proxy_next_upstream`
    pub after: NextUpstream,
    /// Servers that may be asked, the failed one included: those of the upstream that are not
    /// `down`, and no more than `proxy_next_upstream_tries`.
    pub tries: usize,
    /// `proxy_next_upstream_timeout` has not passed.
    pub in_time: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask the same server again, on a new connection: the old one was closed while it was idle,
    /// which says nothing of the server.
    Again,
    /// Ask another server.
    Next,
    /// Answer with [`Failure::status`], or with what the server answered.
    GiveUp,
}

/// Decides.
#[must_use]
pub fn decide(failure: Failure, attempted: Attempted, allowed: Allowed) -> Verdict {
    let stale = attempted.stale && failure == Failure::Error;
    let Some(mut named) = failure.named() else {
        return Verdict::GiveUp;
    };
    if attempted.sent && !attempted.method.is_retriable() {
        named = named.and(NextUpstream::NON_IDEMPOTENT);
    }
    if !attempted.repeatable || !allowed.in_time || !allowed.after.has(named) {
        return Verdict::GiveUp;
    }
    match (stale, allowed.tries) {
        (true, _) => Verdict::Again,
        (false, 0 | 1) => Verdict::GiveUp,
        (false, _) => Verdict::Next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRESH: Attempted = Attempted {
        method: Method::Get,
        sent: true,
        repeatable: true,
        stale: false,
    };

    const USUAL: Allowed = Allowed {
        after: NextUpstream::DEFAULT,
        tries: 2,
        in_time: true,
    };

    fn usual(failure: Failure, attempted: Attempted) -> Verdict {
        decide(failure, attempted, USUAL)
    }

    #[test]
    fn what_was_sent_goes_elsewhere_only_if_it_may_be_repeated() {
        for method in [Method::Post, Method::Patch] {
            let sent = Attempted { method, ..FRESH };
            assert_eq!(usual(Failure::Error, sent), Verdict::GiveUp);
            assert_eq!(usual(Failure::Timeout, sent), Verdict::GiveUp);
            let unsent = Attempted {
                sent: false,
                ..sent
            };
            assert_eq!(usual(Failure::Error, unsent), Verdict::Next);
            let any = Allowed {
                after: NextUpstream::DEFAULT.and(NextUpstream::NON_IDEMPOTENT),
                ..USUAL
            };
            assert_eq!(decide(Failure::Error, sent, any), Verdict::Next);
        }
        for method in [Method::Get, Method::Head, Method::Put, Method::Delete] {
            let sent = Attempted { method, ..FRESH };
            assert_eq!(usual(Failure::Error, sent), Verdict::Next);
            assert_eq!(usual(Failure::Timeout, sent), Verdict::Next);
            assert_eq!(usual(Failure::InvalidHeader, sent), Verdict::GiveUp);
        }
    }

    #[test]
    fn a_body_that_is_gone_cannot_be_sent_again() {
        let gone = Attempted {
            repeatable: false,
            ..FRESH
        };
        assert_eq!(usual(Failure::Error, gone), Verdict::GiveUp);
        let stale = Attempted {
            stale: true,
            ..gone
        };
        assert_eq!(usual(Failure::Error, stale), Verdict::GiveUp);
    }

    #[test]
    fn a_connection_that_was_closed_while_idle_is_no_failure_of_the_server() {
        let stale = Attempted {
            stale: true,
            ..FRESH
        };
        let last = Allowed { tries: 1, ..USUAL };
        assert_eq!(decide(Failure::Error, stale, last), Verdict::Again);
        assert_eq!(decide(Failure::Timeout, stale, last), Verdict::GiveUp);
        assert_eq!(usual(Failure::Timeout, stale), Verdict::Next);
        assert_eq!(usual(Failure::Removed, stale), Verdict::Next);
        let post = Attempted {
            method: Method::Post,
            ..stale
        };
        assert_eq!(usual(Failure::Error, post), Verdict::GiveUp);
        let unsent = Attempted {
            sent: false,
            ..post
        };
        assert_eq!(usual(Failure::Error, unsent), Verdict::Again);
        let off = Allowed {
            after: NextUpstream::OFF,
            ..USUAL
        };
        assert_eq!(decide(Failure::Error, stale, off), Verdict::GiveUp);
    }

    #[test]
    fn a_status_counts_only_where_it_is_named_and_another_server_is_left() {
        for status in [500, 502, 503, 504, 403, 404, 429] {
            let answered = Failure::Answered(status);
            assert_eq!(usual(answered, FRESH), Verdict::GiveUp);
            let named = Allowed {
                after: NextUpstream::of_status(status).unwrap(),
                ..USUAL
            };
            assert_eq!(decide(answered, FRESH, named), Verdict::Next);
            let last = Allowed { tries: 1, ..named };
            assert_eq!(decide(answered, FRESH, last), Verdict::GiveUp);
            assert_eq!(answered.counts(), status != 403 && status != 404);
            assert_eq!(answered.status(), status);
        }
        assert_eq!(usual(Failure::Answered(200), FRESH), Verdict::GiveUp);
    }

    proptest! {
        #[test]
        fn nothing_goes_to_another_server_beyond_what_is_allowed(
            mask in 0u16..1 << 11,
            tries in 0usize..4,
            in_time: bool,
            sent: bool,
            repeatable: bool,
            stale: bool,
            post: bool,
            failure in prop_oneof![
                Just(Failure::Error),
                Just(Failure::Removed),
                Just(Failure::Timeout),
                Just(Failure::InvalidHeader),
                (400u16..600).prop_map(Failure::Answered),
            ],
        ) {
            let method = if post { Method::Post } else { Method::Get };
            let attempted = Attempted { method, sent, repeatable, stale };
            let after = NextUpstream(mask);
            let verdict = decide(failure, attempted, Allowed { after, tries, in_time });
            if verdict != Verdict::GiveUp {
                prop_assert!(repeatable && in_time);
                prop_assert!(!(post && sent) || after.has(NextUpstream::NON_IDEMPOTENT));
                prop_assert!(after.has(failure.named().unwrap()));
            }
            if verdict == Verdict::Next {
                prop_assert!(tries > 1);
            }
        }
    }
}
