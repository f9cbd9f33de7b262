//! A table as the words of a slot.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use crate::decode::{BACKUP, DOWN, IPV4, IPV6, LEARNED, UNIX};
use crate::layout::{WORD, slot};
use crate::table::{Address, Leaving, Server, Table, Upstream, halves};

/// Bytes of names and paths of a table.
pub(crate) fn text_bytes<'a>(
    upstreams: impl Iterator<Item = (&'a str, &'a [Server])>,
    leaving: &[Leaving],
) -> usize {
    let path = |server: &Server| match &server.address {
        Address::Ip(_) => 0,
        Address::Unix(path) => path.as_os_str().len(),
    };
    let listed: usize = upstreams
        .map(|(name, servers)| name.len() + servers.iter().map(path).sum::<usize>())
        .sum();
    let named = |at: usize| at == 0 || leaving[at - 1].upstream != leaving[at].upstream;
    let left: usize = leaving
        .iter()
        .enumerate()
        .map(|(at, leaving)| {
            path(&leaving.server) + if named(at) { leaving.upstream.len() } else { 0 }
        })
        .sum();
    listed + left
}

/// Writes the table, head and checksum included, over `words`, which keeps its allocation.
pub(crate) fn encode(table: &Table, words: &mut Vec<u64>) {
    let servers: usize = table
        .upstreams
        .iter()
        .map(|upstream| upstream.servers.len())
        .sum();
    let mut text = Vec::new();
    words.clear();
    words.resize(slot::HEAD, 0);
    let mut first = 0;
    let templates = Templates::new(&table.upstreams);
    for upstream in &table.upstreams {
        words.push(put(&mut text, upstream.name.as_bytes()));
        words.push(upstream.changed);
        let learned = if upstream.learned { LEARNED } else { 0 };
        words.push(halves(first, upstream.servers.len() as u32) | learned);
        words.push(templates.of(upstream));
        first += upstream.servers.len() as u32;
    }
    for server in table
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.servers)
    {
        words.extend(record(server, &mut text));
    }
    let mut name = 0;
    for (at, leaving) in table.leaving.iter().enumerate() {
        words.extend(record(&leaving.server, &mut text));
        // Those of one upstream mostly follow each other.
        if at == 0 || table.leaving[at - 1].upstream != leaving.upstream {
            name = put(&mut text, leaving.upstream.as_bytes());
        }
        words.extend([name, leaving.dropped]);
    }
    let text_bytes = text.len();
    text.resize(text_bytes.next_multiple_of(WORD), 0);
    words.extend(text.chunks_exact(WORD).map(word));
    words[slot::VERSION] = table.version;
    words[slot::WORDS] = words.len() as u64;
    words[slot::UPSTREAMS] = table.upstreams.len() as u64;
    words[slot::SERVERS] = servers as u64;
    words[slot::LEAVING] = table.leaving.len() as u64;
    words[slot::TEXT] = text_bytes as u64;
    words[slot::SEEN] = table.seen.0;
    words[slot::PUBLISHED] = table.published;
    words[slot::CHECKSUM] = u64::from(checksum_of_slot(words));
}

/// Where the templates of discovered upstreams are.
struct Templates<'a>(HashMap<&'a str, usize>);

impl<'a> Templates<'a> {
    fn new(upstreams: &'a [Upstream]) -> Self {
        let mut places = HashMap::new();
        if upstreams.iter().any(|upstream| upstream.template.is_some()) {
            let named = upstreams.iter().enumerate().rev();
            places.extend(named.map(|(at, upstream)| (upstream.name.as_str(), at)));
        }
        Templates(places)
    }

    /// Its template's number from 1; 0 is none.
    fn of(&self, upstream: &Upstream) -> u64 {
        let template = upstream.template.as_deref();
        let at = template.and_then(|template| self.0.get(template));
        at.map_or(0, |at| *at as u64 + 1)
    }
}

fn record(server: &Server, text: &mut Vec<u8>) -> [u64; slot::SERVER] {
    let (kind, port, address, scope) = match &server.address {
        Address::Ip(SocketAddr::V4(v4)) => {
            (IPV4, v4.port(), [u64::from(u32::from(*v4.ip())), 0], 0)
        }
        Address::Ip(SocketAddr::V6(v6)) => {
            let bits = u128::from(*v6.ip());
            let address = [(bits >> 64) as u64, bits as u64];
            (
                IPV6,
                v6.port(),
                address,
                halves(v6.flowinfo(), v6.scope_id()),
            )
        }
        Address::Unix(path) => (UNIX, 0, [put(text, path.as_os_str().as_bytes()), 0], 0),
    };
    let flags = if server.down { DOWN } else { 0 } | if server.backup { BACKUP } else { 0 };
    [
        kind | flags | (u64::from(port) << 16) | (u64::from(server.weight) << 32),
        address[0],
        address[1],
        scope,
        u64::from(server.max_fails),
        server.fail_timeout_ms,
        server.counter.word(),
    ]
}

/// Appends to the text; where it is and how long, as one word.
fn put(text: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    let at = text.len() as u32;
    text.extend_from_slice(bytes);
    halves(at, bytes.len() as u32)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD];
    word.copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

/// CRC-32 of a whole slot without the word that holds it.
pub(crate) fn checksum_of_slot(words: &[u64]) -> u32 {
    checksum(&[&words[..slot::CHECKSUM], &words[slot::HEAD..]])
}

