//! etcd by both APIs: connections that break or are silent, answers that are none, and an etcd that is
//! gone and comes back with or without its data.

use std::time::{Duration, Instant};

use super::checks::{few, kept, lines_of, named, short};
use super::row::{How, Row, check_in};
use super::scene::{Asked, Scene, encoded};
use super::stage::{Api, Stage, Upstream, backends};
use super::{HALF_OPEN, LASTS, PARKED, RECOVERED, lines};
use crate::support::consul::ENTRY;
use crate::support::etcd::Etcd;
use crate::support::fault::Ending::{Fin, Reset};
use crate::support::fault::{Fault, Upto};
use crate::support::holds_for;

const FOLDER: &str = "upstreams/test";
const RESET: &[&str] = &["(104: Connection reset by peer)", "(32: Broken pipe)"];
const CLOSED: &[&str] = &["prematurely closed connection"];
const TIMED_OUT: &[&str] = &["timed out (110: Connection timed out) while waiting"];

fn rows() -> Vec<Row> {
    let standing = |name, fault| Row::new(name, How::Standing(fault));
    let answer = |name, line: &str| {
        let text = format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n");
        Row::new(name, How::Broken(Fault::Answer(text)))
    };
    let garbage = Fault::Answer("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n".to_owned());
    let body = |name, text: &str| standing(name, Fault::Body(text.to_owned()));
    vec![
        Row::new("refuse", How::Refused).says(&["(111: Connection refused)"]),
        Row::new("reset_on_accept", How::Broken(Fault::ResetAtOnce)).says(RESET),
        standing("reset_before_a_byte", Fault::Cut(Upto::Nothing, Reset)).says(RESET),
        standing("reset_in_the_body", Fault::Cut(Upto::Body, Reset)).says(RESET),
        standing("end_without_a_byte", Fault::Cut(Upto::Nothing, Fin)).says(CLOSED),
        standing("end_in_the_head", Fault::Cut(Upto::Head, Fin)).says(CLOSED),
        standing("end_in_the_body", Fault::Cut(Upto::Body, Fin)).says(CLOSED),
        standing("reset_after_the_answer", Fault::ResetAfterAnswer).passes(),
        answer("status_500", "500 Oops").says(&["status 500"]),
        answer("status_429", "429 Too Many Requests").says(&["status 429"]),
        answer("status_403", "403 Forbidden").says(&["status 403"]),
        Row::new("garbage", How::Broken(garbage)).says(&["invalid response head"]),
        standing("truncated_json", Fault::Chop(2)).says(&["invalid JSON"]),
        body("empty_body", "").says(&["invalid JSON"]),
        body("empty_list", "[]").says(&["invalid JSON"]),
        body("empty_object", "{}"),
        // The news of a change gets lost, and with it the connection.
        Row::new("lost_answer", How::Once(Fault::Mute)).within(HALF_OPEN),
        Row::new("mute", How::Broken(Fault::Mute))
            .within(HALF_OPEN)
            .says(TIMED_OUT),
    ]
}

fn check(api: Api) {
    let rows = rows();
    let names: Vec<_> = rows.iter().map(|row| row.name).collect();
    check_in(Scene::start(&names, Asked::Etcd(api)), &rows);
}

#[test]
fn keys_of_the_second_api() {
    check(Api::Second);
}

#[test]
fn keys_of_the_third_api() {
    check(Api::Third);
}

fn put(etcd: &Etcd, api: Api, server: &str) {
    let key = format!("{FOLDER}/{server}");
    match api {
        Api::Second => etcd.put_old(&key, &encoded(ENTRY)),
        Api::Third => etcd.put(&key, ENTRY),
    }
}

/// etcd is killed for a while, and has lost all that it had if it is `wiped`.
fn comes_back(api: Api, wiped: bool) -> Result<(), String> {
    let mut etcd = Etcd::start();
    let backends = backends();
    // What comes after a loss counts from far below.
    for _ in 0..50 {
        put(&etcd, api, backends[0].address());
    }
    let upstream = Upstream::etcd("test", &etcd.address(), FOLDER, api);
    let stage = Stage::start(&[upstream], backends);
    let began = Instant::now();
    etcd.kill();
    let last = [stage.server(0).to_owned()];
    let stays = |span: Duration| {
        holds_for(span, "the server stays", || {
            stage.sight.servers("test") == last
        });
    };
    stays(LASTS);
    if wiped {
        etcd.wipe();
    }
    etcd.start_again();
    if wiped {
        // An empty store empties nothing.
        stays(LASTS);
    }
    let since = Instant::now();
    for number in [0, 1] {
        put(&etcd, api, stage.server(number));
    }
    let bound = if wiped { PARKED } else { RECOVERED };
    let learnt = stage.wait("test", 1, since, bound)?;
    let later = stage.later_puts("test", |server| put(&etcd, api, server))?;
    kept(&stage.sight.history("test"), began, stage.server(0))?;
    let log = stage.weir.error_log();
    let said = lines_of(&log, "test");
    named(&said, &["(111: Connection refused)".to_owned()])?;
    short(&said)?;
    few("lines", said.len(), lines(began.elapsed()))?;
    eprintln!("{api:?}, wiped {wiped}: seen after {learnt:>9.1?}, later PUTs within {later:>8.1?}");
    stage.finish().map(drop)
}

#[test]
fn killed_and_started_again() {
    comes_back(Api::Second, false).unwrap();
    comes_back(Api::Third, false).unwrap();
}

#[test]
fn emptied_and_started_again() {
    comes_back(Api::Second, true).unwrap();
    comes_back(Api::Third, true).unwrap();
}
