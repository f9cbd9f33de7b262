//! Back to the old binary.

use nix::sys::signal::Signal;

use super::{Loads, Long, New, pid_in, setup, wait_workers, workers};
use crate::support::backend::Backend;
use crate::support::weir::Weir;
use crate::support::{PATIENCE, wait_until};

/// Everything has its old name again.
#[track_caller]
fn assert_back(weir: &Weir) {
    wait_until(PATIENCE, "the old master has its pid file back", || {
        pid_in(weir, "weir.pid") == Some(weir.pid())
    });
    for name in [
        "logs/weir.pid.oldbin",
        "weir.region.oldbin",
        "weir.control.oldbin",
    ] {
        assert!(!weir.path(name).exists(), "{name}");
    }
    wait_until(PATIENCE, "weirctl shows its workers", || {
        let shown = weir.weirctl_json(&["workers"]);
        let rows = shown["workers"].as_array().or(shown.as_array()).cloned();
        let pids = rows.into_iter().flatten();
        let mut pids: Vec<u64> = pids.filter_map(|row| row["pid"].as_u64()).collect();
        pids.sort_unstable();
        let expected: Vec<u64> = weir.workers().into_iter().map(u64::from).collect();
        !pids.is_empty() && pids == expected
    });
    let asked = weir.weirctl(&["unpin"]);
    assert_eq!(asked.code, Some(0), "its control socket answers: {asked:?}");
}

#[test]
fn winch_hup_and_quit_to_the_new_loses_nothing() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let weir = setup(&peer, &long, "").start();
    let old = weir.pid();
    let loads = Loads::start(&weir);
    let new = New::start(&weir, old);
    weir.signal(Signal::SIGWINCH);
    loads.progress();
    weir.signal(Signal::SIGHUP);
    wait_until(PATIENCE, "the old one has new workers", || {
        weir.error_log()
            .matches(&format!("{old}#0: start worker processes"))
            .count()
            == 2
    });
    loads.progress();
    new.end(Signal::SIGQUIT);
    loads.progress();
    loads.finish(&long);
    wait_workers(old, 2);
    assert!(
        !weir.error_log().contains("config generation 2"),
        "nothing was read"
    );
    assert_back(&weir);

    // And there again.
    let new = New::start(&weir, old);
    wait_workers(new.pid, 2);
    assert_eq!(weir.get("/kept").status, 200);
    // Without WINCH there is nothing to start.
    weir.signal(Signal::SIGHUP);
    weir.wait_log("the configuration is not read while a new binary process runs");
    new.end(Signal::SIGTERM);
    assert_back(&weir);
    weir.reload();
}

#[test]
fn the_old_workers_come_back_by_themselves_when_the_new_master_ends() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let weir = setup(&peer, &long, "").start();
    let loads = Loads::start(&weir);
    let new = New::start(&weir, weir.pid());
    weir.signal(Signal::SIGWINCH);
    loads.progress();
    new.end(Signal::SIGQUIT);
    loads.progress();
    loads.finish(&long);
    wait_workers(weir.pid(), 2);
    assert_back(&weir);
}

#[test]
fn more_workers_in_the_new_one_leave_no_socket_behind() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let mut weir = setup(&peer, &long, "").workers(1).start();
    let loads = Loads::start(&weir);
    let text = weir
        .text()
        .replace("worker_processes @WORKERS@;", "worker_processes 3;");
    weir.rewrite(&text);
    for _ in 0..2 {
        let new = New::start(&weir, weir.pid());
        wait_workers(new.pid, 3);
        // One more than it has sockets.
        crate::support::process::send(new.pid, Signal::SIGTTIN);
        wait_workers(new.pid, 4);
        loads.progress();
        new.end(Signal::SIGQUIT);
        loads.progress();
    }
    loads.finish(&long);
    assert_eq!(workers(weir.pid()).len(), 1);
    assert_back(&weir);
}
