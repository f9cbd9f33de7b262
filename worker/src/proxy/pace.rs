//! `limit_rate`, `X-Accel-Limit-Rate` and `proxy_limit_rate`: how many bytes may go, and when.

use super::Network;
use super::exchange::Exchange;
use super::session::Session;
use crate::http::Known;
use crate::settings::{IgnoredHeaders, Level, Proxy, Template};

/// Milliseconds that nginx counts more than have passed, so that something goes at once.
const AHEAD_MS: u64 = 1000;

/// So many bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// More than none.
    rate: u64,
    /// Bytes that are not counted.
    after: u64,
    since_ms: u64,
    /// Nothing goes before.
    until_ms: u64,
}

impl Pace {
    /// `None` without a limit. `after` bytes go at once.
    pub fn new(rate: u64, after: u64, since_ms: u64) -> Option<Self> {
        (rate > 0).then_some(Self {
            rate,
            after,
            since_ms,
            until_ms: 0,
        })
    }

    /// When something may go, in milliseconds.
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// How many bytes may go now that `gone` have; with none it is known until when.
    pub fn allows(&mut self, gone: u64, now_ms: u64) -> usize {
        if now_ms < self.until_ms {
            return 0;
        }
        let passed_ms = now_ms.saturating_sub(self.since_ms) + AHEAD_MS;
        let due = u128::from(self.rate) * u128::from(passed_ms) / 1000 + u128::from(self.after);
        let gone = u128::from(gone);
        if due > gone {
            return usize::try_from(due - gone).unwrap_or(usize::MAX);
        }
        let wait_ms = (gone - due) * 1000 / u128::from(self.rate) + 1;
        self.until_ms = now_ms.saturating_add(u64::try_from(wait_ms).unwrap_or(u64::MAX));
        0
    }

    /// Bytes went: from `before` in all to `now`.
    pub fn went(&mut self, before: u64, now: u64, now_ms: u64) {
        let counted = now.saturating_sub(self.after) - before.saturating_sub(self.after);
        let pause_ms = u128::from(counted) * 1000 / u128::from(self.rate);
        self.until_ms = now_ms.saturating_add(u64::try_from(pause_ms).unwrap_or(u64::MAX));
    }
}

impl<N: Network> Session<'_, N> {
    /// An answer begins: `limit_rate`.
    pub(super) fn begin_pace(&mut self, exchange: &mut Exchange) {
        let Some(location) = exchange.location.as_deref() else {
            return;
        };
        let rate = match (exchange.rate, &location.limit_rate) {
            (Some(rate), _) => rate,
            (None, None) => return,
            (None, limit) => self.size(exchange, limit.as_ref()),
        };
        let after = match rate {
            0 => 0,
            _ => self.size(exchange, location.limit_rate_after.as_ref()),
        };
        exchange.rate = Some(rate);
        let took_ms = self.shared.clock.millis().saturating_sub(exchange.started);
        let since_ms = self.shared.now_ms.saturating_sub(took_ms);
        exchange.pace = Pace::new(rate, after, since_ms);
    }

    /// A server's answer begins that is buffered: `proxy_limit_rate`.
    pub(super) fn begin_upstream_pace(&mut self, exchange: &mut Exchange) {
        let limit = exchange
            .proxy()
            .and_then(|proxy| proxy.buffering.limit_rate.as_ref());
        let Some(limit) = limit else {
            return;
        };
        let rate = self.size(exchange, Some(limit));
        exchange.upstream_pace = Pace::new(rate, 0, self.shared.now_ms);
    }

    /// The size that a template gives; one that is none counts as 0, as nginx has it.
    fn size(&self, exchange: &Exchange, template: Option<&Template>) -> u64 {
        let Some(template) = template else {
            return 0;
        };
        let mut text = Vec::new();
        self.render(exchange, template, &mut text);
        size(&text).unwrap_or_else(|| {
            let shown = text.escape_ascii();
            self.log_request(
                exchange,
                Level::Error,
                format_args!("invalid size \"{shown}\""),
            );
            0
        })
    }
}

/// A server's answer is there: its `X-Accel-Limit-Rate` holds for whatever answer the client gets.
pub(super) fn heed_told_rate(exchange: &mut Exchange) {
    let fields = &exchange.response.fields;
    let told = fields.known(Known::XAccelLimitRate, exchange.output.head());
    let is_ignored = |proxy: &Proxy| proxy.ignored.has(IgnoredHeaders::LIMIT_RATE);
    if let Some(rate) = told.and_then(number)
        && !exchange.proxy().is_some_and(is_ignored)
    {
        exchange.rate = Some(rate);
    }
}

/// Bytes with nginx's `k` or `m`.
fn size(text: &[u8]) -> Option<u64> {
    let (digits, scale) = match text {
        [digits @ .., b'k' | b'K'] => (digits, 1 << 10),
        [digits @ .., b'm' | b'M'] => (digits, 1 << 20),
        digits => (digits, 1),
    };
    number(digits)?.checked_mul(scale)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_nginxs() {
        for (text, expected) in [("0", Some(0)), ("5k", Some(5120)), ("2M", Some(2 << 20))] {
            assert_eq!(size(text.as_bytes()), expected);
        }
        for bad in [
            "",
            "k",
            "-1",
            "1g",
            "99999999999999999999",
            "18446744073709551615k",
        ] {
            assert_eq!(size(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_second_goes_ahead_and_the_rest_in_its_time() {
        assert_eq!(Pace::new(0, 5, 0), None);
        let mut pace = Pace::new(1000, 500, 10_000).unwrap();
        assert_eq!(pace.allows(0, 10_000), 1500);
        pace.went(0, 1500, 10_000);
        assert_eq!(pace.until_ms(), 11_000);
        assert_eq!(pace.allows(1500, 10_999), 0);
        assert_eq!(pace.allows(1500, 11_000), 1000);
        // More than was allowed is made up for.
        assert_eq!(pace.allows(4500, 11_000), 0);
        assert_eq!(pace.until_ms(), 13_001);
    }

    proptest! {
        #[test]
        fn whatever_the_writes_no_more_goes_than_is_due(
            rate in 1_u64..1 << 40,
            after in 0_u64..1 << 40,
            steps in proptest::collection::vec((1_u64..5000, 0_u64..1 << 30), 1..50),
        ) {
            let mut pace = Pace::new(rate, after, 0).unwrap();
            let (mut now_ms, mut gone) = (0, 0);
            for (passed_ms, room) in steps {
                now_ms += passed_ms;
                let count = room.min(pace.allows(gone, now_ms) as u64);
                if count > 0 {
                    pace.went(gone, gone + count, now_ms);
                    gone += count;
                }
                let due = u128::from(rate) * u128::from(now_ms + AHEAD_MS) / 1000;
                prop_assert!(u128::from(gone) <= due + u128::from(after));
            }
        }
    }
}
