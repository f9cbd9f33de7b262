//! Sends a row through a proxy, and says what went otherwise than it must.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::row::{Answer, End, Got, Intended, Request, gets};
use super::server::{Script, Seen, Server};
use super::wire::{Framing, Head, Message, Stop, Wire, status};

/// A proxy under test between the tests' client and the tests' server.
pub struct Rig<'a> {
    pub proxy: String,
    pub server: &'a Server,
    /// How long a client waits for bytes.
    pub patience: Duration,
    /// Canaries so far.
    pub canaries: usize,
    /// Canaries of a new client that came on a connection that had been used before.
    pub reused: usize,
}

type Check = Result<(), String>;

impl Rig<'_> {
    pub fn request(&mut self, row: &Request) -> Check {
        self.server.seen();
        let mut wire = self.connect()?;
        let keeps = send(&mut wire, row);
        let mut expected = row.intended.clone();
        let canaries = keeps.and_then(|keeps| self.canaries(wire, keeps, &mut expected));
        self.account(expected, canaries)
    }

    pub fn answer(&mut self, row: &Answer) -> Check {
        self.server.seen();
        self.server.script(Script {
            bytes: row.bytes.clone(),
            then: row.then,
        });
        let mut wire = self.connect()?;
        let keeps = ask(&mut wire, row);
        let mut canaries = Vec::new();
        let checked = keeps.and_then(|keeps| self.canaries(wire, keeps, &mut canaries));
        // Asking again is for others to test; here it must be the same request, and no other.
        let mut seen = self.server.seen();
        let asked = seen
            .iter()
            .take_while(|seen| matches!(seen, Seen::Request(_, message) if is_row(message)))
            .count();
        let seen = seen.split_off(asked);
        checked?;
        match asked {
            0 => return Err("the server was not asked".to_owned()),
            1 => {}
            _ if !row.request.starts_with(b"POST") => {}
            _ => return Err("a POST was sent twice".to_owned()),
        }
        self.compare(&canaries, &seen)
    }

    fn connect(&self) -> Result<Wire, String> {
        let stream = TcpStream::connect(&self.proxy).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(self.patience)).unwrap();
        stream.set_nodelay(true).unwrap();
        Ok(Wire::new(stream))
    }

    /// A request on the same connection if it is kept, and one on a new one.
    fn canaries(&mut self, mut wire: Wire, keeps: bool, expected: &mut Vec<Intended>) -> Check {
        if keeps {
            self.canary(&mut wire, expected)
                .map_err(|error| format!("the next request on the connection: {error}"))?;
        } else {
            ended(&mut wire)?;
        }
        let mut wire = self.connect()?;
        self.canary(&mut wire, expected)
            .map_err(|error| format!("the next client: {error}"))
    }

    fn canary(&mut self, wire: &mut Wire, expected: &mut Vec<Intended>) -> Check {
        self.canaries += 1;
        let line = format!("GET /canary/{}", self.canaries);
        expected.push(gets(&line));
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        let _ = wire.stream.write_all(text.as_bytes());
        echoed(wire, &gets(&line)).map(drop)
    }

    /// What the server saw must be what was intended, even where the client saw a fault already.
    fn account(&mut self, expected: Vec<Intended>, checked: Check) -> Check {
        let seen = self.server.seen();
        checked?;
        self.compare(&expected, &seen)
    }

    fn compare(&mut self, expected: &[Intended], seen: &[Seen]) -> Check {
        let mut before = None;
        for at in 0..expected.len().max(seen.len()) {
            let (connection, message) = match seen.get(at) {
                Some(Seen::Request(connection, message)) => (*connection, message),
                Some(Seen::Garbage(what)) => return Err(format!("the server got {what}")),
                None => return Err("the server got less than was sent".to_owned()),
            };
            let Some(expected) = expected.get(at) else {
                return Err(format!("the server got also {}", show(message)));
            };
            if !is_same(expected, message) {
                return Err(format!("the server got {} for {expected:?}", show(message)));
            }
            if at + 1 == seen.len() && before == Some(connection) {
                self.reused += 1;
            }
            before = Some(connection);
        }
        Ok(())
    }
}

/// Sends the row and reads its answers; whether the connection is kept.
fn send(wire: &mut Wire, row: &Request) -> Result<bool, String> {
    // A refusal may come, and the connection go, before all is written.
    let _ = wire.stream.write_all(&row.bytes);
    if let Some(rest) = &row.after_continue {
        let interim = read(wire, "GET")?;
        if status(&interim.head) != Some(100) {
            return Err(format!("instead of 100: {}", show(&interim)));
        }
        let _ = wire.stream.write_all(rest);
    }
    let mut keeps = true;
    for intended in &row.intended {
        keeps = echoed(wire, intended)?;
    }
    match row.end {
        End::Answered => Ok(keeps),
        End::Own(expected) => own(wire, &row.bytes, expected),
        End::Refused(expected) => match own(wire, &row.bytes, expected)? {
            true => Err("the connection is kept after a refusal".to_owned()),
            false => Ok(false),
        },
        End::Unfinished => {
            let _ = wire.stream.shutdown(Shutdown::Write);
            match wire.answer("GET") {
                Ok(message) if status(&message.head) >= Some(400) => Ok(false),
                Ok(message) => Err(format!("half a message was answered: {}", show(&message))),
                Err(Stop::End(0) | Stop::Reset) => Ok(false),
                Err(stop) => Err(format!("{stop:?}")),
            }
        }
    }
}

