//! Heads and bodies as they are on the wire.

use std::io::{self, BufRead, Read};

/// Up to and with the empty line.
pub fn read_head(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The body without its framing: Consul sends more than some 2 KB in chunks.
pub fn read_body(stream: &mut impl BufRead, head: &[u8]) -> io::Result<Vec<u8>> {
    if field(head, "transfer-encoding").is_none() {
        let length = field(head, "content-length").and_then(|value| value.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        return Ok(body);
    }
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line)?;
        let line = String::from_utf8_lossy(&line);
        let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        if (&mut *stream).take(size).read_to_end(&mut body)? as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.read_exact(&mut [0; 2])?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// The head with the length of `body` in place of what it said of the framing.
pub fn reframed(head: &[u8], body: &[u8]) -> Vec<u8> {
    let framing = ["content-length", "transfer-encoding"];
    let head = without(head, &framing);
    format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes()
}

/// The head's lines but for the fields of these names, and without the empty line.
pub fn without(head: &[u8], names: &[&str]) -> String {
    let named = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        names.iter().any(|gone| name.eq_ignore_ascii_case(gone))
    };
    String::from_utf8_lossy(head)
        .split("\r\n")
        .filter(|line| !line.is_empty() && !named(line))
        .map(|line| format!("{line}\r\n"))
        .collect()
}

fn field(head: &[u8], wanted: &str) -> Option<String> {
    String::from_utf8_lossy(head)
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim().to_owned())
}
