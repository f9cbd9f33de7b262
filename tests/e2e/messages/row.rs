//! A row of a table: what is sent, and what both sides must see of it.

use super::server::Then;

/// A request as the server must get it: `Host` and the framing apart, exactly these fields.
#[derive(Clone, Debug)]
pub struct Intended {
    /// Method and target.
    pub line: Vec<u8>,
    pub host: Vec<u8>,
    /// Lines, each with its CRLF.
    pub fields: Vec<u8>,
    pub body: Vec<u8>,
}

/// A request for `h` without fields and body.
pub fn gets(line: impl AsRef<[u8]>) -> Intended {
    Intended {
        line: line.as_ref().to_vec(),
        host: b"h".to_vec(),
        fields: Vec::new(),
        body: Vec::new(),
    }
}

impl Intended {
    pub fn host(mut self, host: impl AsRef<[u8]>) -> Intended {
        self.host = host.as_ref().to_vec();
        self
    }

    pub fn fields(mut self, fields: impl AsRef<[u8]>) -> Intended {
        self.fields = fields.as_ref().to_vec();
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Intended {
        self.body = body.as_ref().to_vec();
        self
    }
}

/// How it must end for the client, after the intended requests were answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The connection is kept or closed, as the last answer says.
    Answered,
    /// weir answers itself with this status, and the connection goes on or ends as it says.
    Own(u16),
    /// This status, and the connection ends.
    Refused(u16),
    /// The client stops in the middle: no answer, or none but an error, and the connection ends.
    Unfinished,
}

/// A message of a client.
#[derive(Clone, Debug)]
pub struct Request {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Sent once an interim answer has come.
    pub after_continue: Option<Vec<u8>>,
    pub intended: Vec<Intended>,
    pub end: End,
}

fn request(name: &str, bytes: &[u8], intended: &[Intended], end: End) -> Request {
    Request {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
        after_continue: None,
        intended: intended.to_vec(),
        end,
    }
}

/// The server gets these requests, and the client their answers.
pub fn taken(name: &str, bytes: impl AsRef<[u8]>, intended: &[Intended]) -> Request {
    request(name, bytes.as_ref(), intended, End::Answered)
}

/// The server gets nothing, the client this status and the end of the connection.
pub fn refused(name: &str, bytes: impl AsRef<[u8]>, status: u16) -> Request {
    request(name, bytes.as_ref(), &[], End::Refused(status))
}

/// The server gets nothing, for weir itself has an answer.
pub fn own(name: &str, bytes: impl AsRef<[u8]>, status: u16) -> Request {
    request(name, bytes.as_ref(), &[], End::Own(status))
}

/// The server gets nothing whole, for the client ends in the middle.
pub fn unfinished(name: &str, bytes: impl AsRef<[u8]>) -> Request {
    request(name, bytes.as_ref(), &[], End::Unfinished)
}

impl Request {
    /// These are answered first.
    pub fn after(mut self, intended: &[Intended]) -> Request {
        self.intended = intended.to_vec();
        self
    }

    /// This follows once `100 Continue` has come.
    pub fn then(mut self, bytes: impl AsRef<[u8]>) -> Request {
        self.after_continue = Some(bytes.as_ref().to_vec());
        self
    }
}

/// What the client must get of a server's answer.
#[derive(Clone, Debug)]
pub enum Got {
    /// This status, these fields (lines; what weir writes itself and the framing apart) and body.
    Whole(u16, Vec<u8>, Vec<u8>),
    /// The same, with these trailer fields behind the chunks.
    Trailed(Vec<u8>, Vec<u8>),
    /// An answer of weir's own with this status.
    Error(u16),
    /// Less than an answer, so that the client sees that it is not whole; or 502, where weir learns in
    /// time.
    Cut,
    /// 101 with this protocol, and what is sent comes back.
    Tunnel(Vec<u8>),
}

/// A message of a server.
#[derive(Clone, Debug)]
pub struct Answer {
    pub name: String,
    /// What the client sends.
    pub request: Vec<u8>,
    /// What the server sends.
    pub bytes: Vec<u8>,
    pub then: Then,
    pub got: Got,
}

const GET: &str = "GET /row HTTP/1.1\r\nHost: h\r\n\r\n";

fn answer(name: &str, bytes: &[u8], got: Got) -> Answer {
    Answer {
        name: name.to_owned(),
        request: GET.into(),
        bytes: bytes.to_vec(),
        then: Then::Keep,
        got,
    }
}

/// The client gets this status and body, and no field but those that weir writes.
pub fn whole(name: &str, bytes: impl AsRef<[u8]>, status: u16, body: &str) -> Answer {
    answer(
        name,
        bytes.as_ref(),
        Got::Whole(status, Vec::new(), body.into()),
    )
}

/// The client gets 502.
pub fn bad(name: &str, bytes: impl AsRef<[u8]>) -> Answer {
    answer(name, bytes.as_ref(), Got::Error(502))
}

/// The client gets less than a whole answer, and sees it.
pub fn cut(name: &str, bytes: impl AsRef<[u8]>) -> Answer {
    answer(name, bytes.as_ref(), Got::Cut)
}

impl Answer {
    /// What the client gets, where it is neither of the usual.
    pub fn got(mut self, got: Got) -> Answer {
        self.got = got;
        self
    }

    /// The client gets these fields too.
    pub fn with(mut self, lines: &str) -> Answer {
        if let Got::Whole(_, fields, _) = &mut self.got {
            *fields = lines.into();
        }
        self
    }

    /// In answer to this request line, over HTTP/1.1.
    pub fn to(self, line: &str) -> Answer {
        self.asked(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"))
    }

    /// In answer to a client of HTTP/1.0.
    pub fn asked_by_old(self) -> Answer {
        self.asked("GET /row HTTP/1.0\r\nHost: h\r\n\r\n")
    }

    /// In answer to these bytes.
    pub fn asked(mut self, head: &str) -> Answer {
        self.request = head.into();
        self
    }

    /// Then the server closes.
    pub fn closing(mut self) -> Answer {
        self.then = Then::Close;
        self
    }

    /// Then the server resets the connection.
    pub fn resetting(mut self) -> Answer {
        self.then = Then::Reset;
        self
    }

    /// Then the server sends back what comes.
    pub fn echoing(mut self) -> Answer {
        self.then = Then::Echo;
        self
    }
}
