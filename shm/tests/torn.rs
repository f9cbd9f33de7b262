//! The torn-read campaign: real processes race over one region.
//!
//! A writer publishes as fast as it can and is killed again and again, often in the middle of a
//! slot; its successor takes the lock and goes on. Readers check that every table they get is of
//! one version: a worker, an outsider with pread, and a reader that dawdles in the middle of a copy
//! until the writer is at the point where the latch decides. The same dawdler with one version
//! more of tolerance is the negative control: it has to see torn tables.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]
#![allow(
    clippy::print_stdout,
    reason = "the roles report over their standard output"
)]

mod common;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_shm::latch::{Load, Slot};
use weir_shm::layout::{Layout, slot};
use weir_shm::{
    Address, Capacity, CounterId, ReadError, Reader, Region, Server, Snapshot, SnapshotError,
    Upstream,
};

use common::random::Random;

const CAPACITY: Capacity = Capacity {
    servers: 4096,
    upstreams: 8,
    workers: 4,
    slots: 4,
    history: Capacity::MIN_HISTORY,
};
const UPSTREAMS: usize = 4;
const SERVERS: usize = 2500;
/// Writers killed, at least.
const KILLS: usize = 40;
/// Writers killed in the middle of a slot, at least.
const KILLS_IN_A_SLOT: usize = 5;
/// The campaign goes on until everything above was met, but no longer than this.
const DEADLINE: Duration = Duration::from_secs(18);
/// A reader that gets nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(5);

const ROLE: &str = "WEIR_TORN_ROLE";
const REGION: &str = "WEIR_TORN_REGION";

fn main() {
    let Ok(role) = std::env::var(ROLE) else {
        return campaign();
    };
    let path = PathBuf::from(std::env::var(REGION).unwrap());
    let stop = stop_at_end_of_input();
    match role.as_str() {
        "writer" => write(&path, &stop),
        "worker" => read_as_worker(&path, &stop),
        "outsider" => read_as_outsider(&path, &stop),
        "dawdler" => dawdle(&path, 1, 0, &stop),
        "generous" => dawdle(&path, 2, 1, &stop),
        _ => panic!("no role {role}"),
    }
}

/// A child lives until its parent closes its input, or dies.
fn stop_at_end_of_input() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        set.store(true, Ordering::Relaxed);
    });
    stop
}

