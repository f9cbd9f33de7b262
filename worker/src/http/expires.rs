//! `expires`: how long an answer is good, as its fields Expires and Cache-Control say it.

use chrono::{Days, NaiveDateTime, TimeDelta, TimeZone};

use crate::unit;

/// A day, in seconds.
const DAY: i64 = 24 * 60 * 60;
/// What `max` says: the end of 2037, and ten years.
const MAX: Validity = Validity {
    until: 2_145_916_555,
    max_age: Some(315_360_000),
};

/// What `expires` says. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expires {
    /// `off`: nothing is added.
    Off,
    /// `epoch`: it was never good.
    Epoch,
    /// `max`
    Max,
    /// So long after the answer was made; negative: never good.
    Access(i64),
    /// So long after Last-Modified, or after the answer was made if it has none.
    Modified(i64),
    /// Until the next time that it is so late in the day, in local time.
    Daily(i64),
}

/// Until when an answer is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// For Expires, Unix time in seconds.
    pub until: i64,
    /// For `Cache-Control: max-age=`, in seconds; `None` is `no-cache`.
    pub max_age: Option<i64>,
}

impl Expires {
    /// Reads the directive's last parameter, with `modified` before it or without.
    ///
    /// # Errors
    /// What is wrong, in nginx's words.
    pub fn parse(text: &str, modified: bool) -> Result<Expires, &'static str> {
        match text {
            "epoch" if !modified => return Ok(Expires::Epoch),
            "max" if !modified => return Ok(Expires::Max),
            "off" if !modified => return Ok(Expires::Off),
            _ => {}
        }
        let (sign, time) = match text.as_bytes().first() {
            Some(b'@') if modified => {
                return Err("daily time cannot be used with \"modified\" parameter");
            }
            Some(sign @ (b'@' | b'+' | b'-')) => (*sign, &text[1..]),
            _ => (b'+', text),
        };
        let time = unit::seconds(time).and_then(|time| i64::try_from(time.as_secs()).ok());
        let time = time.ok_or("invalid value")?;
        match sign {
            b'@' if time > DAY => Err("daily time value must be less than 24 hours"),
            b'@' => Ok(Expires::Daily(time)),
            sign => {
                let time = if sign == b'-' { -time } else { time };
                Ok(if modified {
                    Expires::Modified(time)
                } else {
                    Expires::Access(time)
                })
            }
        }
    }

    /// For an answer that is made `now` and was `last_modified` then, both Unix time in seconds;
    /// `None` adds nothing.
    pub fn validity(
        self,
        now: i64,
        last_modified: Option<i64>,
        zone: &impl TimeZone,
    ) -> Option<Validity> {
        let (until, never) = match self {
            Expires::Off => return None,
            Expires::Max => return Some(MAX),
            Expires::Epoch => (1, true),
            Expires::Access(0) | Expires::Modified(0) => (now, false),
            Expires::Access(time) => (now.saturating_add(time), time < 0),
            Expires::Modified(time) => {
                let since = last_modified.unwrap_or(now);
                (since.saturating_add(time), time < 0)
            }
            Expires::Daily(time) => (next_time(now, time, zone), false),
        };
        let max_age = until.saturating_sub(now);
        Some(Validity {
            until,
            max_age: (!never && max_age >= 0).then_some(max_age),
        })
    }
}

/// When it is next so many seconds after midnight.
fn next_time(now: i64, time: i64, zone: &impl TimeZone) -> i64 {
    let Some(local) = zone.timestamp_opt(now, 0).earliest() else {
        return now.saturating_add(DAY);
    };
    let midnight = local.date_naive().and_hms_opt(0, 0, 0);
    let on_day = |days: u64| {
        let moment = midnight?.checked_add_days(Days::new(days))?;
        let moment = moment.checked_add_signed(TimeDelta::try_seconds(time)?)?;
        let found = zone.from_local_datetime(&moment).earliest();
        // In spring an hour is left out.
        let later = || {
            zone.from_local_datetime(&(moment + TimeDelta::hours(1)))
                .earliest()
        };
        Some(found.or_else(later)?.timestamp())
    };
    let mut moments = (0..3).filter_map(on_day);
    moments
        .find(|&moment| moment > now)
        .unwrap_or(now.saturating_add(DAY))
}

