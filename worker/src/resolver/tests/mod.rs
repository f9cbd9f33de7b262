//! The client against answers of every kind, by the clock of the test; messages that are none; real
//! sockets.

mod client;
mod hostile;
mod lines;
mod message;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::{Client, Lookup, Order, Protocol};
use crate::connection::Key;
use crate::settings::Resolver;

/// The time at which each test begins, in milliseconds.
const BEGIN_MS: u64 = 1_000_000;
/// The number that a test gives as random.
const RANDOM: u64 = 0x2222_1111;

/// So many servers, nothing said.
fn settings(servers: u16) -> Resolver {
    Resolver {
        servers: (1..=servers)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect(),
        valid: None,
        ipv4: true,
        ipv6: false,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A record as a test writes it.
enum Says<'a> {
    Address(&'a str, &'a str, u32),
    Alias(&'a str, &'a str, u32),
}

/// An answer to `question`.
fn answer(question: &[u8], code: RCODE, says: &[Says<'_>]) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    *packet.rcode_mut() = code;
    for says in says {
        let (name, ttl, data) = match says {
            Says::Address(name, address, ttl) => match ip(address) {
                IpAddr::V4(v4) => (name, ttl, RData::A(A { address: v4.into() })),
                IpAddr::V6(v6) => (name, ttl, RData::AAAA(AAAA { address: v6.into() })),
            },
            Says::Alias(name, to, ttl) => (name, ttl, RData::CNAME(CNAME(Name::new(to).unwrap()))),
        };
        let record = ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, *ttl, data);
        packet.answers.push(record);
    }
    packet.build_bytes_vec_compressed().unwrap()
}

fn found(question: &[u8], says: &[Says<'_>]) -> Vec<u8> {
    answer(question, RCODE::NoError, says)
}

fn truncated(question: &[u8]) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    packet.set_flags(PacketFlag::TRUNCATION);
    packet.build_bytes_vec().unwrap()
}

/// A client and the test's side of it.
struct World {
    client: Client<u32>,
    now_ms: u64,
}

/// What the client wants sent.
#[derive(Debug)]
struct Asked {
    lookup: Key,
    server: usize,
    over: Protocol,
    messages: Vec<Vec<u8>>,
}

impl World {
    fn new(settings: Resolver) -> World {
        World {
            client: Client::new(Arc::new(settings)),
            now_ms: BEGIN_MS,
        }
    }

    fn look_up(&mut self, name: &str, who: u32) -> Lookup {
        self.client.look_up(name, who, self.now_ms, || RANDOM)
    }

    /// The next question; orders to close are left out.
    fn asked(&mut self) -> Option<Asked> {
        loop {
            match self.client.next_order()? {
                Order::Close { .. } => {}
                Order::Ask {
                    lookup,
                    server,
                    over,
                    messages,
                } => {
                    return Some(Asked {
                        lookup,
                        server,
                        over,
                        messages,
                    });
                }
            }
        }
    }

    fn receive(&mut self, lookup: Key, bytes: &[u8]) {
        self.receive_over(lookup, Protocol::Udp, bytes);
    }

    fn receive_over(&mut self, lookup: Key, over: Protocol, bytes: &[u8]) {
        let now_ms = self.now_ms;
        self.client
            .receive(lookup, over, bytes, now_ms, || RANDOM + 5);
    }

    fn pass(&mut self, span: Duration) {
        self.now_ms += u64::try_from(span.as_millis()).unwrap();
        self.client.expire(self.now_ms);
    }

    /// Who need wait no longer, and what each is told, as text.
    fn outcomes(&mut self) -> Vec<(u32, String)> {
        let mut all = Vec::new();
        while let Some(outcome) = self.client.next_outcome() {
            let told = match outcome.found {
                Ok(found) => addresses(&found.addresses),
                Err(failure) => failure.to_string(),
            };
            all.push((outcome.who, told));
        }
        all
    }

    fn faults(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.client.next_fault()).collect()
    }

    /// Asks for a name and has it answered; nothing may be left of it.
    fn resolve(&mut self, name: &str, says: &[Says<'_>]) -> String {
        assert_eq!(self.look_up(name, 1), Lookup::Waiting);
        let asked = self.asked().unwrap();
        for message in &asked.messages {
            let kind = Packet::parse(message).unwrap().questions[0].qtype;
            let own = |says: &&Says<'_>| match says {
                Says::Address(_, address, _) => {
                    (kind == QTYPE::TYPE(TYPE::AAAA)) == ip(address).is_ipv6()
                }
                Says::Alias(..) => true,
            };
            let own: Vec<_> = says.iter().filter(own).map(again).collect();
            self.receive(asked.lookup, &found(message, &own));
        }
        let outcomes = self.outcomes();
        assert_eq!(outcomes.len(), 1, "{:?}", self.faults());
        outcomes[0].1.clone()
    }
}

fn again<'a>(says: &Says<'a>) -> Says<'a> {
    match says {
        Says::Address(name, address, ttl) => Says::Address(name, address, *ttl),
        Says::Alias(name, to, ttl) => Says::Alias(name, to, *ttl),
    }
}

fn addresses(found: &[IpAddr]) -> String {
    let text: Vec<_> = found.iter().map(ToString::to_string).collect();
    text.join(" ")
}
