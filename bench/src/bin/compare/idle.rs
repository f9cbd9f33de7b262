//! Memory of a connection that waits for its next request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use weir_bench::peer;

use crate::measure;
use crate::proxies::Proxy;
use crate::workload::Workload;

/// Connections that wait.
pub const CONNECTIONS: u32 = 8_000;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of PSS that the proxy's processes grow by for one idle keep-alive connection that has had
/// an answer.
pub fn bytes(proxy: &Proxy, workload: &Workload) -> Result<f64, String> {
    measure::load(&measure::wrk()?, proxy, workload, 1)?;
    let before = peer::pss(proxy.process.pid());
    let connect = |_| ask(proxy.port, workload.path);
    let open: Vec<TcpStream> = (0..CONNECTIONS)
        .map(connect)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: {error}", proxy.kind.name()))?;
    let after = peer::pss(proxy.process.pid());
    drop(open);
    Ok((after.saturating_sub(before)) as f64 / f64::from(CONNECTIONS))
}

/// A connection whose first request was answered.
fn ask(port: u16, path: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !is_whole(&answer) {
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    Ok(stream)
}

/// Whether the head and the 128 bytes behind it are there.
fn is_whole(answer: &[u8]) -> bool {
    let mut windows = answer.windows(4);
    let end = windows.position(|four| four == b"\r\n\r\n");
    end.is_some_and(|end| answer.len() >= end + 4 + 128)
}