/// An answer of the proxy's own; whether it keeps the connection.
fn own(wire: &mut Wire, request: &[u8], expected: u16) -> Result<bool, String> {
    let method = if request.starts_with(b"HEAD ") {
        "HEAD"
    } else {
        "GET"
    };
    let message = read(wire, method)?;
    if status(&message.head) != Some(expected) {
        return Err(format!("instead of {expected}: {}", show(&message)));
    }
    Ok(keeps(&message.head))
}

/// The server's answer to this request; whether it keeps the connection.
fn echoed(wire: &mut Wire, intended: &Intended) -> Result<bool, String> {
    let head = intended.line.starts_with(b"HEAD ");
    let message = read(wire, if head { "HEAD" } else { "GET" })?;
    let body = [&intended.line[..], b"|", &intended.body].concat();
    let expected = if head { &b""[..] } else { &body };
    if status(&message.head) != Some(200) || message.body != expected {
        return Err(format!("for {intended:?}: {}", show(&message)));
    }
    Ok(keeps(&message.head))
}

/// Sends the row's request and reads the answer that the server was told to give.
fn ask(wire: &mut Wire, row: &Answer) -> Result<bool, String> {
    let _ = wire.stream.write_all(&row.request);
    let head = row.request.starts_with(b"HEAD ");
    let answer = wire.answer(if head { "HEAD" } else { "GET" });
    let message = match (answer, &row.got) {
        // The end that it came to is all that there is to see.
        (Err(Stop::End(_) | Stop::Reset), Got::Cut) => {
            wire.rest.clear();
            return Ok(false);
        }
        (Ok(message), _) => message,
        (Err(stop), _) => return Err(format!("{stop:?}")),
    };
    let code = status(&message.head).unwrap_or_default();
    let good = match &row.got {
        Got::Whole(expected, fields, body) => {
            code == *expected
                && others(&message) == *fields
                && message.body == *body
                && message.trailers.is_empty()
        }
        Got::Trailed(body, trailers) => {
            code == 200 && message.body == *body && message.trailers == *trailers
        }
        Got::Error(expected) => code == *expected && message.head.has("content-type", "text/html"),
        Got::Cut => code == 502,
        Got::Tunnel(protocol) => {
            let protocol = String::from_utf8_lossy(protocol);
            let _ = wire.stream.write_all(b"GET /smuggled ");
            code == 101
                && message.head.has("upgrade", &protocol)
                && message.head.has("connection", "upgrade")
                && wire.take(14) == Ok(b"GET /smuggled ".to_vec())
                && wire.stream.shutdown(Shutdown::Write).is_ok()
        }
    };
    if !good {
        return Err(format!("instead of {:?}: {}", row.got, show(&message)));
    }
    Ok(code != 101 && message.framing != Framing::UntilClose && keeps(&message.head))
}

/// The connection ends in order, and nothing more comes on it.
fn ended(wire: &mut Wire) -> Check {
    match wire.drain() {
        Stop::End(0) | Stop::Reset if wire.rest.is_empty() => Ok(()),
        stop => Err(format!(
            "instead of the end: {stop:?} {:?}",
            wire.rest.escape_ascii().to_string()
        )),
    }
}

fn read(wire: &mut Wire, method: &str) -> Result<Message, String> {
    wire.answer(method).map_err(|stop| {
        let rest = wire.rest.escape_ascii().to_string();
        format!("no answer: {stop:?} {rest:?}")
    })
}

fn keeps(head: &Head) -> bool {
    !head.has("connection", "close")
}

fn is_row(message: &Message) -> bool {
    message.head.line.windows(5).any(|part| part == b" /row")
}

fn is_same(expected: &Intended, message: &Message) -> bool {
    let mut fields = Vec::new();
    for (name, value) in &message.head.fields {
        let framing: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
        if !framing.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            fields.extend([name, &b": "[..], value, b"\r\n"].concat());
        }
    }
    message.head.line == [&expected.line[..], b" HTTP/1.1"].concat()
        && message.head.all("host") == [expected.host.as_slice()]
        && fields == expected.fields
        && message.body == expected.body
        && message.trailers.is_empty()
}

/// The fields of an answer but those that the proxy writes of its own.
fn others(message: &Message) -> Vec<u8> {
    let own = [
        "server",
        "date",
        "connection",
        "keep-alive",
        "transfer-encoding",
    ];
    let mut fields = Vec::new();
    for (name, value) in &message.head.fields {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let framing = message.framing == Framing::Length && is("content-length");
        if !framing && !own.into_iter().any(is) {
            fields.extend([name, &b": "[..], value, b"\r\n"].concat());
        }
    }
    fields
}

fn show(message: &Message) -> String {
    let mut text = message.head.line.clone();
    for (name, value) in &message.head.fields {
        text.extend([&b" / "[..], name, b": ", value].concat());
    }
    let body = &message.body[..message.body.len().min(120)];
    let (head, body) = (text.escape_ascii(), body.escape_ascii());
    format!("{head} // {body} // {}", message.trailers.escape_ascii())
}
