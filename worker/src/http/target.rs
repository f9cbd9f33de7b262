//! Request targets (RFC 9112, section 3.2) and nginx's normalized `$uri`.

use super::fields::Span;

/// What a request asks for: the parts of its target, and the normalized path that locations match.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// As sent.
    pub raw: Span,
    /// `host[:port]` of an absolute target.
    pub authority: Option<Span>,
    /// `$request_uri`: path and query as sent, without scheme and authority. Empty for `http://host`.
    pub uri: Span,
    /// The path as sent.
    pub path: Span,
    /// `$args`: what follows the `?`, without a fragment.
    pub args: Option<Span>,
    /// The path had percent-encoding, so that a rebuilt one has to be escaped again.
    pub quoted: bool,
    /// The normalized path where it differs from `path`.
    normal: Vec<u8>,
    is_normal: bool,
    /// An internal redirect has put another path and query in place of the client's.
    replaced: bool,
    /// `$args` since then.
    new_args: Vec<u8>,
}

/// Why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// No path, a byte that is not printable ASCII, a broken `%XX`, a NUL, or `..` above the root.
    Invalid,
    /// The authority of an absolute target.
    Host,
}

impl Target {
    /// `$uri`: percent-decoded, slashes merged, dot segments resolved. Starts with `/`.
    #[inline]
    pub fn normalized<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        if self.is_normal {
            self.path.of(buffer)
        } else {
            &self.normal
        }
    }

    /// `$args`; empty without a query.
    #[inline]
    pub fn args<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        if self.replaced {
            return &self.new_args;
        }
        self.args.map_or(b"", |args| args.of(buffer))
    }

    /// From now on `$uri` and `$args` are these, as they stand: nothing is decoded or normalized.
    /// `$request_uri` stays.
    pub fn replace(&mut self, path: &[u8], args: &[u8]) {
        self.normal.clear();
        self.normal.extend_from_slice(path);
        self.new_args.clear();
        self.new_args.extend_from_slice(args);
        self.is_normal = false;
        self.replaced = true;
        self.quoted = true;
    }

    pub(crate) fn clear(&mut self) {
        let mut normal = std::mem::take(&mut self.normal);
        let mut new_args = std::mem::take(&mut self.new_args);
        normal.clear();
        new_args.clear();
        *self = Target {
            normal,
            new_args,
            ..Target::default()
        };
    }

    pub(crate) fn set_raw(&mut self, raw: Span) {
        self.raw = raw;
    }

    /// Splits `raw` and normalizes its path; `merge_slashes` is the directive.
    pub(crate) fn parse(&mut self, buffer: &[u8], merge_slashes: bool) -> Result<(), TargetError> {
        let raw = self.raw.of(buffer);
        // RFC 9112, section 3.2: a target is ASCII; what it means beyond that each parser guesses.
        if raw.iter().any(|byte| !byte.is_ascii_graphic()) {
            return Err(TargetError::Invalid);
        }
        let base = self.raw.start as usize;
        let uri = match raw {
            [b'/', ..] => 0,
            _ => {
                let start = scheme(raw).ok_or(TargetError::Invalid)?;
                let length = raw[start..]
                    .iter()
                    .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
                    .unwrap_or(raw.len() - start);
                self.authority = Some(Span::new(base + start, base + start + length));
                if length == 0 {
                    return Err(TargetError::Host);
                }
                start + length
            }
        };
        let rest = &raw[uri..];
        self.uri = Span::new(base + uri, base + raw.len());
        let path = rest
            .iter()
            .position(|byte| matches!(byte, b'?' | b'#'))
            .unwrap_or(rest.len());
        self.path = Span::new(base + uri, base + uri + path);
        if rest.get(path) == Some(&b'?') {
            let args = uri + path + 1;
            let end = raw[args..]
                .iter()
                .position(|&byte| byte == b'#')
                .map_or(raw.len(), |at| args + at);
            self.args = Some(Span::new(base + args, base + end));
        }
        let path = &rest[..path];
        self.quoted = path.contains(&b'%');
        self.is_normal = !self.quoted && is_normal(path, merge_slashes);
        if !self.is_normal {
            normalize(path, merge_slashes, &mut self.normal).ok_or(TargetError::Invalid)?;
        }
        Ok(())
    }
}

