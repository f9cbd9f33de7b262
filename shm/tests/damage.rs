//! Files that are no region, or one no more: a clear error for each, and nothing worse.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weir_shm::layout::{Layout, WORD, header, slot};
use weir_shm::{
    Address, Capacity, CounterId, Metric, Publisher, ReadError, Reader, Region, Seen, Server,
    Snapshot, SnapshotError, Upstream,
};

const CAPACITY: Capacity = Capacity {
    servers: 12,
    upstreams: 3,
    workers: 2,
    slots: 4,
    history: Capacity::MIN_HISTORY,
};
const LAYOUT: Layout = Layout::new(CAPACITY);
/// The versions that are published.
const PUBLISHED: u64 = 6;
/// For each way of damaging.
const FUZZ_TIME: Duration = Duration::from_millis(1500);
const FUZZ_ROUNDS: usize = 20_000;

struct Fixture {
    folder: tempfile::TempDir,
    path: PathBuf,
    region: Region,
}

/// A region with some of everything in it.
fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    let region = Region::create(&path, CAPACITY).unwrap();
    let mut publisher = Publisher::new(&region, region.writer_file().unwrap()).unwrap();
    let worker = region.worker(0).unwrap();
    worker.scoreboard().add(Metric::Requests, 3);
    let addresses = ["127.0.0.1:80", "[2001:db8::1]:443"];
    let address = |text: &str| Address::Ip(text.parse().unwrap());
    let paths = ["/run/a.sock", "/run/backend/b.sock"].map(|p| Address::Unix(p.into()));
    let all: Vec<Address> = addresses.into_iter().map(address).chain(paths).collect();
    for version in 1..=PUBLISHED {
        let server = |address: &Address| Server {
            address: address.clone(),
            weight: 5,
            max_fails: 1,
            fail_timeout_ms: version,
            down: false,
            backup: true,
            counter: CounterId::default(),
        };
        let skip = ((version + 1) % 2) as usize;
        let upstreams = ["test", "a_longer_name.example:8080"].map(|name| Upstream {
            name: name.to_owned(),
            changed: 0,
            learned: false,
            template: None,
            servers: all.iter().skip(skip).map(server).collect(),
        });
        publisher.publish(upstreams.into(), Seen::now()).unwrap();
        let id = publisher.table().upstreams[0].servers[0].counter;
        worker.counters().begin(id);
    }
    assert!(!publisher.table().leaving.is_empty());
    let mut journal = publisher.journal();
    for version in 1..=PUBLISHED {
        journal.append(version, &[b'x'; 500]);
        journal.report(b"{\"sources\":[]}").unwrap();
    }
    drop((publisher, journal, worker));
    Fixture {
        folder,
        path,
        region,
    }
}

fn open(path: &Path) -> Result<Reader, ReadError> {
    Reader::open(path)
}

fn word(file: &File, at: usize) -> u64 {
    let mut bytes = [0; WORD];
    file.read_exact_at(&mut bytes, (at * WORD) as u64).unwrap();
    u64::from_ne_bytes(bytes)
}

fn set(file: &File, at: usize, word: u64) {
    file.write_all_at(&word.to_ne_bytes(), (at * WORD) as u64)
        .unwrap();
}

fn bytes(file: &File, words: std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; words.len() * WORD];
    file.read_exact_at(&mut bytes, (words.start * WORD) as u64)
        .unwrap();
    bytes
}

/// Makes the checksums of the header and of the current slot right again, if they can be.
fn recompute(file: &File) {
    let sum = crc32fast::hash(&bytes(file, 0..header::CHECKSUM));
    set(file, header::CHECKSUM, u64::from(sum));
    let first = current();
    let words = word(file, first + slot::WORDS) as usize;
    if (slot::HEAD..=LAYOUT.slot_words).contains(&words) {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes(file, first..first + slot::CHECKSUM));
        hasher.update(&bytes(file, first + slot::HEAD..first + words));
        set(file, first + slot::CHECKSUM, u64::from(hasher.finalize()));
    }
}

fn current() -> usize {
    LAYOUT.tables + (PUBLISHED % u64::from(CAPACITY.slots)) as usize * LAYOUT.slot_words
}

fn writable(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn each_wrong_file_has_its_error() {
    let Fixture {
        folder,
        path,
        region: _region,
    } = fixture();
    let other = folder.path().join("other");
    assert!(matches!(open(&other), Err(ReadError::Io(_))));
    assert!(matches!(open(folder.path()), Err(ReadError::NotARegion)));
    assert!(matches!(
        open(Path::new("/dev/zero")),
        Err(ReadError::NotARegion)
    ));
    for text in ["", "weir", "worker_processes 4;\nevents {}\n"] {
        std::fs::write(&other, text).unwrap();
        assert!(matches!(open(&other), Err(ReadError::NotARegion)), "{text}");
    }
    let whole = std::fs::read(&path).unwrap();
    for has in [8, 100, 663, 664, 4096, whole.len() - 1] {
        std::fs::write(&other, &whole[..has]).unwrap();
        let error = open(&other).unwrap_err();
        let ReadError::Truncated { has: said, .. } = error else {
            panic!("{has}: {error}")
        };
        assert_eq!(said, has as u64);
    }
    std::fs::write(&other, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(open(&other), Err(ReadError::Size { .. })));
    // No FIFO keeps it waiting for somebody to write.
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(open(&fifo), Err(ReadError::NotARegion)));
}

