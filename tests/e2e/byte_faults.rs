//! Peers that break messages at every byte, on both sides: they write byte by byte, stall, end their
//! direction or reset the connection. Whatever they do, nobody takes half a message for a whole one,
//! others are served, and nothing stays counted as in flight.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::messages::copy::Copier;
use super::messages::server::{Seen, Server, reset};
use super::messages::wire::{Stop, Wire, status};
use super::messages::{BUFFERED, STREAMED};
use crate::support::weir::{Setup, Weir};
use crate::support::{PATIENCE, wait_until};

/// What happens at a byte of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Each byte is written alone.
    Bytes,
    /// Nothing for a while, then the rest.
    Stall(usize),
    /// The direction ends.
    End(usize),
    /// The connection is reset.
    Reset(usize),
}

/// Every fault that a message of so many bytes can have.
fn faults(length: usize) -> Vec<Fault> {
    let mut all = vec![Fault::Bytes];
    for at in 0..=length {
        all.extend([Fault::End(at), Fault::Reset(at)]);
    }
    all.extend((0..length).map(Fault::Stall));
    all
}

fn start(server: &Server, bodies: &str) -> Weir {
    Setup::http(
        "upstream back { server @BACK@ max_fails=0; keepalive 16; }
         server {
             listen 127.0.0.1:@PORT@;
             proxy_set_header Host $host;
             @BODIES@
             location / { proxy_pass http://back; }
             location = /status { stub_status; access_log off; }
         }",
    )
    .set("BACK", &server.address)
    .set("BODIES", bodies)
    .workers(1)
    .start()
}

fn connect(address: &str) -> Wire {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Wire::new(stream)
}

/// A client that asks in between. There is one worker: once it has its answer, everything that was
/// written before has been seen.
struct Witness {
    address: String,
    wire: Wire,
    asked: usize,
}

impl Witness {
    fn new(address: &str) -> Witness {
        Witness {
            address: address.to_owned(),
            wire: connect(address),
            asked: 0,
        }
    }

    fn ask(&mut self, context: &str) {
        self.asked += 1;
        let line = format!("GET /canary/{}", self.asked);
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        self.wire.stream.write_all(text.as_bytes()).unwrap();
        let answer = self.wire.answer("GET");
        let answer = answer.unwrap_or_else(|stop| panic!("{context}: {line}: {stop:?}"));
        assert_eq!(answer.body, format!("{line}|").as_bytes(), "{context}");
        if answer.head.has("connection", "close") {
            self.wire = connect(&self.address);
        }
    }
}

/// Nothing is in flight, and no client but the one that asks is served.
fn assert_settled(weir: &Weir) {
    wait_until(PATIENCE, "nothing is in flight", || {
        let counters = weir.weirctl_json(&["counters"]);
        let rows = counters["servers"].as_array().unwrap();
        !rows.is_empty() && rows.iter().all(|row| row["in_flight"] == 0)
    });
    wait_until(PATIENCE, "no client is left half served", || {
        let text = weir.get("/status").text();
        text.contains("Reading: 0 Writing: 1 ")
    });
}

/// The requests that came whole, but the witness's.
fn whole_requests(server: &Server) -> Vec<(String, Vec<u8>)> {
    let seen = server.seen();
    let rows = seen.into_iter().map(|seen| match seen {
        Seen::Request(_, message) => (String::from_utf8(message.head.line).unwrap(), message.body),
        Seen::Garbage(what) => panic!("the server got {what}"),
    });
    rows.filter(|(line, _)| !line.starts_with("GET /canary/"))
        .collect()
}

#[test]
fn a_client_breaks_its_request_at_every_byte() {
    break_requests(BUFFERED);
}

#[test]
fn a_client_breaks_a_request_that_is_streamed() {
    break_requests(STREAMED);
}

fn break_requests(bodies: &str) {
    let server = Server::start();
    let weir = start(&server, bodies);
    let mut witness = Witness::new(&weir.address());
    let mut sent = Vec::new();
    for (base, body) in [
        ("GET /0000 HTTP/1.1\r\nHost: h\r\n\r\n", ""),
        (
            "POST /0000 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
        ),
        (
            "POST /0000 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x\r\nlo\r\n0\r\nT: 1\r\n\r\n",
            "hello",
        ),
    ] {
        for fault in faults(base.len()) {
            // Each has a target of its own: the server may write one down after the next is sent.
            let text = base.replace("0000", &format!("{:04}", sent.len()));
            let line = text.lines().next().unwrap().to_owned();
            let whole = break_request(&weir.address(), &mut witness, text.as_bytes(), body, fault);
            witness.ask(&format!("{line} {fault:?}"));
            // All of it may have been there before the client left: the server has it, or not.
            let left = [Fault::End(text.len()), Fault::Reset(text.len())].contains(&fault);
            let counts = if whole { 1..=1 } else { 0..=usize::from(left) };
            sent.push((line, body.as_bytes().to_vec(), counts, fault));
        }
    }
    let seen = whole_requests(&server);
    for (line, body, counts, fault) in &sent {
        let bodies: Vec<_> = seen.iter().filter(|(seen, _)| seen == line).collect();
        let good = counts.contains(&bodies.len()) && bodies.iter().all(|(_, seen)| seen == body);
        assert!(good, "{line} {fault:?}: {bodies:?}");
    }
    let known = |line: &String| sent.iter().any(|(sent, ..)| sent == line);
    assert!(seen.iter().all(|(line, _)| known(line)), "{seen:?}");
    assert_settled(&weir);
}

/// Sends a request with this fault; whether it was answered.
fn break_request(
    address: &str,
    witness: &mut Witness,
    text: &[u8],
    body: &str,
    fault: Fault,
) -> bool {
    let context = format!("{fault:?}");
    let mut wire = connect(address);
    let cut = match fault {
        Fault::Bytes => {
            for byte in text {
                wire.stream.write_all(&[*byte]).unwrap();
            }
            text.len()
        }
        Fault::Stall(at) => {
            wire.stream.write_all(&text[..at]).unwrap();
            witness.ask(&context);
            wire.stream.write_all(&text[at..]).unwrap();
            text.len()
        }
        Fault::End(at) => {
            wire.stream.write_all(&text[..at]).unwrap();
            wire.stream.shutdown(Shutdown::Write).unwrap();
            at
        }
        Fault::Reset(at) => {
            wire.stream.write_all(&text[..at]).unwrap();
            reset(&wire.stream);
            return false;
        }
    };
    match wire.answer("GET") {
        Ok(answer) if status(&answer.head) == Some(200) => {
            assert!(cut == text.len(), "half a request was answered: {fault:?}");
            assert!(
                answer.body.ends_with(format!("|{body}").as_bytes()),
                "{answer:?}"
            );
            if fault != Fault::End(cut) {
                // What comes next on the connection is read from its beginning.
                wire.stream
                    .write_all(b"GET /canary/x HTTP/1.1\r\nHost: h\r\n\r\n")
                    .unwrap();
                assert_eq!(
                    wire.answer("GET").unwrap().body,
                    b"GET /canary/x|",
                    "{fault:?}"
                );
            }
            true
        }
        // What is refused is refused whole.
        Ok(answer) => {
            assert!(
                status(&answer.head) >= Some(400) && cut < text.len(),
                "{fault:?}: {answer:?}"
            );
            false
        }
        Err(Stop::End(0) | Stop::Reset) if matches!(fault, Fault::End(_)) => false,
        Err(stop) => panic!("{fault:?}: {stop:?}"),
    }
}

/// What the server does with its answer, and where it waits.
struct Plan {
    answer: Vec<u8>,
    fault: Fault,
    /// It has come to where it stalls; it may go on.
    stalled: bool,
    released: bool,
}

type Shared = Arc<(Mutex<Plan>, Condvar)>;

fn plan() -> Shared {
    let plan = Plan {
        answer: Vec::new(),
        fault: Fault::Bytes,
        stalled: false,
        released: false,
    };
    Arc::new((Mutex::new(plan), Condvar::new()))
}

/// Answers as the plan has it.
fn breaking(shared: &Shared, wire: &mut Wire) -> bool {
    let (plan, changed) = &**shared;
    let (answer, fault) = {
        let plan = plan.lock().unwrap();
        (plan.answer.clone(), plan.fault)
    };
    let out = &mut wire.stream;
    match fault {
        Fault::Bytes => answer.iter().all(|byte| out.write_all(&[*byte]).is_ok()),
        Fault::Stall(at) => {
            let _ = out.write_all(&answer[..at]);
            let mut state = plan.lock().unwrap();
            state.stalled = true;
            changed.notify_all();
            let wait = changed.wait_timeout_while(state, PATIENCE, |state| !state.released);
            drop(wait.unwrap());
            out.write_all(&answer[at..]).is_ok()
        }
        Fault::End(at) => {
            let _ = out.write_all(&answer[..at]);
            false
        }
        Fault::Reset(at) => {
            let _ = out.write_all(&answer[..at]);
            reset(out);
            false
        }
    }
}

/// How an answer is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framed {
    Length,
    Chunked,
    UntilClose,
}

