//! What `top` looks at, and what happened between two looks.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use weir_master::syncer::recorder::report::Report;
use weir_shm::{CounterId, ReadError, Reader, ServerCounters, Table, WorkerRow};

use super::super::text::shown;

/// One look.
#[derive(Debug, Default)]
pub struct Sample {
    pub master: u32,
    pub table: Table,
    pub report: Report,
    pub workers: Vec<WorkerRow>,
    pub servers: Vec<ServerCounters>,
    /// Requests a second to each server since the look before, by counter row.
    pub rates: HashMap<CounterId, f64>,
    /// Requests a second of each worker's clients, by slot.
    pub worker_rates: HashMap<u32, f64>,
}

/// Looks at a region again and again, and at the one that takes its place.
pub struct Sampler {
    path: PathBuf,
    reader: Reader,
    file: (u64, u64),
    before: Option<Before>,
}

/// The counts of the look before.
struct Before {
    at: Instant,
    servers: HashMap<CounterId, u64>,
    workers: HashMap<u32, u64>,
}

impl Sampler {
    /// Opens the region.
    pub fn open(path: &Path) -> Result<Sampler, String> {
        let about = |error: ReadError| format!("\"{}\": {error}", shown(&path.to_string_lossy()));
        Ok(Sampler {
            reader: Reader::open(path).map_err(about)?,
            file: identity(path),
            path: path.to_owned(),
            before: None,
        })
    }

    /// One look.
    pub fn look(&mut self, now: Instant) -> Result<Sample, String> {
        let file = identity(&self.path);
        if file != self.file
            && let Ok(reader) = Reader::open(&self.path)
        {
            (self.reader, self.file, self.before) = (reader, file, None);
        }
        self.read(now).map_err(|error| error.to_string())
    }

    fn read(&mut self, now: Instant) -> Result<Sample, ReadError> {
        let master = self.reader.refresh()?.master_pid;
        let table = self.reader.table()?;
        let mut sample = Sample {
            master,
            report: Report::parse(&self.reader.report()?).unwrap_or_default(),
            workers: self.reader.workers()?,
            servers: self.reader.counters(&table)?,
            table,
            ..Sample::default()
        };
        let servers = sample.servers.iter();
        let servers: HashMap<_, _> = servers.map(|s| (s.id, s.total.requests)).collect();
        let workers = sample.workers.iter();
        let workers: HashMap<_, _> = workers.map(|w| (w.slot, w.status.requests)).collect();
        if let Some(before) = &self.before {
            let seconds = now.saturating_duration_since(before.at).as_secs_f64();
            sample.rates = rates(&before.servers, &servers, seconds);
            sample.worker_rates = rates(&before.workers, &workers, seconds);
        }
        self.before = Some(Before {
            at: now,
            servers,
            workers,
        });
        Ok(sample)
    }
}

/// A look as JSON.
pub fn to_json(sample: &Sample, alive: impl Fn(u32) -> bool) -> Value {
    let workers: Vec<Value> = sample
        .workers
        .iter()
        .map(|worker| {
            json!({
                "slot": worker.slot,
                "pid": worker.pid,
                "alive": alive(worker.pid),
                "state": worker.state.to_string(),
                "table_version": worker.table_version,
                "connections": worker.status.active,
                "requests_per_s": sample.worker_rates.get(&worker.slot).copied().unwrap_or(0.0),
            })
        })
        .collect();
    let servers: Vec<Value> = sample
        .servers
        .iter()
        .map(|server| {
            json!({
                "upstream": server.upstream,
                "address": server.address.to_string(),
                "leaving": server.leaving,
                "requests_per_s": sample.rates.get(&server.id).copied().unwrap_or(0.0),
                "in_flight": server.total.in_flight,
                "requests": server.total.requests,
                "failures": server.total.failures,
            })
        })
        .collect();
    json!({
        "master": sample.master,
        "alive": alive(sample.master),
        "table_version": sample.table.version,
        "workers": workers,
        "sources": sample.report.sources,
        "upstreams": sample.report.upstreams,
        "servers": servers,
    })
}

fn rates<K: std::hash::Hash + Eq + Copy>(
    before: &HashMap<K, u64>,
    now: &HashMap<K, u64>,
    seconds: f64,
) -> HashMap<K, f64> {
    let rate = |(key, count): (&K, &u64)| {
        // One that is new has begun at 0.
        let more = count.saturating_sub(before.get(key).copied().unwrap_or(0));
        (*key, more as f64 / seconds.max(0.001))
    };
    now.iter().map(rate).collect()
}

/// Device and inode.
fn identity(path: &Path) -> (u64, u64) {
    fs::metadata(path).map_or((0, 0), |found| (found.dev(), found.ino()))
}
