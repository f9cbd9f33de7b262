//! The process tree: titles, users, descriptors, the pid file, a second instance, a daemon.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::support::process::{Leash, Process, alive, children, finish, owner, read_lossy, title};
use crate::support::weir::{Setup, command, in_http, in_server};
use crate::support::{PATIENCE, wait_for, wait_until};

#[test]
fn titles_pid_file_and_child_processes() {
    let weir = Setup::server("").workers(3).start();
    let pid = weir.pid();
    let expected = format!("weir: master process {}", env!("CARGO_BIN_EXE_weir"));
    assert!(title(pid).starts_with(&expected), "{}", title(pid));
    assert!(
        title(pid).contains(" -p "),
        "with its arguments: {}",
        title(pid)
    );
    assert_eq!(weir.workers().len(), 3);
    let syncer = weir.syncer();
    assert_eq!(children(pid).len(), 4, "three workers and the syncer");
    assert_eq!(read_lossy(&weir.path("logs/weir.pid")), format!("{pid}\n"));
    if owner(pid) == Some(0) {
        let nobody = nix::unistd::User::from_name("nobody")
            .unwrap()
            .unwrap()
            .uid
            .as_raw();
        for child in [weir.workers(), vec![syncer]].concat() {
            assert_eq!(owner(child), Some(nobody), "{}", title(child));
        }
    }
}

#[test]
fn a_second_instance_is_refused() {
    let weir = Setup::server("").start();
    let listen = format!("127.0.0.1:{}", weir.port("PORT"));
    let mut second =
        Setup::http("server { listen 127.0.0.1:@PORT@; }").set("PORT", weir.port("PORT"));
    let done = second.run(&[]);
    assert_eq!(done.code, Some(1));
    let said = done.stderr + &read_lossy(&second.dir().join("logs/error.log"));
    assert!(
        said.contains(&format!(
            "bind() to {listen} failed (98: Address already in use)"
        )),
        "{said}"
    );
    assert!(said.contains("[emerg]"), "{said}");
    assert!(!second.dir().join("logs/weir.pid").exists());
    for _ in 0..50 {
        assert_eq!(weir.get("/who").status, 200, "the first is not disturbed");
    }
}

#[test]
fn a_start_that_waits_for_an_address_ends_at_once_when_told() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut setup = Setup::http(&format!(
            "server {{ listen unix:@DIR@/weir.sock; listen 127.0.0.1:{port}; }}"
        ));
        setup.write();
        let log = setup.dir().join("logs/error.log");
        let mut process = Process::start(&mut command(setup.dir()), &setup.dir().join("output"));
        wait_until(PATIENCE, "it waits", || {
            read_lossy(&log).contains("Address already in use")
        });
        process.signal(signal);
        process.wait(PATIENCE);
        let said = read_lossy(&log);
        assert!(!said.contains("still could not bind()"), "{said}");
        assert!(!setup.dir().join("weir.sock").exists());
    }
}

#[test]
fn a_pid_file_that_cannot_be_written_lets_nobody_in() {
    let text = in_http(&in_server("")).replace("pid logs/weir.pid;", "pid missing/weir.pid;");
    let mut setup = Setup::whole(&text);
    let done = setup.run(&[]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let path = setup.dir().join("missing/weir.pid");
    let expected = format!(
        "weir: [emerg] open() \"{}\" failed (2: No such file or directory)\n",
        path.display()
    );
    assert_eq!(done.stderr, expected);
    let log = read_lossy(&setup.dir().join("logs/error.log"));
    assert!(!log.contains("start "), "no child was started: {log}");
}

#[test]
fn a_daemon_returns_when_it_listens() {
    let mut setup = Setup::whole(&in_http(&in_server("")).replace("daemon off;", ""));
    let done = setup.run(&[]);
    let pid_file = setup.dir().join("logs/weir.pid");
    let pid: u32 = read_lossy(&pid_file)
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("a pid: {done:?}"));
    let leash = Leash::new(pid).unwrap();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        title(pid).starts_with("weir: master process "),
        "{}",
        title(pid)
    );
    let port = read_lossy(&setup.dir().join("conf/weir.conf"));
    let port = port
        .split("listen 127.0.0.1:")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(
        crate::support::client::get(format!("127.0.0.1:{port}"), "/who").status,
        200
    );
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid as i32))).unwrap();
    assert_ne!(
        session,
        nix::unistd::getsid(None).unwrap(),
        "a session of its own"
    );

    let again = finish(&mut command(setup.dir()));
    assert_eq!(
        again.code,
        Some(1),
        "a second one says so before it returns: {again:?}"
    );
    let stopped = finish(command(setup.dir()).args(["-s", "quit"]));
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    wait_for(PATIENCE, "the daemon ends", || (!alive(pid)).then_some(()));
    assert!(!pid_file.exists());
    drop(leash);
}

/// The sockets that a process has open, by inode.
fn sockets(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            Some(
                link.to_str()?
                    .strip_prefix("socket:[")?
                    .trim_end_matches(']')
                    .to_owned(),
            )
        })
        .collect()
}

/// The inodes of the sockets that listen on a port of IPv4.
fn listening(port: u16) -> BTreeSet<String> {
    const LISTEN: &str = "0A";
    let table = read_lossy("/proc/net/tcp".as_ref());
    let words = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter(|words| words[1].ends_with(&format!(":{port:04X}")) && words[3] == LISTEN)
        .map(|words| words[9].to_owned())
        .collect()
}

/// End of file on a channel means that its other end is gone, and a socket that nobody accepts
/// from swallows connections: so no child may hold what is another's.
#[test]
fn a_child_holds_only_descriptors_of_its_own() {
    const WORKERS: usize = 3;
    let weir = Setup::server("").workers(WORKERS).start();
    assert_eq!(weir.each_worker(WORKERS).len(), WORKERS);
    let ours = listening(weir.port("PORT"));
    assert_eq!(ours.len(), WORKERS, "a socket a worker");
    // Its own, and that of the worker that it helps.
    let held = |worker: u32| -> BTreeSet<String> {
        let held = sockets(worker).into_iter();
        held.filter(|inode| ours.contains(inode)).collect()
    };
    wait_until(PATIENCE, "each socket is held by two workers", || {
        let all: Vec<_> = weir.workers().into_iter().map(held).collect();
        let holders = |inode: &String| all.iter().filter(|held| held.contains(inode)).count();
        all.iter().all(|held| held.len() == 2) && ours.iter().all(|inode| holders(inode) == 2)
    });
    assert!(
        !sockets(weir.syncer())
            .iter()
            .any(|inode| ours.contains(inode)),
        "the syncer has none"
    );
    let all = children(weir.pid());
    for (number, one) in all.iter().enumerate() {
        let own: BTreeSet<_> = sockets(*one).into_iter().collect();
        for other in &all[number + 1..] {
            let shared: Vec<_> = sockets(*other)
                .into_iter()
                .filter(|inode| own.contains(inode) && !ours.contains(inode))
                .collect();
            assert!(shared.is_empty(), "{one} and {other} share {shared:?}");
        }
    }
}

#[test]
fn without_a_master_process_one_process_serves() {
    let mut weir =
        Setup::whole(&format!("master_process off;\n{}", in_http(&in_server("")))).start();
    let pid = weir.pid().to_string();
    assert_eq!(weir.get("/who").field("x-pid"), Some(pid.as_str()));
    weir.stop();
}