#[test]
fn a_server_breaks_its_answer_at_every_byte() {
    break_answers(BUFFERED);
}

#[test]
fn a_server_breaks_an_answer_that_is_streamed() {
    break_answers(STREAMED);
}

fn break_answers(bodies: &str) {
    let shared = plan();
    let own = Arc::clone(&shared);
    let server = Server::answering(move |wire| breaking(&own, wire));
    let weir = start(&server, bodies);
    let address = weir.address();
    let mut witness = Witness::new(&address);
    for (text, framed) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            Framed::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x\r\nlo\r\n0\r\nT: 1\r\n\r\n",
            Framed::Chunked,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
            Framed::UntilClose,
        ),
    ] {
        for version in ["1.1", "1.0"] {
            for fault in faults(text.len()) {
                // Nothing delimits it but an end.
                if framed == Framed::UntilClose && matches!(fault, Fault::Bytes | Fault::Stall(_)) {
                    continue;
                }
                break_answer(
                    &address,
                    &mut witness,
                    &shared,
                    (text, framed),
                    version,
                    fault,
                );
                witness.ask(&format!("{framed:?} {fault:?}"));
                server.seen();
            }
        }
    }
    assert_settled(&weir);
}

/// The negative control: a proxy that makes an end of a reset passes half an answer for a whole one.
#[test]
fn a_proxy_that_hides_a_reset_is_found_out() {
    let shared = plan();
    let own = Arc::clone(&shared);
    let server = Server::answering(move |wire| breaking(&own, wire));
    let copier = Copier::start(&server.address);
    let text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";
    let fault = Fault::Reset(text.len() - 2);
    let broken = std::panic::catch_unwind(move || {
        let mut witness = Witness::new(&copier.address);
        let row = (text, Framed::UntilClose);
        break_answer(&copier.address, &mut witness, &shared, row, "1.1", fault);
    });
    let reason = broken.unwrap_err();
    let reason = reason.downcast_ref::<String>().unwrap();
    assert!(reason.contains("half an answer"), "{reason}");
}