/// Where the authority starts.
fn scheme(target: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"]
        .into_iter()
        .find_map(|scheme| {
            let start = target.get(..scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(scheme.len())
        })
}

/// Nothing that [`normalize`] would change, save percent-encoding.
fn is_normal(path: &[u8], merge_slashes: bool) -> bool {
    let changed = |pair: &[u8]| pair == b"/." || (merge_slashes && pair == b"//");
    path.first() == Some(&b'/') && !path.windows(2).any(changed)
}

/// nginx's reading of a path: `%XX` decoded (a decoded `/` or `.` counts as one), repeated slashes
/// merged unless they are to stay, `.` and `..` segments resolved. `None`: a broken escape, a NUL, or above the root.
pub fn normalize(path: &[u8], merge_slashes: bool, into: &mut Vec<u8>) -> Option<()> {
    into.clear();
    into.push(b'/');
    let mut at = usize::from(path.first() == Some(&b'/'));
    loop {
        let byte = match path.get(at) {
            None => break,
            Some(b'%') => {
                let decoded = hex(*path.get(at + 1)?)? << 4 | hex(*path.get(at + 2)?)?;
                at += 3;
                decoded
            }
            Some(&byte) => {
                at += 1;
                byte
            }
        };
        match byte {
            0 => return None,
            b'/' => close_segment(into, merge_slashes)?,
            byte => into.push(byte),
        }
    }
    // A last segment of dots is resolved as if a slash followed.
    if into.ends_with(b"/.") || into.ends_with(b"/..") {
        close_segment(into, merge_slashes)?;
    }
    Some(())
}

/// A slash comes: what segment does it end?
fn close_segment(path: &mut Vec<u8>, merge_slashes: bool) -> Option<()> {
    if path.ends_with(b"/..") {
        let parent = path.len().checked_sub(4)?;
        let slash = path[..=parent].iter().rposition(|&byte| byte == b'/')?;
        path.truncate(slash + 1);
    } else if path.ends_with(b"/.") {
        path.pop();
    } else if !merge_slashes || !path.ends_with(b"/") {
        path.push(b'/');
    }
    Some(())
}

/// The value of a hexadecimal digit.
pub(crate) fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The host of `host[:port]` as nginx's `$host` has it, case kept: without port and final dot.
/// `None` if it cannot be one (RFC 3986, section 3.2.2, and `_`, which names in use have).
pub fn host_of(authority: &[u8]) -> Option<&[u8]> {
    let (host, port) = if authority.first() == Some(&b'[') {
        let end = authority.iter().position(|&byte| byte == b']')?;
        let inside = &authority[1..end];
        let good = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        if inside.is_empty() || !inside.iter().all(good) {
            return None;
        }
        (&authority[..=end], &authority[end + 1..])
    } else {
        let end = authority
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(authority.len());
        let host = &authority[..end];
        if !host.iter().all(|&byte| is_host_byte(byte)) || host.windows(2).any(|two| two == b"..") {
            return None;
        }
        (host.strip_suffix(b".").unwrap_or(host), &authority[end..])
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    (port_is_good && !host.is_empty()).then_some(host)
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%')
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

/// Writes the target for the upstream: the request's own, or with `replacement` (the URI of
/// `proxy_pass`) in place of the first `matched` bytes of the normalized path, as nginx does.
pub fn upstream_uri(
    target: &Target,
    buffer: &[u8],
    replacement: Option<&[u8]>,
    matched: usize,
    out: &mut Vec<u8>,
) {
    let replacement = match replacement {
        None if target.replaced => Some((&b""[..], 0)),
        None => None,
        Some(replacement) => Some((replacement, matched)),
    };
    let Some((replacement, matched)) = replacement else {
        let uri = target.uri.of(buffer);
        if uri.first() != Some(&b'/') {
            out.push(b'/');
        }
        out.extend_from_slice(uri);
        return;
    };
    out.extend_from_slice(replacement);
    let rest = target.normalized(buffer).get(matched..).unwrap_or_default();
    if target.quoted {
        escape(rest, out)
    } else {
        out.extend_from_slice(rest)
    }
    let args = target.args(buffer);
    if !args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(args);
    }
}

/// Percent-encodes what would end a target or a line, and nothing else: the text is a target already,
/// but a variable in it may have been decoded.
pub fn escape_unprintable(target: &[u8], out: &mut Vec<u8>) {
    for &byte in target {
        if byte.is_ascii_graphic() {
            out.push(byte);
        } else {
            push_escaped(byte, out);
        }
    }
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend([
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]);
}

/// Percent-encodes what may not stand in a path.
pub fn escape(path: &[u8], out: &mut Vec<u8>) {
    for &byte in path {
        let bad = byte <= b' '
            || byte >= 0x7f
            || matches!(
                byte,
                b'"' | b'#' | b'%' | b'<' | b'>' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
            );
        if bad {
            push_escaped(byte, out);
        } else {
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(Target, String), TargetError> {
        let mut target = Target::default();
        target.set_raw(Span::new(0, text.len()));
        target.parse(text.as_bytes(), true)?;
        let normal = String::from_utf8_lossy(target.normalized(text.as_bytes())).into_owned();
        Ok((target, normal))
    }

    #[test]
    fn paths_are_normalized_as_nginx_does() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("//a///b//", "/a/b/"),
            ("/a/./b/.", "/a/b/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a%2Fb", "/a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a%20b", "/a b"),
            ("/%25%32%66", "/%2f"),
            ("/.a/..b/...", "/.a/..b/..."),
            ("/a?x=/../..", "/a"),
            ("/a/b#c", "/a/b"),
            ("/x/..?q", "/"),
            ("http://h", "/"),
            ("http://h?x", "/"),
            ("HTTP://h:80/a//b?c", "/a/b"),
        ] {
            assert_eq!(parsed(path).unwrap().1, normal, "{path}");
        }
    }

    #[test]
    fn broken_targets_are_refused() {
        for path in [
            "",
            "*",
            "a",
            "/..",
            "/a/../..",
            "/%",
            "/%2",
            "/%zz",
            "/%00",
            "/a/%2e%2e/../x",
            "ftp://h/",
            "/ü",
            "/?ü",
            "/a b",
            "/?\t",
            "/\x7f",
        ] {
            assert_eq!(parsed(path).err(), Some(TargetError::Invalid), "{path}");
        }
        assert_eq!(parsed("http:///x").err(), Some(TargetError::Host));
    }

    #[test]
    fn the_parts_are_told_apart() {
        let text = "http://h:8/p?a=1?b#f";
        let (target, _) = parsed(text).unwrap();
        assert_eq!(target.authority.unwrap().of(text.as_bytes()), b"h:8");
        assert_eq!(target.uri.of(text.as_bytes()), b"/p?a=1?b#f");
        assert_eq!(target.args(text.as_bytes()), b"a=1?b");
        assert!(parsed("/x").unwrap().0.args.is_none());
        assert!(parsed("/x?").unwrap().0.args.unwrap().is_empty());
    }

    #[test]
    fn hosts_lose_port_and_dot_and_bad_ones_are_refused() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("A.Example.:80", "A.Example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("under_score", "under_score"),
            ("127.0.0.1:", "127.0.0.1"),
        ] {
            assert_eq!(
                host_of(authority.as_bytes()),
                Some(host.as_bytes()),
                "{authority}"
            );
        }
        for bad in [
            "", ":80", ".", "a..b", "a b", "a/b", "a@b", "a:b", "a:1:2", "a:123456", "[::1", "[]",
            "[::1]x", "a\\b", "a,b c", "a\0", "a\"", "é",
        ] {
            assert_eq!(host_of(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_uri_of_proxy_pass_replaces_what_matched() {
        let build = |text: &str, replacement: Option<&str>, matched: usize| {
            let (target, _) = parsed(text).unwrap();
            let mut out = Vec::new();
            upstream_uri(
                &target,
                text.as_bytes(),
                replacement.map(str::as_bytes),
                matched,
                &mut out,
            );
            String::from_utf8(out).unwrap()
        };
        assert_eq!(build("/a//b%20c?x", None, 0), "/a//b%20c?x");
        assert_eq!(build("http://h?x", None, 0), "/?x");
        assert_eq!(build("/name/x?y=1", Some("/"), 6), "/x?y=1");
        assert_eq!(build("/proxy_test", Some("/test/"), 11), "/test/");
        assert_eq!(build("/name/a%20b%3Fc", Some("/r/"), 6), "/r/a%20b%3Fc");
        assert_eq!(build("/name/./a?", Some("/r/"), 6), "/r/a");
        let mut out = Vec::new();
        escape_unprintable(b"/a b\r\n%20\xff?x", &mut out);
        assert_eq!(out, b"/a%20b%0D%0A%20%FF?x");
    }

    #[test]
    fn an_internal_redirect_replaces_path_and_query() {
        let text = "/first%20one?x=1";
        let (mut target, _) = parsed(text).unwrap();
        target.replace(b"/se cond/../%41", b"y=2");
        let buffer = text.as_bytes();
        assert_eq!(target.normalized(buffer), b"/se cond/../%41");
        assert_eq!(target.args(buffer), b"y=2");
        assert_eq!(target.uri.of(buffer), buffer);
        let build = |replacement, matched| {
            let mut out = Vec::new();
            upstream_uri(&target, buffer, replacement, matched, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(build(None, 3), "/se%20cond/../%2541?y=2");
        assert_eq!(build(Some(&b"/r"[..]), 3), "/r%20cond/../%2541?y=2");
        target.replace(b"/bare", b"");
        assert_eq!(target.args(buffer), b"");
        target.clear();
        assert_eq!(target.args(buffer), b"");
    }
}
