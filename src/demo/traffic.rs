//! Live traffic: a steady trickle of requests through weir, counted by the backend that answered.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Clients at one time.
const CLIENTS: usize = 4;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests on one connection; a new one may reach another worker.
const REQUESTS_A_CONNECTION: usize = 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are worth reading.
const MAX_ANSWER: u64 = 64 * 1024;

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Answers by backend.
    pub answers: BTreeMap<String, u64>,
    /// Requests without an answer, or with another status than 200.
    pub failed: u64,
}

impl Seen {
    /// All answers.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// Starts the clients; the counts grow for as long as the process lives.
pub fn start(weir: SocketAddr) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    for _ in 0..CLIENTS {
        let seen = seen.clone();
        thread::spawn(move || {
            loop {
                if converse(weir, &seen).is_err() {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).failed += 1;
                    thread::sleep(PAUSE);
                }
            }
        });
    }
    seen
}

fn converse(weir: SocketAddr, seen: &Mutex<Seen>) -> io::Result<()> {
    let stream = TcpStream::connect(weir)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(&stream);
    for n in 1..=REQUESTS_A_CONNECTION {
        let last = if n == REQUESTS_A_CONNECTION {
            "Connection: close\r\n"
        } else {
            ""
        };
        (&stream).write_all(
            format!("GET /proxy_test HTTP/1.1\r\nHost: {weir}\r\n{last}\r\n").as_bytes(),
        )?;
        let answer = read_answer(&mut reader)?;
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                (200, backend) => *seen.answers.entry(backend).or_default() += 1,
                _ => seen.failed += 1,
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The status, and which backend answered.
fn read_answer(reader: &mut impl BufRead) -> io::Result<(u16, String)> {
    let mut reader = reader.take(MAX_ANSWER);
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end();
        if status == 0 {
            status = text
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .unwrap_or(500);
        } else if text.is_empty() {
            break;
        } else if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value
                .trim()
                .parse()
                .map_err(|_| io::ErrorKind::InvalidData)?;
        }
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    let backend = body
        .split_whitespace()
        .nth(1)
        .unwrap_or("")
        .trim_end_matches(':');
    Ok((status, backend.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_who_answered() {
        let mut one: &[u8] = b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 27\r\n\r\n\
                               backend 127.0.0.1:8001: GEThidden";
        assert_eq!(
            read_answer(&mut one).unwrap(),
            (200, "127.0.0.1:8001".to_owned())
        );
        let mut bad: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read_answer(&mut bad).unwrap().0, 502);
        let mut cut: &[u8] = b"HTTP/1.1 200 OK\r\n";
        assert!(read_answer(&mut cut).is_err());
    }
}
