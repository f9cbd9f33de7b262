//! Upstream servers under the test's control, which record what they were asked.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::Linger};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// The request line and the header, verbatim.
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn fields_named(&self, name: &str) -> Vec<&str> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields_named(name).first().copied()
    }
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
    /// Resets the connection.
    Reset,
}

/// A connection: TCP or unix.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    pub fn shutdown(&self) {
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Makes the close that follows a reset.
    fn abort(&self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        if let Stream::Tcp(stream) = self {
            let _ = setsockopt(stream, Linger, &linger);
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Listening::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Listening::Unix(listener) => Stream::Unix(listener.accept()?.0),
        })
    }
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<Vec<(usize, Stream)>>,
    requests: Mutex<Vec<Request>>,
}

/// A listening server; dropping it closes its port and every connection.
pub struct Backend {
    address: String,
    path: Option<PathBuf>,
    shared: Arc<Shared>,
    listener: Option<thread::JoinHandle<()>>,
}

type Serve = dyn Fn(&mut Stream, usize, &Mutex<Vec<Request>>) + Send + Sync;

impl Backend {
    /// Answers every request with 200 and `name` followed by a newline.
    pub fn named(name: &str) -> Backend {
        let answer = ok(&format!("{name}\n"));
        Backend::answering(move |_, out| {
            let _ = out.write_all(&answer);
            Then::Keep
        })
    }

    /// Calls `handler` for every request that has come whole.
    pub fn answering<H>(handler: H) -> Backend
    where
        H: Fn(&Request, &mut Stream) -> Then + Send + Sync + 'static,
    {
        Backend::on(tcp("127.0.0.1:0"), serving(handler))
    }

    /// As [`Backend::answering`], at an address of one's own.
    pub fn answering_at<H>(address: &str, handler: H) -> Backend
    where
        H: Fn(&Request, &mut Stream) -> Then + Send + Sync + 'static,
    {
        Backend::on(tcp(address), serving(handler))
    }

    /// As [`Backend::answering`], on a unix socket that any user may connect to.
    pub fn answering_unix<H>(path: &Path, handler: H) -> Backend
    where
        H: Fn(&Request, &mut Stream) -> Then + Send + Sync + 'static,
    {
        use std::os::unix::fs::PermissionsExt;
        let listener = UnixListener::bind(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let address = format!("unix:{}", path.display());
        Backend::on(
            (Listening::Unix(listener), address, Some(path.to_owned())),
            serving(handler),
        )
    }

    /// Hands every connection, with its number, to `serve`; nothing is read or recorded for it.
    pub fn raw(serve: impl Fn(&mut Stream, usize) + Send + Sync + 'static) -> Backend {
        let serve = move |stream: &mut Stream, number, _: &Mutex<Vec<Request>>| {
            serve(stream, number);
        };
        Backend::on(tcp("127.0.0.1:0"), Arc::new(serve))
    }

    fn on(
        (listening, address, path): (Listening, String, Option<PathBuf>),
        serve: Arc<Serve>,
    ) -> Backend {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let listener = thread::spawn(move || accept(&listening, &own, &serve));
        Backend {
            address,
            path,
            shared,
            listener: Some(listener),
        }
    }

    /// `ip:port` or `unix:path`, as a configuration writes it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// Forgets the requests that have come so far.
    pub fn forget(&self) {
        self.shared.requests.lock().unwrap().clear();
    }

    /// Closes every connection that is open, in order, and goes on listening.
    pub fn close_connections(&self) {
        for (_, stream) in self.shared.open.lock().unwrap().iter() {
            stream.shutdown();
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        match &self.path {
            Some(path) => drop(UnixStream::connect(path)),
            None => drop(TcpStream::connect(&self.address)),
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        self.close_connections();
    }
}

fn tcp(address: &str) -> (Listening, String, Option<PathBuf>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (Listening::Tcp(listener), address, None)
}

fn accept(listening: &Listening, shared: &Arc<Shared>, serve: &Arc<Serve>) {
    while let Ok(stream) = listening.accept() {
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let number = shared.accepted.fetch_add(1, Ordering::AcqRel);
        let Ok(mut own) = stream.try_clone() else {
            return;
        };
        shared.open.lock().unwrap().push((number, stream));
        let (shared, serve) = (Arc::clone(shared), Arc::clone(serve));
        thread::spawn(move || {
            serve(&mut own, number, &shared.requests);
            // The registered copy goes first, so that dropping `own` closes the connection.
            shared
                .open
                .lock()
                .unwrap()
                .retain(|(open, _)| *open != number);
        });
    }
}

fn serving<H>(handler: H) -> Arc<Serve>
where
    H: Fn(&Request, &mut Stream) -> Then + Send + Sync + 'static,
{
    Arc::new(
        move |stream: &mut Stream, _, requests: &Mutex<Vec<Request>>| {
            let mut rest = Vec::new();
            while let Some(request) = read_request(stream, &mut rest) {
                requests.lock().unwrap().push(request.clone());
                match handler(&request, stream) {
                    Then::Keep => {}
                    Then::Close => return,
                    Then::Reset => return stream.abort(),
                }
            }
        },
    )
}

/// Reads one request with its body; `None` at the end of the connection or for what is not HTTP.
fn read_request(stream: &mut Stream, rest: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, rest)?;
    };
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    rest.drain(..end);
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request {
        method,
        target,
        head,
        body: Vec::new(),
    };
    request.body = match (
        request.field("transfer-encoding"),
        request.field("content-length"),
    ) {
        (Some(_), _) => read_chunks(stream, rest)?,
        (None, Some(length)) => take(stream, rest, length.parse().ok()?)?,
        (None, None) => Vec::new(),
    };
    Some(request)
}

fn more(stream: &mut Stream, rest: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16_384];
    let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
    rest.extend_from_slice(&chunk[..count]);
    Some(())
}

fn take(stream: &mut Stream, rest: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while rest.len() < length {
        more(stream, rest)?;
    }
    Some(rest.drain(..length).collect())
}

fn read_chunks(stream: &mut Stream, rest: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            match rest.windows(2).position(|window| window == b"\r\n") {
                Some(end) => break end,
                None => more(stream, rest)?,
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest.drain(..end + 2);
        body.extend(take(stream, rest, size)?);
        take(stream, rest, 2)?;
        if size == 0 {
            return Some(body);
        }
    }
}

/// A whole answer with status 200.
pub fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", "", body.as_bytes())
}

/// A whole answer; `fields` are lines that end in CRLF.
pub fn answer(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
