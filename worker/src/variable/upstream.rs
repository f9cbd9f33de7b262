//! What is known of the servers that a request was passed to, and nginx's lists of it.

use std::io::Write;
use std::sync::Arc;

use crate::http::answer::decimal;
use crate::settings::Variable;

/// One try at an upstream server. The default, without an address, stands between the tries of two
/// locations when a request went from one to another inside.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// `$upstream_addr`'s form of the server, or the upstream's name when no server was free.
    pub address: Option<Arc<str>>,
    /// `$upstream_status`; 0: no answer came.
    pub status: u16,
    /// `$upstream_connect_time`: until the server took the first byte, in milliseconds.
    pub connect_ms: Option<u64>,
    /// `$upstream_header_time`: until the head of its answer was there, in milliseconds.
    pub header_ms: Option<u64>,
    /// `$upstream_response_time`: until it ended, in milliseconds.
    pub response_ms: Option<u64>,
    /// `$upstream_response_length`: what was read of the answer behind its head, in bytes.
    pub response_length: u64,
    /// `$upstream_bytes_received`
    pub bytes_received: u64,
    /// `$upstream_bytes_sent`
    pub bytes_sent: u64,
}

impl Attempt {
    /// One that begins.
    #[must_use]
    pub fn at(address: Arc<str>) -> Attempt {
        Attempt {
            address: Some(address),
            ..Attempt::default()
        }
    }
}

/// Appends one of the lists; `None` where no server was asked.
pub(super) fn list(variable: &Variable, attempts: &[Attempt], out: &mut Vec<u8>) -> Option<()> {
    let mut separator: &[u8] = b"";
    for attempt in attempts {
        match &attempt.address {
            None => separator = b" : ",
            Some(address) => {
                out.extend_from_slice(separator);
                separator = b", ";
                element(variable, address, attempt, out);
            }
        }
    }
    if separator == b" : " {
        out.extend_from_slice(separator);
    }
    (!attempts.is_empty()).then_some(())
}

fn element(variable: &Variable, address: &str, attempt: &Attempt, out: &mut Vec<u8>) {
    match variable {
        Variable::UpstreamAddr => out.extend_from_slice(address.as_bytes()),
        Variable::UpstreamBytesReceived => decimal(out, attempt.bytes_received),
        Variable::UpstreamBytesSent => decimal(out, attempt.bytes_sent),
        Variable::UpstreamConnectTime => time(out, attempt.connect_ms),
        Variable::UpstreamHeaderTime => time(out, attempt.header_ms),
        Variable::UpstreamResponseLength => decimal(out, attempt.response_length),
        Variable::UpstreamResponseTime => time(out, attempt.response_ms),
        Variable::UpstreamStatus if attempt.status == 0 => out.push(b'-'),
        Variable::UpstreamStatus => decimal(out, u64::from(attempt.status)),
        _ => {}
    }
}

fn time(out: &mut Vec<u8>, time_ms: Option<u64>) {
    match time_ms {
        Some(time_ms) => millis(out, time_ms),
        None => out.push(b'-'),
    }
}

/// Milliseconds as seconds with three digits after the point.
pub(super) fn millis(out: &mut Vec<u8>, time_ms: u64) {
    // Writing to a Vec does not fail.
    let _ = write!(out, "{}.{:03}", time_ms / 1000, time_ms % 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(addresses: &[&str]) -> Vec<Attempt> {
        let attempt = |(address, number): (&&str, u64)| match *address {
            ":" => Attempt::default(),
            address => Attempt {
                status: if number == 0 { 0 } else { 200 },
                connect_ms: Some(number),
                header_ms: (number > 0).then_some(number * 1000),
                bytes_sent: 10 * number,
                ..Attempt::at(address.into())
            },
        };
        addresses.iter().zip(0..).map(attempt).collect()
    }

    fn text(variable: Variable, addresses: &[&str]) -> Option<String> {
        let mut out = Vec::new();
        list(&variable, &attempts(addresses), &mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn retries_are_a_list_and_redirects_divide_it() {
        let addresses = |attempts: &[&str]| text(Variable::UpstreamAddr, attempts);
        assert_eq!(addresses(&[]), None);
        assert_eq!(addresses(&["a"]).unwrap(), "a");
        assert_eq!(addresses(&["a", "b"]).unwrap(), "a, b");
        assert_eq!(addresses(&["a", "b", ":", "c"]).unwrap(), "a, b : c");
        assert_eq!(addresses(&["a", ":"]).unwrap(), "a : ");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let all = ["a", "b", ":", "c"];
        let of = |variable| text(variable, &all).unwrap();
        assert_eq!(of(Variable::UpstreamStatus), "-, 200 : 200");
        assert_eq!(of(Variable::UpstreamConnectTime), "0.000, 0.001 : 0.003");
        assert_eq!(of(Variable::UpstreamHeaderTime), "-, 1.000 : 3.000");
        assert_eq!(of(Variable::UpstreamResponseTime), "-, - : -");
        assert_eq!(of(Variable::UpstreamBytesSent), "0, 10 : 30");
        assert_eq!(of(Variable::UpstreamBytesReceived), "0, 0 : 0");
        assert_eq!(of(Variable::UpstreamResponseLength), "0, 0 : 0");
    }
}
