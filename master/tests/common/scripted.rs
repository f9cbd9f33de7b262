//! A Consul of the test's own: a KV store with blocking queries that answers as badly as told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What becomes of the next answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    None,
    /// The answer is complete; the connection is reset right behind it.
    ResetAfter,
    ResetBefore,
    ResetInHead,
    ResetInBody,
    CloseBefore,
    CloseInBody,
    /// Never an answer; the connection stays.
    Silent,
    /// The head comes, then nothing.
    SilentInBody,
    /// A byte at a time.
    Trickle,
    Chunked,
    /// Without a length, ended by the connection's end.
    ToEnd,
    Status(u16),
    /// These bytes instead of an answer.
    Raw(&'static [u8]),
    /// This body with a right head.
    Body(&'static str),
    NoIndex,
    /// Answers at once, whatever the index.
    NoWait,
    /// This index whatever was asked, at once.
    Index(u64),
    /// Who asks may not read this folder as a whole.
    Denied(&'static str),
    /// Who asks for this folder does not get what is below the other one, and is told so or not.
    Hidden {
        folder: &'static str,
        hidden: &'static str,
        marked: bool,
    },
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub target: String,
    pub index: u64,
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Kv {
    index: u64,
    entries: BTreeMap<String, (String, u64)>,
    /// Moves when parked queries are to answer.
    prods: u64,
}

struct State {
    kv: Mutex<Kv>,
    changed: Condvar,
    fault: Mutex<Fault>,
    asked: Mutex<Vec<Asked>>,
    connections: Mutex<usize>,
    /// Connections now, and the most at once so far.
    open: AtomicUsize,
    most: AtomicUsize,
}

/// The store and its port.
pub struct Consul {
    pub port: u16,
    state: Arc<State>,
}

impl Consul {
    pub fn start(fault: Fault) -> Consul {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            kv: Mutex::new(Kv {
                index: 100,
                ..Kv::default()
            }),
            changed: Condvar::new(),
            fault: Mutex::new(fault),
            asked: Mutex::default(),
            connections: Mutex::new(0),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                *shared.connections.lock().unwrap() += 1;
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let now = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
                    shared.most.fetch_max(now, Ordering::SeqCst);
                    serve(stream.unwrap(), &shared);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Consul { port, state }
    }

    pub fn put(&self, key: &str, value: &str) {
        self.change(|kv| {
            kv.index += 1;
            kv.entries
                .insert(key.to_owned(), (value.to_owned(), kv.index));
        });
    }

    pub fn delete(&self, key: &str) {
        self.change(|kv| {
            kv.index += 1;
            kv.entries.remove(key);
        });
    }

    /// Sets (`Some`) and deletes keys under one index.
    pub fn transaction(&self, operations: &[(&str, Option<&str>)]) {
        self.change(|kv| {
            kv.index += 1;
            for (key, value) in operations {
                match value {
                    Some(value) => {
                        let entry = ((*value).to_owned(), kv.index);
                        kv.entries.insert((*key).to_owned(), entry);
                    }
                    None => drop(kv.entries.remove(*key)),
                }
            }
        });
    }

    /// Sets the index, forward or back, and answers whoever is parked.
    pub fn set_index(&self, index: u64) {
        self.change(|kv| {
            kv.index = index;
            kv.prods += 1;
        });
    }

    /// Sets the fault; parked queries answer with it if `prod`.
    pub fn fault(&self, fault: Fault, prod: bool) {
        *self.state.fault.lock().unwrap() = fault;
        self.change(|kv| kv.prods += u64::from(prod));
    }

    fn change(&self, change: impl FnOnce(&mut Kv)) {
        change(&mut self.state.kv.lock().unwrap());
        self.state.changed.notify_all();
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }

    /// The most connections at once so far.
    pub fn most_at_once(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }

    /// Requests for this folder so far.
    pub fn asked_for(&self, folder: &str) -> usize {
        let start = format!("/v1/kv/{folder}?");
        let asked = self.asked();
        asked
            .iter()
            .filter(|a| a.target.starts_with(&start))
            .count()
    }
}

fn serve(stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(target) = request(&mut reader) {
        // A direct read has neither.
        let index = parameter(&target, "index").map_or(0, |text| text.parse().unwrap());
        let wait = parameter(&target, "wait").map_or(Duration::ZERO, |text| wait(&text));
        let asked = Asked {
            target: target.clone(),
            index,
            at: Instant::now(),
        };
        state.asked.lock().unwrap().push(asked);
        let fault = park(state, index, wait);
        let text = answer(state, &target, &fault);
        if !send(&stream, &text, &fault) {
            return;
        }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|count| *count > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    while line.trim_end() != "" {
        line.clear();
        reader
            .read_line(&mut line)
            .ok()
            .filter(|count| *count > 0)?;
    }
    Some(target)
}

fn parameter(target: &str, name: &str) -> Option<String> {
    let query = target.split_once('?').unwrap().1;
    let found = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned)
}

fn wait(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().unwrap()),
        None => Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap()),
    }
}

