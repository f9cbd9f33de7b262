//! Hostile and legal messages in both directions, through weir in front of a server that reads to
//! the letter. The server gets exactly the intended request or nothing; the client a whole answer or
//! a visible failure; and after each row a request on the same connection and one on a new one get
//! their own answers, so that no connection was poisoned.

mod answers;
pub(super) mod copy;
mod requests;
mod row;
mod run;
pub(super) mod server;
pub(super) mod wire;

use std::time::Duration;

use crate::support::PATIENCE;
use crate::support::weir::{Setup, Weir};
use copy::Copier;
use run::Rig;
use server::Server;

/// Fewer rows than this mean that a table got lost.
const ENOUGH: usize = 350;
/// What stalls behind a proxy that reads nothing need not be waited for long.
const CONTROL_PATIENCE: Duration = Duration::from_millis(200);

/// Whole bodies are read before they are passed on, or they are passed on as they come.
pub(super) const BUFFERED: &str = "";
pub(super) const STREAMED: &str = "proxy_request_buffering off; proxy_buffering off;";

fn weir(server: &Server, bodies: &str) -> Weir {
    Setup::http(
        "upstream back { server @BACK@ max_fails=0; keepalive 16; }
         server {
             listen 127.0.0.1:@PORT@;
             server_name h;
             proxy_set_header Host $host;
             proxy_read_timeout 5s;
             @BODIES@
             location / { proxy_pass http://back; }
             location = /own { return 200 own; }
             location = /raw { proxy_set_header Host $http_host; proxy_pass http://back; }
             location /inject/ {
                 proxy_set_header Host $host;
                 proxy_set_header X-Uri $uri;
                 proxy_pass http://back;
             }
             location /row/upgrade {
                 proxy_set_header Host $host;
                 proxy_set_header Upgrade $http_upgrade;
                 proxy_set_header Connection upgrade;
                 proxy_pass http://back;
             }
             location /row/trailers { proxy_pass_trailers on; proxy_pass http://back; }
         }",
    )
    .set("BACK", &server.address)
    .set("BODIES", bodies)
    .workers(1)
    .start()
}

fn rig<'a>(proxy: &str, server: &'a Server, patience: Duration) -> Rig<'a> {
    Rig {
        proxy: proxy.to_owned(),
        server,
        patience,
        canaries: 0,
        reused: 0,
    }
}

/// The names of the rows that fail, with why.
fn failures<R>(
    rows: &[R],
    name: fn(&R) -> &str,
    mut run: impl FnMut(&R) -> Result<(), String>,
) -> Vec<String> {
    rows.iter()
        .filter_map(|row| Some(format!("{}: {}", name(row), run(row).err()?)))
        .collect()
}

#[track_caller]
fn assert_none(failed: &[String], of: usize) {
    let (count, list) = (failed.len(), failed.join("\n"));
    assert!(failed.is_empty(), "{count} of {of}:\n{list}");
}

fn run_requests(bodies: &str) {
    let server = Server::start();
    let weir = weir(&server, bodies);
    let mut rig = rig(&weir.address(), &server, PATIENCE);
    let rows = requests::rows();
    let failed = failures(&rows, |row| &row.name, |row| rig.request(row));
    assert_none(&failed, rows.len());
    // The last canary of a row is of use only on the connection that the row had.
    assert!(rig.reused > rows.len() / 10, "only {} reused", rig.reused);
    assert!(server.connections() < rows.len(), "no connection is kept");
}

fn run_answers(bodies: &str) {
    let server = Server::start();
    let weir = weir(&server, bodies);
    let mut rig = rig(&weir.address(), &server, PATIENCE);
    let rows = answers::rows();
    let failed = failures(&rows, |row| &row.name, |row| rig.answer(row));
    assert_none(&failed, rows.len());
}

#[test]
fn requests_reach_the_server_as_intended_or_not_at_all() {
    run_requests(BUFFERED);
}

#[test]
fn so_do_requests_whose_bodies_are_streamed() {
    run_requests(STREAMED);
}

#[test]
fn answers_reach_the_client_whole_or_fail_visibly() {
    run_answers(BUFFERED);
}

#[test]
fn so_do_answers_whose_bodies_are_streamed() {
    run_answers(STREAMED);
}

#[test]
fn the_tables_are_long_and_no_row_is_there_twice() {
    let (requests, answers) = (requests::rows(), answers::rows());
    assert!(
        requests.len() + answers.len() >= ENOUGH,
        "{} + {}",
        requests.len(),
        answers.len()
    );
    let mut names: Vec<_> = requests.iter().map(|row| &row.name).collect();
    names.extend(answers.iter().map(|row| &row.name));
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|two| two[0] == two[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// The negative control: a proxy that copies bytes must fail in most rows.
#[test]
fn a_proxy_that_copies_bytes_fails_in_most_rows() {
    let server = Server::start();
    let copier = Copier::start(&server.address);
    let mut rig = rig(&copier.address, &server, CONTROL_PATIENCE);
    let (requests, answers) = (requests::rows(), answers::rows());
    let failed = failures(&requests, |row| &row.name, |row| rig.request(row));
    assert!(
        failed.len() * 2 > requests.len(),
        "{} of {} requests",
        failed.len(),
        requests.len()
    );
    let legal = requests.len() - failed.len();
    assert!(
        legal * 10 > requests.len(),
        "plain requests pass: only {legal}"
    );
    let failed = failures(&answers, |row| &row.name, |row| rig.answer(row));
    assert!(
        failed.len() * 2 > answers.len(),
        "{} of {} answers",
        failed.len(),
        answers.len()
    );
    assert!(failed.len() < answers.len(), "plain answers pass");
}