/// Reads a date of HTTP in each of its three forms (RFC 9110, section 5.6.7); Unix time in seconds.
/// The day of the week is not looked at.
pub fn date(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let parse = |text: &str, form: &str| {
        let parsed = NaiveDateTime::parse_from_str(text.trim_ascii(), form).ok()?;
        Some(parsed.and_utc().timestamp())
    };
    match text.split_once(',') {
        Some((_, rest)) => {
            parse(rest, "%d %b %Y %H:%M:%S GMT").or_else(|| parse(rest, "%d-%b-%y %H:%M:%S GMT"))
        }
        None => parse(text.split_once(' ')?.1, "%b %e %H:%M:%S %Y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    const NOW: i64 = 784_111_777;

    #[test]
    fn parameters_are_read_as_in_nginx() {
        for (text, expected) in [
            ("epoch", Expires::Epoch),
            ("max", Expires::Max),
            ("off", Expires::Off),
            ("1h", Expires::Access(3600)),
            ("+1h", Expires::Access(3600)),
            ("-1", Expires::Access(-1)),
            ("0", Expires::Access(0)),
            ("1y1M", Expires::Access(395 * DAY)),
            ("@15h30m", Expires::Daily(15 * 3600 + 1800)),
            ("@24h", Expires::Daily(DAY)),
        ] {
            assert_eq!(Expires::parse(text, false), Ok(expected), "{text}");
        }
        assert_eq!(Expires::parse("-1d", true), Ok(Expires::Modified(-DAY)));
        for (text, modified, message) in [
            ("", false, "invalid value"),
            ("x", false, "invalid value"),
            ("+-1", false, "invalid value"),
            ("1ms", false, "invalid value"),
            ("off", true, "invalid value"),
            (
                "@1h",
                true,
                "daily time cannot be used with \"modified\" parameter",
            ),
            (
                "@24h1s",
                false,
                "daily time value must be less than 24 hours",
            ),
        ] {
            assert_eq!(Expires::parse(text, modified), Err(message), "{text}");
        }
    }

    #[test]
    fn validity_is_nginxs() {
        let zone = FixedOffset::east_opt(0).unwrap();
        let of = |expires: Expires, modified| {
            let validity = expires.validity(NOW, modified, &zone)?;
            Some((validity.until, validity.max_age))
        };
        assert_eq!(of(Expires::Off, None), None);
        assert_eq!(of(Expires::Epoch, None), Some((1, None)));
        assert_eq!(
            of(Expires::Max, None),
            Some((2_145_916_555, Some(315_360_000)))
        );
        assert_eq!(of(Expires::Access(0), None), Some((NOW, Some(0))));
        assert_eq!(of(Expires::Access(60), Some(5)), Some((NOW + 60, Some(60))));
        assert_eq!(of(Expires::Access(-60), None), Some((NOW - 60, None)));
        assert_eq!(of(Expires::Modified(0), Some(5)), Some((NOW, Some(0))));
        assert_eq!(of(Expires::Modified(60), None), Some((NOW + 60, Some(60))));
        assert_eq!(
            of(Expires::Modified(60), Some(NOW - 10)),
            Some((NOW + 50, Some(50)))
        );
        assert_eq!(of(Expires::Modified(60), Some(5)), Some((65, None)));
        assert_eq!(
            of(Expires::Modified(-1), Some(NOW + 9)),
            Some((NOW + 8, None))
        );
    }

    #[test]
    fn a_time_of_day_is_the_next_one_in_local_time() {
        // NOW is 08:49:37 in Greenwich.
        let midnight = NOW - (8 * 3600 + 49 * 60 + 37);
        for (hours_east, time, expected) in [
            (0, 9 * 3600, midnight + 9 * 3600),
            (0, 8 * 3600, midnight + DAY + 8 * 3600),
            (
                0,
                8 * 3600 + 49 * 60 + 37,
                midnight + DAY + 8 * 3600 + 49 * 60 + 37,
            ),
            (0, 0, midnight + DAY),
            (0, DAY, midnight + DAY),
            (2, 9 * 3600, midnight + DAY + 7 * 3600),
            (-10, 0, midnight + 10 * 3600),
        ] {
            let zone = FixedOffset::east_opt(hours_east * 3600).unwrap();
            assert_eq!(next_time(NOW, time, &zone), expected, "{hours_east} {time}");
        }
    }

    #[test]
    fn dates_have_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(date(text.as_bytes()), Some(NOW), "{text}");
        }
        for text in [
            "",
            "x",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994",
            "\u{fffd},",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }
}
