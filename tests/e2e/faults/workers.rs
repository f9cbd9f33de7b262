//! A worker that dies while Consul is away: its successor has the whole list with its first request.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::process::{alive, send};
use crate::support::weir::{SOON, Setup, Weir, in_server};
use crate::support::{PATIENCE, wait_until};

const SERVERS: usize = 20;

fn whole(shown: &str) -> bool {
    shown.starts_with(&format!(
        "Upstream name: test; Backend server count: {SERVERS}\n"
    ))
}

/// Kills the worker; the first answer of the next one.
fn first_answer(weir: &Weir, target: &str) -> String {
    let worker = weir.workers()[0];
    let began = Instant::now();
    send(worker, Signal::SIGKILL);
    wait_until(PATIENCE, "it is dead", || !alive(worker));
    // The port is never closed: the connection waits for the successor.
    let mut client = Client::connect(weir.address());
    let answer = client.get(target).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    eprintln!(
        "a respawned worker answers {:.1?} after the death",
        began.elapsed()
    );
    answer.text()
}

#[test]
fn a_respawned_worker_has_the_list_with_its_first_request() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backends: Vec<_> = (0..SERVERS).map(|_| Backend::named("learnt")).collect();
    let entry = |backend: &Backend| (backend.address().to_owned(), ENTRY.to_owned());
    consul.put_many(&folder, &backends.iter().map(entry).collect::<Vec<_>>());
    let proxy = FaultProxy::start(&consul.address(), Fault::None);
    let configured = Backend::named("configured");
    let text = format!(
        "upstream test {{ server {}; upsync {}/v1/kv/{folder} upsync_type=consul; }}\n{}",
        configured.address(),
        proxy.address(),
        in_server(
            "location / { proxy_pass http://test; } location = /upstream_show { upstream_show; }"
        )
    );
    let weir = Setup::http(&text)
        .workers(1)
        .allow("exited on signal 9")
        .allow("keeps dying")
        .start();
    wait_until(SOON, "the list is there", || whole(&weir.shown("test")));

    proxy.refuse();
    assert_eq!(first_answer(&weir, "/"), "learnt\n");
    let shown = first_answer(&weir, "/upstream_show?test");
    assert!(whole(&shown), "{shown}");
    // Nor does it need the syncer that learnt the list.
    send(weir.syncer(), Signal::SIGKILL);
    let shown = first_answer(&weir, "/upstream_show?test");
    assert!(whole(&shown), "{shown}");
    assert_eq!(
        configured.count(),
        0,
        "nobody fell back to the configured server"
    );
    // The control: without a Consul from the start, that server is all there is.
    let away = Setup::http(&text)
        .workers(1)
        .allow("exited on signal 9")
        .start();
    assert!(!whole(&first_answer(&away, "/upstream_show?test")));
    assert_eq!(first_answer(&away, "/"), "configured\n");
}
