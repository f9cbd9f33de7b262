use proptest::prelude::*;

use super::*;

const LONGEST: usize = 4096;

fn parse(text: &[u8], method: Method) -> (ResponseHead, ResponseParsed) {
    let mut head = ResponseHead::new();
    let parsed = head.parse(text, method, LONGEST);
    (head, parsed)
}

fn is_malformed(text: &str) -> bool {
    matches!(
        parse(text.as_bytes(), Method::Get).1,
        ResponseParsed::Malformed(_)
    )
}

#[test]
fn a_usual_answer_is_taken_apart() {
    let text = b"HTTP/1.1 404 Nothing h\xe9re\r\nServer: x\r\nDate: y\r\nContent-Type: text/html\r\n\
        Content-Length: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Accel-Expires: 1\r\nSet-Cookie: a\r\n\
        under_score: kept\r\n\r\nhello";
    let (head, parsed) = parse(text, Method::Get);
    assert_eq!(parsed, ResponseParsed::Head(text.len() - 5));
    assert_eq!((head.status, head.minor), (404, 1));
    assert_eq!(head.reason.of(text), b"Nothing h\xe9re");
    assert_eq!(head.body, Body::Length(5));
    assert!(head.keep_alive);
    let sent_on: Vec<_> = head
        .forwarded()
        .filter(|field| !field.known.is_hidden_from_client())
        .map(|field| field.name.of(text))
        .collect();
    assert_eq!(sent_on, [&b"Set-Cookie"[..], b"under_score"]);
}

#[test]
fn the_body_is_as_method_and_status_say() {
    for (method, text, body, keep_alive) in [
        (
            Method::Head,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            Body::None,
            true,
        ),
        (
            Method::Get,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            Body::None,
            true,
        ),
        (Method::Get, "HTTP/1.1 204\r\n\r\n", Body::None, true),
        (
            Method::Get,
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            Body::None,
            true,
        ),
        (
            Method::Get,
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            Body::None,
            false,
        ),
        (
            Method::Get,
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            Body::None,
            false,
        ),
        (
            Method::Get,
            "HTTP/1.1 200 OK\r\n\r\n",
            Body::UntilClose,
            false,
        ),
        (
            Method::Get,
            "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
            Body::None,
            true,
        ),
        (
            Method::Get,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Body::Chunked,
            true,
        ),
        (
            Method::Get,
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n",
            Body::Length(1),
            false,
        ),
        (
            Method::Get,
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
            Body::Length(1),
            false,
        ),
        (
            Method::Get,
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
            Body::Length(1),
            true,
        ),
        (
            Method::Get,
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            Body::None,
            false,
        ),
    ] {
        let (head, parsed) = parse(text.as_bytes(), method);
        assert_eq!(parsed, ResponseParsed::Head(text.len()), "{text:?}");
        assert_eq!((head.body, head.keep_alive), (body, keep_alive), "{text:?}");
    }
}

#[test]
fn interim_answers_are_told_from_final_ones() {
    let interim = |text: &str| parse(text.as_bytes(), Method::Get).0.is_interim();
    assert!(interim("HTTP/1.1 100 Continue\r\n\r\n"));
    assert!(interim("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"));
    assert!(!interim("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    assert!(!interim("HTTP/1.1 200 OK\r\n\r\n"));
}

#[test]
fn hostile_answers_are_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(LONGEST));
    for text in [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.9 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 600 High\r\n\r\n",
        "HTTP/1.1 999 High\r\n\r\n",
        "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\n\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        &long,
        &long[..LONGEST],
    ] {
        assert!(is_malformed(text), "{:?}", text.get(..80).unwrap_or(text));
    }
}

#[test]
fn a_line_that_is_no_field_is_told_as_far_as_it_is_one() {
    for (line, told) in [
        ("Bad Name: x", r"Bad\x20..."),
        ("Bad", r"Bad\x0d..."),
        (": x", r"\x3a..."),
        (" folded", r"\x20..."),
        ("X: a\0b", r"X: a\x00..."),
        ("X\x7f: a", r"X\x7f..."),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nA: b\r\n{line}\r\nC: d\r\n\r\n");
        let (_, ResponseParsed::Malformed(why)) = parse(text.as_bytes(), Method::Get) else {
            panic!("{line:?} is taken");
        };
        let expected = format!("upstream sent invalid header: \"{told}\"");
        assert_eq!(why.told(text.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn the_limit_is_exact() {
    let text = b"HTTP/1.1 200 OK\r\n\r\n";
    let parse = |longest| ResponseHead::new().parse(text, Method::Get, longest);
    assert_eq!(parse(19), ResponseParsed::Head(19));
    assert!(matches!(parse(18), ResponseParsed::Malformed(_)));
}

proptest! {
    #![proptest_config(crate::testing::cases(512))]

    #[test]
    fn any_split_gives_what_the_whole_gives(
        fields in prop::collection::vec("[A-Za-z_-]{1,6}: ?[ -~]{0,12}\r\n|\n|\r|Content-Length: 5\r\n", 0..6),
    ) {
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\nbody", fields.concat()).into_bytes();
        let (whole, at_once) = parse(&text, Method::Get);
        let mut head = ResponseHead::new();
        let bytewise = (0..=text.len())
            .map(|end| head.parse(&text[..end], Method::Get, LONGEST))
            .find(|parsed| *parsed != ResponseParsed::Partial)
            .unwrap_or(ResponseParsed::Partial);
        match at_once {
            ResponseParsed::Malformed(_) => prop_assert!(matches!(bytewise, ResponseParsed::Malformed(_))),
            _ => prop_assert_eq!(at_once, bytewise),
        }
        prop_assert_eq!(&whole.fields, &head.fields);
        prop_assert_eq!(whole.body, head.body);
    }

    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&text, Method::Get);
        let after = [b"HTTP/1.1 200 OK\r\n", &text[..], b"\r\n\r\n"].concat();
        let _ = parse(&after, Method::Get);
    }
}
