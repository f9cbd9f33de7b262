//! Splits a configuration into directives, byte for byte as nginx does.

use std::ops::Range;
use std::rc::Rc;

/// The longest parameter, in bytes (nginx's NGX_CONF_BUFFER).
pub const LONGEST_PARAMETER: usize = 4096;

/// One step of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Name and parameters, ended by `;`.
    Directive(Vec<String>),
    /// Name and parameters, ended by `{`.
    Block(Vec<String>),
    /// `}`
    BlockEnd,
    /// The end of the text.
    End,
}

/// Reads one file, or the directives of `-g`.
#[derive(Debug)]
pub struct Lexer {
    bytes: Rc<[u8]>,
    at: usize,
    line: usize,
    parameter: bool,
    /// Where the words of the last step stand, quotes included.
    spans: Vec<Range<usize>>,
}

/// What a word began with.
#[derive(Clone, Copy, PartialEq)]
enum Quote {
    None,
    Single,
    Double,
}

impl Lexer {
    /// Reads a file from its first line.
    pub fn file(bytes: Rc<[u8]>) -> Lexer {
        Lexer {
            bytes,
            at: 0,
            line: 1,
            parameter: false,
            spans: Vec::new(),
        }
    }

    /// Reads directives given on the command line.
    pub fn parameter(text: &str) -> Lexer {
        Lexer {
            bytes: text.as_bytes().into(),
            at: 0,
            line: 1,
            parameter: true,
            spans: Vec::new(),
        }
    }

    /// Whether this reads the command line.
    pub fn is_parameter(&self) -> bool {
        self.parameter
    }

