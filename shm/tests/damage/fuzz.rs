//! Words of a region that are changed at random: nothing that is asked of it panics or lasts.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_shm::layout::{header, slot};
use weir_shm::{Publisher, Region, Seen, Snapshot, SnapshotError};

use super::super::common::random::Random;
use super::super::{
    CAPACITY, Fixture, LAYOUT, PUBLISHED, current, fixture, open, recompute, set, word, writable,
};

/// For each way of damaging.
const FUZZ_TIME: Duration = Duration::from_millis(1500);
const FUZZ_ROUNDS: usize = 20_000;

/// Everything that can be asked of a region, asked of a damaged one.
fn exercise(path: &Path) -> bool {
    let Ok(mut reader) = open(path) else {
        return false;
    };
    let good = match reader.table() {
        Ok(table) => {
            let _ = reader.counters(&table);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    };
    let _ = (
        reader.workers(),
        reader.status(),
        reader.report(),
        reader.latencies(),
        reader.version(),
        reader.refresh(),
    );
    if let Ok(records) = reader.history() {
        assert!(records.len() <= CAPACITY.history as usize / 32);
    }
    if let Ok(report) = reader.verify() {
        assert!(report.slots.len() < CAPACITY.slots as usize);
    }
    if let Ok(region) = Region::open(path) {
        let lock = region.writer_file().unwrap();
        if let Ok(mut publisher) = Publisher::new(&region, lock) {
            let upstreams = publisher.table().upstreams.clone();
            let _ = publisher.publish(upstreams, Seen(1));
            let mut journal = publisher.journal();
            for bytes in [0, 3000, 5000] {
                journal.append(PUBLISHED + 1, &vec![b'y'; bytes]);
            }
            journal.report(b"{}").unwrap();
            assert!(!journal.history().unwrap().is_empty());
        }
        let _ = region.scoreboard();
        if let Ok(mut worker) = region.worker(1) {
            let mut snapshot = Snapshot::default();
            for since in [0, PUBLISHED - 1] {
                if let Err(error) = worker.read(since, &mut snapshot) {
                    assert_ne!(error, SnapshotError::Lapped);
                }
            }
            let _ = worker.status();
            worker
                .failures()
                .poll(&mut worker.failures().cursors(), |_| {});
        }
        region.fold(0);
    }
    good
}

fn fuzz(repair: bool, seed: u64) -> (usize, usize) {
    let Fixture {
        path,
        folder: _folder,
        region,
    } = fixture();
    drop(region);
    let whole = std::fs::read(&path).unwrap();
    let file = writable(&path);
    let mut random = Random(seed);
    let until = Instant::now() + FUZZ_TIME;
    let (mut good, mut bad) = (0, 0);
    while good + bad < FUZZ_ROUNDS && Instant::now() < until {
        for _ in 0..=random.below(3) {
            let at = place(&mut random);
            set(&file, at, value(&mut random, word(&file, at)));
        }
        if repair {
            recompute(&file);
        }
        if exercise(&path) {
            good += 1;
        } else {
            bad += 1;
        }
        file.write_all_at(&whole, 0).unwrap();
    }
    (good, bad)
}

/// Mostly where something is that is used.
fn place(random: &mut Random) -> usize {
    let within = |random: &mut Random, first: usize, words: usize| {
        first + random.below(words as u64) as usize
    };
    match random.below(10) {
        0 => within(random, 0, header::WRITER + 1),
        1 => header::VERSION,
        8 => within(random, header::VERSION, header::WORDS - header::VERSION),
        9 => within(random, LAYOUT.history, LAYOUT.live - LAYOUT.history),
        2 => within(random, current(), slot::HEAD),
        3..=5 => within(random, current(), 120),
        _ => within(random, 0, LAYOUT.words),
    }
}

fn value(random: &mut Random, old: u64) -> u64 {
    match random.below(6) {
        0 => old ^ 1 << random.below(64),
        1 => old.wrapping_add(1),
        2 => old.wrapping_sub(1),
        3 => random.below(20),
        4 => [0, u64::MAX, u64::MAX >> 32, !0 << 32, 1 << 63][random.below(5) as usize],
        _ => random.next(),
    }
}

#[test]
fn no_mutated_region_is_too_strange() {
    let (good, bad) = fuzz(false, 1);
    assert!(good > 50 && bad > 50, "{good} read, {bad} refused");
}

#[test]
fn no_mutated_region_with_right_checksums_is_too_strange() {
    let (good, bad) = fuzz(true, 2);
    assert!(good > 50 && bad > 50, "{good} read, {bad} refused");
}
