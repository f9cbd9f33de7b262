//! A region: how it is made and mapped, and what workers tell the others in it.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]
#![allow(
    clippy::print_stdout,
    reason = "a child reports over its standard output"
)]

mod common;

use std::path::Path;

use weir_shm::{Capacity, CounterId, Error, Metric, Reader, Region, Seen, WorkerState};

use common::{CAPACITY, fixture, publisher, upstream};

#[test]
fn a_region_is_made_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    for capacity in [
        Capacity {
            slots: 3,
            ..CAPACITY
        },
        Capacity {
            servers: 0,
            ..CAPACITY
        },
    ] {
        assert!(matches!(
            Region::create(&path, capacity),
            Err(Error::Capacity(_))
        ));
    }
    let nowhere = folder.path().join("missing/weir.region");
    let error = Region::create(&nowhere, CAPACITY).unwrap_err().to_string();
    assert!(
        error.contains("missing/weir.region") && error.contains("No such file"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let old = Region::create(&path, CAPACITY).unwrap();
    let boot = Reader::open(&path).unwrap().header().boot_id;
    publisher(&old)
        .publish(vec![upstream("a", [1])], Seen::NOBODY)
        .unwrap();
    let _new = Region::create(&path, CAPACITY).unwrap();
    assert_ne!(Reader::open(&path).unwrap().header().boot_id, boot);
    assert_eq!(old.table_version(), 1, "the replaced one lives on");
    let mut orphaned = publisher(&old);
    let again = orphaned.publish(vec![upstream("a", [2])], Seen::NOBODY);
    assert_eq!(again.unwrap().version, 2, "its writer is not the other's");
    assert_eq!(Reader::open(&path).unwrap().header().version, 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_mode(&path);
}

fn assert_mode(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o644
    );
}

/// The region's memory is reserved when it is made. The limit on the size of files stands in for
/// a full file system; `trap` keeps its signal from ending the process.
#[test]
fn what_cannot_be_reserved_is_an_error_at_once() {
    const FOLDER: &str = "WEIR_TEST_FOLDER";
    if let Ok(folder) = std::env::var(FOLDER) {
        let path = Path::new(&folder).join("weir.region");
        println!("{}", Region::create(&path, CAPACITY).unwrap_err());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 20; exec \"$0\" --exact --nocapture \"$1\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg("what_cannot_be_reserved_is_an_error_at_once")
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("posix_fallocate() of region"),
        "{said}"
    );
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_worker_maps_the_tables_for_reading_only() {
    let fixture = fixture(CAPACITY);
    let path = fixture.path.to_str().unwrap();
    let mappings = || -> Vec<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let ours = maps.lines().filter(|line| line.ends_with(path));
        ours.map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
            .collect()
    };
    assert_eq!(mappings(), ["rw-s"]);
    let worker = fixture.region.worker(0).unwrap();
    let mut both = mappings();
    both.sort();
    assert_eq!(both, ["r--s", "rw-s", "rw-s"]);
    drop(worker);
    assert_eq!(mappings(), ["rw-s"]);
}

#[test]
fn the_scoreboard_shows_what_workers_do() {
    let fixture = fixture(CAPACITY);
    fixture.region.set_master(4711);
    let worker = fixture.region.worker(2).unwrap();
    let row = worker.scoreboard();
    let shown = &fixture.region.scoreboard()[0];
    assert_eq!((shown.slot, shown.pid), (2, std::process::id()));
    assert_eq!(
        (shown.state, shown.table_version),
        (WorkerState::Starting, 0)
    );
    row.set_state(WorkerState::Parked);
    row.set_generation(3);
    row.set_heartbeat_ms(1234);
    row.add(Metric::Waiting, 4);
    row.sub(Metric::Waiting, 1);
    let reader = Reader::open(&fixture.path).unwrap();
    let rows = reader.workers().unwrap();
    assert_eq!(rows, fixture.region.scoreboard());
    assert_eq!(
        (rows[0].state, rows[0].generation),
        (WorkerState::Parked, 3)
    );
    assert_eq!((rows[0].heartbeat_ms, rows[0].status.waiting), (1234, 3));
    assert_eq!(reader.header().master_pid, 4711);
    assert!(matches!(
        fixture.region.worker(3),
        Err(Error::NoSuchSlot {
            slot: 3,
            workers: 3
        })
    ));
}

#[test]
fn failures_reach_the_other_workers() {
    let fixture = fixture(CAPACITY);
    let one = fixture.region.worker(0).unwrap();
    let two = fixture.region.worker(1).unwrap();
    let id = |index| CounterId {
        index,
        incarnation: 7,
    };
    let mut own = one.failures().cursors();
    let mut other = two.failures().cursors();
    let mut seen = Vec::new();
    one.failures().note(id(3));
    one.failures().note(id(4));
    one.failures().poll(&mut own, |_| panic!("its own"));
    two.failures().poll(&mut other, |id| seen.push(id));
    two.failures().poll(&mut other, |_| panic!("again"));
    assert_eq!(seen, [id(3), id(4)]);

    // A ring that was overrun has lost its oldest.
    seen.clear();
    (0..1000).for_each(|index| one.failures().note(id(index)));
    two.failures().poll(&mut other, |id| seen.push(id));
    assert_eq!(seen.len(), 255);
    assert_eq!(seen.last(), Some(&id(999)));
    assert!(seen.is_sorted_by_key(|id| id.index));
}
