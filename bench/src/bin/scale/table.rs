//! A table in Consul, and how it looks in the region.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use weir_bench::consul::{Consul, Weir};
use weir_shm::Reader;

use crate::{open, text};

/// Between two changes.
pub const PAUSE: Duration = Duration::from_millis(100);
/// A change that takes longer is a failure, not a sample.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_micros(200);

/// So many upstreams of so many servers each.
#[derive(Clone, Copy)]
pub struct Shape {
    pub upstreams: usize,
    pub servers: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.upstreams, self.servers)
    }
}

impl Shape {
    fn all(self) -> usize {
        self.upstreams * self.servers
    }

    fn key(self, number: usize) -> String {
        let upstream = number / self.servers;
        let [_, _, high, low] = (number as u32).to_be_bytes();
        format!("upstreams/u{upstream:04}/10.1.{high}.{low}:8080")
    }

    /// Every key and its value.
    pub fn entries(self) -> Vec<(String, String)> {
        let entry = |number| (self.key(number), value(10));
        (0..self.all()).map(entry).collect()
    }
}

fn value(fail_timeout: u64) -> String {
    format!(r#"{{"weight":1, "max_fails":2, "fail_timeout":{fail_timeout}}}"#)
}

/// A weir that follows a table whose keys Consul has.
pub fn follow(
    folder: &Path,
    workers: usize,
    shape: Shape,
    consul: &Consul,
    location: &str,
) -> Result<Weir, String> {
    let mut http = String::new();
    let port = consul.port;
    for upstream in 0..shape.upstreams {
        let _ = writeln!(
            http,
            "  upstream u{upstream:04} {{ upsync 127.0.0.1:{port}/v1/kv/upstreams/u{upstream:04} \
             upsync_type=consul; }}"
        );
    }
    Weir::start(
        folder,
        workers,
        &http,
        &format!("    location / {{ {location} }}"),
    )
}

/// What can be seen of a weir.
pub struct Sight(Reader);

/// How long a change took.
pub struct Change {
    /// From the last byte of the answer that told of it to the publish.
    pub published_ms: f64,
    /// From the PUT's answer until every worker routed by it.
    pub used_ms: f64,
}

impl Sight {
    pub fn new(weir: &Weir) -> Result<Sight, String> {
        open(weir).map(Sight)
    }

    /// Waits until all servers are there and every worker routes by them.
    pub fn wait_for(&self, shape: Shape) -> Result<(), String> {
        let until = Instant::now() + TIMEOUT;
        loop {
            let table = self.0.table().map_err(text)?;
            let learned = table.upstreams.iter().filter(|upstream| upstream.learned);
            let has: usize = learned.map(|upstream| upstream.servers.len()).sum();
            if has == shape.all() && self.oldest()? == table.version {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("the table has {has} servers after {TIMEOUT:?}"));
            }
            thread::sleep(10 * LOOK);
        }
    }

    /// Changes one server, another each time.
    pub fn change(&self, shape: Shape, consul: &mut Consul, number: u64) -> Result<Change, String> {
        let before = self.0.latencies().map_err(text)?.published.sum_us;
        let version = self.version()?;
        touch(shape, consul, number)?;
        let began = Instant::now();
        while self.oldest()? == version {
            if began.elapsed() > TIMEOUT {
                return Err(format!("a change is not live after {TIMEOUT:?}"));
            }
            thread::sleep(LOOK);
        }
        let used = began.elapsed();
        let after = self.0.latencies().map_err(text)?.published.sum_us;
        match self.version()? - version {
            1 => Ok(Change {
                published_ms: (after - before) as f64 / 1000.0,
                used_ms: used.as_secs_f64() * 1000.0,
            }),
            many => Err(format!("a change made {many} versions")),
        }
    }

    /// Waits until no version has been published for a while, and every worker routes by the last.
    pub fn settle(&self) -> Result<(), String> {
        let until = Instant::now() + TIMEOUT;
        let mut version = self.version()?;
        loop {
            thread::sleep(PAUSE);
            let now = self.version()?;
            if std::mem::replace(&mut version, now) == now && self.oldest()? == now {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("the table still changes after {TIMEOUT:?}"));
            }
        }
    }

    pub fn version(&self) -> Result<u64, String> {
        self.0.version().map_err(text)
    }

    /// The oldest version that a worker routes by.
    fn oldest(&self) -> Result<u64, String> {
        let rows = self.0.workers().map_err(text)?;
        Ok(rows.iter().map(|row| row.table_version).min().unwrap_or(0))
    }

    /// The workers' process ids.
    pub fn workers(&self) -> Result<Vec<u32>, String> {
        let rows = self.0.workers().map_err(text)?;
        Ok(rows.iter().map(|row| row.pid).collect())
    }

    /// The syncer's process id.
    pub fn syncer(&self) -> u32 {
        self.0.header().writer_pid
    }
}

/// Gives one server another parameter; `number` says which, and is another one each time.
pub fn touch(shape: Shape, consul: &mut Consul, number: u64) -> Result<(), String> {
    let at = (number as usize).wrapping_mul(7919) % shape.all();
    consul.put(&shape.key(at), &value(1000 + number))
}
