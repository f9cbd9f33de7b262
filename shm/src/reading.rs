//! A table on its way from its slot into a worker's [`Snapshot`], some of it at a time: a large one
//! keeps nobody waiting.

use std::ops::Range;
use std::sync::Arc;

use crate::decode::{Head, UpstreamRecord, View};
use crate::error::{Damage, SnapshotError};
use crate::latch::{Ring, Slot};
use crate::layout::{Layout, slot};
use crate::word::Words;
use crate::worker::{Snapshot, SnapshotUpstream};

/// Attempts to read a table before a worker goes on with the one that it has.
const ATTEMPTS: usize = 8;

/// Servers or upstreams that are copied for what one costs that becomes a value: copying is loads of
/// a few words each. A worker's slice of 96 steps then copies up to 3072 servers, 170 KB, in 10 to 20
/// microseconds.
///
/// A worker whose turns are long can be lapped all the same, by a large table that changes all the
/// time. So this is twice as much after each attempt that was spoiled, and the last attempt copies
/// whatever there is at once, which takes a publish every few milliseconds to spoil.
const COPIED_A_STEP: usize = 32;

/// What a reader keeps from one table to the next, so that reading allocates little.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    words: Vec<u64>,
    text: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reading {
    attempt: usize,
    /// Of upstreams that have not changed after this version only the name is read.
    since: u64,
    head: Head,
    stage: Stage,
    /// See [`View`].
    spent: usize,
}

#[derive(Debug)]
enum Stage {
    /// The next publishes have spoiled the attempt. The next one begins with the next step, so that
    /// its first words are as young as can be.
    Spoiled,
    /// Words are copied: those of this upstream from this one of its servers on.
    Copying(usize, usize),
    /// They become values: after the servers of this range, which are the last upstream's, this upstream.
    Decoding(Range<usize>, usize),
}

/// Where a table is read from.
pub(crate) struct Source<'a> {
    pub(crate) ring: Ring,
    pub(crate) tables: &'a Words,
    pub(crate) layout: &'a Layout,
}

impl Reading {
    /// Begins with the table that is published now; `None` before the first publish.
    ///
    /// # Errors
    /// It is damaged, or every attempt was spoiled by the next publishes.
    pub(crate) fn begin(
        source: &Source<'_>,
        since: u64,
        buffers: &mut Buffers,
    ) -> Result<Option<Reading>, SnapshotError> {
        Reading::attempt(source, 0, since, buffers)
    }

    fn attempt(
        source: &Source<'_>,
        first: usize,
        since: u64,
        buffers: &mut Buffers,
    ) -> Result<Option<Reading>, SnapshotError> {
        for attempt in first..ATTEMPTS {
            let words = &mut buffers.words;
            let copied = source.ring.read(source.tables, |version, slot| {
                copy_head(version, slot, source.layout, words)
            });
            let Some((version, head)) = copied else {
                continue;
            };
            let Some(head) = head? else {
                return Ok(None);
            };
            if head.version != version {
                return Err(SnapshotError::Damaged(Damage(format!(
                    "slot of version {version} has version {}",
                    head.version
                ))));
            }
            head.copy_text(&buffers.words, &mut buffers.text);
            return Ok(Some(Reading {
                attempt,
                since,
                head,
                stage: Stage::Copying(0, 0),
                spent: 0,
            }));
        }
        Err(SnapshotError::Lapped)
    }

    /// Goes on as long as the budget lasts, of which an upstream and a server each take one, and many
    /// together take one while they are copied; true when `into` has it all. It begins again when the
    /// writer has come around meanwhile.
    ///
    /// # Errors
    /// As [`Reading::begin`]; `into` may then have anything.
    pub(crate) fn step(
        &mut self,
        source: &Source<'_>,
        budget: &mut usize,
        buffers: &mut Buffers,
        into: &mut Snapshot,
    ) -> Result<bool, SnapshotError> {
        if matches!(self.stage, Stage::Spoiled) {
            let next = Reading::attempt(source, self.attempt + 1, self.since, buffers)?;
            *self = next.ok_or(SnapshotError::Lapped)?;
        }
        if let Stage::Copying(upstream, server) = self.stage {
            let copied = source
                .ring
                .read_of(source.tables, self.head.version, |slot| {
                    self.copy(slot, (upstream, server), budget, &mut buffers.words)
                });
            match copied {
                Some((upstream, _)) if upstream == self.head.upstreams => {
                    into.upstreams
                        .resize_with(upstream, SnapshotUpstream::default);
                    self.stage = Stage::Decoding(0..0, 0);
                }
                Some((upstream, server)) => {
                    self.stage = Stage::Copying(upstream, server);
                    return Ok(false);
                }
                None => {
                    self.stage = Stage::Spoiled;
                    return Ok(false);
                }
            }
        }
        let mut view = View::of(
            self.head,
            &buffers.words,
            &buffers.text,
            source.layout.capacity,
        );
        view.set_spent(self.spent);
        let done = self.decode(&view, budget, into);
        self.spent = view.spent();
        done.map_err(SnapshotError::Damaged)
    }

