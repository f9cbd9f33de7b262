//! Reloads in which a process refuses, does not answer or dies.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::weir::{Weir, free_port};

pub fn a_refusing_worker_leaves_everything_as_it_was() {
    let (port, other) = (free_port(), free_port());
    let weir = Weir::start(&format!("listen {port}\nworkers 2\nanswer one\n"));
    let pids = weir.children();
    assert_eq!(weir.get(port), "one");

    weir.write(&format!(
        "listen {port}\nlisten {other}\nworkers 2\nanswer two\nrefuse_in_worker\n"
    ));
    weir.signal(Signal::SIGHUP);
    weir.log_says("[emerg]", "this worker does not like it");
    weir.log_says(
        "[notice]",
        "reconfiguring refused: config generation 1 stays in force",
    );
    assert_eq!(weir.get(port), "one");
    assert!(!weir.listens(other));

    weir.write(&format!(
        "listen {port}\nlisten {other}\nworkers 2\nanswer three\n"
    ));
    weir.signal(Signal::SIGHUP);
    weir.log_says(
        "[notice]",
        "reconfigured: config generation 3 live in 2 workers in ",
    );
    assert_eq!(
        (weir.get(port), weir.get(other)),
        ("three".into(), "three".into())
    );
    assert_eq!(weir.children(), pids);
    weir.end(Signal::SIGQUIT, 0);
}

pub fn orders_that_arrive_incomplete_refuse_a_reload() {
    const MANY: usize = 60;
    let port = free_port();
    let config = |answer| format!("listen {port}\nworkers 1\nanswer {answer}\nfiles 40\n");
    let weir = Weir::start(&config("one"));
    let pids = weir.children();
    // More sockets than the worker may hold: the kernel drops what does not fit.
    let more: String = (0..MANY)
        .map(|_| format!("listen {}\n", free_port()))
        .collect();
    weir.write(&format!("{}{more}", config("two")));
    let begun = Instant::now();
    weir.signal(Signal::SIGHUP);
    weir.log_says(
        "[emerg]",
        "could not read its orders: message arrived incomplete",
    );
    weir.log_says("[notice]", "config generation 1 stays in force");
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "it is told, not found out by waiting"
    );
    assert_eq!(weir.get(port), "one");
    weir.write(&config("three"));
    weir.signal(Signal::SIGHUP);
    weir.log_says(
        "[notice]",
        "reconfigured: config generation 3 live in 1 workers in ",
    );
    assert_eq!(weir.get(port), "three");
    assert_eq!(weir.children(), pids);
    weir.end(Signal::SIGQUIT, 0);
}

pub fn an_unknown_host_is_refused_by_the_syncer() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 1\nanswer one\n"));
    weir.write(&format!(
        "listen {port}\nworkers 1\nanswer two\nhost no-such-host.invalid\n"
    ));
    weir.signal(Signal::SIGHUP);
    weir.log_says(
        "[emerg]",
        "host not found in upstream \"no-such-host.invalid\" in test:1",
    );
    weir.log_says("[notice]", "config generation 1 stays in force");
    assert_eq!(weir.get(port), "one");
    weir.end(Signal::SIGTERM, 0);
}

pub fn a_worker_that_does_not_answer_refuses_a_reload() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 2\nanswer one\n"));
    let stuck = weir.workers()[0];
    weir.write(&format!("listen {port}\nworkers 2\nanswer two\n"));
    weir.send(stuck, Signal::SIGSTOP);
    weir.signal(Signal::SIGHUP);
    weir.log_says("[emerg]", &format!("no answer from {stuck} in time"));
    weir.send(stuck, Signal::SIGCONT);
    weir.signal(Signal::SIGHUP);
    weir.log_says(
        "[notice]",
        "reconfigured: config generation 3 live in 2 workers in ",
    );
    assert_eq!(weir.get(port), "two");
    weir.end(Signal::SIGQUIT, 0);
}

pub fn a_worker_that_dies_while_it_prepares_is_replaced() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 2\nanswer one\n"));
    let stuck = weir.workers()[1];
    weir.write(&format!("listen {port}\nworkers 2\nanswer two\n"));
    weir.send(stuck, Signal::SIGSTOP);
    weir.signal(Signal::SIGHUP);
    weir.log_says("[notice]", "reconfiguring");
    // Time for the syncer to be done, so that the workers are being asked; not needed to pass.
    let asked = Instant::now() + Duration::from_millis(200);
    while Instant::now() < asked {
        assert!(weir.is_alive(stuck));
    }
    weir.send(stuck, Signal::SIGKILL);
    weir.log_says(
        "[notice]",
        "reconfigured: config generation 2 live in 2 workers in ",
    );
    weir.log_says(
        "[alert]",
        &format!("worker process {stuck} exited on signal 9"),
    );
    for _ in 0..20 {
        assert_eq!(weir.get(port), "two");
    }
    weir.end(Signal::SIGQUIT, 0);
}

