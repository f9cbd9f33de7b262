//! Sockets and logs that the master passes to running processes.

use nix::sys::signal::Signal;

use super::weir::{Weir, free_port};

pub fn a_retired_worker_reopens_the_logs_that_it_has() {
    let port = free_port();
    let config =
        |front: &str| format!("listen {port}\nworkers 1\nanswer one\nshutdown 60\n{front}");
    let weir = Weir::start(&config("front a.log\n"));
    let old = weir.workers()[0];
    assert_eq!(weir.logs(old), ["a.log", "error.log"]);
    let held = weir.hold(port);
    weir.signal(Signal::SIGWINCH);
    weir.log_says("[notice]", "gracefully shutting down");
    // One log has another number then, and the other none.
    weir.write(&config(""));
    weir.signal(Signal::SIGHUP);
    weir.wait_for("a new worker", || {
        weir.workers().iter().any(|&pid| {
            let logs = weir.logs(pid);
            pid != old && logs == ["error.log"]
        })
    });
    for name in ["a.log", "error.log"] {
        weir.rename(name, &format!("rotated-{name}"));
    }
    weir.signal(Signal::SIGUSR1);
    weir.wait_for("the new logs", || {
        weir.workers().iter().all(|&pid| match pid == old {
            true => weir.logs(pid) == ["a.log", "error.log"],
            false => weir.logs(pid) == ["error.log"],
        })
    });
    drop(held);
    weir.wait_for("the end of the old worker", || !weir.is_alive(old));
    weir.end(Signal::SIGQUIT, 0);
}

pub fn sockets_and_logs_that_do_not_arrive_replace_the_worker() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 2\nanswer one\n"));
    let first = weir.workers();
    const TOLD: &str = " could not read its orders: ";
    // Whichever stays has no descriptor for the other's socket.
    first.iter().for_each(|&pid| weir.limit_files(pid, 3));
    weir.signal(Signal::SIGTTOU);
    weir.log_says("[alert]", TOLD);
    weir.wait_for("another worker alone", || {
        let now = weir.workers();
        now.len() == 1 && !first.contains(&now[0])
    });
    for _ in 0..30 {
        assert_eq!(weir.get(port), "one");
    }
    let worker = weir.workers()[0];
    weir.limit_files(worker, 3);
    weir.rename("error.log", "rotated.log");
    weir.signal(Signal::SIGUSR1);
    weir.wait_for("the new log", || weir.has("error.log"));
    weir.log_says("[alert]", TOLD);
    weir.wait_for("another worker with the new log", || {
        let now = weir.workers();
        now.len() == 1 && now[0] != worker && weir.logs(now[0]) == ["error.log"]
    });
    assert_eq!(weir.get(port), "one");
    weir.end(Signal::SIGQUIT, 0);
}

pub fn sockets_of_a_neighbour_that_do_not_arrive_are_sent_again() {
    let port = free_port();
    let weir = Weir::start(&format!("listen {port}\nworkers 2\nanswer one\n"));
    let [worker, neighbour] = weir.workers()[..] else {
        panic!("two workers")
    };
    // Its channel, a second descriptor of that, its own listening socket and the neighbour's.
    const WITH_HELP: usize = 4;
    weir.wait_for("help", || weir.sockets(worker) == WITH_HELP);
    let limit = weir.files_limit(worker);
    weir.limit_files(worker, 3);
    weir.send(neighbour, Signal::SIGKILL);
    weir.log_says(
        "[alert]",
        &format!("worker process {worker} could not read its orders: "),
    );
    assert!(weir.sockets(worker) < WITH_HELP);
    weir.limit_files(worker, limit);
    weir.wait_for("help for the neighbour's successor", || {
        weir.sockets(worker) == WITH_HELP
    });
    assert!(weir.workers().contains(&worker), "it is not replaced");
    weir.end(Signal::SIGQUIT, 0);
}
