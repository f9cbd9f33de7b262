use std::sync::{Arc, Mutex};

use weir_shm::{Address, CounterId, Server, Upstream};

use super::history::{Cause, Record};
use super::report::{Hold, SourceStatus, State};
use super::*;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    records: Vec<Record>,
    reports: Vec<Report>,
    room: Option<usize>,
}

impl Sink for Paper {
    fn append(&mut self, version: u64, record: &[u8]) {
        let record: Record = serde_json::from_slice(record).unwrap();
        assert_eq!(record.version, version);
        self.0.lock().unwrap().records.push(record);
    }

    fn report(&mut self, text: &[u8]) -> bool {
        let mut written = self.0.lock().unwrap();
        let fits = written.room.is_none_or(|room| text.len() <= room);
        if fits {
            written.reports.push(Report::parse(text).unwrap());
        }
        fits
    }
}

impl Paper {
    fn last(&self) -> Report {
        self.0.lock().unwrap().reports.last().cloned().unwrap()
    }
}

fn table(version: u64, ports: &[u16]) -> Table {
    let servers = ports.iter().map(|port| Server {
        address: Address::Ip(([127, 0, 0, 1], *port).into()),
        weight: 1,
        max_fails: 2,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    });
    Table {
        version,
        upstreams: vec![Upstream {
            name: "test".into(),
            changed: version,
            learned: true,
            template: None,
            servers: servers.collect(),
        }],
        ..Table::default()
    }
}

fn configured(name: &str, is_fed: bool) -> note::Configured {
    note::Configured {
        name: name.into(),
        is_fed,
        folder: None,
    }
}

fn start(paper: &Paper, report: Option<Report>) -> Recorder {
    let beginning = Beginning {
        table: table(1, &[1]),
        report,
        records: Vec::new(),
        place: Place::default(),
        log: Log::new(Vec::new(), Arc::from([])),
    };
    let recorder = Recorder::start(paper.clone(), beginning).unwrap();
    recorder.note(Note::Configured {
        discovers: Vec::new(),
        upstreams: vec![configured("test", true)],
        discovered: Vec::new(),
        log: None,
        state: None,
    });
    recorder
}

fn published(version: u64, ports: &[u16]) -> Note {
    Note::Published {
        table: Arc::new(table(version, ports)),
        at_ms: 5,
        cause: Cause::Start,
    }
}

fn confirmed(at_ms: u64) -> Note {
    Note::Confirmed {
        upstreams: vec!["test".into()],
        at_ms,
    }
}

#[test]
fn what_follows_a_note_finds_it_in_the_report() {
    let paper = Paper::default();
    let recorder = start(&paper, None);
    let (tell, told) = mpsc::channel();
    // The first report after another waits for its time.
    for version in 1..=20 {
        let pin = Some(report::Pin {
            since_ms: 5,
            version,
        });
        recorder.note(Note::Pinned {
            upstream: "test".into(),
            pin: pin.clone(),
        });
        let (tell, paper) = (tell.clone(), paper.clone());
        recorder.after(move || drop(tell.send(paper.last())));
        let seen = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(seen.upstream("test").unwrap().pinned, pin);
    }
    // Nobody records: it is done all the same.
    Recorder::mute().after(move || drop(tell.send(Report::default())));
    assert!(told.try_recv().is_ok());
}

#[test]
fn notes_become_reports_and_records() {
    let paper = Paper::default();
    let recorder = start(&paper, None);
    recorder.note(published(2, &[1, 2]));
    recorder.note(published(3, &[2]));
    recorder.note(confirmed(7));
    recorder.note(Note::Source(SourceStatus {
        id: 4,
        success_ms: Some(7),
        ..SourceStatus::default()
    }));
    recorder.note(published(4, &[3]));
    recorder.note(Note::Refused {
        upstream: "test".into(),
        entries: vec![("a".into(), "b".into())],
        at_ms: 8,
    });
    recorder.finish();
    let report = paper.last();
    let status = report.upstream("test").unwrap();
    assert_eq!((status.state, status.confirmed_ms), (State::Fresh, Some(7)));
    assert_eq!(report.sources[0].version, 3);
    assert_eq!((report.refused_total, report.refused[0].since_ms), (1, 8));
    let written = paper.0.lock().unwrap();
    let chain: Vec<_> = written
        .records
        .iter()
        .map(|r| (r.before, r.version))
        .collect();
    assert_eq!(chain, [(1, 2), (2, 3), (3, 4)]);
    let back = written.records[2].changes.undo(table(4, &[3]).upstreams);
    assert_eq!(back, Some(table(3, &[2]).upstreams));
}

#[test]
fn the_state_is_on_disk_at_the_end_and_a_moment_after_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.state");
    let recorder = start(&Paper::default(), None);
    recorder.note(Note::Configured {
        discovers: Vec::new(),
        upstreams: vec![configured("test", true)],
        discovered: Vec::new(),
        log: None,
        state: Some(path.clone()),
    });
    recorder.note(published(2, &[1, 2]));
    let read = || state::read(&path).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while read().is_none() {
        assert!(Instant::now() < until, "nothing is written");
        thread::sleep(Duration::from_millis(5));
    }
    recorder.note(confirmed(9));
    recorder.note(published(3, &[2]));
    recorder.finish();
    let saved = read().unwrap();
    assert_eq!((saved.version, saved.history.len()), (3, 2));
    let upstream = &saved.upstreams[0];
    assert_eq!(
        (upstream.confirmed_ms, upstream.servers.len()),
        (Some(9), 1)
    );
}