fn spawn(role: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .env(REGION, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn campaign() {
    let started = Instant::now();
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() {
        tempfile::tempdir_in(shared)
    } else {
        tempfile::tempdir()
    };
    let folder = folder.unwrap();
    let path = folder.path().join("torn.region");
    let region = Region::create(&path, CAPACITY).unwrap();
    let outside = Reader::open(&path).unwrap();
    let mut random = Random(0x7765_6972_2d73_686d);
    let roles = ["worker", "outsider", "dawdler", "generous"];
    let mut readers: Vec<_> = roles.map(|role| (role, spawn(role, &path))).into();

    let (mut kills, mut in_a_slot) = (0, 0);
    let mut torn_control = false;
    while kills < KILLS || in_a_slot < KILLS_IN_A_SLOT || !torn_control {
        if started.elapsed() > DEADLINE {
            break;
        }
        let mut writer = spawn("writer", &path);
        let goal = outside.version().unwrap() + 2 + random.below(60);
        while outside.version().unwrap() < goal {
            assert!(
                writer.try_wait().unwrap().is_none(),
                "the writer ended by itself"
            );
            assert!(started.elapsed() < DEADLINE + STUCK, "the writer is stuck");
            std::thread::yield_now();
        }
        spin(Duration::from_micros(random.below(2000)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        kills += 1;
        in_a_slot += usize::from(died_in_a_slot(&region, outside.version().unwrap()));
        torn_control |= path.with_extension("torn").exists();
    }

    let version = outside.version().unwrap();
    let mut results = HashMap::new();
    for (role, child) in &mut readers {
        drop(child.stdin.take());
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{role} failed: {said}");
        println!("{role}: {}", said.trim());
        results.insert(*role, numbers(&said));
    }
    println!("{kills} writers killed, {in_a_slot} in a slot, {version} tables published");
    assert!(
        kills >= KILLS && in_a_slot >= KILLS_IN_A_SLOT,
        "in {:?}",
        started.elapsed()
    );
    for role in ["worker", "outsider", "dawdler"] {
        let [good, _refused, torn, last] = results[role];
        assert!(good > 10, "{role} read only {good} tables");
        assert_eq!(torn, 0, "{role} read torn tables");
        assert_eq!(last, version, "{role} did not come to the last table");
    }
    let [_, refused, _, _] = results["dawdler"];
    assert!(
        refused > 0,
        "the dawdler was never at the point of decision"
    );
    assert!(
        results["generous"][2] > 0,
        "the negative control did not bite"
    );
}

/// The head of a slot is written first: it tells of a version that was not published.
fn died_in_a_slot(region: &Region, version: u64) -> bool {
    let (ring, memory) = region.latch();
    let first = ring.slot(version + 1);
    memory.load(first + slot::VERSION) == version + 1
}

fn numbers(said: &str) -> [u64; 4] {
    let numbers: Vec<u64> = said
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    numbers.try_into().unwrap()
}

/// Publishes tables all of whose servers carry the table's version.
fn write(path: &Path, stop: &AtomicBool) {
    let region = Region::open(path).unwrap();
    let writer = region.writer_file().unwrap();
    let mut publisher = weir_shm::Publisher::new(&region, writer).unwrap();
    let mut journal = publisher.journal();
    // A predecessor that was killed has left whole records, the newest at most one version behind.
    let left = journal.history().unwrap();
    assert!(
        left.iter()
            .all(|old| is_whole(old.version, old.text.as_deref()))
    );
    let newest = left.last().map_or(0, |record| record.version);
    assert!(publisher.table().version - newest <= 1 + SKIPPED);
    while !stop.load(Ordering::Relaxed) {
        let version = publisher.table().version + 1;
        let publication = publisher
            .publish(table(version), weir_shm::Seen::now())
            .unwrap();
        assert_eq!(publication.version, version);
        journal.append(version, &record(version));
        journal.report(&record(version)).unwrap();
    }
}

/// Killed one after another before their first record, some versions may have none.
const SKIPPED: u64 = 3;

/// What is recorded of a version, and reported.
fn record(version: u64) -> Vec<u8> {
    version.to_ne_bytes().repeat(20 + (version % 50) as usize)
}

fn is_whole(version: u64, text: Option<&[u8]>) -> bool {
    text == Some(&record(version))
}

fn table(version: u64) -> Vec<Upstream> {
    let server = |port: usize| Server {
        address: Address::Ip(([127, 0, 0, 1], port as u16).into()),
        weight: 1,
        max_fails: 1,
        fail_timeout_ms: version,
        down: false,
        backup: false,
        counter: CounterId::default(),
    };
    let share = SERVERS / UPSTREAMS;
    let upstream = |number: usize| Upstream {
        name: format!("upstream{number}"),
        changed: 0,
        learned: false,
        template: None,
        servers: (number * share..(number + 1) * share).map(server).collect(),
    };
    (0..UPSTREAMS).map(upstream).collect()
}

/// What a reader saw, and whether it still gets anywhere.
struct Seen {
    good: u64,
    refused: u64,
    torn: u64,
    last: u64,
    latest_good: Instant,
}

impl Seen {
    fn new() -> Self {
        Seen {
            good: 0,
            refused: 0,
            torn: 0,
            last: 0,
            latest_good: Instant::now(),
        }
    }

    fn table(&mut self, version: u64, whole: bool) {
        assert!(
            version >= self.last,
            "version {version} after {}",
            self.last
        );
        self.last = version;
        self.latest_good = Instant::now();
        if whole {
            self.good += 1;
        } else {
            self.torn += 1;
        }
    }

    fn refused(&mut self) {
        self.refused += 1;
        assert!(
            self.latest_good.elapsed() < STUCK,
            "stuck at version {}",
            self.last
        );
    }

    fn report(&self) {
        println!(
            "{} tables, {} refused, {} torn, the last of version {}",
            self.good, self.refused, self.torn, self.last
        );
    }
}

/// Reads once more after the end, when nothing is written any more.
fn repeat(stop: &AtomicBool, mut read: impl FnMut(&mut Seen)) {
    let mut seen = Seen::new();
    loop {
        let last = stop.load(Ordering::Relaxed);
        read(&mut seen);
        if last {
            break;
        }
    }
    seen.report();
}

fn read_as_worker(path: &Path, stop: &AtomicBool) {
    let mut worker = Region::open(path).unwrap().worker(0).unwrap();
    let mut snapshot = Snapshot::default();
    repeat(stop, |seen| {
        // From the beginning each time, so that every table is read whole.
        match worker.read(0, &mut snapshot) {
            Ok(()) => {
                let servers: Vec<_> = snapshot
                    .upstreams
                    .iter()
                    .filter_map(|u| u.servers.as_ref())
                    .flatten()
                    .collect();
                let whole = snapshot.version == 0
                    || servers.len() == SERVERS
                        && servers
                            .iter()
                            .all(|s| s.fail_timeout_ms == snapshot.version);
                worker.scoreboard().set_table_version(snapshot.version);
                seen.table(snapshot.version, whole);
            }
            Err(SnapshotError::Lapped) => seen.refused(),
            Err(error) => panic!("{error}"),
        }
    });
}

fn read_as_outsider(path: &Path, stop: &AtomicBool) {
    let reader = Reader::open(path).unwrap();
    repeat(stop, |seen| match reader.table() {
        Ok(table) => {
            match reader.history() {
                Ok(records) => {
                    for one in &records {
                        assert!(is_whole(one.version, one.text.as_deref()), "{one:?}");
                    }
                    assert!(records.is_sorted_by_key(|record| record.version));
                }
                Err(ReadError::Busy) => {}
                Err(error) => panic!("{error}"),
            }
            match reader.report() {
                Ok(report) => assert!(
                    report
                        .first_chunk()
                        .is_none_or(|version| report == record(u64::from_ne_bytes(*version))),
                    "{report:?}"
                ),
                Err(ReadError::Busy) => {}
                Err(error) => panic!("{error}"),
            }
            let servers: Vec<_> = table.upstreams.iter().flat_map(|u| &u.servers).collect();
            let whole = table.version == 0
                || servers.len() == SERVERS
                    && servers.iter().all(|s| s.fail_timeout_ms == table.version);
            seen.table(table.version, whole);
        }
        Err(ReadError::Busy) => seen.refused(),
        Err(error) => panic!("{error}"),
    });
}

/// Copies all of the slot but one server, waits, copies that one. It waits until the writer has
/// moved on by some versions or, half the time, until it overwrites that very server. Tells by a
/// file when it has seen a torn table.
fn dawdle(path: &Path, slot: u32, generosity: u64, stop: &AtomicBool) {
    let worker = Region::open(path).unwrap().worker(slot).unwrap();
    let (ring, memory) = worker.latch();
    let ring = ring.with_tolerance(ring.tolerance() + generosity);
    let mut random = Random(u64::from(slot));
    repeat(stop, |seen| {
        let slots = u64::from(CAPACITY.slots);
        let ambush = generosity > 0 || random.below(2) == 0;
        let moves = if ambush {
            slots - 1
        } else {
            random.below(slots + 1)
        };
        let server = SERVERS_AT + random.below(SERVERS as u64 / 10) as usize * slot::SERVER;
        let copied = ring.read(memory, |version, slot| {
            let until = Instant::now() + Duration::from_millis(5);
            copy(&slot, server, |timeout| {
                while ring.version(memory) < version + moves && Instant::now() < until {
                    std::hint::spin_loop();
                }
                let overwritten = || word(&slot, server + FAIL_TIMEOUT) != timeout;
                while ambush && !overwritten() && Instant::now() < until {
                    std::hint::spin_loop();
                }
            })
        });
        match copied {
            Some((version, words)) => {
                let whole = whole(version, &words);
                if !whole && generosity > 0 {
                    std::fs::write(path.with_extension("torn"), "").unwrap();
                }
                seen.table(version, whole);
            }
            None => seen.refused(),
        }
        worker.scoreboard().set_table_version(seen.last);
    });
}

const SERVERS_AT: usize = slot::HEAD + UPSTREAMS * slot::UPSTREAM;
const FAIL_TIMEOUT: usize = 5;

/// Copies a slot, the server at `late` after everything else and after `pause`, which gets the
/// word that the server had for its timeout before.
fn copy<M: Load>(slot: &Slot<'_, M>, late: usize, pause: impl FnOnce(u64)) -> Vec<u64> {
    assert_eq!(slot.words(), Layout::new(CAPACITY).slot_words);
    let mut words = vec![0; SERVERS_AT + SERVERS * slot::SERVER];
    assert!(slot.copy(0, &mut words));
    pause(words[late + FAIL_TIMEOUT]);
    assert!(slot.copy(late, &mut words[late..late + slot::SERVER]));
    words
}

fn word<M: Load>(slot: &Slot<'_, M>, at: usize) -> u64 {
    let mut word = [0];
    assert!(slot.copy(at, &mut word));
    word[0]
}

fn whole(version: u64, words: &[u64]) -> bool {
    let timeouts = words[SERVERS_AT..]
        .chunks(slot::SERVER)
        .map(|server| server[FAIL_TIMEOUT]);
    version == 0 || words[slot::VERSION] == version && timeouts.into_iter().all(|ms| ms == version)
}

fn spin(duration: Duration) {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
