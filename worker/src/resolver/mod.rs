//! nginx's `resolver`: names to addresses by DNS, without waiting for it.
//!
//! A [`Client`] knows no socket and no clock: it is told what came and what time it is, and gives
//! orders what to send. [`Lines`] carries the orders out, over UDP, and over TCP where an answer is
//! too long for a datagram. [`Clients`] has one client for each `resolver` that is in use, with a
//! cache of its own as in nginx.

mod client;
mod clients;
mod lines;
mod message;
mod random;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

pub use client::{Client, Lookup, Order, Outcome};
pub use clients::Clients;
pub use lines::{Line, Lines};
pub use message::is_name;
pub use random::Random;

/// Without an answer a question is asked again after so many milliseconds, of the next server
/// (nginx's `resend_timeout`).
pub const RESEND_MS: u64 = 5000;

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// In a datagram.
    Udp,
    /// Over a connection, with its length before it.
    Tcp,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one; IPv4 addresses come first.
    pub addresses: Rc<[IpAddr]>,
    /// Until when they may be used, in milliseconds.
    pub until_ms: u64,
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server did not understand the question.
    Format,
    /// The server could not find out.
    Server,
    /// There is no such name, or it has no address of the kinds that are asked for.
    NotFound,
    /// The server does not know such questions.
    Unimplemented,
    /// The server will not tell.
    Refused,
    /// Another code of RFC 6895.
    Other(u8),
    /// No server has answered in `resolver_timeout`.
    TimedOut,
}

impl Failure {
    /// A response code; `None` is success.
    fn from_code(code: u8) -> Option<Failure> {
        match code {
            0 => None,
            1 => Some(Failure::Format),
            2 => Some(Failure::Server),
            3 => Some(Failure::NotFound),
            4 => Some(Failure::Unimplemented),
            5 => Some(Failure::Refused),
            other => Some(Failure::Other(other)),
        }
    }
}

/// As nginx's log has it: `3: Host not found`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, text) = match self {
            Failure::Format => (1, "Format error"),
            Failure::Server => (2, "Server failure"),
            Failure::NotFound => (3, "Host not found"),
            Failure::Unimplemented => (4, "Unimplemented"),
            Failure::Refused => (5, "Operation refused"),
            Failure::Other(code) => (*code, "Unknown error"),
            Failure::TimedOut => (110, "Operation timed out"),
        };
        write!(f, "{code}: {text}")
    }
}
