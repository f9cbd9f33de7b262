//! Processes that come, go and are replaced.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::weir::{Weir, free_port};

pub fn adding_and_retiring_leaks_no_socket() {
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

pub fn worker_processes_change_in_place() {
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

pub fn a_start_that_fails_leaves_nothing() {
    let port = free_port();
    let failing = format!("listen {port}\nworkers 1\nanswer one\nhost no-such-host.invalid\n");
    let expected = "weir: [emerg] host not found in upstream \"no-such-host.invalid\" in test:1\n";
    for daemon in ["", "daemon\n"] {
        let (code, said, left) = Weir::fail(&format!("{failing}{daemon}"));
        assert_eq!((code, said.as_str()), (Some(1), expected));
        assert_eq!(left, ["error.log", "weir.conf"]);
    }
}

pub fn what_a_process_begins_with_replaces_it() {
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

pub fn another_region_takes_the_place_of_the_one_in_force() {
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

pub fn a_stuck_worker_is_ended_and_an_idle_one_is_not() {
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
