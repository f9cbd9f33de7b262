//! A syncer that is there, and does nothing.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{fails, shared, state, told};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::process;
use crate::support::wait_until;
use crate::support::weir::{SOON, Setup};

/// What the documents state.
const BOUND: Duration = Duration::from_secs(30);
/// On a machine that is busy with other tests.
const NOTICED: Duration = Duration::from_secs(60);

#[test]
fn a_syncer_that_hangs_is_noticed_and_one_that_is_idle_is_not() {
    let folder = consul::folder();
    Consul::shared().put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    let weir = shared(&folder).workers(1).start();
    let idle = Setup::server("location / { return 200; }")
        .workers(1)
        .start();
    wait_until(SOON, "it is fresh", || state(&weir)["state"] == "fresh");
    assert!(told(&weir, &["check"]).starts_with("OK "));

    let stopped = Instant::now();
    process::send(weir.syncer(), Signal::SIGSTOP);
    wait_until(NOTICED, "it is noticed", || {
        assert!(told(&idle, &["check"]).starts_with("OK "));
        weir.weirctl(&["check"]).code != Some(0)
    });
    // Its loop may have turned last a while before.
    assert!(stopped.elapsed() > BOUND / 2, "{:?}", stopped.elapsed());
    fails(
        &weir.weirctl(&["check"]),
        1,
        "WARNING stale: the syncer has hung for ",
    );
    assert_eq!(weir.weirctl(&["check", "--json"]).code, Some(1));

    process::send(weir.syncer(), Signal::SIGCONT);
    wait_until(SOON, "it goes on", || {
        weir.weirctl(&["check"]).code == Some(0)
    });
}
