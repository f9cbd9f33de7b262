//! Browsers that nginx knows by their `User-Agent`, for `keepalive_disable` and `msie_padding`.

use memchr::memmem;

/// MSIE 4, 5, or 6 before its second service pack.
pub fn is_msie6(agent: &[u8]) -> bool {
    match version_of_msie(agent) {
        Some([b'4' | b'5', b'.', ..]) => !is_opera(agent),
        Some([b'6', b'.', rest @ ..]) => {
            !is_opera(agent) && memmem::find(rest.get(1..).unwrap_or_default(), b"SV1").is_none()
        }
        _ => false,
    }
}

/// Safari on macOS.
pub fn is_safari(agent: &[u8]) -> bool {
    let has = |part: &[u8]| memmem::find(agent, part).is_some();
    has(b"Safari/")
        && has(b"Mac OS X")
        && version_of_msie(agent).is_none()
        && !is_opera(agent)
        && !has(b"Gecko/")
        && !has(b"Chrome/")
}

/// MSIE, and browsers built on Chromium, which show pages of their own for short ones of errors.
pub fn has_pages_of_its_own(agent: &[u8]) -> bool {
    let has = |part: &[u8]| memmem::find(agent, part).is_some();
    let chrome = has(b"Chrome/") && !has(b"Gecko/");
    (chrome || version_of_msie(agent).is_some()) && !is_opera(agent)
}

/// What follows `MSIE `, of which there must be three bytes.
fn version_of_msie(agent: &[u8]) -> Option<&[u8]> {
    let rest = &agent[memmem::find(agent, b"MSIE ")? + 5..];
    (rest.len() > 2).then_some(rest)
}

fn is_opera(agent: &[u8]) -> bool {
    memmem::find(agent, b"Opera").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_show_pages_of_their_own() {
        for (agent, own) in [
            ("Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.0)", true),
            ("MSIE 8.", false),
            ("MSIE 8.0", true),
            ("Mozilla/4.0 (compatible; MSIE 6.0; X11) Opera 7.54", false),
            (
                "AppleWebKit/537 (KHTML, like Gecko) Chrome/120 Safari/537",
                true,
            ),
            (
                "Mozilla/5.0 (X11; rv:120.0) Gecko/20100101 Firefox/120",
                false,
            ),
            ("Gecko/1 Chrome/1", false),
            ("curl/8.0", false),
            ("", false),
        ] {
            assert_eq!(has_pages_of_its_own(agent.as_bytes()), own, "{agent}");
        }
    }

    #[test]
    fn browsers_are_told_apart_as_nginx_does() {
        for (agent, msie6, safari) in [
            (
                "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)",
                true,
                false,
            ),
            (
                "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)",
                false,
                false,
            ),
            (
                "Mozilla/4.0 (compatible; MSIE 5.5; Windows 98)",
                true,
                false,
            ),
            (
                "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 5.1)",
                false,
                false,
            ),
            (
                "Mozilla/4.0 (compatible; MSIE 6.0; X11) Opera 7.54",
                false,
                false,
            ),
            ("MSIE 6.", false, false),
            ("MSIE 6.0", true, false),
            ("", false, false),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) AppleWebKit/605.1 (KHTML, like Gecko) \
                 Version/17.0 Safari/605.1",
                false,
                true,
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) AppleWebKit/537 (KHTML, like Gecko) \
                 Chrome/120.0 Safari/537",
                false,
                false,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0) Version/5.1 Safari/534",
                false,
                false,
            ),
        ] {
            assert_eq!(is_msie6(agent.as_bytes()), msie6, "{agent}");
            assert_eq!(is_safari(agent.as_bytes()), safari, "{agent}");
        }
    }
}
