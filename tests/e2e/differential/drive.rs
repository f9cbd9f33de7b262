//! Plays a case against a proxy and keeps what came of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::peer::Asked;
use super::proxy::Proxy;
use super::script::{Case, Step};

/// How long an answer may take; a proxy's own time limits in the cases are far below.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long an end that was announced may take.
const END: Duration = Duration::from_secs(3);
/// Characters of a request that name it.
const DESCRIBED: usize = 90;
const CANARY: &[u8] = b"GET /canary HTTP/1.1\r\nHost: canary\r\n\r\n";

/// What came of a case.
pub struct Outcome {
    pub answers: Vec<Seen>,
    pub asked: Vec<Asked>,
}

/// What the client saw of one answer.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The request, in few words.
    pub request: String,
    pub method: String,
    /// Heads of the answers before it.
    pub interim: Vec<String>,
    pub line: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: String,
    /// What became of the connection.
    pub end: String,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        let named = |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .find(named)
            .map(|(_, value)| value.as_str())
    }

    fn is_last(&self) -> bool {
        let closes = |value: &str| value.eq_ignore_ascii_case("close");
        self.field("connection").is_some_and(closes)
    }
}

/// Plays one case.
pub fn play(case: &Case, proxy: &Proxy) -> Outcome {
    proxy.peers.script(&case.answers);
    let mut player = Player {
        proxy,
        port: "PORT".to_owned(),
        line: None,
        sent: Vec::new(),
        answers: Vec::new(),
    };
    for step in &case.steps {
        player.step(step);
    }
    player.canary();
    Outcome {
        answers: player.answers,
        asked: proxy.peers.asked(),
    }
}

struct Player<'a> {
    proxy: &'a Proxy,
    port: String,
    line: Option<Line>,
    /// The request that is being answered.
    sent: Vec<u8>,
    answers: Vec<Seen>,
}

impl Player<'_> {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Send(bytes) if bytes.is_empty() => {}
            Step::Send(bytes) => {
                self.sent.clone_from(bytes);
                self.send(bytes);
            }
            Step::Half => {
                if let Some(line) = &self.line {
                    let _ = line.stream.shutdown(Shutdown::Write);
                }
            }
            Step::New(port) => {
                self.canary();
                self.port.clone_from(port);
            }
            Step::Answer(method) => self.answer(method),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let line = self
            .line
            .get_or_insert_with(|| Line::connect(self.proxy, &self.port));
        // A proxy may refuse before it has read all: its answer says so.
        let _ = line.stream.write_all(bytes);
    }

    fn answer(&mut self, method: &str) {
        let mut seen = Seen::default();
        if let Some(line) = &mut self.line {
            line.answer(method, &mut seen);
        }
        let kept = self.answers.last().is_some_and(|last| last.end == "kept");
        if seen.line.is_empty() && seen.end == "closed" && kept {
            // It was closed behind the answer before: the request goes over a new one.
            if let Some(last) = self.answers.last_mut() {
                last.end = "closed without notice".to_owned();
            }
            self.line = None;
            let sent = self.sent.clone();
            self.send(&sent);
            if let Some(line) = &mut self.line {
                line.answer(method, &mut seen);
            }
        }
        seen.request = described(&self.sent, method);
        seen.method = method.to_owned();
        if seen.end != "kept" {
            self.line = None;
        }
        self.answers.push(seen);
    }

    /// Shows what became of the connection after the last answer.
    fn canary(&mut self) {
        if self.answers.last().is_some_and(|last| last.end == "kept") && self.line.is_some() {
            self.sent = CANARY.to_vec();
            self.send(CANARY);
            self.answer("GET");
        }
        self.line = None;
    }
}

/// The request as a case file writes it.
fn described(sent: &[u8], method: &str) -> String {
    let head = &sent[..end_of_head(sent).unwrap_or(sent.len())];
    let head = String::from_utf8_lossy(head);
    let lines = head.trim_end_matches("\r\n").split("\r\n");
    let lines: Vec<_> = lines.filter(|line| *line != "Host: test").collect();
    let text = lines.join(", ").replace(" HTTP/1.1", "");
    let short: String = text.escape_debug().take(DESCRIBED).collect();
    match text.starts_with(method) {
        true => short,
        false => format!("{method} behind {short}"),
    }
}

/// A connection and what has come over it.
struct Line {
    stream: TcpStream,
    rest: Vec<u8>,
    ended: bool,
}

