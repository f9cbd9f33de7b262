//! DNS messages (RFC 1035): the question that is sent, and what of an answer matters here. The wire
//! format is the library's; this decides which messages are answers and what they say.

use std::net::IpAddr;

use simple_dns::rdata::RData;
use simple_dns::{
    CLASS, Label, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE,
};

use super::Failure;

/// Bytes of a message's header.
const HEADER: usize = 12;
/// Bytes that a question takes at least: the root's name, type and class.
const LEAST_QUESTION: usize = 5;
/// Bytes that a record takes at least: a pointer to its name, type, class, TTL and length.
const LEAST_RECORD: usize = 12;
/// The longest label, and the longest name as text, in bytes (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 253;
/// Aliases that are followed within one answer.
const MOST_ALIASES: usize = 50;

/// What is asked about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its IPv4 addresses.
    A,
    /// Its IPv6 addresses.
    Aaaa,
}

impl Kind {
    fn code(self) -> TYPE {
        match self {
            Kind::A => TYPE::A,
            Kind::Aaaa => TYPE::AAAA,
        }
    }
}

/// An answer to a question of ours, or what claims to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its number, which has to be the question's.
    pub id: u16,
    /// What was asked.
    pub kind: Kind,
    /// The name that was asked for, in lower case.
    pub name: String,
    /// What is said of it.
    pub found: Found,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The answer is too long for a datagram.
    Truncated,
    /// The server could not answer, or there is no such name.
    Failed(Failure),
    /// The name exists, with nothing of the kind.
    Nothing,
    /// Its addresses; `ttl` in seconds, the least of the records'.
    Addresses {
        /// At least one.
        addresses: Vec<IpAddr>,
        /// 0 is not to be kept.
        ttl: u32,
    },
    /// It stands for another name, of which nothing is said.
    Alias {
        /// In lower case.
        name: String,
        /// See above.
        ttl: u32,
    },
}

/// Whether a name can be asked for: it has labels of 1 to 63 bytes, together at most 253.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name
            .split('.')
            .all(|label| (1..=LONGEST_LABEL).contains(&label.len()))
}

/// The question for a name, to be answered recursively; `None` if it is no [name](is_name).
#[must_use]
pub fn question(name: &str, kind: Kind, id: u16) -> Option<Vec<u8>> {
    if !is_name(name) {
        return None;
    }
    let labels = name
        .split('.')
        .map(|label| Label::new_unchecked(label.as_bytes()));
    let name = Name::new_with_labels(&labels.collect::<Vec<_>>());
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let class = QCLASS::CLASS(CLASS::IN);
    let question = Question::new(name, QTYPE::TYPE(kind.code()), class, false);
    packet.questions.push(question);
    packet.build_bytes_vec().ok()
}

/// Reads an answer.
///
/// # Errors
/// In nginx's words, why it is none.
pub fn read(bytes: &[u8]) -> Result<Reply, String> {
    let count = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    if bytes.len() < HEADER {
        return Err("short DNS response".to_owned());
    }
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let (questions, answers) = (count(4), count(6));
    let code = bytes[3] & 0x0f;
    let invalid = || {
        format!(
            "invalid DNS response {id} fl:{:02X}{:02X}",
            bytes[2], bytes[3]
        )
    };
    let truncated = bytes[2] & 0x02 != 0;
    if bytes[2] & 0x80 == 0 {
        return Err(invalid());
    }
    let failure = Failure::from_code(code);
    // Such answers need not repeat the question, so that nobody knows whose they are.
    if matches!(failure, Some(Failure::Format | Failure::Other(_))) {
        let failure = failure.map(|failure| failure.to_string());
        let failure = failure.unwrap_or_default();
        return Err(format!("DNS error ({failure}), query id:{id}"));
    }
    if questions != 1 {
        return Err("invalid number of questions in DNS response".to_owned());
    }
    if !truncated && HEADER + LEAST_QUESTION + answers * LEAST_RECORD > bytes.len() {
        return Err("short DNS response".to_owned());
    }
    // What comes behind the answers is not looked at, nor are answers that may be cut off.
    let mut head = bytes.to_vec();
    head[if truncated { 6 } else { 8 }..HEADER].fill(0);
    let packet = Packet::parse(&head).map_err(|_| invalid())?;
    if packet.opcode() != OPCODE::StandardQuery {
        return Err(invalid());
    }
    let question = packet.questions.first().ok_or_else(invalid)?;
    let kind = match (question.qtype, question.qclass) {
        (QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN)) => Kind::A,
        (QTYPE::TYPE(TYPE::AAAA), QCLASS::CLASS(CLASS::IN)) => Kind::Aaaa,
        _ => return Err(invalid()),
    };
    let name = text(&question.qname).ok_or_else(invalid)?;
    let found = match failure {
        _ if truncated => Found::Truncated,
        Some(failure) => Found::Failed(failure),
        None => found(&packet.answers, &name, kind),
    };
    Ok(Reply {
        id,
        kind,
        name,
        found,
    })
}

/// What the records say of `name`, or of what it is an alias of: other records are nobody's business.
fn found(records: &[ResourceRecord<'_>], name: &str, kind: Kind) -> Found {
    let records = records.iter().filter(|record| record.class == CLASS::IN);
    let records: Vec<_> = records
        .filter_map(|record| Some((text(&record.name)?, &record.rdata, ttl(record))))
        .collect();
    let mut owner = name.to_owned();
    let mut least = u32::MAX;
    for _ in 0..=MOST_ALIASES {
        let mut addresses = Vec::new();
        let mut alias = None;
        let own = records.iter().filter(|(of, ..)| *of == owner);
        for (_, data, ttl) in own {
            let address = match (data, kind) {
                (RData::A(a), Kind::A) => IpAddr::V4(a.address.into()),
                (RData::AAAA(aaaa), Kind::Aaaa) => IpAddr::V6(aaaa.address.into()),
                (RData::CNAME(to), _) => {
                    alias = text(&to.0).map(|to| (to, *ttl));
                    continue;
                }
                _ => continue,
            };
            addresses.push(address);
            least = least.min(*ttl);
        }
        if !addresses.is_empty() {
            return Found::Addresses {
                addresses,
                ttl: least,
            };
        }
        match alias {
            Some((to, ttl)) => {
                least = least.min(ttl);
                owner = to;
            }
            None if owner == name => return Found::Nothing,
            None => break,
        }
    }
    Found::Alias {
        name: owner,
        ttl: least,
    }
}

/// One with its highest bit set is 0 (RFC 2181, section 8).
fn ttl(record: &ResourceRecord<'_>) -> u32 {
    i32::try_from(record.ttl).map_or(0, i32::unsigned_abs)
}

/// A name in lower case; `None` for one that cannot be asked for: the root, or with a dot or bytes
/// that are no text in a label.
fn text(name: &Name<'_>) -> Option<String> {
    let mut text = String::with_capacity(name.get_labels().len() * 8);
    for label in name.as_bytes() {
        if label.contains(&b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(std::str::from_utf8(label).ok()?);
    }
    text.make_ascii_lowercase();
    is_name(&text).then_some(text)
}
