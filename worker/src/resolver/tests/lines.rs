//! Real sockets against a server in the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Clients, Failure, Lines, Lookup, Outcome};
use super::{Says, addresses, found, settings, truncated};
use crate::event::{Queue, Token, Watcher};
use crate::log::ErrorLog;
use crate::settings::{Level, Resolver};

const PATIENCE: Duration = Duration::from_secs(20);

/// A loop that does nothing but resolve.
struct Loop {
    queue: Queue,
    watcher: Watcher,
    lines: Lines,
    clients: Clients<u32>,
    log: ErrorLog,
}

impl Loop {
    fn new() -> Loop {
        let queue = Queue::new().unwrap();
        Loop {
            watcher: queue.watcher().unwrap(),
            queue,
            lines: Lines::default(),
            clients: Clients::default(),
            log: ErrorLog::stderr(Level::Emerg),
        }
    }

    fn turn(&mut self, now_ms: u64) {
        self.clients.expire(now_ms);
        self.lines
            .carry_out(&mut self.clients, &self.watcher, &self.log);
        self.queue.wait(Some(Duration::from_millis(5))).unwrap();
        for (token, _) in self.queue.events() {
            if let Token::Resolver(line) = token {
                self.lines.ready(line, &mut self.clients, now_ms, &self.log);
            }
        }
    }

    fn outcome(&mut self, mut serve: impl FnMut()) -> Outcome<u32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no outcome");
            self.turn(0);
            serve();
            if let Some(outcome) = self.clients.next_outcome() {
                return outcome;
            }
        }
    }
}

fn asking(server: SocketAddr) -> Arc<Resolver> {
    Arc::new(Resolver {
        servers: vec![server],
        ..settings(0)
    })
}

fn server() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        // Another process may have the same port of the other protocol.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            udp.set_nonblocking(true).unwrap();
            return (udp, tcp);
        }
    }
}

#[test]
fn over_udp_and_no_stranger_is_heard() {
    let (udp, _tcp) = server();
    let settings = asking(udp.local_addr().unwrap());
    let mut one = Loop::new();
    let mut ports = Vec::new();
    for _ in 0..2 {
        assert_eq!(
            one.clients.look_up(&settings, "a.test", 1, 0),
            Lookup::Waiting
        );
        let outcome = one.outcome(|| {
            let mut bytes = [0; 512];
            if let Ok((length, from)) = udp.recv_from(&mut bytes) {
                ports.push(from.port());
                // Not from the server: the kernel keeps it away.
                let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                let evil = Says::Address("a.test", "203.0.113.1", 0);
                stranger
                    .send_to(&found(&bytes[..length], &[evil]), from)
                    .unwrap();
                let good = Says::Address("a.test", "192.0.2.1", 0);
                udp.send_to(&found(&bytes[..length], &[good]), from)
                    .unwrap();
            }
        });
        assert_eq!(addresses(&outcome.found.unwrap().addresses), "192.0.2.1");
    }
    assert_eq!(ports.len(), 2);
}

#[test]
fn over_tcp_when_the_answer_was_cut_off() {
    let (udp, tcp) = server();
    let settings = asking(udp.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = tcp.accept().unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).unwrap();
        let many: Vec<String> = (0..200).map(|n| format!("192.0.2.{n}")).collect();
        let says: Vec<_> = many
            .iter()
            .map(|address| Says::Address("a.test", address, 5))
            .collect();
        let answer = found(&question, &says);
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        // In pieces: the length's two bytes apart, too.
        for piece in [&length[..1], &length[1..], &answer[..7], &answer[7..]] {
            stream.write_all(piece).unwrap();
            stream.flush().unwrap();
        }
        let mut end = Vec::new();
        stream.read_to_end(&mut end).unwrap();
    });
    let mut one = Loop::new();
    one.clients.look_up(&settings, "a.test", 1, 0);
    let outcome = one.outcome(|| {
        let mut bytes = [0; 512];
        if let Ok((length, from)) = udp.recv_from(&mut bytes) {
            udp.send_to(&truncated(&bytes[..length]), from).unwrap();
        }
    });
    assert_eq!(outcome.found.unwrap().addresses.len(), 200);
    // The connection is closed with the lookup.
    one.turn(0);
    answering.join().unwrap();
}

#[test]
fn a_port_that_nobody_listens_on_leads_to_the_next_server() {
    let (gone, _tcp) = server();
    let closed = gone.local_addr().unwrap();
    drop(gone);
    let (udp, _tcp) = server();
    let settings = Arc::new(Resolver {
        servers: vec![closed, udp.local_addr().unwrap()],
        ..settings(0)
    });
    let mut one = Loop::new();
    one.clients.look_up(&settings, "a.test", 1, 0);
    let outcome = one.outcome(|| {
        let mut bytes = [0; 512];
        if let Ok((length, from)) = udp.recv_from(&mut bytes) {
            let answer = super::answer(&bytes[..length], simple_dns::RCODE::NameError, &[]);
            udp.send_to(&answer, from).unwrap();
        }
    });
    assert_eq!(outcome.found, Err(Failure::NotFound));
}

#[test]
fn a_flood_of_datagrams_does_not_hold_the_loop() {
    let (udp, _tcp) = server();
    let settings = asking(udp.local_addr().unwrap());
    let mut one = Loop::new();
    one.clients.look_up(&settings, "a.test", 1, 0);
    let mut flooded = false;
    let deadline = Instant::now() + PATIENCE;
    while !flooded {
        assert!(Instant::now() < deadline, "no question came");
        one.turn(0);
        let mut bytes = [0; 512];
        if let Ok((_, from)) = udp.recv_from(&mut bytes) {
            for _ in 0..150 {
                let _ = udp.send_to(b"noise", from);
            }
            flooded = true;
        }
    }
    one.turn(0);
    let told = one.clients.each().map(|(_, client)| {
        let mut count = 0;
        while client.next_fault().is_some() {
            count += 1;
        }
        count
    });
    assert!(told.sum::<usize>() <= 64);
}

#[test]
fn another_configuration_forgets_what_is_known() {
    let (udp, _tcp) = server();
    let settings = asking(udp.local_addr().unwrap());
    let mut one = Loop::new();
    one.clients.look_up(&settings, "a.test", 1, 0);
    one.clients.renew();
    assert!(!one.clients.is_empty(), "someone waits");
    one.outcome(|| {
        let mut bytes = [0; 512];
        if let Ok((length, from)) = udp.recv_from(&mut bytes) {
            let good = Says::Address("a.test", "192.0.2.1", 60);
            udp.send_to(&found(&bytes[..length], &[good]), from)
                .unwrap();
        }
    });
    one.turn(0);
    let equal = Arc::new(Resolver::clone(&settings));
    assert!(matches!(
        one.clients.look_up(&equal, "a.test", 1, 0),
        Lookup::Found(_)
    ));
    one.clients.renew();
    assert!(one.clients.is_empty());
}