pub fn a_syncer_that_dies_while_it_prepares_refuses_a_reload() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 1\nanswer one\n"));
    let syncer = weir.syncer();
    weir.write(&format!("listen {port}\nworkers 1\nanswer two\n"));
    weir.send(syncer, Signal::SIGSTOP);
    weir.signal(Signal::SIGHUP);
    weir.log_says("[notice]", "reconfiguring");
    weir.send(syncer, Signal::SIGKILL);
    weir.log_says("[emerg]", &format!("syncer process {syncer} died"));
    assert_eq!(weir.get(port), "one");
    weir.wait_for("another syncer", || {
        let syncers = weir.titled("weir: syncer process");
        matches!(syncers[..], [pid] if pid != syncer)
    });
    weir.signal(Signal::SIGHUP);
    weir.log_says(
        "[notice]",
        "reconfigured: config generation 3 live in 1 workers in ",
    );
    assert_eq!(weir.get(port), "two");
    weir.end(Signal::SIGQUIT, 0);
}

pub fn workers_that_do_not_follow_a_commit_are_replaced() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 3\nanswer one\n"));
    let all = weir.workers();
    weir.write(&format!(
        "listen {port}\nworkers 3\nanswer two\nstop_two_before_commit\n"
    ));
    weir.signal(Signal::SIGHUP);
    weir.wait_for("two stopped workers", || {
        all.iter().filter(|&&pid| weir.is_stopped(pid)).count() == 2
    });
    let stopped: Vec<i32> = all
        .iter()
        .copied()
        .filter(|&pid| weir.is_stopped(pid))
        .collect();
    weir.log_says("[alert]", "no answer to the commit from ");
    weir.wait_for("successors", || weir.workers().len() == 5);
    for _ in 0..30 {
        assert_eq!(weir.get(port), "two", "the successors serve beside them");
    }
    // One is only slow, and ends in its own way; the other never turns its loop again.
    weir.send(stopped[0], Signal::SIGCONT);
    weir.log_says(
        "[notice]",
        &format!("worker process {} exited with code 0", stopped[0]),
    );
    weir.log_says(
        "[alert]",
        &format!("worker process {} exited on signal 9", stopped[1]),
    );
    weir.wait_for("three workers", || weir.workers().len() == 3);
    weir.end(Signal::SIGQUIT, 0);
}

pub fn a_stop_does_not_wait_for_a_reload() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 2\nanswer one\n"));
    let stuck = weir.workers()[0];
    weir.send(stuck, Signal::SIGSTOP);
    weir.signal(Signal::SIGHUP);
    weir.log_says("[notice]", "reconfiguring");
    weir.end(Signal::SIGTERM, 0);
    assert!(!weir.is_alive(stuck));
}

pub fn a_region_that_is_refused_is_removed() {
    const NEXT: &str = ".region.next";
    let port = free_port();
    let config = |more: &str| format!("listen {port}\nworkers 1\nanswer one\n{more}");
    let weir = Weir::start(&config(""));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port();
    let all = [
        (format!("listen {taken}\n"), "bind() to"),
        ("host no-such-host.invalid\n".into(), "host not found"),
        ("refuse_in_worker\n".into(), "does not like it"),
    ];
    for (refused, why) in all {
        weir.write(&config(&format!("servers 16\n{refused}")));
        weir.signal(Signal::SIGHUP);
        weir.log_says("[emerg]", why);
        weir.wait_for("an empty place", || !weir.has(NEXT));
    }
    // The end comes while a worker prepares, and the syncer had done so.
    weir.write(&config("servers 16\n"));
    let begin = || {
        let worker = weir.workers()[0];
        weir.send(worker, Signal::SIGSTOP);
        weir.signal(Signal::SIGHUP);
        weir.wait_for("the next region", || weir.has(NEXT));
        worker
    };
    begin();
    weir.end(Signal::SIGTERM, 0);
    assert!(!weir.has(NEXT));
    // What a master that was killed has left goes with the next start.
    weir.start_again(&config(""));
    weir.write(&config("servers 16\n"));
    let worker = begin();
    let children = weir.children();
    weir.signal(Signal::SIGKILL);
    weir.send(worker, Signal::SIGKILL);
    weir.wait_for("the end of all", || {
        children.iter().all(|&pid| weir.descriptors(pid) == 0)
    });
    assert!(weir.has(NEXT));
    weir.start_again(&config(""));
    assert!(!weir.has(NEXT));
    assert_eq!(weir.get(port), "one");
    weir.end(Signal::SIGQUIT, 0);
}
