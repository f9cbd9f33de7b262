//! The history and the report: written by one, read by anybody, continued by a successor.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use weir_shm::layout::Layout;
use weir_shm::{Capacity, Journal, Publisher, Reader, Record, Region};

use common::{fixture, publisher};

const CAPACITY: Capacity = Capacity {
    servers: 16,
    upstreams: 4,
    workers: 2,
    slots: 4,
    history: Capacity::MIN_HISTORY,
};
/// Words of the history that are not a record's text.
const HEAD: usize = 32;

fn journal(region: &Region) -> Journal {
    publisher(region).journal()
}

fn record(version: u64, text: &[u8]) -> Record {
    Record {
        version,
        text: Some(text.to_vec()),
    }
}

#[test]
fn what_was_recorded_is_read_and_a_successor_goes_on() {
    let fixture = fixture(CAPACITY);
    let reader = Reader::open(&fixture.path).unwrap();
    assert_eq!(reader.history().unwrap(), []);
    assert_eq!(reader.report().unwrap(), b"");
    let mut first = journal(&fixture.region);
    first.append(1, b"one");
    first.append(2, b"");
    first.report(b"fine").unwrap();
    drop(first);
    let mut second = journal(&fixture.region);
    second.append(3, b"three, and more than a word of it");
    let all = [
        record(1, b"one"),
        record(2, b""),
        record(3, b"three, and more than a word of it"),
    ];
    assert_eq!(reader.history().unwrap(), all);
    assert_eq!(second.history().unwrap(), all);
    assert_eq!(reader.report().unwrap(), b"fine");
    for report in [&b""[..], b"better", b"worse"] {
        second.report(report).unwrap();
        assert_eq!(reader.report().unwrap(), report);
    }
}

#[test]
fn the_journal_holds_the_lock_and_outlives_its_publisher() {
    let fixture = fixture(CAPACITY);
    let journal = journal(&fixture.region);
    let lock = fixture.region.writer_file().unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| Publisher::new(&fixture.region, lock).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!second.is_finished());
        drop(journal);
        second.join().unwrap();
    });
}

#[test]
fn a_record_that_is_too_large_leaves_a_marker_and_the_next_ones_follow_it() {
    let fixture = fixture(CAPACITY);
    let reader = Reader::open(&fixture.path).unwrap();
    let mut journal = journal(&fixture.region);
    let most = CAPACITY.history as usize - HEAD;
    journal.append(1, b"old");
    journal.append(2, &vec![b'x'; most]);
    assert_eq!(reader.history().unwrap(), [record(2, &vec![b'x'; most])]);
    journal.append(3, &vec![b'x'; most + 1]);
    let lost = Record {
        version: 3,
        text: None,
    };
    assert_eq!(reader.history().unwrap(), std::slice::from_ref(&lost));
    journal.append(4, b"new");
    assert_eq!(reader.history().unwrap(), [lost, record(4, b"new")]);
}

#[test]
fn a_report_that_is_too_long_leaves_the_last_one() {
    let fixture = fixture(CAPACITY);
    let reader = Reader::open(&fixture.path).unwrap();
    let mut journal = journal(&fixture.region);
    let most = journal.report_room();
    assert_eq!(most, Layout::new(CAPACITY).report_bytes);
    journal.report(&vec![b'a'; most]).unwrap();
    let error = journal.report(&vec![b'b'; most + 1]).unwrap_err();
    assert_eq!((error.has, error.room), (most + 1, most));
    assert_eq!(reader.report().unwrap(), vec![b'a'; most]);
}

#[test]
fn a_history_that_is_damaged_begins_anew() {
    let fixture = fixture(CAPACITY);
    let reader = Reader::open(&fixture.path).unwrap();
    let mut first = journal(&fixture.region);
    first.append(1, b"one");
    drop(first);
    let file = std::fs::File::options()
        .write(true)
        .open(&fixture.path)
        .unwrap();
    let at = (Layout::new(CAPACITY).history * 8 + 33) as u64;
    std::os::unix::fs::FileExt::write_all_at(&file, b"?", at).unwrap();
    assert!(reader.history().is_err());
    let mut second = journal(&fixture.region);
    assert_eq!(reader.history().unwrap(), []);
    second.append(2, b"two");
    assert_eq!(reader.history().unwrap(), [record(2, b"two")]);
}

/// Raises a flag when it goes, also by a failed assertion: the threads that wait for it end.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_outsider_reads_whole_records_and_reports_beside_a_busy_writer() {
    let fixture = fixture(CAPACITY);
    let mut journal = journal(&fixture.region);
    let done = AtomicBool::new(false);
    let text = |version: u64| version.to_string().repeat((version % 40) as usize + 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                journal.append(version, text(version).as_bytes());
                journal.report(text(version).as_bytes()).unwrap();
                let until = Instant::now() + Duration::from_micros(20);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
        });
        let _end = Raise(&done);
        let reader = Reader::open(&fixture.path).unwrap();
        let (mut rounds, mut last) = (0, 0);
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            let records = reader.history().unwrap();
            for pair in records.windows(2) {
                assert_eq!(pair[0].version + 1, pair[1].version);
            }
            for record in &records {
                assert_eq!(
                    record.text.as_deref(),
                    Some(text(record.version).as_bytes())
                );
            }
            let newest = records.last().map_or(0, |record| record.version);
            assert!(newest >= last);
            last = newest;
            let report = String::from_utf8(reader.report().unwrap()).unwrap();
            let is_one = (1..=40).any(|times| {
                let (unit, rest) = report.split_at(report.len() / times);
                report.is_empty()
                    || unit.parse().is_ok_and(|version| text(version) == report)
                    || rest.is_empty()
            });
            assert!(is_one, "{report}");
            rounds += 1;
        }
        assert!(rounds > 10 && last > 100, "{rounds} rounds, version {last}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_keeps_the_newest_that_fit(lengths in prop::collection::vec(0usize..1500, 1..60)) {
        let fixture = fixture(CAPACITY);
        let reader = Reader::open(&fixture.path).unwrap();
        let mut journal = journal(&fixture.region);
        let mut model: VecDeque<Record> = VecDeque::new();
        let size = |record: &Record| HEAD + record.text.as_ref().unwrap().len().next_multiple_of(8);
        for (version, length) in (1..).zip(lengths) {
            let text: Vec<u8> = (0..length).map(|at| (at as u64 * version) as u8).collect();
            journal.append(version, &text);
            model.push_back(record(version, &text));
            while model.iter().map(size).sum::<usize>() > CAPACITY.history as usize {
                model.pop_front();
            }
            prop_assert_eq!(reader.history().unwrap(), Vec::from(model.clone()));
        }
    }
}