    /// Copies the servers of upstreams that have changed to the same places in `words`. Where it ended.
    fn copy(
        &self,
        from: Slot<'_, Words>,
        (mut upstream, mut server): (usize, usize),
        budget: &mut usize,
        words: &mut [u64],
    ) -> (usize, usize) {
        let a_step = self.copied_a_step();
        let mut most = budget.saturating_mul(a_step);
        while upstream < self.head.upstreams && most > 0 {
            let record = record(words, upstream);
            let left = match record.changed > self.since {
                true => record.servers.saturating_sub(server),
                false => 0,
            };
            let some = left.min(most);
            let first = record.first + server;
            let range = self.head.server_records(first..first + some);
            from.copy(range.start, &mut words[range]);
            most -= some;
            server += some;
            if some == left {
                most = most.saturating_sub(1);
                (upstream, server) = (upstream + 1, 0);
            }
        }
        *budget = most / a_step;
        (upstream, server)
    }

    fn copied_a_step(&self) -> usize {
        match self.attempt + 1 {
            ATTEMPTS => usize::MAX,
            _ => COPIED_A_STEP << self.attempt,
        }
    }

    fn decode(
        &mut self,
        view: &View<'_>,
        budget: &mut usize,
        into: &mut Snapshot,
    ) -> Result<bool, Damage> {
        let Stage::Decoding(servers, next) = &mut self.stage else {
            return Ok(false);
        };
        loop {
            if servers.start < servers.end {
                let some = servers.len().min(*budget);
                let these = servers.start..servers.start + some;
                servers.start += some;
                *budget -= some;
                let to = into.upstreams.get_mut(*next - 1);
                if let Some(to) = to.and_then(|upstream| upstream.servers.as_mut()) {
                    for at in these {
                        to.push(view.server(at)?);
                    }
                }
            }
            let Some(to) = into.upstreams.get_mut(*next) else {
                let done = servers.start == servers.end;
                if done {
                    into.version = view.head.version;
                    into.published = view.head.published;
                }
                return Ok(done);
            };
            if *budget == 0 {
                return Ok(false);
            }
            *budget -= 1;
            let record = take_over(view, *next, to)?;
            to.servers = (record.changed > self.since).then(|| Vec::with_capacity(record.servers));
            if to.servers.is_some() {
                *servers = record.range();
            }
            *next += 1;
        }
    }
}

/// An upstream with all but its servers.
fn take_over(
    view: &View<'_>,
    number: usize,
    to: &mut SnapshotUpstream,
) -> Result<UpstreamRecord, Damage> {
    let (record, name) = view.upstream(number)?;
    let template = view.template(&record)?;
    if to.name != name {
        name.clone_into(&mut to.name);
    }
    to.changed = record.changed;
    if to.template.as_deref() != template {
        to.template = template.map(Arc::from);
    }
    Ok(record)
}

fn record(words: &[u64], upstream: usize) -> UpstreamRecord {
    let at = slot::HEAD + upstream * slot::UPSTREAM;
    UpstreamRecord::parse(&words[at..at + slot::UPSTREAM])
}

/// Copies the head of a slot, the records of its upstreams and its text to the same places in `words`;
/// `None` before the first publish. The words may be torn, so that nothing in them is trusted further
/// than its bounds.
fn copy_head(
    version: u64,
    from: Slot<'_, Words>,
    layout: &Layout,
    words: &mut Vec<u64>,
) -> Result<Option<Head>, SnapshotError> {
    if version == 0 {
        return Ok(None);
    }
    let mut head = [0; slot::HEAD];
    from.copy(0, &mut head);
    let head = Head::parse(&head, layout).map_err(SnapshotError::Damaged)?;
    if words.len() < head.words {
        let room = words.try_reserve_exact(head.words - words.len());
        room.map_err(|_| SnapshotError::NoMemory { words: head.words })?;
        words.resize(head.words, 0);
    }
    for range in [head.upstream_records(), head.text()] {
        from.copy(range.start, &mut words[range]);
    }
    Ok(Some(head))
}
