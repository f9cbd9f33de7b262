//! The process tree under what a real configuration cannot bring about: a worker that cannot build
//! what the master could, processes that do not answer, deaths between two phases.
//!
//! This program is its own weir: called with `--weir FILE` it runs a master of the configuration
//! in FILE (words of this test's own), which needs a process with one thread.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
#![allow(clippy::print_stdout, reason = "it is its own test runner")]

mod tree {
    pub mod program;
    pub mod weir;
}

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tree::program;
use tree::weir::{Weir, free_port};

/// A test and its name.
type Test = (&'static str, fn());

const TESTS: [Test; 14] = [
    (
        "a_refusing_worker_leaves_everything_as_it_was",
        a_refusing_worker_leaves_everything_as_it_was,
    ),
    (
        "orders_that_arrive_incomplete_refuse_a_reload",
        orders_that_arrive_incomplete_refuse_a_reload,
    ),
    (
        "an_unknown_host_is_refused_by_the_syncer",
        an_unknown_host_is_refused_by_the_syncer,
    ),
    (
        "a_worker_that_does_not_answer_refuses_a_reload",
        a_worker_that_does_not_answer_refuses_a_reload,
    ),
    (
        "a_worker_that_dies_while_it_prepares_is_replaced",
        a_worker_that_dies_while_it_prepares_is_replaced,
    ),
    (
        "a_syncer_that_dies_while_it_prepares_refuses_a_reload",
        a_syncer_that_dies_while_it_prepares_refuses_a_reload,
    ),
    (
        "a_stop_does_not_wait_for_a_reload",
        a_stop_does_not_wait_for_a_reload,
    ),
    (
        "adding_and_retiring_leaks_no_socket",
        adding_and_retiring_leaks_no_socket,
    ),
    (
        "worker_processes_change_in_place",
        worker_processes_change_in_place,
    ),
    (
        "a_start_that_fails_leaves_nothing",
        a_start_that_fails_leaves_nothing,
    ),
    (
        "workers_that_do_not_follow_a_commit_are_replaced",
        workers_that_do_not_follow_a_commit_are_replaced,
    ),
    (
        "what_a_process_begins_with_replaces_it",
        what_a_process_begins_with_replaces_it,
    ),
    (
        "another_region_takes_the_place_of_the_one_in_force",
        another_region_takes_the_place_of_the_one_in_force,
    ),
    (
        "a_stuck_worker_is_ended_and_an_idle_one_is_not",
        a_stuck_worker_is_ended_and_an_idle_one_is_not,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, file] = &arguments[..]
        && mode == "--weir"
    {
        return program::run(file);
    }
    // As libtest: words select tests by a part of their names.
    let words: Vec<&String> = arguments[1..]
        .iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    for (name, test) in TESTS {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            let begun = Instant::now();
            test();
            println!("test {name} ... ok ({} ms)", begun.elapsed().as_millis());
        }
    }
    ExitCode::SUCCESS
}

