//! A TCP proxy between weir and Consul, or etcd, that breaks connections and answers in the ways that
//! networks, proxies and Consul itself do.

mod answer;
mod framing;
mod serve;

use std::collections::{HashMap, VecDeque};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::free_port;

/// Up to where an answer passes before it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upto {
    /// Not a byte of it.
    Nothing,
    /// Half of its head.
    Head,
    /// Half of its body.
    Body,
    /// All but the last so many bytes.
    Missing(usize),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By FIN, both directions.
    Fin,
    /// By RST.
    Reset,
}

/// What the proxy does with a connection's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Every answer passes whole and is followed by a reset.
    ResetAfterAnswer,
    /// An answer passes whole; the connection's next request is answered by a reset.
    ResetOnReuse,
    /// Every answer passes whole, as if the connection were to stay, which ends so much later.
    EndLate(Duration),
    /// Every answer is cut.
    Cut(Upto, Ending),
    /// Every answer comes in pieces of so many bytes, with a pause between them.
    Trickle(usize, Duration),
    /// Accepts and resets before a byte of an answer.
    ResetAtOnce,
    /// Accepts and never answers.
    Mute,
    /// Answers with this text in place of Consul's, to a new request without asking it.
    Answer(String),
    /// Accepts, says this without reading a byte, and closes, as Consul does with a connection too many.
    Greeting(String),
    /// The answer's body is replaced, its index kept.
    Body(String),
    /// The answer's body ends so many bytes early, with a length that says so.
    Chop(usize),
    /// White space follows the answer's body, which has so many bytes with it.
    Pad(usize),
    /// In the answer's body, the one text is replaced by the other.
    Replace(String, String),
    /// Header fields of the answer are replaced or, without a value, taken away.
    Fields(Vec<(String, Option<String>)>),
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    target: Mutex<String>,
    fault: Mutex<Option<Fault>>,
    /// Counts what was set, so that a trickle sees its end.
    changes: AtomicUsize,
    /// Faults for the next answers, one each, before the standing one.
    script: Mutex<VecDeque<Fault>>,
    requests: Mutex<Vec<String>>,
    /// Both sides of the open connections.
    open: Mutex<HashMap<usize, Vec<TcpStream>>>,
    accepted: AtomicUsize,
}

/// The proxy; it listens until it is dropped.
pub struct FaultProxy {
    address: String,
    shared: Arc<Shared>,
    listener: Mutex<Option<thread::JoinHandle<()>>>,
}

impl FaultProxy {
    pub fn start(target: &str, fault: Fault) -> FaultProxy {
        // No port that a connection may get meanwhile: it is closed and opened again.
        let listener = loop {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", free_port())) {
                break listener;
            }
        };
        FaultProxy::on(listener, target, fault)
    }

    /// At a port that was kept free so far.
    pub fn start_at(port: u16, target: &str, fault: Fault) -> FaultProxy {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        FaultProxy::on(listener, target, fault)
    }

    fn on(listener: TcpListener, target: &str, fault: Fault) -> FaultProxy {
        let shared = Arc::<Shared>::default();
        *shared.target.lock().unwrap() = target.to_owned();
        *shared.fault.lock().unwrap() = Some(fault);
        let proxy = FaultProxy {
            address: listener.local_addr().unwrap().to_string(),
            shared,
            listener: Mutex::default(),
        };
        proxy.serve(listener);
        proxy
    }

    fn serve(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        shared.stopped.store(false, Ordering::Release);
        let thread = thread::spawn(move || accept(&listener, &shared));
        *self.listener.lock().unwrap() = Some(thread);
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// From the next request on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some(fault);
        self.shared.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// For one answer, before the standing fault.
    pub fn once(&self, fault: Fault) {
        self.shared.script.lock().unwrap().push_back(fault);
    }

    /// Faults of [`FaultProxy::once`] that no answer has met yet.
    pub fn scripted(&self) -> usize {
        self.shared.script.lock().unwrap().len()
    }

    /// The request lines' targets so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Resets every open connection, also one that waits for an answer.
    pub fn reset_open(&self) {
        for stream in self.shared.open.lock().unwrap().values().flatten() {
            serve::abort(stream);
        }
    }

    /// Closes the port and resets every open connection: who connects is refused.
    pub fn refuse(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        drop(TcpStream::connect(&self.address));
        if let Some(listener) = self.listener.lock().unwrap().take() {
            let _ = listener.join();
        }
        self.reset_open();
    }

    /// Opens the port again.
    pub fn listen(&self) {
        self.serve(TcpListener::bind(&self.address).unwrap());
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let number = shared.accepted.fetch_add(1, Ordering::AcqRel);
        let shared = Arc::clone(shared);
        thread::spawn(move || serve::run(stream, number, &shared));
    }
}
