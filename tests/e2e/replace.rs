//! What a running process cannot take over replaces it, and nothing is lost.

use std::fs;

use crate::support::backend::{Backend, Then};
use crate::support::load::Load;
use crate::support::process::{alive, owner};
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, wait_until};
use nix::sys::signal::Signal;
use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

/// How many files a process may open.
fn files_limit(pid: u32) -> Option<u32> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

fn is_served(weir: &Weir, generation: &str) -> bool {
    (0..12).all(|_| weir.get("/x").text() == generation)
}

/// A server that answers in two halves, the second when it is told.
fn halting(senders: &'static Mutex<Vec<Sender<()>>>) -> Backend {
    Backend::answering(move |_, out| {
        let (sender, told) = channel();
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-");
        senders.lock().unwrap().push(sender);
        let _ = told.recv_timeout(PATIENCE);
        let _ = out.write_all(b"whole");
        Then::Keep
    })
}

#[test]
fn another_limit_replaces_workers_under_load() {
    static SENDERS: Mutex<Vec<Sender<()>>> = Mutex::new(Vec::new());
    let backend = halting(&SENDERS);
    let config = |number: u32| {
        format!(
            "worker_rlimit_nofile {};\n{}",
            4096 + number,
            in_http(&in_server(&format!(
                "location /x {{ add_header X-Pid $pid; return 200 {number}; }}
                 location /slow {{ proxy_pass http://{}; }}",
                backend.address()
            )))
        )
    };
    let mut weir = Setup::whole(&config(0)).start();
    let mut before = weir.workers();
    let master = weir.pid();
    let load = Load::start(&weir.address(), "/x", 4);
    let mut download = weir.connect();
    download
        .send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "a download is under way", || {
        !SENDERS.lock().unwrap().is_empty()
    });
    for number in 1..=2 {
        weir.rewrite(&config(number));
        weir.signal(Signal::SIGHUP);
        wait_until(PATIENCE, "all new connections come to new workers", || {
            is_served(&weir, &number.to_string())
                && weir
                    .workers()
                    .iter()
                    .filter(|pid| !before.contains(pid))
                    .count()
                    == 2
        });
        load.progress();
        let now = weir.workers();
        let new = now.iter().filter(|pid| !before.contains(pid));
        for pid in new.chain([&weir.syncer()]) {
            assert_eq!(files_limit(*pid), Some(4096 + number));
        }
        before = now;
    }
    // The old worker of the download is still there, and that alone.
    wait_until(PATIENCE, "one old worker is left", || {
        weir.workers().len() == 3
    });
    SENDERS.lock().unwrap().clear();
    let response = download.response("GET").unwrap();
    assert_eq!(response.text(), "half-whole");
    drop(download);
    wait_until(PATIENCE, "the old worker ends with it", || {
        weir.workers().len() == 2
    });
    let outcome = load.stop();
    assert!(outcome.answered > 0);
    assert!(
        outcome.unexplained().is_empty(),
        "{:?}",
        outcome.unexplained()
    );
    assert_eq!(weir.pid(), master);
}

#[test]
fn another_user_replaces_workers_and_syncer() {
    let config = |user: &str| {
        let text = in_http(&in_server("location /x { return 200 x; }"));
        format!("user {user};\n{text}")
    };
    if !nix::unistd::geteuid().is_root() {
        // Nobody but root can change users: then nothing is replaced.
        let mut weir = Setup::whole(&config("nobody nogroup")).start();
        let before = weir.workers();
        weir.rewrite(&config("daemon"));
        weir.reload();
        assert_eq!(weir.workers(), before);
        return;
    }
    let uid = |name: &str| nix::unistd::User::from_name(name).unwrap().unwrap().uid;
    let mut weir = Setup::whole(&config("nobody nogroup")).start();
    let before = [weir.workers(), vec![weir.syncer()]].concat();
    weir.rewrite(&config("daemon"));
    weir.signal(Signal::SIGHUP);
    weir.wait_log("\"user\" has changed, which a running process cannot take over");
    wait_until(PATIENCE, "the old ones are gone", || {
        !before.iter().any(|pid| alive(*pid)) && weir.workers().len() == 2
    });
    for pid in [weir.workers(), vec![weir.syncer()]].concat() {
        assert_eq!(owner(pid), Some(uid("daemon").as_raw()));
    }
    assert_eq!(weir.get("/x").text(), "x");
    assert_eq!(weir.weirctl(&["verify"]).code, Some(0));
}
