//! A client's connection that knows its port, its worker and the request under way, so that a
//! failure can be told from one on another worker's account.

use std::time::Instant;

use crate::support::client::{Client, Failure, Response};

/// When a request was sent.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The connection was found open after that.
    pub begun: Instant,
    /// The kernel had its head before that.
    pub sent: Instant,
}

/// One connection.
pub struct Link {
    client: Client,
    /// The client's.
    pub port: u16,
    pub opened: Instant,
    /// Who has answered on it.
    pub worker: Option<u32>,
    /// The last request.
    pub asked: Option<Asked>,
}

fn text(failure: Failure) -> String {
    failure.to_string()
}

impl Link {
    pub fn open(address: &str) -> Result<Link, String> {
        let client = Client::try_connect(address).map_err(text)?;
        Ok(Link {
            port: client.port(),
            client,
            opened: Instant::now(),
            worker: None,
            asked: None,
        })
    }

    /// A new one in the place of what there was.
    pub fn open_in<'a>(place: &'a mut Option<Link>, address: &str) -> Result<&'a mut Link, String> {
        *place = None;
        Ok(place.insert(Link::open(address)?))
    }

    /// Begins a request, unless the connection is closed: a client that looks does not lose it.
    pub fn ask(&mut self, bytes: &[u8]) -> Result<(), String> {
        let begun = Instant::now();
        self.asked = None;
        if self.client.is_closed() {
            return Err("closed before anything was asked".to_owned());
        }
        let done = self.client.send(bytes);
        self.asked = Some(Asked {
            begun,
            sent: Instant::now(),
        });
        done.map_err(text)
    }

    /// A whole request and its answer.
    pub fn get(&mut self, target: &str, fields: &str) -> Result<Response, String> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        self.ask(head.as_bytes())?;
        self.response("GET")
    }

    pub fn response(&mut self, method: &str) -> Result<Response, String> {
        let response = self.client.response(method).map_err(text)?;
        self.know(&response);
        Ok(response)
    }

    /// The head of an answer with this status.
    pub fn head(&mut self, status: u16) -> Result<(), String> {
        let head = self.client.head().map_err(text)?;
        self.know(&head);
        match head.status == status {
            true => Ok(()),
            false => Err(format!("status {}", head.status)),
        }
    }

    fn know(&mut self, response: &Response) {
        let pid = response.field("x-pid").and_then(|pid| pid.parse().ok());
        self.worker = pid.or(self.worker);
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.client.send(bytes).map_err(text)
    }

    pub fn fill(&mut self) -> Result<usize, String> {
        self.client.fill().map_err(text)
    }

    pub fn rest(&self) -> &[u8] {
        self.client.rest()
    }

    /// Whether the other side closes in order; waits for it.
    pub fn closed(&mut self) -> Result<bool, String> {
        self.client.closed().map_err(text)
    }
}
