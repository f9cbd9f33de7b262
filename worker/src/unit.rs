//! Numbers, sizes and times, with nginx's units and limits.

use std::time::Duration;

/// nginx keeps numbers in a signed 64-bit word.
const MAX: u64 = i64::MAX as u64;

/// Decimal digits only.
pub fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&value| value <= MAX)
}

/// Bytes with `k` or `m`: what fits in memory.
pub fn size(text: &str) -> Option<u64> {
    scaled(text, &[('k', 1 << 10), ('m', 1 << 20)])
}

/// Bytes with `k`, `m` or `g`: what fits in a file.
pub fn offset(text: &str) -> Option<u64> {
    scaled(text, &[('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30)])
}

fn scaled(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let last = text.chars().last()?.to_ascii_lowercase();
    match units.iter().find(|(unit, _)| *unit == last) {
        Some((_, scale)) => {
            let value = number(&text[..text.len() - 1])?.checked_mul(*scale)?;
            Some(value).filter(|&value| value <= MAX)
        }
        None => number(text),
    }
}

/// Where a unit stands in the order in which units may follow one another.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Step {
    Start,
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Last,
}

/// Milliseconds with `ms`, `s`, `m`, `h`, `d`, `w`, the largest unit first; a bare number is seconds.
pub fn millis(text: &str) -> Option<Duration> {
    time(text, false).map(Duration::from_millis)
}

/// Seconds with `s`, `m`, `h`, `d`, `w`, `M` (30 days), `y` (365 days), the largest unit first.
pub fn seconds(text: &str) -> Option<Duration> {
    time(text, true).map(Duration::from_secs)
}

fn time(text: &str, whole_seconds: bool) -> Option<u64> {
    const DAY: u64 = 24 * 60 * 60;
    let mut step = if whole_seconds {
        Step::Start
    } else {
        Step::Month
    };
    let mut bytes = text.bytes().peekable();
    let (mut total, mut value, mut digits) = (0_u64, 0_u64, false);
    while let Some(byte) = bytes.next() {
        if byte.is_ascii_digit() {
            value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
            digits = true;
            continue;
        }
        let (next, scale) = match byte {
            b'y' => (Step::Year, 365 * DAY),
            b'M' => (Step::Month, 30 * DAY),
            b'w' => (Step::Week, 7 * DAY),
            b'd' => (Step::Day, DAY),
            b'h' => (Step::Hour, 60 * 60),
            b'm' if bytes.peek() == Some(&b's') => {
                bytes.next();
                if whole_seconds {
                    return None;
                }
                (Step::Millisecond, 1)
            }
            b'm' => (Step::Minute, 60),
            b's' => (Step::Second, 1),
            b' ' if step >= Step::Second => return None,
            b' ' => (Step::Last, 1),
            _ => return None,
        };
        if step >= next {
            return None;
        }
        step = next;
        let scale = if whole_seconds || next == Step::Millisecond {
            scale
        } else {
            scale * 1000
        };
        total = total
            .checked_add(value.checked_mul(scale)?)
            .filter(|&sum| sum <= MAX)?;
        value = 0;
        while bytes.next_if_eq(&b' ').is_some() {}
    }
    if !digits {
        return None;
    }
    let rest = if whole_seconds {
        value
    } else {
        value.checked_mul(1000)?
    };
    total.checked_add(rest).filter(|&sum| sum <= MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("9223372036854775807"), Some(MAX));
        for bad in [
            "",
            "-1",
            "+1",
            "1 ",
            "1k",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("1024"), Some(1024));
        assert_eq!(size("8k"), Some(8192));
        assert_eq!(size("8K"), Some(8192));
        assert_eq!(size("2M"), Some(2 << 20));
        assert_eq!(size("1g"), None);
        assert_eq!(offset("1g"), Some(1 << 30));
        assert_eq!(offset("1G"), Some(1 << 30));
        for bad in ["", "k", "1kk", "1.5m", "-1k", "9223372036854775807k", "1ä"] {
            assert_eq!(size(bad), None, "{bad:?}");
            assert_eq!(offset(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times() {
        let ms = |text| millis(text).map(|time| time.as_millis() as u64);
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("5"), Some(5_000));
        assert_eq!(ms("1m 30s"), Some(90_000));
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("1s500ms"), Some(1_500));
        assert_eq!(ms("1w"), Some(7 * 86_400_000));
        assert_eq!(ms("1m30"), Some(90_000));
        for bad in [
            "", "s", "1y", "1M", "1s1s", "1s1m", "1 1 1", "-1s", "1.5s", "1ms1s",
        ] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
        let secs = |text| seconds(text).map(|time| time.as_secs());
        assert_eq!(secs("10"), Some(10));
        assert_eq!(secs("10s"), Some(10));
        assert_eq!(secs("1y1M"), Some(395 * 86_400));
        assert_eq!(secs("500ms"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_none(text in "[0-9kmgsMywhd ]{0,30}|.{0,12}") {
            let _ = (number(&text), size(&text), offset(&text), millis(&text), seconds(&text));
        }

        #[test]
        fn plain_numbers_agree(value in 0..1_000_000_u64) {
            let text = value.to_string();
            prop_assert_eq!(number(&text), Some(value));
            prop_assert_eq!(size(&text), Some(value));
            prop_assert_eq!(millis(&text), Some(Duration::from_secs(value)));
            prop_assert_eq!(millis(&format!("{value}ms")), Some(Duration::from_millis(value)));
        }
    }
}
