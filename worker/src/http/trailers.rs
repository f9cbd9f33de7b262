//! Trailer fields on their way to a client (RFC 9110, section 6.5).

use super::fields::Known;

/// Of the lines of a trailer section, each with its line end, those that may be sent on, behind the
/// names of their fields. What frames
/// or routes a message, ends at one hop, or is written by weir itself has no place behind a body:
/// somebody could take it for part of the head.
pub fn passable(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = lines.split_inclusive(|&byte| byte == b'\n');
    let named = lines.map(|line| {
        let name = line.split(|&byte| byte == b':').next();
        (name.unwrap_or_default(), line)
    });
    named.filter(|(name, _)| {
        let known = Known::of(name);
        !known.is_hop_by_hop()
            && !known.is_hidden_from_client()
            && !matches!(
                known,
                Known::Authorization
                    | Known::CacheControl
                    | Known::ContentLength
                    | Known::ContentType
                    | Known::Expect
                    | Known::Host
                    | Known::Location
                    | Known::MaxForwards
                    | Known::SetCookie
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_or_routes_is_left_out() {
        let lines = b"Digest: x\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\nX-B:\r\n\
            Host: h\r\nConnection: close\r\nTrailer: y\r\nSet-Cookie: a\r\nX-C: 1:2\r\n";
        let passed: Vec<_> = passable(lines).collect();
        assert_eq!(
            passed,
            [
                (&b"Digest"[..], &b"Digest: x\r\n"[..]),
                (b"X-B", b"X-B:\r\n"),
                (b"X-C", b"X-C: 1:2\r\n"),
            ]
        );
        assert_eq!(passable(b"").count(), 0);
    }
}
