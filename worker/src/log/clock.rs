//! The time in every form in which it is written, worked out once a second.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, Local, Offset, TimeZone, Timelike, Utc};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The largest Unix time that is written as it is: the end of the year 9999, in seconds.
const LATEST: u64 = 253_402_300_799 - 86_400;

/// A Unix time in seconds in the form of [`Clock::http`]; one before the year 0 or after 9999 is
/// written as the nearest that can be.
pub fn http_date(second: i64) -> [u8; 29] {
    const EARLIEST: i64 = -62_167_219_200;
    let second = second.clamp(EARLIEST, LATEST as i64);
    DateTime::<Utc>::from_timestamp(second, 0).map_or([b' '; 29], |utc| http_text(&utc))
}

fn http_text(utc: &DateTime<Utc>) -> [u8; 29] {
    let mut text = [b' '; 29];
    fill(
        &mut text,
        format_args!(
            "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
            DAYS[utc.weekday().num_days_from_monday() as usize],
            utc.day(),
            MONTHS[utc.month0() as usize],
            utc.year(),
            utc.hour(),
            utc.minute(),
            utc.second()
        ),
    );
    text
}

/// A moment and its texts.
#[derive(Clone, Debug)]
pub struct Clock {
    millis: u64,
    second: u64,
    http: [u8; 29],
    local: [u8; 26],
    iso8601: [u8; 25],
    error: [u8; 19],
}

impl Clock {
    /// At this Unix time, in milliseconds.
    pub fn new(millis: u64) -> Clock {
        let mut clock = Clock {
            millis,
            second: 0,
            http: [b' '; 29],
            local: [b' '; 26],
            iso8601: [b' '; 25],
            error: [b' '; 19],
        };
        clock.write_texts(millis / 1000);
        clock
    }

    /// At the system's time.
    pub fn system() -> Clock {
        Clock::new(Clock::system_millis())
    }

    /// The system's Unix time in milliseconds; 0 before 1970.
    pub fn system_millis() -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    /// Moves to this Unix time, in milliseconds; forwards or backwards.
    #[inline]
    pub fn set(&mut self, millis: u64) {
        self.millis = millis;
        if millis / 1000 != self.second {
            self.write_texts(millis / 1000);
        }
    }

    /// Unix time in milliseconds.
    #[inline]
    pub fn millis(&self) -> u64 {
        self.millis
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`, for fields such as Date (RFC 9110, section 5.6.7).
    #[inline]
    pub fn http(&self) -> &[u8] {
        &self.http
    }

    /// `$time_local`: `06/Nov/1994:08:49:37 +0000`.
    pub fn local(&self) -> &[u8] {
        &self.local
    }

    /// `$time_iso8601`: `1994-11-06T08:49:37+00:00`.
    pub fn iso8601(&self) -> &[u8] {
        &self.iso8601
    }

    /// For the error log: `1994/11/06 08:49:37`.
    pub fn error(&self) -> &[u8] {
        &self.error
    }

    fn write_texts(&mut self, second: u64) {
        self.second = second;
        let second = i64::try_from(second.min(LATEST)).unwrap_or_default();
        let Some(utc) = DateTime::<Utc>::from_timestamp(second, 0) else {
            return;
        };
        self.write_moment(
            &utc,
            &Local.offset_from_utc_datetime(&utc.naive_utc()).fix(),
        );
    }

    fn write_moment(&mut self, utc: &DateTime<Utc>, zone: &chrono::FixedOffset) {
        self.http = http_text(utc);
        let at = utc.with_timezone(zone);
        let east = zone.local_minus_utc() / 60;
        let (sign, ahead) = (if east < 0 { '-' } else { '+' }, east.unsigned_abs());
        let (year, month, day) = (at.year(), at.month(), at.day());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        fill(
            &mut self.local,
            format_args!(
                "{day:02}/{}/{year:04}:{hour:02}:{minute:02}:{second:02} {sign}{:02}{:02}",
                MONTHS[at.month0() as usize],
                ahead / 60,
                ahead % 60
            ),
        );
        fill(
            &mut self.iso8601,
            format_args!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{sign}{:02}:{:02}",
                ahead / 60,
                ahead % 60
            ),
        );
        fill(
            &mut self.error,
            format_args!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}"),
        );
    }
}

/// The texts have fixed lengths for all years that are written, so nothing is cut.
fn fill(into: &mut [u8], text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let mut rest = into;
    let _ = rest.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    fn texts(millis: u64, east: i32) -> [String; 4] {
        let mut clock = Clock::new(millis);
        let utc = DateTime::<Utc>::from_timestamp_millis(millis as i64).unwrap();
        clock.write_moment(&utc, &FixedOffset::east_opt(east).unwrap());
        [clock.http(), clock.local(), clock.iso8601(), clock.error()]
            .map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn every_form_is_nginx_own() {
        assert_eq!(
            texts(784_111_777_123, 0),
            [
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "06/Nov/1994:08:49:37 +0000",
                "1994-11-06T08:49:37+00:00",
                "1994/11/06 08:49:37"
            ]
        );
        assert_eq!(
            texts(1_767_225_599_000, 8 * 3600),
            [
                "Wed, 31 Dec 2025 23:59:59 GMT",
                "01/Jan/2026:07:59:59 +0800",
                "2026-01-01T07:59:59+08:00",
                "2026/01/01 07:59:59"
            ]
        );
        assert_eq!(
            texts(784_111_777_000, -(3 * 3600 + 1800))[1],
            "06/Nov/1994:05:19:37 -0330"
        );
    }

    #[test]
    fn the_clock_goes_both_ways_and_to_the_ends() {
        let mut clock = Clock::new(2_000);
        let later = clock.http().to_vec();
        clock.set(1_999);
        assert_ne!(clock.http(), later);
        clock.set(2_999);
        assert_eq!((clock.http(), clock.millis()), (&later[..], 2_999));
        for millis in [0, u64::MAX] {
            clock.set(millis);
            assert!(
                clock.http().ends_with(b" GMT"),
                "{:?}",
                clock.http().escape_ascii()
            );
        }
    }
}
