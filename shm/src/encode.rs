//! A table as the words of a slot.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use crate::decode::{BACKUP, DOWN, IPV4, IPV6, UNIX};
use crate::layout::{WORD, slot};
use crate::table::{Address, Leaving, Server, Table, halves};

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
    let left: usize = leaving
        .iter()
        .map(|l| l.upstream.len() + path(&l.server))
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
    for upstream in &table.upstreams {
        words.push(put(&mut text, upstream.name.as_bytes()));
        words.push(upstream.changed);
        words.push(halves(first, upstream.servers.len() as u32));
        first += upstream.servers.len() as u32;
    }
    for server in table
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.servers)
    {
        words.extend(record(server, &mut text));
    }
    for leaving in &table.leaving {
        words.extend(record(&leaving.server, &mut text));
        words.push(put(&mut text, leaving.upstream.as_bytes()));
        words.push(leaving.dropped);
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
    words[slot::CHECKSUM] = u64::from(checksum_of_slot(words));
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
