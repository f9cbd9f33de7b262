//! The same configuration and the same requests through nginx and weir: what clients get, what
//! servers are asked and what the logs say is the same, but for what `intended.txt` lists.
//!
//! `cases/` has a file a subject (`script` says how they read). The nginx is Debian's 1.22; weir
//! follows 1.29.7, and what changed between them is in the list too. With `WEIR_DIFFERENTIAL=NAME`
//! only groups with this in their names are run, and the test fails, saying what it found.

mod compare;
mod drive;
mod intended;
mod mask;
mod peer;
mod proxy;
mod script;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use compare::Difference;
use mask::Mask;
use proxy::{Product, Proxy};
use script::Group;

use crate::support::repository;

/// Groups that run at one time; most of their time is spent waiting.
const AT_ONCE: usize = 4;
/// Requests that all groups together have at least.
const BREADTH: usize = 150;

fn folder() -> PathBuf {
    repository().join("tests/e2e/differential")
}

fn groups() -> Vec<Group> {
    let files = fs::read_dir(folder().join("cases")).unwrap();
    let mut groups: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            script::parse(&name, &fs::read_to_string(&path).unwrap())
        })
        .collect();
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    groups
}

/// The differences of a group, and how many answers were compared.
fn run(group: &Group, nginx: &str, weir: &str) -> (Vec<Difference>, usize) {
    let play = |product, config: &str| {
        let mut proxy = Proxy::start(product, config);
        let cases = group.cases.iter();
        let outcomes: Vec<_> = cases.map(|case| drive::play(case, &proxy)).collect();
        proxy.stop();
        (proxy, outcomes)
    };
    // A process dies with the thread that started it, so that each is started and stopped in one.
    let ((nginx, nginx_outcomes), (weir, weir_outcomes)) = thread::scope(|scope| {
        let nginx = scope.spawn(|| play(Product::Nginx, nginx));
        let weir = play(Product::Weir, weir);
        (nginx.join().unwrap(), weir)
    });
    let masks = (Mask::new(&nginx), Mask::new(&weir));
    let mut all = Vec::new();
    for (at, case) in group.cases.iter().enumerate() {
        let place = format!("{}/{}", group.name, case.name);
        let (nginx, weir) = (&nginx_outcomes[at], &weir_outcomes[at]);
        all.extend(compare::case(&place, (nginx, &masks.0), (weir, &masks.1)));
    }
    let log = |proxy: &Proxy, mask: &Mask| mask.access_log(&proxy.file("logs/diff.log"));
    let (in_nginx, in_weir) = (log(&nginx, &masks.0), log(&weir, &masks.1));
    all.extend(compare::logs(&group.name, "log", in_nginx, in_weir));
    let log = |proxy: &Proxy, mask: &Mask| mask.error_log(&proxy.file("logs/error.log"));
    let (in_nginx, in_weir) = (log(&nginx, &masks.0), log(&weir, &masks.1));
    all.extend(compare::logs(&group.name, "error log", in_nginx, in_weir));
    let answers = nginx_outcomes.iter().map(|outcome| outcome.answers.len());
    (all, answers.sum())
}

/// Runs the groups side by side.
fn run_all(groups: &[Group]) -> (Vec<Difference>, usize) {
    let (next, done) = (AtomicUsize::new(0), Mutex::new((Vec::new(), 0)));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (differences, answers) = run(group, &group.config, &group.config);
                    let mut done = done.lock().unwrap();
                    done.0.extend(differences);
                    done.1 += answers;
                }
            });
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn weir_answers_as_nginx_does() {
    let only = std::env::var("WEIR_DIFFERENTIAL").ok();
    let mut groups = groups();
    if let Some(only) = &only {
        groups.retain(|group| group.name.contains(only.as_str()));
    }
    let text = fs::read_to_string(folder().join("intended.txt")).unwrap();
    let list = intended::read(&text);
    let (differences, answers) = run_all(&groups);
    let mut complaints: Vec<_> = differences
        .iter()
        .filter(|found| !list.iter().any(|entry| entry.covers(found)))
        .map(|found| format!("not listed: {found}"))
        .collect();
    for entry in &list {
        let concerns = groups.iter().any(|group| entry.concerns(&group.name));
        let used = differences.iter().any(|found| entry.covers(found));
        if !used && (only.is_none() || concerns) {
            complaints.push(format!("not met: {}", entry.line()));
        }
    }
    complaints.sort();
    assert!(
        complaints.is_empty(),
        "{answers} answers:\n{}",
        complaints.join("\n")
    );
    assert!(only.is_none(), "{answers} answers: no other difference");
    assert!(answers >= BREADTH, "only {answers} answers were compared");
}

/// nginx and weir with configurations that are not the same: each kind of difference is seen.
#[test]
fn another_configuration_is_noticed() {
    let config = "
        log_format short '$request_uri STATUS';
        access_log logs/diff.log short;
        upstream a { server @A@; keepalive 4; }
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        server { listen 127.0.0.1:@PORT@;
            location /status { return CODE; }
            location /field { add_header X-A FIELD; return 200 a; }
            location /spelling { add_header NAME a; return 200 a; }
            location /body { return 200 BODY; }
            location /end { keepalive_timeout END; return 200 a; }
            location /line { proxy_pass http://aURI; }
            location /asked { proxy_set_header Host $host; proxy_set_header X-B FIELD;
                proxy_set_header Connection \"\"; proxy_pass http://a; }
            location /times { proxy_pass http://SERVER; }
            location /canary { return 200 canary; }
            location /dead { proxy_pass http://@DEAD@URI; }
        }";
    let with = |words: [(&str, &str); 8]| {
        words.iter().fold(config.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        })
    };
    let nginx = with([
        ("STATUS", "1"),
        ("CODE", "201"),
        ("FIELD", "1"),
        ("NAME", "X-A"),
        ("BODY", "one"),
        ("END", "60s"),
        ("URI", "/1"),
        ("SERVER", "a"),
    ]);
    let weir = with([
        ("STATUS", "2"),
        ("CODE", "202"),
        ("FIELD", "2"),
        ("NAME", "x-a"),
        ("BODY", "two"),
        ("END", "0"),
        ("URI", "/2"),
        ("SERVER", "@B@"),
    ]);
    let cases = "case: all\nGET /status\nGET /field\nGET /spelling\nGET /body\nGET /end\nGET /line\n\
        GET /asked\nGET /times\nGET /dead\n";
    let group = script::parse("control", cases);
    let (found, _) = run(&group, &nginx, &weir);
    let expected = [
        ("control/all/GET /status", "status"),
        ("control/all/GET /field", "field x-a"),
        ("control/all/GET /spelling", "order"),
        ("control/all/GET /body", "body"),
        ("control/all/GET /end", "field connection"),
        ("control/all/GET /end", "end"),
        ("control/all", "A requests"),
        ("control/all", "B requests"),
        ("control", "log"),
        ("control", "error log"),
    ];
    for (place, what) in expected {
        let is_it = |found: &Difference| found.place == place && found.what == what;
        assert!(found.iter().any(is_it), "{place} {what}: {found:#?}");
    }
    let (found, _) = run(
        &group,
        &nginx,
        &nginx.replace("/1", "/2").replace("X-B 1", "X-B 2"),
    );
    for what in ["A1 line", "A2 field x-b"] {
        assert!(
            found.iter().any(|found| found.what == what),
            "{what}: {found:#?}"
        );
    }
    let (found, _) = run(&group, &nginx, &nginx);
    assert_eq!(found, []);
}
