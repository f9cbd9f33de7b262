//! A name server that says what the test wants, over UDP and TCP, right or wrong.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// What is said of a name.
#[derive(Clone, Debug)]
pub enum Say {
    /// These addresses, with this TTL in seconds.
    Is(Vec<IpAddr>, u32),
    /// It stands for another name; that name's addresses are not said.
    Alias(String, u32),
    /// It stands for another name that has these addresses.
    AliasOf(String, Vec<IpAddr>, u32),
    /// There is no such name.
    Unknown,
    /// The server cannot find out.
    Fail,
    /// Nothing.
    Silence,
    /// Cut off over UDP, this over TCP.
    Cut(Box<Say>),
    /// Wrong answers, one of each kind, that must not be taken; then this.
    After(Vec<Wrong>, Box<Say>),
}

/// An answer that is none.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    /// Another question's number, with an address.
    Id(IpAddr),
    /// Another name, with an address.
    Question(IpAddr),
    /// From another port, with an address.
    Source(IpAddr),
    /// No DNS message.
    Garbage,
    /// A name that points at itself.
    Loop,
}

/// A question as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub name: String,
    pub ipv6: bool,
    pub tcp: bool,
    /// The port that it came from.
    pub port: u16,
    pub id: u16,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    says: Mutex<HashMap<String, Say>>,
    asked: Mutex<Vec<Asked>>,
}

/// A running name server; dropping it closes its ports.
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Dns {
    /// Knows no name yet.
    pub fn start() -> Dns {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            // Another process may have the same port of the other protocol.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        Dns::on(udp, tcp)
    }

    fn on(udp: UdpSocket, tcp: TcpListener) -> Dns {
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (one, other) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || serve_udp(&udp, &one)),
            thread::spawn(move || serve_tcp(&tcp, &other)),
        ];
        Dns {
            address,
            shared,
            threads,
        }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on says this of a name.
    pub fn set(&self, name: &str, say: Say) {
        let mut says = self.shared.says.lock().unwrap();
        says.insert(name.to_ascii_lowercase(), say);
    }

    /// The addresses of a name, with a TTL in seconds.
    pub fn is(&self, name: &str, addresses: &[&str], ttl: u32) {
        self.set(name, Say::Is(ips(addresses), ttl));
    }

    /// All questions so far about a name.
    pub fn asked(&self, name: &str) -> Vec<Asked> {
        let asked = self.shared.asked.lock().unwrap();
        asked
            .iter()
            .filter(|asked| asked.name == name)
            .cloned()
            .collect()
    }
}

/// Addresses from text.
pub fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    let parsed = addresses.iter().map(|address| address.parse().unwrap());
    parsed.collect()
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| socket.send_to(&[], self.address).map(drop));
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut bytes = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut bytes) {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let question = &bytes[..length];
        let Some(say) = note(shared, question, from, false) else {
            continue;
        };
        let (wrongs, say) = match say {
            Say::After(wrongs, say) => (wrongs, *say),
            say => (Vec::new(), say),
        };
        for wrong in wrongs {
            let (message, stranger) = wrong_answer(question, wrong);
            let sent = match stranger {
                true => UdpSocket::bind("127.0.0.1:0").and_then(|own| own.send_to(&message, from)),
                false => socket.send_to(&message, from),
            };
            sent.unwrap();
        }
        let message = match say {
            Say::Cut(_) => Some(cut(question)),
            say => answer(question, &say),
        };
        if let Some(message) = message {
            let _ = socket.send_to(&message, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((mut stream, from)) = listener.accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        // It ends with its connection.
        thread::spawn(move || {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut question).is_err() {
                    return;
                }
                let say = match note(&shared, &question, from, true) {
                    Some(Say::Cut(say)) => *say,
                    _ => Say::Silence,
                };
                let Some(message) = answer(&question, &say) else {
                    continue;
                };
                let length = u16::try_from(message.len()).unwrap().to_be_bytes();
                let _ = stream.write_all(&[&length[..], &message].concat());
            }
        });
    }
}

