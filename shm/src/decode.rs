//! The words of a slot as a table. They may be anything: every count and reference is bounded
//! before it is used.

use std::cell::Cell;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Damage;
use crate::layout::{Capacity, Layout, WORD, slot};
use crate::table::{
    Address, CounterId, Leaving, Seen, Server, TEMPLATE_NAME_MAX, Table, Upstream, high, low,
};

/// Kinds of address in the low byte of a server's first word.
pub(crate) const IPV4: u64 = 1;
pub(crate) const IPV6: u64 = 2;
pub(crate) const UNIX: u64 = 3;
/// Flags beside them.
pub(crate) const DOWN: u64 = 1 << 8;
pub(crate) const BACKUP: u64 = 1 << 9;
/// The highest bit of an upstream's last word.
pub(crate) const LEARNED: u64 = 1 << 63;
/// Bits of the first word that are not in use.
const UNUSED: u64 = 0xfc00;

/// What the head of a slot says, checked against the region's capacity and against itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: u64,
    pub(crate) words: usize,
    pub(crate) upstreams: usize,
    pub(crate) servers: usize,
    pub(crate) leaving: usize,
    pub(crate) text_bytes: usize,
    pub(crate) seen: Seen,
    pub(crate) published: u64,
    pub(crate) checksum: u64,
}

impl Head {
    pub(crate) fn parse(words: &[u64; slot::HEAD], layout: &Layout) -> Result<Self, Damage> {
        let capacity = &layout.capacity;
        let bounded = |at: usize, most: usize, what: &str| {
            let value = words[at];
            usize::try_from(value)
                .ok()
                .filter(|value| *value <= most)
                .ok_or_else(|| Damage(format!("{what} is {value}, at most {most}")))
        };
        let servers = capacity.servers as usize;
        let head = Head {
            version: words[slot::VERSION],
            words: bounded(slot::WORDS, layout.slot_words, "number of words")?,
            upstreams: bounded(
                slot::UPSTREAMS,
                capacity.upstreams as usize,
                "number of upstreams",
            )?,
            servers: bounded(slot::SERVERS, servers, "number of servers")?,
            leaving: bounded(slot::LEAVING, servers, "number of leaving servers")?,
            text_bytes: bounded(slot::TEXT, layout.text_bytes, "length of text")?,
            seen: Seen(words[slot::SEEN]),
            published: words[slot::PUBLISHED],
            checksum: words[slot::CHECKSUM],
        };
        if head.text().end != head.words {
            return Err(Damage(format!(
                "has {} words, its parts have {}",
                head.words,
                head.text().end
            )));
        }
        Ok(head)
    }

    /// Words of the upstreams' records.
    pub(crate) fn upstream_records(&self) -> Range<usize> {
        slot::HEAD..slot::HEAD + self.upstreams * slot::UPSTREAM
    }

    /// Words of the records of the servers `from..to`, bounded by those that there are.
    pub(crate) fn server_records(&self, servers: Range<usize>) -> Range<usize> {
        let base = self.upstream_records().end;
        let at = |server: usize| base + server.min(self.servers) * slot::SERVER;
        at(servers.start)..at(servers.end)
    }

    fn leaving_records(&self) -> Range<usize> {
        let base = self.server_records(0..self.servers).end;
        base..base + self.leaving * slot::LEAVER
    }

    /// Words of the text.
    pub(crate) fn text(&self) -> Range<usize> {
        let base = self.leaving_records().end;
        base..base + self.text_bytes.div_ceil(WORD)
    }

    /// The text as bytes, into `text`, which keeps its allocation.
    pub(crate) fn copy_text(&self, words: &[u64], text: &mut Vec<u8>) {
        text.clear();
        text.extend(
            words[self.text()]
                .iter()
                .flat_map(|word| word.to_ne_bytes()),
        );
        text.truncate(self.text_bytes);
    }
}

/// An upstream's record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpstreamRecord {
    name: u64,
    pub(crate) changed: u64,
    pub(crate) learned: bool,
    pub(crate) first: usize,
    pub(crate) servers: usize,
    /// Its template's number from 1; 0 is none.
    template: u64,
}

