//! What holds of every head, however it comes.

use proptest::prelude::*;

use super::*;

/// Pieces that make heads, good and bad.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("GET / HTTP/1.1\r\n".to_owned()),
        Just("Host: a\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("Content-Length: 5\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        "[A-Za-z_-]{1,6}: ?[ -~]{0,12}\r\n",
        "[ -~\r\n\0]{0,6}",
    ]
}

fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(piece(), 0..8).prop_map(|pieces| pieces.concat());
    let starts = prop_oneof![
        4 => Just("GET /a?b HTTP/1.1\r\nHost: a\r\n".to_owned()),
        1 => Just(String::new()),
        1 => Just("\r\nPOST /%41 HTTP/1.0\r\n".to_owned()),
    ];
    (starts, pieces).prop_map(|(start, pieces)| format!("{start}{pieces}\r\n").into_bytes())
}

/// Every length of prefix in turn, as if each byte came alone.
fn parse_bytewise(text: &[u8], limits: &Limits) -> (RequestHead, Parsed) {
    let mut head = RequestHead::new();
    for end in 0..text.len() {
        match head.parse(&text[..end], limits) {
            Parsed::Partial => {}
            parsed => return (head, parsed),
        }
    }
    let parsed = head.parse(text, limits);
    (head, parsed)
}

proptest! {
    #![proptest_config(crate::testing::cases(512))]

    #[test]
    fn any_split_gives_what_the_whole_gives(text in any_head()) {
        let limits = Limits { fields: 8, ..limits(3, 64) };
        let mut whole = RequestHead::new();
        let at_once = whole.parse(&text, &limits);
        let (pieces, bytewise) = parse_bytewise(&text, &limits);
        match at_once {
            // Which of several faults is seen first may differ.
            Parsed::Refused(_) => prop_assert!(matches!(bytewise, Parsed::Refused(_))),
            Parsed::Head(_) => {
                prop_assert_eq!(&at_once, &bytewise);
                whole.line_checked = pieces.line_checked;
                whole.lines = pieces.lines.clone();
                prop_assert_eq!(format!("{:?}", whole), format!("{:?}", pieces));
            }
            Parsed::Partial => prop_assert_eq!(at_once, bytewise),
        }
    }

    #[test]
    fn a_head_that_is_taken_is_unambiguous(text in any_head()) {
        let (head, parsed) = parse(&text);
        let Parsed::Head(end) = parsed else { return Ok(()) };
        let bytes = &text[..end];
        prop_assert!(bytes.ends_with(b"\r\n\r\n"));
        let lf = bytes.iter().filter(|&&byte| byte == b'\n').count();
        let crlf = bytes.windows(2).filter(|two| two == b"\r\n").count();
        let cr = bytes.iter().filter(|&&byte| byte == b'\r').count();
        prop_assert!(lf == crlf && cr == crlf && !bytes.contains(&0));
        let count = |known| head.fields.iter().filter(|field| field.known == known).count();
        prop_assert!(count(Known::Host) <= 1 && count(Known::ContentLength) <= 1);
        prop_assert!(count(Known::ContentLength) + count(Known::TransferEncoding) <= 1);
    }

    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let (head, parsed) = parse(&text);
        if let Parsed::Refused(refusal) = parsed {
            let _ = refusal.describe(&text).to_string();
        }
        for field in &head.fields {
            let _ = (field.name.of(&text), field.value.of(&text));
        }
    }
}