/// CRC-32 (zlib's) of words as they lie in memory.
pub(crate) fn checksum(parts: &[&[u64]]) -> u32 {
    const CHUNK: usize = 128;
    let mut hasher = crc32fast::Hasher::new();
    let mut bytes = [0; CHUNK * WORD];
    for chunk in parts.iter().flat_map(|part| part.chunks(CHUNK)) {
        for (to, from) in bytes.chunks_exact_mut(WORD).zip(chunk) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        hasher.update(&bytes[..chunk.len() * WORD]);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr, SocketAddrV6};
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::decode::decode;
    use crate::layout::{Capacity, Layout};
    use crate::table::{CounterId, Seen};

    const LAYOUT: Layout = Layout::new(Capacity {
        servers: 64,
        upstreams: 8,
        workers: 1,
        slots: 4,
        history: Capacity::MIN_HISTORY,
    });

    fn address() -> impl Strategy<Value = Address> {
        let ip = (any::<IpAddr>(), any::<u16>(), any::<u32>(), any::<u32>());
        prop_oneof![
            ip.prop_map(|(ip, port, flowinfo, scope)| Address::Ip(match ip {
                IpAddr::V4(_) => SocketAddr::new(ip, port),
                IpAddr::V6(v6) => SocketAddrV6::new(v6, port, flowinfo, scope).into(),
            })),
            prop::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| {
                Address::Unix(PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)))
            }),
        ]
    }

    fn server() -> impl Strategy<Value = Server> {
        let numbers = (any::<u32>(), any::<u32>(), any::<u64>());
        let counter = (0..LAYOUT.capacity.servers, any::<u32>());
        (address(), numbers, any::<bool>(), any::<bool>(), counter).prop_map(
            |(address, (weight, max_fails, fail_timeout_ms), down, backup, counter)| Server {
                address,
                weight,
                max_fails,
                fail_timeout_ms,
                down,
                backup,
                counter: CounterId {
                    index: counter.0,
                    incarnation: counter.1,
                },
            },
        )
    }

    fn table() -> impl Strategy<Value = Table> {
        let upstream = (
            ".{0,20}",
            any::<u64>(),
            any::<bool>(),
            prop::collection::vec(server(), 0..6),
        );
        let leaving = (".{0,20}", server(), any::<u64>()).prop_map(
            |(upstream, server, dropped): (String, _, _)| Leaving {
                upstream: upstream.into(),
                server,
                dropped,
            },
        );
        let upstreams = prop::collection::vec(upstream, 0..6);
        (
            any::<[u64; 3]>(),
            upstreams,
            prop::collection::vec(leaving, 0..6),
        )
            .prop_map(|([version, seen, published], upstreams, leaving)| {
                let upstream = |(name, changed, learned, servers)| Upstream {
                    name,
                    changed: if version == u64::MAX {
                        changed
                    } else {
                        changed % (version + 1)
                    },
                    learned,
                    template: None,
                    servers,
                };
                Table {
                    version,
                    upstreams: upstreams.into_iter().map(upstream).collect(),
                    leaving,
                    seen: Seen(seen),
                    published,
                }
            })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(table in table(), stale in any::<Vec<u64>>()) {
            let mut words = stale;
            encode(&table, &mut words);
            prop_assert!(words.len() <= LAYOUT.slot_words);
            prop_assert_eq!(decode(&words, &LAYOUT), Ok(table));
        }

        #[test]
        fn no_words_are_too_strange(words in prop::collection::vec(0u64..40, 0..200)) {
            // Whatever it says, it says it; an empty table may even pass.
            let _ = decode(&words, &LAYOUT);
        }

        #[test]
        fn a_flipped_bit_is_found(table in table(), at in any::<prop::sample::Index>(), bit in 0..64) {
            let mut words = Vec::new();
            encode(&table, &mut words);
            let at = at.index(words.len());
            words[at] ^= 1u64 << bit;
            prop_assert!(decode(&words, &LAYOUT).is_err());
        }
    }

    #[test]
    fn a_discovered_upstream_says_what_it_is_like() {
        let upstream = |name: &str, template: Option<&str>| Upstream {
            name: name.to_owned(),
            changed: 1,
            learned: true,
            template: template.map(Into::into),
            servers: Vec::new(),
        };
        let mut table = Table {
            version: 1,
            upstreams: vec![
                upstream("a", None),
                upstream("web", None),
                upstream("found", Some("web")),
                upstream("stray", Some("gone")),
            ],
            ..Table::default()
        };
        let mut words = Vec::new();
        encode(&table, &mut words);
        table.upstreams[3].template = None;
        assert_eq!(decode(&words, &LAYOUT), Ok(table));

        let at = slot::HEAD + 2 * slot::UPSTREAM + 3;
        words[at] = 5;
        words[slot::CHECKSUM] = u64::from(checksum_of_slot(&words));
        assert!(decode(&words, &LAYOUT).unwrap_err().0.contains("template"));
    }

    #[test]
    fn the_checksum_is_zlibs() {
        let words: Vec<u64> = (0..300).map(|n| n * 0x0101_0101).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(
            checksum(&[&words[..7], &words[7..]]),
            crc32fast::hash(&bytes)
        );
        let check = [u64::from_ne_bytes(*b"12345678")];
        assert_eq!(checksum(&[&check]), 0x9ae0_daaf);
    }
}