impl UpstreamRecord {
    pub(crate) fn parse(words: &[u64]) -> Self {
        UpstreamRecord {
            name: words[0],
            changed: words[1],
            learned: words[2] & LEARNED != 0,
            first: low(words[2]) as usize,
            servers: high(words[2] & !LEARNED) as usize,
            template: words[3],
        }
    }

    /// Its servers by number.
    pub(crate) fn range(&self) -> Range<usize> {
        self.first..self.first + self.servers
    }
}

/// Words that hold a table, or at least the parts that are asked for.
pub(crate) struct View<'a> {
    pub(crate) head: Head,
    words: &'a [u64],
    text: &'a [u8],
    /// Bytes of text handed out: no byte is copied twice, else a small file could decode to a huge
    /// table.
    spent: Cell<usize>,
    capacity: Capacity,
}

impl<'a> View<'a> {
    /// `words` are the `head.words` of the slot, `text` is what [`Head::copy_text`] makes of them.
    pub(crate) fn of(head: Head, words: &'a [u64], text: &'a [u8], capacity: Capacity) -> Self {
        View {
            head,
            words,
            text,
            spent: Cell::new(0),
            capacity,
        }
    }

    /// Bytes of text handed out so far.
    pub(crate) fn spent(&self) -> usize {
        self.spent.get()
    }

    /// Goes on where another view of the same words has ended.
    pub(crate) fn set_spent(&mut self, spent: usize) {
        self.spent.set(spent);
    }

    pub(crate) fn upstream(&self, number: usize) -> Result<(UpstreamRecord, &'a str), Damage> {
        let at = slot::HEAD + number * slot::UPSTREAM;
        let record = UpstreamRecord::parse(&self.words[at..at + slot::UPSTREAM]);
        if record.range().end > self.head.servers {
            return Err(Damage(format!(
                "upstream {number} has servers {} to {} of {}",
                record.first,
                record.range().end,
                self.head.servers
            )));
        }
        if record.changed > self.head.version {
            return Err(Damage(format!(
                "upstream {number} changed in version {}, the table has {}",
                record.changed, self.head.version
            )));
        }
        Ok((record, self.string(record.name)?))
    }