    /// The line reached, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Where the words of the last step stand in the bytes, quotes included.
    pub fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }

    /// The next directive; the error is a message without its place, which is [`Lexer::line`].
    pub fn next(&mut self) -> Result<Token, String> {
        if self.at == 0 && self.bytes.starts_with(b"\xef\xbb\xbf") {
            return Err("unexpected UTF-8 byte order mark".into());
        }
        let mut words = Vec::new();
        self.spans.clear();
        loop {
            let Some(byte) = self.skip_space() else {
                return if words.is_empty() {
                    Ok(Token::End)
                } else {
                    Err(self.unexpected_end())
                };
            };
            let start = self.at;
            match byte {
                b';' | b'{' if words.is_empty() => return Err(unexpected(byte)),
                b';' => {
                    self.step();
                    return Ok(Token::Directive(words));
                }
                b'{' => {
                    self.step();
                    return Ok(Token::Block(words));
                }
                b'}' if words.is_empty() => {
                    self.step();
                    return Ok(Token::BlockEnd);
                }
                b'}' => return Err(unexpected(byte)),
                b'"' => words.push(self.quoted(Quote::Double)?),
                b'\'' => words.push(self.quoted(Quote::Single)?),
                _ => words.push(self.bare()?),
            }
            self.spans.push(start..self.at);
        }
    }

    /// Passes over a Lua block up to its closing brace: its strings and comments may hold braces.
    pub fn skip_lua(&mut self) -> Result<(), String> {
        let mut depth = 1_usize;
        while let Some(byte) = self.step() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 1 => return Ok(()),
                b'}' => depth -= 1,
                b'"' | b'\'' => self.skip_lua_string(byte),
                b'-' if self.peek() == Some(b'-') => {
                    self.step();
                    if !self.skip_lua_long() {
                        while !matches!(self.peek(), None | Some(b'\n')) {
                            self.step();
                        }
                    }
                }
                b'[' => {
                    self.at -= 1;
                    if !self.skip_lua_long() {
                        self.at += 1;
                    }
                }
                _ => {}
            }
        }
        Err("unexpected end of file, expecting \"}\"".into())
    }

    fn skip_lua_string(&mut self, quote: u8) {
        while let Some(byte) = self.step() {
            match byte {
                b'\\' => {
                    self.step();
                }
                b'\n' => return,
                _ if byte == quote => return,
                _ => {}
            }
        }
    }

    /// Passes over `[[ ... ]]` or `[=[ ... ]=]` if one starts here.
    fn skip_lua_long(&mut self) -> bool {
        let rest = &self.bytes[self.at..];
        let level = rest
            .iter()
            .skip(1)
            .take_while(|&&byte| byte == b'=')
            .count();
        if rest.first() != Some(&b'[') || rest.get(level + 1) != Some(&b'[') {
            return false;
        }
        let mut end = vec![b'='; level + 2];
        end[0] = b']';
        end[level + 1] = b']';
        while self.at < self.bytes.len() && !self.bytes[self.at..].starts_with(&end) {
            self.step();
        }
        self.at = self.bytes.len().min(self.at + end.len());
        true
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn step(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        Some(byte)
    }

    /// Passes over blanks and comments; the next byte, which it leaves.
    fn skip_space(&mut self) -> Option<u8> {
        loop {
            match self.peek()? {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.step();
                }
                b'#' => {
                    while !matches!(self.peek(), None | Some(b'\n')) {
                        self.at += 1;
                    }
                }
                byte => return Some(byte),
            }
        }
    }

    /// A word without quotes: blanks, `;` and `{` end it, except `{` after `$`.
    fn bare(&mut self) -> Result<String, String> {
        let (start, line) = (self.at, self.line);
        let mut variable = false;
        loop {
            let byte = self.within(start, line, Quote::None)?;
            match byte {
                b'{' if variable => {
                    self.step();
                    continue;
                }
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' => return self.word(start, self.at),
                b'\\' => {
                    self.step();
                    self.within(start, line, Quote::None)?;
                }
                _ => {}
            }
            variable = byte == b'$';
            self.step();
        }
    }

    /// A word in quotes; only blanks, `;`, `{` and `)` may follow it.
    fn quoted(&mut self, quote: Quote) -> Result<String, String> {
        let line = self.line;
        let end = self.step();
        let start = self.at;
        loop {
            let byte = self.within(start, line, quote)?;
            if Some(byte) == end {
                break;
            }
            self.step();
            if byte == b'\\' {
                self.within(start, line, quote)?;
                self.step();
            }
        }
        let word = self.word(start, self.at)?;
        self.step();
        match self.peek() {
            None => Err(self.unexpected_end()),
            Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{') => Ok(word),
            // nginx reads on after `)`: it closes the condition of an `if`, as the start of a word.
            Some(b')') => Ok(word),
            Some(byte) => {
                self.step();
                Err(unexpected(byte))
            }
        }
    }

    /// The next byte of a word, if the word may have one.
    fn within(&mut self, start: usize, line: usize, quote: Quote) -> Result<u8, String> {
        let Some(byte) = self.peek() else {
            return Err(self.unexpected_end());
        };
        if self.at - start < LONGEST_PARAMETER {
            return Ok(byte);
        }
        self.line = line;
        let missing = match quote {
            Quote::Single => '\'',
            Quote::Double => '"',
            Quote::None => {
                let text = String::from_utf8_lossy(&self.bytes[start..start + 10]);
                return Err(format!("too long parameter \"{text}...\" started"));
            }
        };
        Err(format!(
            "too long parameter, probably missing terminating \"{missing}\" character"
        ))
    }

    /// Takes the backslashes out of a word.
    fn word(&self, start: usize, end: usize) -> Result<String, String> {
        let mut word = Vec::with_capacity(end - start);
        let mut bytes = self.bytes[start..end].iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let escaped = match (byte, bytes.peek()) {
                (b'\\', Some(&next @ (b'"' | b'\'' | b'\\'))) => next,
                (b'\\', Some(b't')) => b'\t',
                (b'\\', Some(b'r')) => b'\r',
                (b'\\', Some(b'n')) => b'\n',
                _ => {
                    word.push(byte);
                    continue;
                }
            };
            bytes.next();
            word.push(escaped);
        }
        if word.contains(&0) {
            return Err("unexpected NUL byte".into());
        }
        String::from_utf8(word).map_err(|error| {
            let bytes = error.as_bytes();
            format!(
                "invalid UTF-8 in \"{}\"",
                bytes[..bytes.len().min(64)].escape_ascii()
            )
        })
    }

    fn unexpected_end(&self) -> String {
        if self.parameter {
            "unexpected end of parameter, expecting \";\"".into()
        } else {
            "unexpected end of file, expecting \";\" or \"}\"".into()
        }
    }
}

fn unexpected(byte: u8) -> String {
    match byte {
        b' '..=b'~' => format!("unexpected \"{}\"", char::from(byte)),
        _ => format!("unexpected \"\\x{byte:02X}\""),
    }
}