impl Line {
    fn connect(proxy: &Proxy, port: &str) -> Line {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port(port))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        proxy.know(stream.local_addr().unwrap().port());
        Line {
            stream,
            rest: Vec::new(),
            ended: false,
        }
    }

    /// Reads until `found` says so. `None` when the connection ends, or nothing comes, before.
    fn until<T>(&mut self, limit: Duration, found: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        loop {
            if let Some(found) = found(&self.rest) {
                return Some(found);
            }
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.rest.extend_from_slice(&chunk[..count]);
                    continue;
                }
                // A reset is an end: which of the two comes is a matter of what was left unread.
                Err(error) if error.kind() != ErrorKind::WouldBlock => self.ended = true,
                Err(_) => {}
            }
            return None;
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.rest.drain(..length).collect()
    }

    fn how_ended(&self) -> &'static str {
        if self.ended { "closed" } else { "silent" }
    }

    fn answer(&mut self, method: &str, seen: &mut Seen) {
        loop {
            let Some(end) = self.until(PATIENCE, end_of_head) else {
                // Nothing, or a bare body as in HTTP/0.9.
                seen.body = std::mem::take(&mut self.rest);
                seen.end = self.how_ended().to_owned();
                return;
            };
            let head = self.take(end);
            let head = String::from_utf8_lossy(&head).into_owned();
            if head.starts_with("HTTP/1.1 1") && !head.starts_with("HTTP/1.1 101") {
                seen.interim.push(head);
                continue;
            }
            let (line, fields) = parse_head(&head);
            (seen.line, seen.fields) = (line, fields);
            break;
        }
        let whole = self.body(method, seen);
        seen.end = match whole {
            None if self.ended => "cut".to_owned(),
            None => "silent within the body".to_owned(),
            Some(()) if self.ended => "closed".to_owned(),
            Some(()) if seen.is_last() => self.announced_end(),
            Some(()) => "kept".to_owned(),
        };
    }

    fn announced_end(&mut self) -> String {
        match self.until(END, |rest| (!rest.is_empty()).then_some(())) {
            Some(()) => format!("says close, but sends {}", self.rest.escape_ascii()),
            None if self.ended => "closed".to_owned(),
            None => "says close, but stays".to_owned(),
        }
    }

    fn body(&mut self, method: &str, seen: &mut Seen) -> Option<()> {
        let bodiless = ["HTTP/1.1 204", "HTTP/1.1 304", "HTTP/1.1 101"];
        if method == "HEAD" || bodiless.iter().any(|line| seen.line.starts_with(line)) {
            return Some(());
        }
        if seen.field("transfer-encoding").is_some() {
            return self.chunks(seen);
        }
        match seen.field("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => {
                let whole = self.until(PATIENCE, |rest| (rest.len() >= length).then_some(()));
                let length = length.min(self.rest.len());
                seen.body = self.take(length);
                whole
            }
            _ => {
                let _ = self.until(PATIENCE, |_| None::<()>);
                seen.body = std::mem::take(&mut self.rest);
                self.ended.then_some(())
            }
        }
    }

    fn chunks(&mut self, seen: &mut Seen) -> Option<()> {
        loop {
            let end = self.until(PATIENCE, |rest| find(rest, b"\r\n"))?;
            let line = self.take(end + 2);
            let size = std::str::from_utf8(&line[..end]).ok()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            if size == 0 {
                let end = self.until(PATIENCE, |rest| {
                    let end = find(rest, b"\r\n\r\n").map(|end| end + 4);
                    if rest.starts_with(b"\r\n") {
                        Some(2)
                    } else {
                        end
                    }
                })?;
                seen.trailers = String::from_utf8_lossy(&self.take(end)).into_owned();
                return Some(());
            }
            let whole = self.until(PATIENCE, |rest| (rest.len() >= size + 2).then_some(()));
            let length = size.min(self.rest.len());
            let data = self.take(length);
            seen.body.extend(data);
            whole?;
            self.take(2);
        }
    }
}

fn end_of_head(rest: &[u8]) -> Option<usize> {
    find(rest, b"\r\n\r\n").map(|end| end + 4)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut windows = haystack.windows(needle.len());
    windows.position(|window| window == needle)
}

/// The first line of a head, and its fields.
pub fn parse_head(head: &str) -> (String, Vec<(String, String)>) {
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let fields = lines.map(|line| match line.split_once(": ") {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (line.to_owned(), String::new()),
    });
    (line, fields.collect())
}
