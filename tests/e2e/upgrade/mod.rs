//! Binary upgrade as nginx does it: USR2, WINCH, QUIT, and the ways back, under load.

mod back;
mod carried;
mod faults;
mod there;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::backend::{Backend, Stream};
use crate::support::client::Client;
use crate::support::load::Load;
use crate::support::process::{Leash, alive, children, read_lossy, send, title};
use crate::support::weir::{Setup, Weir, in_server};
use crate::support::{PATIENCE, wait_for, wait_until};

/// The server's locations for [`Loads`].
const LOCATIONS: &str = "
    location /kept { add_header X-Pid $pid; proxy_pass http://@PEER@; }
    location /once { add_header X-Pid $pid; keepalive_timeout 0; proxy_pass http://@PEER@; }
    location /long { proxy_pass http://@LONG@; proxy_buffering off; }
    location /socket { proxy_pass http://@LONG@;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"; }
";

/// A weir with those locations and more in its `http {}`.
fn setup(peer: &Backend, long: &Long, more: &str) -> Setup {
    Setup::http(&format!("{}{more}", in_server(LOCATIONS)))
        .set("PEER", peer.address())
        .set("LONG", long.backend.address())
}

/// A master that USR2 has started, ended with the test.
pub struct New {
    pub pid: u32,
    _leash: Leash,
}

impl New {
    /// Sends USR2 to the master `old`, and waits until the new one serves.
    #[track_caller]
    pub fn start(weir: &Weir, old: u32) -> New {
        send(old, Signal::SIGUSR2);
        // Its word for it: a worker that is born just now looks like another master.
        let pid = wait_for(PATIENCE, "the new master has the pid file", || {
            pid_in(weir, "weir.pid").filter(|pid| children(old).contains(pid))
        });
        let leash = Leash::new(pid).unwrap();
        New { pid, _leash: leash }
    }

    /// Sends USR2 to a master that starts nothing else at the time, and does not wait.
    #[track_caller]
    fn begin(old: u32) -> New {
        let before = children(old);
        send(old, Signal::SIGUSR2);
        let pid = wait_for(PATIENCE, "the new master is there", || {
            let now = children(old).into_iter();
            let mut new = now.filter(|pid| !before.contains(pid));
            new.find(|pid| title(*pid).contains("conf/weir.conf"))
        });
        let leash = Leash::new(pid).unwrap();
        New { pid, _leash: leash }
    }

    fn workers(&self) -> Vec<u32> {
        workers(self.pid)
    }

    /// Ends it by a signal.
    #[track_caller]
    pub fn end(&self, signal: Signal) {
        send(self.pid, signal);
        wait_gone(self.pid);
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if !std::thread::panicking() && alive(self.pid) {
            self.end(Signal::SIGTERM);
        }
    }
}

fn workers(master: u32) -> Vec<u32> {
    let mut pids = children(master);
    pids.retain(|pid| title(*pid) == "weir: worker process");
    pids.sort_unstable();
    pids
}

#[track_caller]
fn wait_gone(pid: u32) {
    wait_until(PATIENCE, &format!("process {pid} ends"), || !alive(pid));
}

#[track_caller]
fn wait_workers(master: u32, count: usize) {
    wait_until(PATIENCE, &format!("{master} has {count} workers"), || {
        workers(master).len() == count
    });
}

/// What a pid file in `logs` says.
fn pid_in(weir: &Weir, name: &str) -> Option<u32> {
    let text = read_lossy(&weir.path("logs").join(name));
    text.trim().parse().ok()
}

/// Steady requests of every kind; and connections that live through everything.
struct Loads {
    loads: Vec<Load>,
    through: Vec<Through>,
}

impl Loads {
    fn start(weir: &Weir) -> Loads {
        let address = weir.address();
        let loads = ["/kept", "/once"].map(|target| Load::start(&address, target, 3));
        Loads {
            loads: loads.into(),
            through: vec![Through::download(weir), Through::socket(weir)],
        }
    }

    fn progress(&self) {
        self.loads.iter().for_each(Load::progress);
    }

    /// Nothing was refused, reset or left without an answer.
    #[track_caller]
    fn finish(self, long: &Long) {
        self.progress();
        long.open();
        for through in self.through {
            through.finish();
        }
        for load in self.loads {
            let outcome = load.stop();
            // A worker that had nothing else to finish is about to be gone.
            wait_for(PATIENCE, &format!("no request failed: {outcome:?}"), || {
                outcome.unexplained().is_empty().then_some(())
            });
            assert!(outcome.answered > 0);
        }
    }
}

/// A server of long answers, which end when it is told.
struct Long {
    backend: Backend,
    gate: Arc<AtomicBool>,
}

impl Long {
    fn new() -> Long {
        let gate = Arc::<AtomicBool>::default();
        let opens = Arc::clone(&gate);
        let backend = Backend::raw(move |stream, _| {
            let _ = serve_long(stream, &opens);
        });
        Long { backend, gate }
    }

    fn open(&self) {
        self.gate.store(true, Ordering::Release);
    }
}

/// A part of an answer every few milliseconds until the gate is open; or an echo.
fn serve_long(stream: &mut Stream, gate: &AtomicBool) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    if String::from_utf8_lossy(&head).contains("Upgrade: websocket") {
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )?;
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        return Ok(());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    while !gate.load(Ordering::Acquire) {
        stream.write_all(b"4\r\npart\r\n")?;
        std::thread::sleep(Duration::from_millis(5));
    }
    stream.write_all(b"3\r\nend\r\n0\r\n\r\n")
}

/// A connection that is open from before to after.
struct Through {
    client: Client,
    is_socket: bool,
}

impl Through {
    #[track_caller]
    fn download(weir: &Weir) -> Through {
        let mut client = weir.connect();
        client
            .send(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        client.fill().unwrap();
        Through {
            client,
            is_socket: false,
        }
    }

    #[track_caller]
    fn socket(weir: &Weir) -> Through {
        let mut client = weir.connect();
        client
            .send(b"GET /socket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .unwrap();
        assert_eq!(client.head().unwrap().status, 101);
        let mut through = Through {
            client,
            is_socket: true,
        };
        through.echo(b"a");
        through
    }

    #[track_caller]
    fn echo(&mut self, word: &[u8]) {
        let before = self.client.rest().len();
        self.client.send(word).unwrap();
        while self.client.rest().len() < before + word.len() {
            assert!(self.client.fill().unwrap() > 0, "the WebSocket was closed");
        }
        assert!(self.client.rest().ends_with(word));
    }

    #[track_caller]
    fn finish(mut self) {
        if self.is_socket {
            return self.echo(b"z");
        }
        let response = self.client.response("GET").unwrap();
        assert_eq!(response.status, 200);
        assert!(response.body.ends_with(b"partend"), "the whole of it");
    }
}
