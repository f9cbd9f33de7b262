//! Every parser against damaged messages: the same ones in every run, a bounded number of them.

use super::chunked::{ChunkHead, Decoder, LAST_CHUNK};
use super::fields::{Fields, Known, Span, tokens};
use super::head::{Parsed, RequestHead};
use super::limits::Limits;
use super::method::Method;
use super::response::{ResponseHead, ResponseParsed};
use super::target::{self, Target};

/// Damaged messages a parser; a few tenths of a second.
const CASES: usize = 30_000;
const SEED: u64 = 0x5eed_5eed;

const REQUESTS: [&[u8]; 8] = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\nPOST /a%20b/../c?d=e HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 5\r\nX_Y: 1\r\n\r\nhello",
    b"PUT http://u.v:8/w?x#y HTTP/1.0\r\nConnection: keep-alive, X-A\r\nX-A:\t1 \r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nCookie: a=\"b\"\r\n\r\n",
    b"OPTIONS /x HTTP/1.7\r\nHost: h\r\nMax-Forwards: 3\r\nX: caf\xc3\xa9\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /\xff HTTP/1.1\nHost : h\r\n folded\r\nX\0: 1\r\n\r\n",
];
const ANSWERS: [&[u8]; 7] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 404 Not \xe9\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive, X\r\nX: 1\r\nServer: y\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 304 \r\nETag: \"x\"\r\nContent-Length: 7\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\nX : 1\r\n y\r\n\r\n",
];
const BODIES: [&[u8]; 6] = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b"a;x=\"y\"\r\n0123456789\r\n1 ;z\r\n!\r\n000\r\nX: 1\r\nY:\r\n\r\nGET /",
    b"0000000000000003\r\nabc\r\n0\r\n\r\n",
    b"7fffffffffffffff\r\nabc",
    b"3\nabc\r\n0\r\n\n",
    b"0\r\nX : 1\r\n folded\r\n\r\n",
];
const TARGETS: [&[u8]; 6] = [
    b"/a/./b/../c//d?e=f#g",
    b"/%41%2f%2e%2e/%25/%20x",
    b"http://h.example:80/a?b",
    b"HTTP://[::1]?x",
    b"/..%2f/%00",
    b"*",
];
const LISTS: [&[u8]; 4] = [
    b"keep-alive, X-A ,,\tclose",
    b"host,content-length,transfer-encoding,cookie",
    b"upgrade, x-forwarded-for, forwarded",
    b", ,\",\"",
];
/// What damage is made of.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\x7f",
    b"\xff",
    b"%",
    b"%0a",
    b"/..",
    b"//",
    b"0",
    b"-1",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: x\r\n",
    b"Connection: host\r\n",
    b"HTTP/1.1",
    b"99999999999999999999",
];

/// A generator of numbers (xorshift64*), so that a failure is there again in the next run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % end.max(1)
    }

    fn pick<'b>(&mut self, from: &[&'b [u8]]) -> &'b [u8] {
        from[self.below(from.len())]
    }

    /// A message of the corpus after some damage; now and then after none.
    fn damaged(&mut self, corpus: &[&[u8]]) -> Vec<u8> {
        let mut text = self.pick(corpus).to_vec();
        for _ in 0..self.below(4) {
            let at = self.below(text.len() + 1);
            let to = (at + self.below(8)).min(text.len());
            match self.below(6) {
                0 if at < text.len() => text[at] ^= 1 << self.below(8),
                1 if at < text.len() => text[at] = u8::try_from(self.below(256)).unwrap(),
                2 => drop(text.drain(at..to)),
                3 => {
                    let part = text[at..to].to_vec();
                    text.splice(at..at, part);
                }
                4 => {
                    let other = self.pick(corpus);
                    text.truncate(at);
                    text.extend_from_slice(&other[self.below(other.len())..]);
                }
                _ => drop(text.splice(at..at, self.pick(&PIECES).iter().copied())),
            }
        }
        text
    }

    /// Where the message is cut into pieces, in order.
    fn cuts(&mut self, length: usize) -> Vec<usize> {
        let mut cuts: Vec<usize> = (0..self.below(6)).map(|_| self.below(length + 1)).collect();
        cuts.push(length);
        cuts.sort_unstable();
        cuts
    }
}

