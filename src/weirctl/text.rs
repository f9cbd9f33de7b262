//! How values look as text: foreign bytes escaped, columns aligned, units as in a configuration.

use std::fmt::Write;

use chrono::{DateTime, Local};
use weir_worker::log::Clock;

/// A text from the region, safe for a terminal: a damaged region may hold anything.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// What would reorder or hide a terminal's text: bidirectional controls and zero-width characters.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A time as a configuration writes it.
pub fn time(milliseconds: u64) -> String {
    if milliseconds.is_multiple_of(1000) {
        format!("{}s", milliseconds / 1000)
    } else {
        format!("{milliseconds}ms")
    }
}

/// How long ago something was, in the two largest units that say something: `12s`, `3m5s`, `2d4h`.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    let both = |(large, l): (u64, char), (small, s): (u64, char)| match small {
        0 => format!("{large}{l}"),
        small => format!("{large}{l}{small}{s}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => both((minutes, 'm'), (seconds, 's')),
        (0, ..) => both((hours, 'h'), (minutes, 'm')),
        _ => both((days, 'd'), (hours, 'h')),
    }
}

/// A moment of Unix time in milliseconds, as the logs write it, in local time.
pub fn moment(ms: u64) -> String {
    let time = i64::try_from(ms)
        .ok()
        .and_then(DateTime::from_timestamp_millis);
    time.map_or_else(
        || format!("{ms}ms"),
        |time| {
            let local = time.with_timezone(&Local);
            local.format("%Y/%m/%d %H:%M:%S%.3f").to_string()
        },
    )
}

/// Now, in milliseconds of Unix time.
pub fn now_ms() -> u64 {
    Clock::system_millis()
}

/// `1 server`, `2 servers`.
pub fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// Rows under a heading; columns whose heading begins with `>` are aligned to the right.
pub fn columns(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(heading[column].trim_start_matches('>').len())
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut out = String::new();
    let titles = heading.iter().map(|title| title.trim_start_matches('>'));
    line(&mut out, heading, &widths, titles);
    for row in rows {
        line(&mut out, heading, &widths, row.iter().map(String::as_str));
    }
    out
}

fn line<'a>(
    out: &mut String,
    heading: &[&str],
    widths: &[usize],
    cells: impl Iterator<Item = &'a str>,
) {
    let from = out.len();
    for ((cell, width), title) in cells.zip(widths).zip(heading) {
        if out.len() > from {
            out.push_str("  ");
        }
        // Writing to a String cannot fail.
        let _ = if title.starts_with('>') {
            write!(out, "{cell:>width$}")
        } else {
            write!(out, "{cell:<width$}")
        };
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_are_escaped() {
        assert_eq!(shown("test.example:80"), "test.example:80");
        assert_eq!(shown("a\x1b[2J\n\u{202e}b"), "a\\u{1b}[2J\\u{a}\\u{202e}b");
        assert_eq!(shown("bücher"), "bücher");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long".to_owned(), "22".to_owned()],
        ];
        assert_eq!(
            columns(&["N", ">C"], &rows),
            "N      C\na      1\nlong  22\n"
        );
    }

    #[test]
    fn ages_have_two_units() {
        let ages = [
            0, 999, 59_999, 60_000, 185_000, 3_600_000, 90_000_000, 86_400_000,
        ];
        let shown = ages.map(age);
        assert_eq!(shown, ["0s", "0s", "59s", "1m", "3m5s", "1h", "1d1h", "1d"]);
        assert!(moment(u64::MAX).ends_with("ms"));
    }

    #[test]
    fn times_read_back_in_a_configuration() {
        assert_eq!(
            (time(0), time(10_000), time(1500)),
            ("0s".into(), "10s".into(), "1500ms".into())
        );
    }
}
