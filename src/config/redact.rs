//! A configuration file as others may see it: without its secrets.

use super::lexer::{Lexer, Token};

/// What stands in a secret's place.
const HIDDEN: &[u8] = b"***";

/// The bytes of a file with `upsync_token`s and `token=`s of URLs hidden, everything else as it is.
pub fn redacted(content: &[u8]) -> Vec<u8> {
    let mut lexer = Lexer::file(content.into());
    let mut shown = Vec::with_capacity(content.len());
    let mut copied = 0;
    // A file that is being shown was read before: it has no error to stop at.
    while let Ok(Token::Directive(words) | Token::Block(words)) = next(&mut lexer) {
        let spans = lexer.spans();
        let secrets = match words[0].as_str() {
            "upsync_token" => spans.get(1..).unwrap_or_default().to_vec(),
            "upsync" => spans
                .get(1..)
                .unwrap_or_default()
                .iter()
                .cloned()
                .filter_map(|span| {
                    let word = &content[span.clone()];
                    let start = b"token=";
                    let at = word.windows(start.len()).position(|part| part == start)?;
                    // A quote at the end is not the secret's.
                    let quote = usize::from(matches!(word.last(), Some(b'"' | b'\'')));
                    Some(span.start + at + start.len()..span.end - quote)
                })
                .collect(),
            _ => Vec::new(),
        };
        for secret in secrets {
            shown.extend_from_slice(&content[copied..secret.start]);
            shown.extend_from_slice(HIDDEN);
            copied = secret.end;
        }
    }
    shown.extend_from_slice(&content[copied..]);
    shown
}

/// The next directive, ends of blocks passed over.
fn next(lexer: &mut Lexer) -> Result<Token, String> {
    loop {
        match lexer.next()? {
            Token::BlockEnd => {}
            token => return Ok(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        String::from_utf8(redacted(text.as_bytes())).unwrap()
    }

    #[test]
    fn tokens_are_hidden_and_nothing_else() {
        let text = "http { # upsync_token of a comment\n upsync_token\n  s3cret ; upstream a {\n\
            upsync a:1/v1/kv/x?token=s3cret upsync_interval=1s;\n}\n\
            upstream b { upsync 'a:1/v1/kv/y?token=s3cret' ; upsync_token \"s3\\\"cret\";}\n\
            upsync_token_file /etc/token; include a.conf; }\n";
        let expected = "http { # upsync_token of a comment\n upsync_token\n  *** ; upstream a {\n\
            upsync a:1/v1/kv/x?token=*** upsync_interval=1s;\n}\n\
            upstream b { upsync 'a:1/v1/kv/y?token=***' ; upsync_token ***;}\n\
            upsync_token_file /etc/token; include a.conf; }\n";
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn a_file_without_secrets_is_shown_as_it_is() {
        for text in [
            "",
            "a b;",
            "a { b 'c' ; } # d",
            "a {",
            "types { text/html html; }\n\u{e4}",
        ] {
            assert_eq!(shown(text), text);
        }
    }
}