/// What two readings of a message must agree on.
#[derive(Debug, PartialEq)]
struct Meaning {
    start: Vec<Vec<u8>>,
    fields: Vec<(Vec<u8>, Vec<u8>, bool)>,
    rest: String,
}

fn fields_of(fields: &Fields, text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    fields
        .iter()
        .map(|field| {
            let (name, value) = (field.name.of(text), field.value.of(text));
            (name.to_vec(), value.to_vec(), field.connection_option)
        })
        .collect()
}

fn write_fields(fields: &[(Vec<u8>, Vec<u8>, bool)], out: &mut Vec<u8>) {
    for (name, value, _) in fields {
        out.extend([&name[..], b": ", value, b"\r\n"].concat());
    }
    out.extend_from_slice(b"\r\n");
}

fn request(text: &[u8]) -> (RequestHead, Parsed) {
    let mut head = RequestHead::new();
    let parsed = head.parse(text, &Limits::default());
    (head, parsed)
}

fn meaning_of_request(head: &RequestHead, text: &[u8]) -> Meaning {
    let parts = [
        head.method_name(text),
        head.target.raw.of(text),
        head.target.normalized(text),
        head.host(),
    ];
    Meaning {
        start: parts.map(<[u8]>::to_vec).to_vec(),
        fields: fields_of(&head.fields, text),
        rest: format!(
            "{} {:?} {} {} {} {:?}",
            head.minor,
            head.body,
            head.keep_alive,
            head.expect_continue,
            head.upgrade,
            head.max_forwards
        ),
    }
}

#[test]
fn requests() {
    let mut dice = Dice(SEED);
    let mut taken = 0;
    for _ in 0..CASES {
        let text = dice.damaged(&REQUESTS);
        let (whole, at_once) = request(&text);
        let mut pieces = RequestHead::new();
        let in_pieces = dice
            .cuts(text.len())
            .into_iter()
            .map(|end| pieces.parse(&text[..end], &Limits::default()))
            .find(|parsed| *parsed != Parsed::Partial)
            .unwrap_or(Parsed::Partial);
        let shown = text.escape_ascii();
        match (&at_once, &in_pieces) {
            // Which of several faults is seen first may differ.
            (Parsed::Refused(_), Parsed::Refused(_)) | (Parsed::Partial, Parsed::Partial) => {
                continue;
            }
            (Parsed::Head(one), Parsed::Head(other)) => assert_eq!(one, other, "{shown}"),
            _ => panic!("{at_once:?} at once, {in_pieces:?} in pieces: {shown}"),
        }
        let Parsed::Head(end) = at_once else { continue };
        taken += 1;
        let meaning = meaning_of_request(&whole, &text);
        assert_eq!(meaning, meaning_of_request(&pieces, &text), "{shown}");
        // What follows the head has no part in it.
        let (alone, parsed) = request(&text[..end]);
        assert_eq!(parsed, Parsed::Head(end), "{shown}");
        assert_eq!(meaning, meaning_of_request(&alone, &text[..end]), "{shown}");
        let mut again = [&meaning.start[0][..], b" ", &meaning.start[1]].concat();
        again.extend(format!(" HTTP/1.{}\r\n", whole.minor).bytes());
        write_fields(&meaning.fields, &mut again);
        let (second, parsed) = request(&again);
        assert_eq!(parsed, Parsed::Head(again.len()), "{shown}");
        assert_eq!(meaning, meaning_of_request(&second, &again), "{shown}");
    }
    assert!((CASES / 10..CASES).contains(&taken), "{taken} are taken");
}

