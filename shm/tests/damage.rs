//! Files that are no region, or one no more: a clear error for each, and nothing worse.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod common;
mod damage {
    mod fuzz;
}

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use weir_shm::layout::{Layout, WORD, header, slot};
use weir_shm::{
    Address, Capacity, CounterId, Metric, Publisher, ReadError, Reader, Region, Seen, Server,
    Upstream,
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
fn each_damage_of_a_table_has_its_error() {
    let Fixture {
        path,
        region: _region,
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
}

#[test]
fn each_damage_of_what_is_appended_has_its_error() {
    let Fixture {
        path,
        region: _region,
        folder: _folder,
    } = fixture();
    let file = writable(&path);
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
}

/// Before the first word of text everything is checked; the checker finds the rest.
#[test]
fn what_a_reader_does_not_look_at_is_checked() {
    let Fixture {
        path,
        region: _region,
        folder: _folder,
    } = fixture();
    let file = writable(&path);
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
