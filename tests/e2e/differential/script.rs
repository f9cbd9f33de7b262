//! Case files: a configuration, and what is sent to it.
//!
//! ```text
//! config:
//!     server { listen 127.0.0.1:@PORT@; location / { proxy_pass http://@A@; } }
//! case: what it is about
//! A< HTTP/1.1 201 Created                 what server A answers to its next request; then as usual
//! A< Content-Length: 0
//! A<
//! A! close                                … and does then: close, reset, hang
//! GET /a?b | X-Name: value                a request of HTTP/1.1 with a Host, on the connection
//! PUT /a || body                          with a Content-Length
//! > GET /raw HTTP/1.0                     a request as it stands, lines ending in CRLF
//! >
//! >> \x01no line end                      bytes; \r \n \t \\ \xNN stand for what they do in Rust
//! ? HEAD                                  one more answer is awaited, to this method
//! ? none                                  none is
//! ! new PORT2                             the next request goes over a new connection
//! ! half                                  the client sends no more
//! ```
//!
//! Requests of a case go over one connection as long as it lasts; the last one is followed by a
//! canary, which shows what became of the connection.

/// A configuration and the cases that it serves.
pub struct Group {
    pub name: String,
    pub config: String,
    pub cases: Vec<Case>,
}

/// Requests, mostly on one connection, and what the servers behind answer to them.
#[derive(Default)]
pub struct Case {
    pub name: String,
    pub steps: Vec<Step>,
    /// For each server of `peer::NAMES` what it answers, in order.
    pub answers: Vec<(String, Answer)>,
    /// The line before was one of a raw request.
    open: bool,
}

/// What the client does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Send(Vec<u8>),
    /// Waits for the answer to a request of this method.
    Answer(String),
    /// Ends its half of the connection.
    Half,
    /// Leaves the connection for a new one to this port.
    New(String),
}

/// What a server behind answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub bytes: Vec<u8>,
    pub then: Then,
}

/// What it does after that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Then {
    #[default]
    Keep,
    Close,
    Reset,
    /// Waits until the other side closes.
    Hang,
}

/// Reads a case file; what cannot be read fails the test with its line.
pub fn parse(name: &str, text: &str) -> Group {
    let mut group = Group {
        name: name.to_owned(),
        config: String::new(),
        cases: Vec::new(),
    };
    for (number, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("case:") {
            group.cases.push(Case {
                name: title.trim().to_owned(),
                ..Case::default()
            });
        } else if let Some(case) = group.cases.last_mut() {
            case.line(line)
                .unwrap_or_else(|| panic!("{name}:{}: cannot be read: {line}", number + 1));
        } else if line != "config:" && !line.starts_with('#') {
            group.config.push_str(line);
            group.config.push('\n');
        }
    }
    for case in &mut group.cases {
        case.await_answer();
    }
    group
}

impl Case {
    fn line(&mut self, line: &str) -> Option<()> {
        if line.is_empty() || line.starts_with('#') {
            return Some(());
        }
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let open = std::mem::replace(&mut self.open, mark == ">");
        match mark {
            ">" => self.raw(rest, "\r\n", open),
            ">>" => self.raw(rest, "", open),
            "?" => {
                if rest != "none" {
                    self.steps.push(Step::Answer(rest.to_owned()));
                } else {
                    self.steps.push(Step::Send(Vec::new()));
                }
                Some(())
            }
            "!" => {
                let step = match rest.split_once(' ') {
                    None if rest == "half" => Step::Half,
                    Some(("new", port)) => Step::New(port.to_owned()),
                    _ => return None,
                };
                if step != Step::Half {
                    self.await_answer();
                }
                self.steps.push(step);
                Some(())
            }
            _ if mark.len() == 2 => self.answer(&mark[..1], &mark[1..], rest),
            _ if mark.len() == 3 && mark.ends_with("<<") => {
                self.answer(&mark[..1], &mark[1..], rest)
            }
            _ => self.request(line),
        }
    }

    /// What was sent last is answered, unless the case says otherwise.
    fn await_answer(&mut self) {
        if let Some(Step::Send(bytes)) = self.steps.last()
            && !bytes.is_empty()
        {
            let method = String::from_utf8_lossy(bytes);
            let method = method.split(' ').next().unwrap_or_default().to_owned();
            self.steps.push(Step::Answer(method));
        }
    }

    fn raw(&mut self, text: &str, end: &str, open: bool) -> Option<()> {
        let mut bytes = unescape(text)?;
        bytes.extend_from_slice(end.as_bytes());
        match self.steps.last_mut() {
            // A body may follow its head; another line begins another request.
            Some(Step::Send(sent)) if open && (end.is_empty() || !is_whole(sent)) => {
                sent.extend(bytes);
            }
            _ => {
                self.await_answer();
                self.steps.push(Step::Send(bytes));
            }
        }
        Some(())
    }

    fn request(&mut self, line: &str) -> Option<()> {
        self.await_answer();
        let (line, body) = match line.split_once(" || ") {
            Some((line, body)) => (line, Some(unescape(body)?)),
            None => (line, None),
        };
        let mut parts = line.split(" | ");
        let first = parts.next()?;
        if !first.starts_with(|first: char| first.is_ascii_uppercase()) || !first.contains(" /") {
            return None;
        }
        let mut head = format!("{first} HTTP/1.1\r\n").into_bytes();
        let mut named = false;
        for field in parts {
            named |= field.to_ascii_lowercase().starts_with("host:");
            head.extend(unescape(field)?);
            head.extend(b"\r\n");
        }
        if !named {
            head.extend(b"Host: test\r\n");
        }
        if let Some(body) = &body {
            head.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        head.extend(b"\r\n");
        head.extend(body.unwrap_or_default());
        self.steps.push(Step::Send(head));
        Some(())
    }

    fn answer(&mut self, server: &str, mark: &str, text: &str) -> Option<()> {
        if !super::peer::NAMES.contains(&server) {
            return None;
        }
        let last = self
            .answers
            .iter_mut()
            .rev()
            .find(|(name, _)| name == server);
        match (mark, last) {
            ("<" | "<<", last) => {
                let mut bytes = unescape(text)?;
                if mark == "<" {
                    bytes.extend(b"\r\n");
                }
                match last {
                    Some((_, answer)) if !text.starts_with("HTTP/") => answer.bytes.extend(bytes),
                    _ => {
                        let then = Then::default();
                        self.answers
                            .push((server.to_owned(), Answer { bytes, then }));
                    }
                }
            }
            ("!", last) => {
                let then = match text {
                    "close" => Then::Close,
                    "reset" => Then::Reset,
                    "hang" => Then::Hang,
                    _ => return None,
                };
                match last {
                    Some((_, answer)) if answer.then == Then::Keep => answer.then = then,
                    _ => {
                        let bytes = Vec::new();
                        self.answers
                            .push((server.to_owned(), Answer { bytes, then }));
                    }
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// Whether the head has come to its end, so that a further line begins another request.
fn is_whole(sent: &[u8]) -> bool {
    sent.windows(4).any(|end| end == b"\r\n\r\n")
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, length) = match after.as_bytes().first()? {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(after.get(1..3)?, 16).ok()?, 3),
            _ => return None,
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}
