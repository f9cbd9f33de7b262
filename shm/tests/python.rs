//! A reader written in another language from docs/region.md alone reads what ours reads.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_shm::layout::Layout;
use weir_shm::{
    Address, Capacity, CounterId, Histogram, Metric, Publisher, Reader, Region, Seen, Server,
    Snapshot, Upstream, WorkerState,
};

const CAPACITY: Capacity = Capacity {
    servers: 500,
    upstreams: 5,
    workers: 3,
    slots: 5,
    history: Capacity::MIN_HISTORY,
};

/// Between two publishes: Python needs a while for a table.
const PAUSE: Duration = Duration::from_micros(200);

fn python(region: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py");
    Command::new("python3")
        .arg(script)
        .arg(region)
        .output()
        .expect("python3 is installed")
}

fn server(address: Address) -> Server {
    Server {
        address,
        weight: 40,
        max_fails: 3,
        fail_timeout_ms: 20_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    }
}

fn ip(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

fn upstream(name: &str, servers: Vec<Server>) -> Upstream {
    Upstream {
        name: name.to_owned(),
        changed: 0,
        learned: name.len().is_multiple_of(2),
        template: None,
        servers,
    }
}

/// A region in which every word that means something is not 0.
fn fill(region: &Region) {
    region.set_master(4242);
    let mut publisher = Publisher::new(region, region.writer_file().unwrap()).unwrap();
    let mut special = [
        ip("[fe80::1%7]:443"),
        Address::Unix(PathBuf::from("/run/back end.sock")),
    ]
    .map(server);
    special[0].down = true;
    special[1].backup = true;
    special[1].weight = 65_535;
    let many = |from: u16| {
        (from..300)
            .map(|port| server(ip(&format!("10.1.2.3:{port}"))))
            .collect()
    };
    publisher
        .publish(
            vec![upstream("many", many(1)), upstream("leer-ü", vec![])],
            Seen::now(),
        )
        .unwrap();
    let workers = [region.worker(0).unwrap(), region.worker(2).unwrap()];
    publisher
        .publish(
            vec![upstream("many", many(2)), upstream("test", special.into())],
            Seen::now(),
        )
        .unwrap();
    for (number, worker) in (1..).zip(workers) {
        let row = worker.scoreboard();
        row.set_state(WorkerState::Parked);
        row.set_generation(9 + number);
        row.set_table_version(2);
        let snapshot = Snapshot {
            version: 2,
            published: Seen::now().0 - number * 1_000_000,
            ..Snapshot::default()
        };
        worker.used(1, &snapshot);
        row.set_heartbeat_ms(1000 + number);
        for metric in [
            Metric::Active,
            Metric::Reading,
            Metric::Writing,
            Metric::Waiting,
            Metric::Accepted,
            Metric::Handled,
            Metric::Requests,
            Metric::Lapped,
            Metric::LostLines,
        ] {
            row.add(metric, number * 100 + metric as u64);
        }
        for server in publisher
            .table()
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.servers)
        {
            let id = server.counter;
            worker.counters().begin(id);
            worker.counters().begin(id);
            worker.counters().end(id, u64::from(id.index) + 5, number);
        }
        let id = publisher.table().upstreams[1].servers[0].counter;
        worker.counters().fail(id, 77 + number);
        worker.failures().note(id);
    }
    let mut journal = publisher.journal();
    journal.append(1, &[b'x'; 5000]);
    journal.append(2, "zwei: ü".as_bytes());
    // Once around.
    for version in 3..40 {
        journal.append(
            version,
            &vec![b'a' + (version % 26) as u8; 50 + version as usize],
        );
    }
    journal.report(b"before").unwrap();
    journal
        .report("{\"state\": \"gut für jetzt\"}".as_bytes())
        .unwrap();
    region.fold(0);
    drop(region.worker(1).unwrap());
}

