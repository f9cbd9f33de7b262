//! Downloads that go on for as long as anybody reads.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Between two pieces of an answer, and a piece.
const PAUSE: Duration = Duration::from_millis(200);
const PIECE: [u8; 64] = [b'd'; 64];
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const STACK_BYTES: usize = 64 * 1024;

/// A server whose answers do not end.
pub struct SlowServer {
    port: u16,
}

impl SlowServer {
    /// Serves until this program ends.
    pub fn start() -> io::Result<SlowServer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = thread::Builder::new().stack_size(STACK_BYTES);
                let _ = serving.spawn(move || serve(stream));
            }
        });
        Ok(SlowServer { port })
    }

    /// The location that leads to it.
    pub fn location(&self) -> String {
        format!(
            "location /long {{ proxy_pass http://127.0.0.1:{}; proxy_buffering off; }}\n",
            self.port
        )
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
    loop {
        stream.write_all(&PIECE)?;
        thread::sleep(PAUSE);
    }
}

/// Downloads under way.
#[derive(Default)]
pub struct Downloads {
    streams: Vec<TcpStream>,
}

impl Downloads {
    /// Begins more of them; each has got something.
    pub fn add(&mut self, port: u16, count: usize) -> Result<(), String> {
        for _ in 0..count {
            let begin = || -> io::Result<TcpStream> {
                let mut stream = TcpStream::connect(("127.0.0.1", port))?;
                stream.set_read_timeout(Some(READ_TIMEOUT))?;
                stream.write_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")?;
                read_some(&mut stream)?;
                Ok(stream)
            };
            self.streams
                .push(begin().map_err(|error| format!("a download: {error}"))?);
        }
        Ok(())
    }

    /// How many still get something.
    pub fn going_on(&mut self) -> usize {
        let count = AtomicUsize::new(0);
        for stream in &mut self.streams {
            // What has come so far, and then once more.
            let goes = (|| {
                stream.set_nonblocking(true)?;
                while stream.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {}
                stream.set_nonblocking(false)?;
                read_some(stream)
            })();
            count.fetch_add(usize::from(goes.is_ok()), Ordering::Relaxed);
        }
        count.into_inner()
    }
}

fn read_some(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 4096])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