    /// The name of the upstream that a discovered one is like.
    pub(crate) fn template(&self, record: &UpstreamRecord) -> Result<Option<&'a str>, Damage> {
        let Some(number) = record.template.checked_sub(1) else {
            return Ok(None);
        };
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if number >= self.head.upstreams {
            return Err(Damage(format!("an upstream has template {number}")));
        }
        let at = slot::HEAD + number * slot::UPSTREAM;
        let template = UpstreamRecord::parse(&self.words[at..at + slot::UPSTREAM]);
        // Every discovered upstream may have the same one: it is not counted as spent, but short.
        let (at, length) = (low(template.name) as usize, high(template.name) as usize);
        let name = self.text.get(at..at + length.min(TEMPLATE_NAME_MAX + 1));
        let name = name.filter(|name| name.len() == length);
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        name.map(Some)
            .ok_or_else(|| Damage("a template has no name".to_owned()))
    }

    pub(crate) fn server(&self, number: usize) -> Result<Server, Damage> {
        let at = self.head.server_records(0..number).end;
        self.record(&self.words[at..at + slot::SERVER])
    }

    fn leaving(&self) -> Result<Vec<Leaving>, Damage> {
        let mut all: Vec<Leaving> = Vec::with_capacity(self.head.leaving);
        let mut latest = None;
        for words in self.words[self.head.leaving_records()].chunks_exact(slot::LEAVER) {
            let server = self.record(&words[..slot::SERVER])?;
            let name = words[slot::SERVER];
            let upstream = match (latest, all.last()) {
                (Some(same), Some(last)) if same == name => Arc::clone(&last.upstream),
                _ => Arc::from(self.string(name)?),
            };
            latest = Some(name);
            all.push(Leaving {
                upstream,
                server,
                dropped: words[slot::SERVER + 1],
            });
        }
        Ok(all)
    }

    fn record(&self, words: &[u64]) -> Result<Server, Damage> {
        let first = words[0];
        let port = (first >> 16) as u16;
        let address = match first & 0xff {
            IPV4 if words[1] <= u64::from(u32::MAX) => Address::Ip(SocketAddr::V4(
                SocketAddrV4::new(Ipv4Addr::from(low(words[1])), port),
            )),
            IPV6 => {
                let ip = Ipv6Addr::from(u128::from(words[1]) << 64 | u128::from(words[2]));
                let (flowinfo, scope) = (low(words[3]), high(words[3]));
                Address::Ip(SocketAddr::V6(SocketAddrV6::new(ip, port, flowinfo, scope)))
            }
            UNIX => Address::Unix(PathBuf::from(OsStr::from_bytes(self.bytes(words[1])?))),
            kind => return Err(Damage(format!("a server has an address of kind {kind}"))),
        };
        if first & UNUSED != 0 {
            return Err(Damage(format!(
                "a server has unknown flags {:#x}",
                first & UNUSED
            )));
        }
        let counter = CounterId::from_word(words[6]);
        if counter.index >= self.capacity.servers {
            return Err(Damage(format!(
                "a server has counter row {} of {}",
                counter.index, self.capacity.servers
            )));
        }
        Ok(Server {
            address,
            weight: high(first),
            max_fails: u32::try_from(words[4])
                .map_err(|_| Damage(format!("a server has max_fails {}", words[4])))?,
            fail_timeout_ms: words[5],
            down: first & DOWN != 0,
            backup: first & BACKUP != 0,
            counter,
        })
    }

    fn bytes(&self, reference: u64) -> Result<&'a [u8], Damage> {
        let (at, length) = (low(reference) as usize, high(reference) as usize);
        self.spent.set(self.spent.get() + length);
        if self.spent.get() > self.text.len() {
            return Err(Damage("names overlap".to_owned()));
        }
        self.text.get(at..at + length).ok_or_else(|| {
            Damage(format!(
                "text {at} to {} of {} bytes",
                at + length,
                self.text.len()
            ))
        })
    }

    fn string(&self, reference: u64) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes(reference)?)
            .map_err(|_| Damage("a name is not UTF-8".to_owned()))
    }

    /// The whole table.
    pub(crate) fn table(&self) -> Result<Table, Damage> {
        let mut upstreams = Vec::with_capacity(self.head.upstreams);
        let mut next = 0;
        for number in 0..self.head.upstreams {
            let (record, name) = self.upstream(number)?;
            // Each server belongs to one upstream.
            if record.first != next {
                return Err(Damage(format!(
                    "upstream {number} begins at server {}, not {next}",
                    record.first
                )));
            }
            next = record.range().end;
            upstreams.push(Upstream {
                name: name.to_owned(),
                changed: record.changed,
                learned: record.learned,
                template: self.template(&record)?.map(Arc::from),
                servers: record
                    .range()
                    .map(|at| self.server(at))
                    .collect::<Result<_, _>>()?,
            });
        }
        if next != self.head.servers {
            return Err(Damage(format!(
                "{next} of {} servers have an upstream",
                self.head.servers
            )));
        }
        Ok(Table {
            version: self.head.version,
            upstreams,
            leaving: self.leaving()?,
            seen: self.head.seen,
            published: self.head.published,
        })
    }
}

/// Checks the words of a slot, checksum first, and decodes them.
pub(crate) fn decode(words: &[u64], layout: &Layout) -> Result<Table, Damage> {
    let head_words = words
        .first_chunk::<{ slot::HEAD }>()
        .ok_or_else(|| Damage(format!("{} words are no table", words.len())))?;
    let head = Head::parse(head_words, layout)?;
    let words = words
        .get(..head.words)
        .ok_or_else(|| Damage(format!("ends after {}", words.len())))?;
    let sum = crate::encode::checksum_of_slot(words);
    if head.checksum != u64::from(sum) {
        return Err(Damage(format!(
            "checksum is {:#010x}, not {sum:#010x}",
            head.checksum
        )));
    }
    let mut text = Vec::new();
    head.copy_text(words, &mut text);
    View::of(head, words, &text, layout.capacity).table()
}