fn answer(text: &[u8], method: Method) -> (ResponseHead, ResponseParsed) {
    let mut head = ResponseHead::new();
    let parsed = head.parse(text, method, 4096);
    (head, parsed)
}

fn meaning_of_answer(head: &ResponseHead, text: &[u8]) -> Meaning {
    Meaning {
        start: vec![head.reason.of(text).to_vec()],
        fields: fields_of(&head.fields, text),
        rest: format!(
            "{} {} {:?} {} {:?}",
            head.status, head.minor, head.body, head.keep_alive, head.content_length
        ),
    }
}

#[test]
fn answers() {
    let mut dice = Dice(SEED);
    let mut taken = 0;
    for _ in 0..CASES {
        let text = dice.damaged(&ANSWERS);
        let method = [Method::Get, Method::Head][dice.below(2)];
        let (whole, at_once) = answer(&text, method);
        let mut pieces = ResponseHead::new();
        let in_pieces = dice
            .cuts(text.len())
            .into_iter()
            .map(|end| pieces.parse(&text[..end], method, 4096))
            .find(|parsed| *parsed != ResponseParsed::Partial)
            .unwrap_or(ResponseParsed::Partial);
        let shown = text.escape_ascii();
        let end = match (&at_once, &in_pieces) {
            (ResponseParsed::Malformed(_), ResponseParsed::Malformed(_))
            | (ResponseParsed::Partial, ResponseParsed::Partial) => continue,
            (ResponseParsed::Head(one), ResponseParsed::Head(other)) if one == other => *one,
            _ => panic!("{at_once:?} at once, {in_pieces:?} in pieces: {shown}"),
        };
        taken += 1;
        let meaning = meaning_of_answer(&whole, &text);
        assert_eq!(meaning, meaning_of_answer(&pieces, &text), "{shown}");
        let (alone, _) = answer(&text[..end], method);
        assert_eq!(meaning, meaning_of_answer(&alone, &text[..end]), "{shown}");
        let mut again = format!("HTTP/1.{} {} ", whole.minor, whole.status).into_bytes();
        again.extend([&meaning.start[0][..], b"\r\n"].concat());
        write_fields(&meaning.fields, &mut again);
        let (second, parsed) = answer(&again, method);
        assert_eq!(parsed, ResponseParsed::Head(again.len()), "{shown}");
        assert_eq!(meaning, meaning_of_answer(&second, &again), "{shown}");
    }
    assert!((CASES / 10..CASES).contains(&taken), "{taken} are taken");
}

/// Data, trailers, bytes used and whether that was all; or that it is bad.
type Body = Option<(Vec<u8>, Vec<u8>, usize, bool)>;

fn body<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Body {
    let (mut decoder, mut data, mut trailers, mut used) =
        (Decoder::new(), Vec::new(), Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() && !decoder.is_end() {
            let step = decoder
                .decode_keeping(&piece[at..], Some(&mut trailers))
                .ok()?;
            data.extend_from_slice(&piece[at..][step.range()]);
            assert!(step.consumed() > 0, "stands still");
            at += step.consumed();
        }
        used += at;
    }
    Some((data, trailers, used, decoder.is_end()))
}

#[test]
fn chunked_bodies() {
    let mut dice = Dice(SEED);
    let mut taken = 0;
    for _ in 0..CASES {
        let text = dice.damaged(&BODIES);
        let cuts = dice.cuts(text.len());
        let shown = text.escape_ascii();
        let mut from = 0;
        let pieces = cuts
            .iter()
            .map(|&end| &text[std::mem::replace(&mut from, end)..end]);
        let at_once = body(std::iter::once(&text[..]));
        assert_eq!(at_once, body(pieces), "{shown}");
        let Some((data, trailers, used, true)) = at_once else {
            continue;
        };
        taken += 1;
        // What follows has no part in it, and nothing of it may be missing.
        assert_eq!(
            body(std::iter::once(&text[..used])),
            Some((data.clone(), trailers.clone(), used, true))
        );
        assert!(
            body(std::iter::once(&text[..used - 1])).is_some_and(|(.., end)| !end),
            "{shown}"
        );
        let mut again = Vec::new();
        if !data.is_empty() {
            again.extend([ChunkHead::new(data.len() as u64).as_bytes(), &data, b"\r\n"].concat());
        }
        again.extend_from_slice(&LAST_CHUNK[..3]);
        again.extend([&trailers[..], b"\r\n"].concat());
        let length = again.len();
        assert_eq!(
            body(std::iter::once(&again[..])),
            Some((data, trailers, length, true)),
            "{shown}"
        );
    }
    assert!((CASES / 20..CASES).contains(&taken), "{taken} are taken");
}