/// Waits as a blocking query does; returns the fault of the moment of answering.
fn park(state: &State, index: u64, wait: Duration) -> Fault {
    let until = Instant::now() + wait;
    let mut kv = state.kv.lock().unwrap();
    let prods = kv.prods;
    loop {
        let fault = state.fault.lock().unwrap().clone();
        let at_once = matches!(fault, Fault::NoWait | Fault::Index(_));
        let left = until.saturating_duration_since(Instant::now());
        if index == 0 || kv.index > index || kv.prods > prods || at_once || left.is_zero() {
            return fault;
        }
        kv = state.changed.wait_timeout(kv, left).unwrap().0;
    }
}

fn answer(state: &State, target: &str, fault: &Fault) -> Vec<u8> {
    let folder = target
        .strip_prefix("/v1/kv/")
        .unwrap()
        .split('?')
        .next()
        .unwrap();
    let kv = state.kv.lock().unwrap();
    let found: Vec<_> = kv
        .entries
        .iter()
        .filter(|(key, _)| key.starts_with(folder))
        .filter(|(key, _)| match fault {
            Fault::Hidden {
                folder: asked,
                hidden,
                ..
            } => folder != *asked || !key.starts_with(hidden),
            _ => true,
        })
        .collect();
    let (mut status, mut body) = (404, String::new());
    if !found.is_empty() {
        let entries = found.iter().map(|(key, (value, index))| {
            let value = STANDARD.encode(value);
            serde_json::json!({"LockIndex": 0, "Key": key, "Flags": 0, "Value": value,
                "CreateIndex": index, "ModifyIndex": index})
        });
        (status, body) = (200, serde_json::Value::Array(entries.collect()).to_string());
    }
    let mut index = format!("X-Consul-Index: {}\r\n", kv.index);
    match fault {
        Fault::Status(code) => (status, body) = (*code, "No cluster leader".to_owned()),
        Fault::Body(text) => (status, body) = (200, (*text).to_owned()),
        Fault::NoIndex => index.clear(),
        Fault::Denied(denied) if folder == *denied => {
            (status, body) = (403, "Permission denied".to_owned());
        }
        Fault::Hidden {
            folder: asked,
            marked: true,
            ..
        } if folder == *asked => index.push_str("X-Consul-Results-Filtered-By-ACLs: true\r\n"),
        Fault::Index(number) => index = format!("X-Consul-Index: {number}\r\n"),
        _ => {}
    }
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{index}");
    match fault {
        Fault::Raw(bytes) => bytes.to_vec(),
        Fault::ToEnd => format!("{head}\r\n{body}").into_bytes(),
        Fault::Chunked => {
            let (one, two) = body.split_at(body.len() / 2);
            let chunks: String = [one, two]
                .iter()
                .filter(|part| !part.is_empty())
                .map(|part| format!("{:x}\r\n{part}\r\n", part.len()))
                .collect();
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").into_bytes()
        }
        _ => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes(),
    }
}

/// Sends what the fault lets through; whether the connection goes on.
fn send(mut stream: &TcpStream, text: &[u8], fault: &Fault) -> bool {
    let head = text
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map_or(text.len(), |at| at + 4);
    let length = match fault {
        Fault::ResetBefore | Fault::CloseBefore | Fault::Silent => 0,
        Fault::ResetInHead => head / 2,
        Fault::SilentInBody => head,
        Fault::ResetInBody | Fault::CloseInBody => head + (text.len() - head) / 2,
        _ => text.len(),
    };
    let step = if *fault == Fault::Trickle {
        1
    } else {
        usize::MAX
    };
    for piece in text[..length].chunks(step) {
        if stream.write_all(piece).is_err() {
            return false;
        }
    }
    match fault {
        Fault::ResetAfter | Fault::ResetBefore | Fault::ResetInHead | Fault::ResetInBody => {
            socket2::SockRef::from(stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            false
        }
        Fault::CloseBefore | Fault::CloseInBody | Fault::ToEnd | Fault::Raw(_) => false,
        Fault::Silent | Fault::SilentInBody => {
            // Until the client has had enough.
            let _ = std::io::Read::read(&mut stream, &mut [0]);
            false
        }
        _ => true,
    }
}

/// The most requests that one index may get within any second: a row of back-off that doubles from
/// 5 ms to 100 ms has fourteen.
const ONE_INDEX_A_SECOND: usize = 15;

/// What was wrong in the article: one index asked for again and again.
///
/// # Errors
/// The index.
pub fn check_no_hot_loop(asked: &[Asked]) -> Result<(), u64> {
    for (at, one) in asked.iter().enumerate() {
        let within = |other: &&Asked| other.at.duration_since(one.at) < Duration::from_secs(1);
        let same = asked[at..]
            .iter()
            .take_while(within)
            .filter(|other| other.index == one.index);
        if same.count() > ONE_INDEX_A_SECOND {
            return Err(one.index);
        }
    }
    Ok(())
}