#[test]
fn each_damage_has_its_error() {
    let Fixture {
        path,
        region,
        folder: _folder,
    } = fixture();
    let file = writable(&path);
    let damaged = |at: usize, value: u64, repair: bool| {
        let before = std::fs::read(&path).unwrap();
        set(&file, at, value);
        if repair {
            recompute(&file);
        }
        let error = open(&path)
            .and_then(|reader| reader.table())
            .unwrap_err()
            .to_string();
        file.write_all_at(&before, 0).unwrap();
        error
    };
    let first = current();
    for (at, value, repair, expected) in [
        (header::LAYOUT, 4, false, "layout version 4"),
        (header::SERVERS, 13, false, "damaged header: checksum"),
        (
            header::SERVERS,
            99,
            true,
            "damaged header: sizes and offsets",
        ),
        (header::SERVERS, 0, true, "damaged header: servers is 0"),
        (
            header::WORKERS,
            u64::MAX,
            true,
            "damaged header: workers is 18446744073709551615",
        ),
        (
            header::SLOTS,
            65,
            true,
            "damaged header: slots is 65, not 4 to 64",
        ),
        (header::TABLES, 0, true, "damaged header: sizes and offsets"),
        (
            header::VERSION,
            PUBLISHED + 1,
            false,
            "damaged table: slot of version 7",
        ),
        (first + slot::VERSION, 5, false, "damaged table: checksum"),
        (
            first + slot::VERSION,
            99,
            true,
            "damaged table: slot of version 6 has version 99",
        ),
        (
            first + slot::WORDS,
            u64::MAX,
            false,
            "damaged table: number of words is 1844",
        ),
        (
            first + slot::SERVERS,
            13,
            true,
            "damaged table: number of servers is 13, at most 12",
        ),
        (first + slot::UPSTREAMS, 1, true, "damaged table: has"),
        (
            first + slot::HEAD,
            u64::MAX,
            true,
            "damaged table: names overlap",
        ),
        (
            first + slot::HEAD + 1,
            7,
            true,
            "damaged table: upstream 0 changed in version 7",
        ),
        (
            first + slot::HEAD + 2,
            1,
            true,
            "damaged table: upstream 0 begins at server 1",
        ),
        (
            first + slot::HEAD + 3,
            9,
            true,
            "damaged table: an upstream has template",
        ),
        (
            first + 2 * slot::UPSTREAM + slot::HEAD,
            0,
            true,
            "damaged table: a server has an address of kind 0",
        ),
        (
            first + 2 * slot::UPSTREAM + slot::HEAD + 6,
            99,
            true,
            "damaged table: a server has counter row 99 of 12",
        ),
    ] {
        let error = damaged(at, value, repair);
        assert!(error.contains(expected), "word {at} is {value}: {error}");
    }
    for (at, value, expected) in [
        (
            LAYOUT.history + 3,
            7,
            "damaged history: the record at 0 has a wrong checksum",
        ),
        (
            LAYOUT.history,
            7,
            "damaged history: the record at 0 is of another place",
        ),
        (
            LAYOUT.history + 1,
            1 << 60,
            "damaged history: the record at 0 has no end",
        ),
        (
            header::HISTORY_HEAD,
            1 << 60,
            "damaged history: its ends are too far apart",
        ),
        (
            header::HISTORY_TAIL,
            1,
            "damaged history: the record at 1 is of another place",
        ),
        (
            header::REPORT_VERSION,
            9,
            "damaged report: slot of version 9 has version 5",
        ),
        (
            LAYOUT.report + 1,
            1 << 60,
            "damaged report: it has 1152921504606846976 bytes",
        ),
        (LAYOUT.report + 3, 1, "damaged report: its checksum"),
    ] {
        let before = word(&file, at);
        set(&file, at, value);
        let reader = open(&path).unwrap();
        let error = reader
            .history()
            .map(drop)
            .and_then(|()| reader.report().map(drop));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "word {at} is {value}: {error}");
        assert_eq!(open(&path).unwrap().verify().unwrap().problems.len(), 1);
        set(&file, at, before);
    }
    // Before the first word of text everything was checked; the checker finds the rest.
    set(&file, LAYOUT.tenancy, 0);
    set(&file, LAYOUT.row(0) + 1, 77);
    let mut reader = open(&path).unwrap();
    let problems = reader.verify().unwrap().problems;
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("incarnation")),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("worker slot 0")),
        "{problems:?}"
    );
    drop(region);
}

#[test]
fn an_older_slot_is_verified_too() {
    let Fixture {
        path,
        region: _region,
        folder: _folder,
    } = fixture();
    let mut reader = open(&path).unwrap();
    let report = reader.verify().unwrap();
    let versions: Vec<u64> = report.slots.iter().map(|slot| slot.version).collect();
    assert_eq!(versions, [6, 5, 4]);
    assert_eq!(report.problems, [""; 0]);
    // Version 5 is in slot 1 of 4.
    let older = LAYOUT.tables + LAYOUT.slot_words;
    let file = writable(&path);
    set(
        &file,
        older + slot::HEAD,
        word(&file, older + slot::HEAD) ^ 1,
    );
    let report = reader.verify().unwrap();
    assert_eq!(report.slots.len(), 2);
    assert!(
        report.problems[0].starts_with("table version 5: checksum"),
        "{:?}",
        report.problems
    );
}

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

/// xorshift64*: the same sequence in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
