use proptest::prelude::*;

use super::*;

/// Decodes input that comes in these pieces: the data, and how much of the input was the body.
fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let (mut decoder, mut data, mut used) = (Decoder::new(), Vec::new(), 0);
    for piece in pieces {
        used += decoder.decode_all(piece, |range| data.extend_from_slice(&piece[range]))?;
    }
    Ok((data, used, decoder.is_end()))
}

fn whole(text: &[u8]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    decode(&[text])
}

#[test]
fn chunks_extensions_and_trailers_are_read() {
    let text = b"5\r\nhello\r\n006;a=\"b\";c\r\n world\r\nA \r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\nGET /";
    let (data, used, end) = whole(text).unwrap();
    assert_eq!(data, b"hello world0123456789");
    assert_eq!(&text[used..], b"GET /");
    assert!(end);
    assert_eq!(whole(LAST_CHUNK).unwrap(), (vec![], 5, true));
    assert_eq!(whole(b"5\r\nhel").unwrap(), (b"hel".to_vec(), 6, false));
}

#[test]
fn hostile_chunks_are_refused() {
    use ChunkError::{Extension, LineEnd, Size, Trailer};
    for (text, error) in [
        (&b"\r\n"[..], Size),
        (b";\r\n", Size),
        (b" 5\r\nhello", Size),
        (b"+5\r\nhello", Size),
        (b"-1\r\n", Size),
        (b"0x5\r\nhello", Size),
        (b"g\r\n", Size),
        (b"5_0\r\n", Size),
        (b"00000000000000005\r\n", Size),
        (b"8000000000000000\r\n", Size),
        (b"ffffffffffffffff\r\n", Size),
        (b"10000000000000000\r\n", Size),
        (b"5\nhello", Size),
        (b"5 \nhello", Size),
        (b"5 x\r\nhello", Size),
        (b"5\t5\r\nhello", Size),
        (b"5 ;a\nhello", Extension),
        (b"5\r\rhello", LineEnd),
        (b"5\rhello", LineEnd),
        (b"5\r\nhelloX\r\n", LineEnd),
        (b"5\r\nhello\n0\r\n\r\n", LineEnd),
        (b"5\r\nhello\r0", LineEnd),
        (b"5\r\nhello\r\n\r\n", Size),
        (b"5;a\nhello", Extension),
        (b"5;\0\r\n", Extension),
        (b"5;\x7f\r\n", Extension),
        (b"0\r\n\n", Trailer),
        (b"0\r\nX: y\n\r\n", Trailer),
        (b"0\r\nX: \0\r\n", Trailer),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", Trailer),
        (b"0\r\nX : y\r\n\r\n", Trailer),
        (b"0\r\n: y\r\n\r\n", Trailer),
        (b"0\r\nX: y\r\n folded\r\n\r\n", Trailer),
        (b"0\r\n\tX: y\r\n\r\n", Trailer),
        (b"0\r\nX\r\n\r\n", Trailer),
        (b"0\r\n\rX", LineEnd),
        (b"0\r\nX: y\rZ", LineEnd),
    ] {
        assert_eq!(
            whole(text),
            Err(error),
            "{:?}",
            text.escape_ascii().to_string()
        );
    }
}

#[test]
fn sizes_are_right_up_to_two_to_the_63() {
    let mut decoder = Decoder::new();
    decoder.decode(b"7fffffffffffffff\r\n").unwrap();
    assert_eq!(decoder.remaining(), SIZE_BOUND - 1);
    assert_eq!(
        whole(b"0000000000000001\r\nx\r\n0\r\n\r\n").unwrap().0,
        b"x"
    );
}

#[test]
fn the_bounds_are_exact() {
    let extension = |length: u32| format!("1;{}\r\nx\r\n", "e".repeat(length as usize - 1));
    assert!(whole(extension(MAX_EXTENSION).as_bytes()).is_ok());
    assert_eq!(
        whole(extension(MAX_EXTENSION + 1).as_bytes()),
        Err(ChunkError::Extension)
    );
    let all = extension(MAX_EXTENSION).repeat((MAX_EXTENSIONS / MAX_EXTENSION) as usize);
    assert!(whole(all.as_bytes()).is_ok());
    assert_eq!(
        whole((all + "1;\r\n").as_bytes()),
        Err(ChunkError::Extension)
    );
    let trailer = |length: u32| format!("0\r\nt:{}\r\n\r\n", "t".repeat(length as usize - 4));
    assert!(whole(trailer(MAX_TRAILER).as_bytes()).unwrap().2);
    assert_eq!(
        whole(trailer(MAX_TRAILER + 1).as_bytes()),
        Err(ChunkError::Trailer)
    );
}

