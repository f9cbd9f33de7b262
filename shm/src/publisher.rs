//! The publisher: the one writer of tables.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::clock;
use crate::decode::decode;
use crate::encode::{encode, text_bytes};
use crate::error::{Damage, Error, PublishError};
use crate::journal::{Journal, Lock};
use crate::latch::{Load, Ring, Store};
use crate::latency;
use crate::layout::{Layout, header};
use crate::reconcile::{Matched, reconcile};
use crate::region::{Region, ring};
use crate::rows::{Rows, take_back};
use crate::table::{Leaving, Seen, Table, Upstream};
use crate::word::WordsMut;

/// What a publish did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The version of the table now in force.
    pub version: u64,
    /// Whether it is a new one; equal content is not published again.
    pub changed: bool,
}

/// Publishes tables. Holds the writer's lock of the region until it is dropped.
#[derive(Debug)]
pub struct Publisher {
    words: WordsMut,
    layout: Layout,
    ring: Ring,
    table: Table,
    rows: Rows,
    buffer: Vec<u64>,
    lock: Arc<Lock>,
}

impl Publisher {
    /// Waits for the writer's lock on `writer` (from [`Region::writer_file`]), then goes on from
    /// the region's last table and version: a writer that died half-way has left them whole.
    pub fn new(region: &Region, writer: File) -> Result<Publisher, Error> {
        lock(&writer).map_err(|source| Error::Io {
            action: "lock",
            path: region.path().to_owned(),
            source,
        })?;
        let words = region.words().clone();
        let layout = *region.layout();
        let ring = ring(&layout);
        let table = last_table(&words, &layout, &ring).map_err(Error::Damaged)?;
        let rows = Rows::new(words.clone(), layout, &table);
        words.store(header::WRITER, u64::from(std::process::id()));
        let publisher = Publisher {
            words,
            layout,
            ring,
            table,
            rows,
            buffer: Vec::new(),
            lock: Arc::new(Lock::new(writer)),
        };
        publisher.turned();
        Ok(publisher)
    }

    /// Tells whoever looks at the region that the publisher's owner is not stuck.
    pub fn turned(&self) {
        self.words
            .store(header::WRITER_TURNED, clock::monotonic_ms());
    }

    /// The table in force.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The next version is the one after `version`: those of a region that is new go on from those
    /// of another. One that has a table already goes on from its own.
    pub fn start_after(&mut self, version: u64) {
        if self.table.version == 0 {
            self.table.version = version;
        }
    }

    /// The writer of the history and the report, under this publisher's lock.
    pub fn journal(&self) -> Journal {
        Journal::new(self.words.clone(), &self.layout, Arc::clone(&self.lock))
    }

    /// Publishes the upstreams as the next version, unless they are what is published already.
    ///
    /// `changed` and `counter` of the input are ignored. A server that was in the upstream of the
    /// same name before, or is still leaving it, keeps its counter row; a new one gets a row that
    /// nobody has; the row of one that is gone comes free when every live worker routes by a table
    /// without it and none has a request in flight to it. On an error nothing has changed.
    ///
    /// `seen` is when the last byte of the answer that says so was read; how long it took from
    /// there is counted.
    pub fn publish(
        &mut self,
        upstreams: Vec<Upstream>,
        seen: Seen,
    ) -> Result<Publication, PublishError> {
        let Matched {
            mut upstreams,
            new,
            gone,
            changed,
            renamed,
        } = reconcile(&self.table.upstreams, upstreams);
        if !changed && self.ring.version(&self.words) > 0 {
            return Ok(Publication {
                version: self.table.version,
                changed: false,
            });
        }
        // Those of the last table were looked at before.
        if renamed {
            check_names(&upstreams)?;
        }
        let version = self.table.version.wrapping_add(1);
        let (mut leaving, freed) = self.rows.part(&self.table.leaving);
        let new = take_back(&mut upstreams, new, &mut leaving);
        let gone = gone.into_iter();
        leaving.extend(gone.map(|(upstream, server)| Leaving {
            upstream,
            server,
            dropped: version,
        }));
        self.check(&upstreams, &leaving)?;

        self.rows.release(&freed);
        for (upstream, server) in new {
            // What was checked above leaves a row for each.
            if let Some(counter) = self.rows.take() {
                upstreams[upstream].servers[server].counter = counter;
            }
        }
        for upstream in upstreams
            .iter_mut()
            .filter(|upstream| upstream.changed == 0)
        {
            upstream.changed = version;
        }
        self.table = Table {
            version,
            upstreams,
            leaving,
            seen,
            published: clock::now_ns(),
        };
        encode(&self.table, &mut self.buffer);
        self.ring.publish(&self.words, version, &self.buffer);
        if seen != Seen::NOBODY {
            let took = clock::now_ns().saturating_sub(seen.0);
            latency::note(&self.words, self.layout.publishing(), took);
        }
        Ok(Publication {
            version,
            changed: true,
        })
    }

    fn check(&self, upstreams: &[Upstream], leaving: &[Leaving]) -> Result<(), PublishError> {
        let room = self.layout.capacity.upstreams as usize;
        if upstreams.len() > room {
            return Err(PublishError::TooManyUpstreams {
                has: upstreams.len(),
                room,
            });
        }
        let has = upstreams
            .iter()
            .map(|upstream| upstream.servers.len())
            .sum();
        let room = self.layout.capacity.servers as usize;
        if has + leaving.len() > room {
            let room = room - leaving.len().min(room);
            return Err(PublishError::TooManyServers {
                has,
                room,
                leaving: leaving.len(),
            });
        }
        let listed = upstreams
            .iter()
            .map(|u| (u.name.as_str(), u.servers.as_slice()));
        let has = text_bytes(listed, leaving);
        let room = self.layout.text_bytes;
        if has > room {
            return Err(PublishError::TextTooLong { has, room });
        }
        Ok(())
    }
}

/// Workers find an upstream by its name.
fn check_names(upstreams: &[Upstream]) -> Result<(), PublishError> {
    let mut names = HashSet::with_capacity(upstreams.len());
    let twice = upstreams
        .iter()
        .find(|upstream| !names.insert(upstream.name.as_str()));
    match twice {
        None => Ok(()),
        Some(upstream) => Err(PublishError::NameTwice {
            name: upstream.name.clone(),
        }),
    }
}

fn last_table(words: &WordsMut, layout: &Layout, ring: &Ring) -> Result<Table, Damage> {
    let version = ring.version(words);
    if version == 0 {
        return Ok(Table::default());
    }
    let first = ring.slot(version);
    let copy: Vec<u64> = (first..first + layout.slot_words)
        .map(|word| words.load(word))
        .collect();
    let table = decode(&copy, layout)?;
    if table.version != version {
        return Err(Damage(format!(
            "slot of version {version} has version {}",
            table.version
        )));
    }
    Ok(table)
}

/// Takes the lock of the open file description: it goes with the last copy of the descriptor,
/// however its holder dies.
fn lock(file: &File) -> io::Result<()> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&whole)) {
            Err(nix::errno::Errno::EINTR) => {}
            done => return Ok(done.map(drop)?),
        }
    }
}