fn break_answer(
    address: &str,
    witness: &mut Witness,
    shared: &Shared,
    (text, framed): (&str, Framed),
    version: &str,
    fault: Fault,
) {
    let context = format!("{framed:?} to HTTP/{version} {fault:?}");
    let (plan, changed) = &**shared;
    *plan.lock().unwrap() = Plan {
        answer: text.into(),
        fault,
        stalled: false,
        released: false,
    };
    let mut wire = connect(address);
    let request = format!("GET /row HTTP/{version}\r\nHost: h\r\n\r\n");
    wire.stream.write_all(request.as_bytes()).unwrap();
    if matches!(fault, Fault::Stall(_)) {
        let state = plan.lock().unwrap();
        let (state, late) = changed
            .wait_timeout_while(state, PATIENCE, |state| !state.stalled)
            .unwrap();
        assert!(!late.timed_out(), "{context}: never asked");
        drop(state);
        witness.ask(&context);
        plan.lock().unwrap().released = true;
        changed.notify_all();
    }
    let head = text.find("\r\n\r\n").unwrap() + 4;
    let (at, whole) = match fault {
        Fault::Bytes | Fault::Stall(_) => (text.len(), true),
        Fault::End(at) if framed == Framed::UntilClose => (at, at >= head),
        Fault::Reset(at) if framed == Framed::UntilClose => (at, false),
        Fault::End(at) | Fault::Reset(at) => (at, at == text.len()),
    };
    match wire.answer("GET") {
        Ok(answer) if status(&answer.head) == Some(200) => {
            assert!(
                whole,
                "{context}: half an answer passed for a whole one: {answer:?}"
            );
            let body = match framed {
                Framed::UntilClose => &text.as_bytes()[head..at],
                _ => b"hello",
            };
            assert_eq!(answer.body, body, "{context}");
        }
        Ok(answer) => {
            assert!(
                !whole && status(&answer.head) == Some(502),
                "{context}: {answer:?}"
            );
        }
        Err(Stop::End(_) | Stop::Reset) => assert!(!whole, "{context}: nothing came"),
        Err(stop) => panic!("{context}: {stop:?}"),
    }
}