#[test]
fn targets() {
    let mut dice = Dice(SEED);
    let mut taken = 0;
    for _ in 0..CASES {
        let text = dice.damaged(&TARGETS);
        let merge = dice.below(2) == 0;
        let mut target = Target::default();
        target.set_raw(Span::new(0, text.len()));
        let shown = text.escape_ascii();
        if target.parse(&text, merge).is_err() {
            continue;
        }
        taken += 1;
        assert!(text.iter().all(u8::is_ascii_graphic), "{shown}");
        let normal = target.normalized(&text).to_vec();
        assert!(normal.starts_with(b"/") && !normal.contains(&0), "{shown}");
        let mut segments = normal.split(|&byte| byte == b'/');
        assert!(
            segments.all(|segment| segment != b"." && segment != b".."),
            "{shown}"
        );
        assert!(
            !merge || !normal.windows(2).any(|two| two == b"//"),
            "{shown}"
        );
        // Escaped, it is a path that means itself.
        let (mut escaped, mut again) = (Vec::new(), Vec::new());
        target::escape(&normal, &mut escaped);
        assert!(escaped.iter().all(u8::is_ascii_graphic), "{shown}");
        target::normalize(&escaped, merge, &mut again).expect("it was one before");
        assert_eq!(
            normal.escape_ascii().to_string(),
            again.escape_ascii().to_string(),
            "{shown}"
        );
        let mut sent = Vec::new();
        target::upstream_uri(&target, &text, None, 0, &mut sent);
        assert!(
            sent.starts_with(b"/") && sent.iter().all(u8::is_ascii_graphic),
            "{shown}"
        );
    }
    assert!((CASES / 10..CASES).contains(&taken), "{taken} are taken");
}

#[test]
fn lists_of_options() {
    let mut dice = Dice(SEED);
    for _ in 0..CASES {
        let list = dice.damaged(&LISTS);
        for token in tokens(&list) {
            let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
            assert!(!token.is_empty() && !token.contains(&b','));
            assert!(!blank(token.first()) && !blank(token.last()));
        }
        // Whatever it names, what a message rests on stays.
        let names = [
            "Connection",
            "Host",
            "Content-Length",
            "Cookie",
            "X-Forwarded-For",
            "Forwarded",
            "X-A",
        ];
        let mut text = Vec::new();
        let mut fields = Fields::default();
        let spans: Vec<(Span, Span)> = names
            .iter()
            .map(|name| {
                let start = text.len();
                text.extend_from_slice(name.as_bytes());
                let colon = text.len();
                text.extend_from_slice(&list);
                (Span::new(start, colon), Span::new(colon, text.len()))
            })
            .collect();
        for (name, value) in spans {
            fields.push(name, value, &text);
        }
        let options = fields.connection(&text);
        assert!(options.named as usize <= list.len());
        let gone = fields.iter().filter(|field| field.is_hop_by_hop());
        for field in gone {
            let named = tokens(&list).any(|token| token.eq_ignore_ascii_case(b"x-a"));
            let may_go =
                field.known == Known::Connection || (field.name.of(&text) == b"X-A" && named);
            assert!(may_go, "{:?} goes by {}", field.known, list.escape_ascii());
        }
    }
}