fn a_refusing_worker_leaves_everything_as_it_was() {
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

fn an_unknown_host_is_refused_by_the_syncer() {
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

fn a_worker_that_does_not_answer_refuses_a_reload() {
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

fn a_worker_that_dies_while_it_prepares_is_replaced() {
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

fn a_syncer_that_dies_while_it_prepares_refuses_a_reload() {
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

fn a_stop_does_not_wait_for_a_reload() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 2\nanswer one\n"));
    let stuck = weir.workers()[0];
    weir.send(stuck, Signal::SIGSTOP);
    weir.signal(Signal::SIGHUP);
    weir.log_says("[notice]", "reconfiguring");
    weir.end(Signal::SIGTERM, 0);
    assert!(!weir.is_alive(stuck));
}

fn adding_and_retiring_leaks_no_socket() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 1\nanswer one\n"));
    let turn = || {
        weir.signal(Signal::SIGTTIN);
        weir.wait_for("two workers", || weir.workers().len() == 2);
        // The newcomer has said that it is ready when it serves.
        weir.signal(Signal::SIGTTOU);
        weir.wait_for("one worker", || weir.workers().len() == 1);
        assert_eq!(weir.get(port), "one");
    };
    turn();
    let before = (
        weir.descriptors(weir.master()),
        weir.descriptors(weir.workers()[0]),
    );
    for _ in 0..5 {
        turn();
    }
    weir.wait_for("the descriptors of before", || {
        (
            weir.descriptors(weir.master()),
            weir.descriptors(weir.workers()[0]),
        ) == before
    });
    weir.signal(Signal::SIGTTOU);
    weir.log_says("[error]", "no worker is retired: there is only one left");
    for count in 2..=6 {
        weir.signal(Signal::SIGTTIN);
        weir.wait_for("one worker more", || weir.workers().len() == count);
    }
    weir.signal(Signal::SIGTTIN);
    weir.log_says(
        "[error]",
        "no worker is added: the region has room for 6 workers",
    );
    assert_eq!(weir.workers().len(), 6);
    weir.end(Signal::SIGQUIT, 0);
}

fn worker_processes_change_in_place() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 3\nanswer one\n"));
    let first = weir.workers();
    weir.write(&format!("listen {port}\nworkers 1\nanswer two\n"));
    weir.signal(Signal::SIGHUP);
    weir.wait_for("one worker", || weir.workers().len() == 1);
    assert!(first.contains(&weir.workers()[0]));
    for _ in 0..30 {
        assert_eq!(weir.get(port), "two");
    }
    weir.signal(Signal::SIGWINCH);
    weir.wait_for("no worker", || weir.workers().is_empty());
    weir.write(&format!("listen {port}\nworkers 2\nanswer three\n"));
    let waiting = weir.connect(port);
    weir.signal(Signal::SIGHUP);
    weir.wait_for("two workers", || weir.workers().len() == 2);
    assert_eq!(weir.ask(waiting), "three");
    weir.end(Signal::SIGQUIT, 0);
}

fn a_start_that_fails_leaves_nothing() {
    let port = free_port();
    let failing = format!("listen {port}\nworkers 1\nanswer one\nhost no-such-host.invalid\n");
    let expected = "weir: [emerg] host not found in upstream \"no-such-host.invalid\" in test:1\n";
    for daemon in ["", "daemon\n"] {
        let (code, said, left) = Weir::fail(&format!("{failing}{daemon}"));
        assert_eq!((code, said.as_str()), (Some(1), expected));
        assert_eq!(left, ["error.log", "weir.conf"]);
    }
}

fn workers_that_do_not_follow_a_commit_are_replaced() {
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

fn what_a_process_begins_with_replaces_it() {
    let port = free_port();
    let config = |workers: usize, files: u32| {
        format!("listen {port}\nworkers {workers}\nanswer {files}\nfiles {files}\n")
    };
    let weir = Weir::start(&config(2, 100));
    let (workers, syncer) = (weir.workers(), weir.syncer());
    assert!(
        weir.children()
            .iter()
            .all(|&pid| weir.files_limit(pid) == 100)
    );
    for (count, files) in [(2, 110), (3, 120), (1, 130)] {
        weir.write(&config(count, files));
        weir.signal(Signal::SIGHUP);
        weir.log_says(
            "[notice]",
            "\"worker_rlimit_nofile\" has changed, which a running process cannot take over",
        );
        weir.wait_for("processes of the new limit alone", || {
            let all = weir.children();
            all.len() == count + 1 && all.iter().all(|&pid| weir.files_limit(pid) == files)
        });
        assert_eq!(weir.get(port), files.to_string());
    }
    assert!(!weir.workers().iter().any(|pid| workers.contains(pid)));
    assert_ne!(weir.syncer(), syncer);
    // Six have room, so that of four two are replaced when others have gone.
    weir.write(&config(4, 130));
    weir.signal(Signal::SIGHUP);
    weir.wait_for("four workers", || weir.workers().len() == 4);
    let held: Vec<_> = (0..40).map(|_| weir.hold(port)).collect();
    weir.write(&config(4, 140));
    weir.signal(Signal::SIGHUP);
    weir.log_says("[notice]", "the region has no room for more workers");
    drop(held);
    weir.wait_for("four of the new limit", || {
        let all = weir.workers();
        all.len() == 4 && all.iter().all(|&pid| weir.files_limit(pid) == 140)
    });
    weir.end(Signal::SIGQUIT, 0);
}

fn a_stuck_worker_is_ended_and_an_idle_one_is_not() {
    const TIME: Duration = Duration::from_millis(400);
    let port = free_port();
    let weir = Weir::start(&format!(
        "listen {port}\nworkers 2\nanswer one\nwatchdog {}\n",
        TIME.as_millis()
    ));
    let [stuck, idle] = weir.workers()[..] else {
        panic!("two workers")
    };
    assert!(weir.stop_at_work(stuck, port));
    let begun = Instant::now();
    weir.log_says(
        "[alert]",
        &format!("worker process {stuck} has not turned its loop for 400 ms"),
    );
    assert!(begun.elapsed() >= TIME / 2, "{:?}", begun.elapsed());
    weir.wait_for("a successor", || {
        let now = weir.workers();
        now.len() == 2 && !now.contains(&stuck)
    });
    for _ in 0..30 {
        assert_eq!(weir.get(port), "one");
    }
    let quiet = Instant::now();
    while quiet.elapsed() < TIME * 3 {
        assert!(weir.is_alive(idle), "an idle worker is not a stuck one");
    }
    assert!(weir.workers().contains(&idle));
    weir.end(Signal::SIGQUIT, 0);
}

fn another_region_takes_the_place_of_the_one_in_force() {
    let port = free_port();
    let config = |more: &str| format!("listen {port}\nworkers 2\nanswer one\n{more}");
    let weir = Weir::start(&config(""));
    let mut asked = 0;
    let mut ask = || {
        for _ in 0..10 {
            assert_eq!(weir.get(port), "one");
        }
        asked += 10;
        asked
    };
    ask();
    let version = weir.region("").version().unwrap();
    let before = weir.descriptors(weir.master());
    for (more, servers, workers, moved) in [
        ("servers 16\n", 16, 6, ""),
        ("servers 4\nroom 3\n", 4, 3, ""),
        ("servers 4\nroom 3\nmoved.new\n", 4, 3, ".new"),
        ("", 8, 6, ""),
    ] {
        let (old, syncer) = (weir.workers(), weir.syncer());
        weir.write(&config(more));
        weir.signal(Signal::SIGHUP);
        weir.wait_for("processes of another region alone", || {
            let now = weir.workers();
            now.len() == 2
                && !now.iter().any(|pid| old.contains(pid))
                && !weir.titled("weir: syncer process").contains(&syncer)
        });
        let asked = ask();
        let region = weir.region(moved);
        let capacity = region.header().capacity;
        assert_eq!((capacity.servers, capacity.workers), (servers, workers));
        assert_eq!(region.version().unwrap(), version, "the table is the same");
        weir.wait_for("the counters of the old ones and the new", || {
            region.status().unwrap().requests == asked
        });
        weir.wait_for("as many descriptors as before", || {
            // One a worker slot.
            weir.descriptors(weir.master()) == before - 6 + workers as usize
        });
    }
    weir.log_says("[notice]", "\"region\" has changed");
    // More workers than there is room for make room.
    weir.write(&format!("listen {port}\nworkers 7\nanswer one\nroom 9\n"));
    weir.signal(Signal::SIGHUP);
    weir.wait_for("seven workers", || weir.workers().len() == 7);
    // What does not fit is refused, and nothing is left of it.
    weir.write(&format!("listen {port}\nworkers 7\nanswer two\nroom 6\n"));
    weir.signal(Signal::SIGHUP);
    weir.log_says("[emerg]", "7 worker_processes do not fit \"region\"");
    assert_eq!(weir.get(port), "one");
    assert!(!weir.has(".region.next") && !weir.has(".region.new"));
    weir.end(Signal::SIGQUIT, 0);
}

fn orders_that_arrive_incomplete_refuse_a_reload() {
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
