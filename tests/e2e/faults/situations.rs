//! The same faults in other situations: at the start, during a reload, with one long poll for several
//! upstreams, and with other sources than keys.

use super::HALF_OPEN;
use super::answers::crowded;
use super::row::{How, Row, check_in};
use super::scene::{Asked, Scene};
use crate::support::fault::Ending::{Fin, Reset};
use crate::support::fault::{Fault, Upto};

/// One of each kind.
fn rows() -> Vec<Row> {
    let standing = |name, fault| Row::new(name, How::Standing(fault));
    let oops = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned();
    let many = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n".to_owned();
    vec![
        Row::new("refuse", How::Refused).says(&["(111: Connection refused)"]),
        Row::new("reset_on_accept", How::Broken(Fault::ResetAtOnce)),
        standing("reset_in_the_body", Fault::Cut(Upto::Body, Reset)),
        standing("end_in_the_head", Fault::Cut(Upto::Head, Fin)),
        Row::new("status_500", How::Broken(Fault::Answer(oops))).says(&["status 500"]),
        Row::new("status_429", How::Broken(Fault::Answer(many))).says(&["status 429"]),
        Row::new("status_429_at_once", How::Broken(crowded())).says(&["status 429"]),
        standing("truncated_json", Fault::Chop(2)).says(&["invalid JSON"]),
        standing("empty_list", Fault::Body("[]".to_owned())),
    ]
}

fn scene(asked: Asked) -> Scene {
    let names: Vec<_> = rows().iter().map(|row| row.name).collect();
    Scene::start(&names, asked)
}

#[test]
fn started_into() {
    let mut rows = rows();
    rows.push(Row::new("mute", How::Broken(Fault::Mute)).within(HALF_OPEN));
    check_in(Scene::start_into(&rows), &rows);
}

#[test]
fn reloaded_meanwhile() {
    let scene = scene(Asked::Alone);
    for row in rows() {
        row.strike(scene.proxy(row.name));
    }
    scene.stage.weir.reload();
    check_in(scene, &rows());
}

#[test]
fn asked_together() {
    check_in(scene(Asked::Together), &rows());
}

/// A service without an instance is an empty list, too: it is held, and the next answer is awaited.
fn services() -> Vec<Row> {
    let held = |row: Row| match row.name {
        "empty_list" => row.says(&["held"]),
        _ => row,
    };
    rows().into_iter().map(held).collect()
}

#[test]
fn services_of_the_catalog() {
    check_in(scene(Asked::Catalog), &services());
}

#[test]
fn services_and_their_health() {
    check_in(scene(Asked::Health), &services());
}
