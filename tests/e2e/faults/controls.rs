//! The checks of this suite bite.

use std::time::{Duration, Instant};

use super::checks::{few, kept, lines_of, named, seen, short, soon};
use super::row::{How, Row, run};
use super::scene::{Asked, Scene};
use super::{RECOVERED, at_most, requests};
use crate::support::fault::Fault;
use crate::support::sight::Look;
use crate::support::wait_until;
use crate::support::weir::SOON;

#[test]
fn each_check_finds_what_it_looks_for() {
    let start = Instant::now();
    let look = |ms, servers: &[&str]| Look {
        at: start + Duration::from_millis(ms),
        servers: servers.iter().map(|server| (*server).to_owned()).collect(),
    };
    let at = |ms| start + Duration::from_millis(ms);
    let looks = [
        look(0, &["a"]),
        look(10, &["a", "b"]),
        look(20, &["b"]),
        look(30, &["a", "b"]),
    ];
    assert!(kept(&looks, at(0), "b").is_err() && kept(&looks, at(10), "b").is_ok());
    assert!(kept(&looks, at(5), "a").is_err() && kept(&looks, at(25), "a").is_err());
    assert!(kept(&looks, at(30), "a").is_ok() && kept(&[], at(0), "a").is_err());
    assert_eq!((seen(&looks, "b"), seen(&looks, "c")), (Some(at(10)), None));

    let log = "1 upstream \"a\": reset\n2 upstream \"ab\": refused\n3 upstream \"a\": over\n";
    let lines = lines_of(log, "a");
    assert_eq!(lines.len(), 2);
    assert!(named(&lines, &["reset".to_owned()]).is_ok() && named(&lines, &[]).is_ok());
    assert!(named(&lines, &["refused".to_owned()]).is_err());
    assert!(short(&lines).is_ok() && short(&[&"x".repeat(2001)]).is_err());
    let bound = requests(Duration::from_secs(1));
    assert!(few("requests", bound, bound).is_ok() && few("requests", bound + 1, bound).is_err());
    // A line for each request is too much.
    assert!(super::lines(Duration::from_secs(60)) < 60);
    let limit = at_most(RECOVERED);
    assert!(soon("it", limit, limit).is_ok());
    assert!(soon("it", limit + Duration::from_nanos(1), limit).is_err());
}

/// Rows that expect what does not happen, each of which must be found wrong.
#[test]
fn a_wrong_row_is_found() {
    let answer = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    let failing = || How::Broken(Fault::Answer(answer.to_owned()));
    let short = Duration::from_millis(300);
    let rows = [
        Row::new("does_not_pass", failing()).passes(),
        Row::new("says_something_else", failing())
            .lasts(short)
            .says(&["status 501"]),
        Row::new("is_seen_early", How::Standing(Fault::ResetAfterAnswer)).lasts(short),
        Row::new("is_late", How::Once(Fault::Mute)).lasts(short),
    ];
    let scene = Scene::start(&rows.clone().map(|row| row.name), Asked::Alone);
    let wrong = run(&rows, &scene);
    for (row, expected) in rows.iter().zip([
        "the change is not there",
        "no line of the log says",
        "although the fault lasted",
        "the change is not there",
    ]) {
        let found = wrong
            .iter()
            .any(|why| why.starts_with(row.name) && why.contains(expected));
        assert!(found, "{} is not found wrong: {wrong:#?}", row.name);
    }
    scene.stage.finish().unwrap();
}

/// An upstream that loses its server fails the load and the look at what was kept.
#[test]
fn a_lost_server_is_found() {
    let scene = Scene::start(&["lost"], Asked::Alone);
    let before = Instant::now();
    scene.put("lost", "127.0.0.1:1", "{\"max_fails\":0}");
    scene.delete("lost", scene.stage.server(0));
    wait_until(SOON, "it is gone", || {
        scene.stage.sight.servers("lost") == ["127.0.0.1:1"]
    });
    assert!(
        kept(
            &scene.stage.sight.history("lost"),
            before,
            scene.stage.server(0)
        )
        .is_err()
    );
    wait_until(SOON, "requests fail", || {
        scene.stage.weir.get("/lost/").status == 502
    });
    let failed = scene.stage.finish().unwrap_err();
    assert!(failed.contains("status 502"), "{failed}");
}