#[test]
fn a_successor_goes_on_and_is_stale_until_confirmed() {
    let paper = Paper::default();
    let recorder = start(&paper, None);
    recorder.note(confirmed(7));
    recorder.note(Note::Pinned {
        upstream: "test".into(),
        pin: Some(report::Pin {
            since_ms: 6,
            version: 1,
        }),
    });
    recorder.finish();
    let paper_of_next = Paper::default();
    let recorder = start(&paper_of_next, Some(paper.last()));
    recorder.note(Note::Pinned {
        upstream: "test".into(),
        pin: None,
    });
    recorder.note(published(2, &[1, 2]));
    recorder.finish();
    let status = paper_of_next.last().upstreams.remove(0);
    assert_eq!((status.state, status.confirmed_ms), (State::Stale, Some(7)));
    assert_eq!(status.from, Some(report::From::Region));
    assert_eq!(paper_of_next.0.lock().unwrap().records[0].before, 1);
}

#[test]
fn a_report_without_room_keeps_what_is_unusual() {
    let paper = Paper::default();
    paper.0.lock().unwrap().room = Some(450);
    let recorder = start(&paper, None);
    let upstreams = (0..100).map(|n| configured(&format!("u{n}"), false));
    recorder.note(Note::Configured {
        discovers: Vec::new(),
        upstreams: upstreams.chain([configured("test", true)]).collect(),
        discovered: Vec::new(),
        log: None,
        state: None,
    });
    recorder.note(Note::Held {
        upstream: "test".into(),
        hold: Some(Hold::default()),
    });
    recorder.finish();
    let report = paper.last();
    assert!(report.is_cut);
    assert_eq!(report.upstreams.len(), 1);
    assert_eq!(report.upstreams[0].state, State::Held);
}

#[test]
fn many_notes_are_few_reports() {
    let paper = Paper::default();
    let recorder = start(&paper, None);
    for at in 0..10_000 {
        recorder.note(confirmed(at));
    }
    recorder.finish();
    assert_eq!(paper.last().upstreams[0].confirmed_ms, Some(9_999));
    let count = paper.0.lock().unwrap().reports.len();
    assert!(count < 1_000, "{count} reports");
}

#[test]
fn a_source_that_says_the_same_again_confirms_what_it_confirmed_before() {
    let paper = Paper::default();
    let recorder = start(&paper, None);
    let again = |at_ms| {
        Note::Source(SourceStatus {
            id: 4,
            upstreams: ["test".into(), "other".into()].into(),
            success_ms: Some(at_ms),
            known_ms: Some(at_ms),
            ..SourceStatus::default()
        })
    };
    recorder.note(Note::Configured {
        discovers: Vec::new(),
        upstreams: vec![configured("test", true), configured("other", true)],
        discovered: Vec::new(),
        log: None,
        state: None,
    });
    recorder.note(confirmed(7));
    recorder.note(again(8));
    recorder.note(again(9));
    recorder.finish();
    let report = paper.last();
    let of = |name: &str| report.upstream(name).unwrap().confirmed_ms;
    assert_eq!((of("test"), of("other")), (Some(9), None));
    assert_eq!(report.sources[0].success_ms, Some(9));
}

#[test]
fn what_was_confirmed_while_it_was_prepared_is_fresh_in_force() {
    let paper = Paper::default();
    let recorder = start(&paper, None);
    let of = |names: &[&str]| Note::Confirmed {
        upstreams: names.iter().map(|name| (*name).to_owned()).collect(),
        at_ms: 7,
    };
    let discovered = |names: &[&str]| {
        let names = names.iter().map(|name| note::Discovered {
            name: (*name).to_owned(),
            prefix: None,
        });
        Note::Discovered {
            upstreams: names.collect(),
        }
    };
    recorder.note(discovered(&["found", "moves", "goes"]));
    recorder.note(of(&["moves", "goes"]));
    // Prepared, and more is found meanwhile.
    recorder.note(of(&["new", "folder"]));
    recorder.note(discovered(&["found", "moves"]));
    recorder.note(Note::Configured {
        upstreams: ["test", "moves", "new"]
            .map(|name| configured(name, true))
            .into(),
        discovers: Vec::new(),
        discovered: vec!["folder".into(), "found".into()],
        log: None,
        state: None,
    });
    recorder.note(published(2, &[1]));
    recorder.finish();
    let report = paper.last();
    let states = report.upstreams.iter();
    let states: Vec<_> = states
        .map(|status| (status.name.as_str(), status.state == State::Fresh))
        .collect();
    let expected = [
        ("test", false),
        ("moves", true),
        ("new", true),
        ("folder", true),
        ("found", false),
    ];
    assert_eq!(states, expected);
}