/// What the script has to print, from our own reader.
fn expected(path: &Path) -> String {
    let reader = Reader::open(path).unwrap();
    let (header, table) = (reader.header(), reader.table().unwrap());
    let mut counters = reader.counters(&table).unwrap().into_iter();
    let mut text = format!(
        "boot {} master {} writer {}\nversion {}\nseen {} published {}\n",
        header.boot_id,
        header.master_pid,
        header.writer_pid,
        table.version,
        table.seen.0,
        table.published
    );
    for upstream in &table.upstreams {
        writeln!(
            text,
            "upstream {} changed {} learned {}",
            upstream.name,
            upstream.changed,
            u8::from(upstream.learned)
        )
        .unwrap();
        for server in &upstream.servers {
            writeln!(text, "server {}", line(server)).unwrap();
            let c = counters.next().unwrap().total;
            writeln!(
                text,
                "counts {} {} {} {} {} {}",
                c.in_flight, c.requests, c.failures, c.received, c.sent, c.latest_failure_ms
            )
            .unwrap();
        }
    }
    for leaving in &table.leaving {
        let server = line(&leaving.server);
        writeln!(
            text,
            "leaving {} {server} dropped {}",
            leaving.upstream, leaving.dropped
        )
        .unwrap();
    }
    for row in reader.workers().unwrap() {
        let s = row.status;
        writeln!(
            text,
            "worker {} pid {} {} {} {} {} {} {} {} {} {} {} {} {} {}",
            row.slot,
            row.pid,
            row.state,
            row.generation,
            row.table_version,
            row.heartbeat_ms,
            s.active,
            s.reading,
            s.writing,
            s.waiting,
            s.accepted,
            s.handled,
            s.requests,
            row.lapped,
            row.lost_lines
        )
        .unwrap();
    }
    let failed = table.upstreams[1].servers[0].counter;
    for worker in [0, 2] {
        writeln!(
            text,
            "failure {worker} {}/{}",
            failed.index, failed.incarnation
        )
        .unwrap();
    }
    let latencies = reader.latencies().unwrap();
    for worker in 0..CAPACITY.workers {
        let of = latencies.used.iter().find(|(slot, _)| *slot == worker);
        let none = Histogram::default();
        let histogram = of.map_or(&none, |(_, histogram)| histogram);
        writeln!(text, "latency {worker} {}", buckets(histogram)).unwrap();
    }
    writeln!(text, "latency gone {}", buckets(&latencies.gone)).unwrap();
    writeln!(text, "latency published {}", buckets(&latencies.published)).unwrap();
    for record in reader.history().unwrap() {
        let said = record.text.map(|text| String::from_utf8(text).unwrap());
        let said = said.unwrap_or_else(|| "lost".to_owned());
        writeln!(text, "record {} {said}", record.version).unwrap();
    }
    let report = String::from_utf8(reader.report().unwrap()).unwrap();
    writeln!(text, "report {report}").unwrap();
    text
}

fn buckets(histogram: &Histogram) -> String {
    let mut text = format!("sum {} longest {}", histogram.sum_us, histogram.longest_us);
    for (bucket, count) in histogram.buckets.iter().enumerate() {
        if *count > 0 {
            write!(text, " {bucket}:{count}").unwrap();
        }
    }
    text
}

fn line(server: &Server) -> String {
    format!(
        "{} weight={} max_fails={} fail_timeout={}{}{} counter={}/{}",
        server.address,
        server.weight,
        server.max_fails,
        server.fail_timeout_ms,
        if server.down { " down" } else { "" },
        if server.backup { " backup" } else { "" },
        server.counter.index,
        server.counter.incarnation
    )
}

#[test]
fn it_prints_what_our_reader_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    let region = Region::create(&path, CAPACITY).unwrap();
    fill(&region);
    let output = python(&path);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    for (printed, expected) in printed.lines().zip(expected(&path).lines()) {
        assert_eq!(printed, expected);
    }
    assert_eq!(printed, expected(&path));
    for part in [
        "leaving many 10.1.2.3:1 ",
        "unix:/run/back end.sock",
        "[fe80::1%7]:443",
        "worker 2",
        "record 39 nnnn",
        "gut für jetzt",
    ] {
        assert!(printed.contains(part), "{part}");
    }
}

#[test]
fn it_reads_beside_a_busy_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    let region = Region::create(&path, CAPACITY).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let lock = region.writer_file().unwrap();
            let mut publisher = Publisher::new(&region, lock).unwrap();
            while !done.load(Ordering::Relaxed) {
                let mut one = server(ip("127.0.0.1:80"));
                one.fail_timeout_ms = publisher.table().version + 1;
                let servers = (0..100).map(|_| one.clone()).collect();
                publisher
                    .publish(vec![upstream("test", servers)], Seen::now())
                    .unwrap();
                let until = Instant::now() + PAUSE;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
        });
        while region.table_version() == 0 {
            std::thread::yield_now();
        }
        let output = python(&path);
        done.store(true, Ordering::Relaxed);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut words = printed
            .split_whitespace()
            .skip_while(|word| *word != "version");
        let timeout = format!("fail_timeout={}", words.nth(1).unwrap());
        assert_eq!(
            words.filter(|word| *word == timeout).count(),
            100,
            "{printed}"
        );
    });
}

#[test]
fn it_finds_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.region");
    let region = Region::create(&path, CAPACITY).unwrap();
    fill(&region);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let slot = Layout::new(CAPACITY).tables + 2 * Layout::new(CAPACITY).slot_words;
    for (word, expected) in [
        (5, "header"),
        (slot + 20, "table"),
        (0, "not a region"),
        (Layout::new(CAPACITY).report + 4, "report"),
        (81, "record"),
    ] {
        let at = (word * 8) as u64;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let output = python(&path);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(expected),
            "{said}"
        );
        file.write_all_at(&byte, at).unwrap();
    }
    assert!(python(&path).status.success());
    let mut worker = region.worker(1).unwrap();
    worker.read(0, &mut Snapshot::default()).unwrap();
}
