//! A small blocking HTTP/1.1 client on one persistent connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer with a Content-Length, or in chunks.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Its fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of that (lower case) name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|field| field.0 == name)
            .map(|field| field.1.as_str())
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to `port` of the loopback interface.
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and reads its answer.
    pub fn request(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_string())
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(malformed)?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let mut answer = Answer {
            status,
            fields,
            body: Vec::new(),
        };
        if answer.field("transfer-encoding") == Some("chunked") {
            self.chunks(&mut answer.body)?;
            return Ok(answer);
        }
        let length = answer
            .field("content-length")
            .and_then(|text| text.parse().ok());
        answer.body.resize(length.ok_or_else(malformed)?, 0);
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let size = usize::from_str_radix(&self.line()?, 16);
            let size = size.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let has = body.len();
            body.resize(has + size, 0);
            self.stream.read_exact(&mut body[has..])?;
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}
