//! Finds a value by its name in fields, cookies and arguments, as nginx does.

use crate::http::fields::{Fields, trim};

/// Appends all values of a field, whose name is given in lower case and with `-` for `_`: as a
/// list with `, `, that of Cookie with `; `.
pub fn join(out: &mut Vec<u8>, fields: &Fields, head: &[u8], name: &[u8]) -> Option<()> {
    let same = fields
        .iter()
        .filter(|field| is_same(field.name.of(head), name));
    list(out, same.map(|field| field.value.of(head)), name)
}

/// The same for the lines of a section of fields; a line without a colon is none.
pub fn join_lines(out: &mut Vec<u8>, lines: &[u8], name: &[u8]) -> Option<()> {
    let values = lines.split(|&byte| byte == b'\n').filter_map(|line| {
        let (field, value) = split_once(line, b':')?;
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        is_same(field, name).then(|| trim(value))
    });
    list(out, values, name)
}

fn list<'b>(out: &mut Vec<u8>, values: impl Iterator<Item = &'b [u8]>, name: &[u8]) -> Option<()> {
    let separator: &[u8] = if name == b"cookie" { b"; " } else { b", " };
    let mut found = None;
    for value in values {
        if found.is_some() {
            out.extend_from_slice(separator);
        }
        out.extend_from_slice(value);
        found = Some(());
    }
    found
}

/// Whether a field is meant by a variable: `-` and `_` are the same in it.
fn is_same(field: &[u8], name: &[u8]) -> bool {
    field.len() == name.len()
        && field.iter().zip(name).all(|(&byte, &wanted)| {
            byte.to_ascii_lowercase() == wanted || (byte == b'_' && wanted == b'-')
        })
}

/// `$arg_name`: the first argument of this name, as it was sent.
pub fn argument<'b>(args: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    args.split(|&byte| byte == b'&').find_map(|pair| {
        let (key, value) = split_once(pair, b'=')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// `$cookie_name` in one Cookie field.
pub fn cookie<'b>(mut field: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    loop {
        if let Some(value) = set_cookie(field, name) {
            return Some(value);
        }
        let end = field.iter().position(|&byte| byte == b';')?;
        field = without_blanks(&field[end + 1..]);
    }
}

/// `$upstream_cookie_name` in one Set-Cookie field: the pair that it begins with.
pub fn set_cookie<'b>(field: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let (key, rest) = field.split_at_checked(name.len())?;
    let value = without_blanks(rest).strip_prefix(b"=")?;
    let value = without_blanks(value);
    let end = value.iter().position(|&byte| byte == b';');
    key.eq_ignore_ascii_case(name)
        .then(|| &value[..end.unwrap_or(value.len())])
}

fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

/// What is before and behind the first such byte.
pub fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == at)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_as_nginx_finds_them() {
        for (field, name, expected) in [
            ("a=1; b=2", "b", Some("2")),
            ("a=1;b=2;", "B", Some("2")),
            ("ab=1; a=2", "a", Some("2")),
            ("a = 1 2 ;b=3", "a", Some("1 2 ")),
            ("a; a=1", "a", Some("1")),
            ("a=", "a", Some("")),
            ("a", "a", None),
            ("", "a", None),
            ("b=a=1", "a", None),
        ] {
            let found = cookie(field.as_bytes(), name.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{field}");
        }
        assert_eq!(set_cookie(b"a=1; b=2; Path=/", b"a"), Some(&b"1"[..]));
        assert_eq!(set_cookie(b"a=1; b=2; Path=/", b"b"), None);
    }

    #[test]
    fn lines_are_joined_in_order() {
        let lines = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx_a:  2 \r\nX-A\r\nX-AB: 3\r\n\r\n";
        let mut out = Vec::new();
        assert_eq!(join_lines(&mut out, lines, b"x-a"), Some(()));
        assert_eq!(out, b"1, 2");
        assert_eq!(join_lines(&mut out, lines, b"x"), None);
    }

    #[test]
    fn arguments_need_an_equals_sign() {
        for (args, expected) in [
            ("a=1&A=2", Some("1")),
            ("b=a=1&a=", Some("")),
            ("a&a=1&b", Some("1")),
            ("xa=1&a", None),
        ] {
            let found = argument(args.as_bytes(), b"a");
            assert_eq!(found, expected.map(str::as_bytes), "{args}");
        }
    }
}