#[test]
fn heads_of_chunks_are_plain_hexadecimal() {
    for size in [1, 9, 10, 15, 16, 255, 4096, u64::MAX] {
        assert_eq!(
            ChunkHead::new(size).as_bytes(),
            format!("{size:x}\r\n").as_bytes()
        );
    }
    assert_eq!(ChunkHead::new(0).as_bytes(), b"");
}

#[test]
fn nothing_after_the_end_is_looked_at() {
    let mut decoder = Decoder::new();
    let piece = decoder.decode(b"0\r\n\r\n\0\0").unwrap();
    assert_eq!(
        piece,
        Piece {
            framing: 5,
            data: 0,
            end: true
        }
    );
    assert_eq!(
        decoder.decode(b"\0").unwrap(),
        Piece {
            framing: 0,
            data: 0,
            end: true
        }
    );
}

#[test]
fn trailers_are_kept_line_by_line_whatever_the_split() {
    let text = b"3;x\r\nabc\r\n0 \r\nX: y\r\nEmpty:\r\n\r\nZ: not mine\r\n";
    for size in 1..=text.len() {
        let (mut decoder, mut kept) = (Decoder::new(), Vec::new());
        for part in text.chunks(size) {
            let mut at = 0;
            while at < part.len() && !decoder.is_end() {
                let piece = decoder.decode_keeping(&part[at..], Some(&mut kept));
                at += piece.unwrap().consumed();
            }
        }
        assert!(decoder.is_end());
        assert_eq!(kept, b"X: y\r\nEmpty:\r\n", "pieces of {size}");
    }
}

fn encoded() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..40),
        "(;[a-z=\"]{0,5}| )?",
        any::<bool>(),
    );
    let trailer = prop_oneof![Just(""), Just("X: y\r\n"), Just("A: b\r\nC: d\r\n")];
    (prop::collection::vec(chunk, 0..8), trailer).prop_map(|(chunks, trailer)| {
        let (mut text, mut data) = (Vec::new(), Vec::new());
        for (bytes, extension, upper) in chunks {
            let size = if upper {
                format!("{:X}", bytes.len())
            } else {
                format!("{:03x}", bytes.len())
            };
            text.extend(format!("{size}{extension}\r\n").bytes());
            text.extend(&bytes);
            text.extend(b"\r\n");
            data.extend(bytes);
        }
        text.extend(format!("0\r\n{trailer}\r\n").bytes());
        (text, data)
    })
}

/// The pieces between these cuts, in order.
fn cut<'b>(text: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &text[pair[0]..pair[1]])
        .collect()
}

proptest! {
    #![proptest_config(crate::testing::cases(512))]

    #[test]
    fn what_was_encoded_comes_out_whatever_the_split(
        (text, data) in encoded(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let after = [&text[..], b"NEXT"].concat();
        prop_assert_eq!(decode(&cut(&after, &cuts)), Ok((data.clone(), text.len(), true)));
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        prop_assert_eq!(decode(&bytes), Ok((data, text.len(), true)));
    }

    #[test]
    fn damage_is_seen_alike_whatever_the_split(
        (mut text, _) in encoded(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        for (at, byte) in damage {
            let at = at % text.len();
            text[at] = byte;
        }
        prop_assert_eq!(decode(&cut(&text, &cuts)), whole(&text));
    }

    #[test]
    fn no_bytes_make_it_panic_or_stand_still(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::new();
        let mut at = 0;
        while at < text.len() {
            let Ok(piece) = decoder.decode(&text[at..]) else { break };
            prop_assert!(piece.end || piece.consumed() > 0);
            if piece.end {
                break;
            }
            at += piece.consumed();
        }
    }
}