/// Writes the question down; what is to be said.
fn note(shared: &Shared, question: &[u8], from: SocketAddr, tcp: bool) -> Option<Say> {
    let packet = Packet::parse(question).ok()?;
    let first = packet.questions.first()?;
    let name = first.qname.to_string().to_ascii_lowercase();
    let say = shared.says.lock().unwrap().get(&name).cloned();
    shared.asked.lock().unwrap().push(Asked {
        ipv6: first.qtype == QTYPE::TYPE(TYPE::AAAA),
        name,
        tcp,
        port: from.port(),
        id: packet.id(),
    });
    Some(say.unwrap_or(Say::Unknown))
}

fn cut(question: &[u8]) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    packet.set_flags(PacketFlag::TRUNCATION);
    packet.build_bytes_vec().unwrap()
}

/// `None` for silence.
fn answer(question: &[u8], say: &Say) -> Option<Vec<u8>> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    let asked = packet.questions[0].clone();
    let ipv6 = asked.qtype == QTYPE::TYPE(TYPE::AAAA);
    let name = asked.qname.to_string();
    let alias = |of: &str, to: &str, ttl: u32| {
        let data = RData::CNAME(CNAME(Name::new(to).unwrap().into_owned()));
        ResourceRecord::new(Name::new(of).unwrap().into_owned(), CLASS::IN, ttl, data)
    };
    let mut records = Vec::new();
    match say {
        Say::Is(addresses, ttl) => {
            records.extend(
                addresses
                    .iter()
                    .filter_map(|ip| record(&name, *ip, *ttl, ipv6)),
            );
        }
        Say::Alias(to, ttl) => records.push(alias(&name, to, *ttl)),
        Say::AliasOf(to, addresses, ttl) => {
            records.push(alias(&name, to, *ttl));
            records.extend(
                addresses
                    .iter()
                    .filter_map(|ip| record(to, *ip, *ttl, ipv6)),
            );
        }
        Say::Unknown => *packet.rcode_mut() = RCODE::NameError,
        Say::Fail => *packet.rcode_mut() = RCODE::ServerFailure,
        Say::Silence | Say::Cut(_) | Say::After(..) => return None,
    }
    packet.answers = records;
    Some(packet.build_bytes_vec_compressed().unwrap())
}

/// The record of an address, if it is of the kind that was asked for.
fn record(name: &str, ip: IpAddr, ttl: u32, ipv6: bool) -> Option<ResourceRecord<'static>> {
    let data = match ip {
        IpAddr::V4(ip) if !ipv6 => RData::A(A { address: ip.into() }),
        IpAddr::V6(ip) if ipv6 => RData::AAAA(AAAA { address: ip.into() }),
        _ => return None,
    };
    let name = Name::new(name).unwrap().into_owned();
    Some(ResourceRecord::new(name, CLASS::IN, ttl, data))
}

/// The message, and whether it comes from elsewhere.
fn wrong_answer(question: &[u8], wrong: Wrong) -> (Vec<u8>, bool) {
    let with = |ip| answer(question, &Say::Is(vec![ip], 60)).unwrap();
    match wrong {
        Wrong::Id(ip) => {
            let mut message = with(ip);
            message[0] ^= 0x55;
            (message, false)
        }
        Wrong::Question(ip) => {
            let mut message = with(ip);
            // The first letter of the name, to which the answer's name points.
            message[13] = if message[13] == b'z' { b'y' } else { b'z' };
            (message, false)
        }
        Wrong::Source(ip) => (with(ip), true),
        Wrong::Garbage => (b"\x00\x01\x02 this is not DNS".to_vec(), false),
        Wrong::Loop => {
            let mut message = answer(question, &Say::Unknown).unwrap();
            message[3] = 0x80;
            message[7] = 1;
            let here = u16::try_from(message.len()).unwrap() | 0xc000;
            message.extend_from_slice(&here.to_be_bytes());
            message.extend_from_slice(b"\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01");
            (message, false)
        }
    }
}
