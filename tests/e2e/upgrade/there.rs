//! To the new binary.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;

use super::{Loads, Long, New, pid_in, setup, wait_gone, wait_workers, workers};
use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::process::{self, alive, children, title};
use crate::support::weir::{Setup, in_http, in_server};
use crate::support::{PATIENCE, wait_until};

/// What is open in a process: descriptors of each kind.
fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn usr2_winch_quit_loses_nothing() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let mut weir = setup(&peer, &long, "").start();
    let old = weir.pid();
    let loads = Loads::start(&weir);
    let new = New::start(&weir, old);
    assert_eq!(pid_in(&weir, "weir.pid.oldbin"), Some(old));
    assert_eq!(
        children(old).iter().filter(|&&pid| pid == new.pid).count(),
        1
    );
    wait_workers(new.pid, 2);
    assert_eq!(workers(old).len(), 2, "both serve");
    assert_eq!(title(new.pid), title(old), "with the same arguments");
    loads.progress();

    weir.signal(Signal::SIGWINCH);
    loads.progress();
    assert!(alive(old), "its master stays");
    weir.signal(Signal::SIGQUIT);
    loads.progress();
    loads.finish(&long);
    // What went through it is finished, so the old one is free to go.
    assert_eq!(weir.process().wait(PATIENCE).code(), Some(0));
    weir.wait_log(&format!("old master process {old} is gone"));
    wait_until(PATIENCE, "the new one is alone", || {
        !weir.path("logs/weir.pid.oldbin").exists()
            && !weir.path("weir.region.oldbin").exists()
            && !weir.path("weir.control.oldbin").exists()
    });
    assert_eq!(pid_in(&weir, "weir.pid"), Some(new.pid));
    assert_eq!(weir.get("/kept").status, 200);
    // What commands find is the new one.
    assert_eq!(weir.command(&["-s", "quit"]).code, Some(0));
    wait_gone(new.pid);
    assert!(!weir.path("logs/weir.pid").exists());
}

#[test]
fn a_new_binary_leads_to_the_next_and_leaks_nothing() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let mut weir = setup(&peer, &long, "server { listen unix:@DIR@/weir.sock; }").start();
    let first = descriptors(weir.pid());
    let new = New::start(&weir, weir.pid());
    weir.signal(Signal::SIGQUIT);
    weir.process().wait(PATIENCE);
    weir.wait_log("old master process");
    let mut masters = vec![new];
    for _ in 0..2 {
        let old = masters.last().unwrap().pid;
        let new = New::start(&weir, old);
        process::send(old, Signal::SIGQUIT);
        wait_gone(old);
        wait_until(PATIENCE, "it is gone for the new one too", || {
            weir.error_log()
                .contains(&format!("{}#0: old master process {old} is gone", new.pid))
        });
        masters.push(new);
    }
    let last = masters.last().unwrap().pid;
    wait_until(
        PATIENCE,
        "there are as many descriptors as at first",
        || descriptors(last) <= first,
    );
    let mut client = Client::connect_unix(&weir.path("weir.sock"));
    assert_eq!(client.get("/").unwrap().status, 404);
    assert_eq!(weir.get("/once").status, 200);
}

#[test]
fn every_socket_has_a_worker_whatever_their_number() {
    for (before, after) in [(4, 1), (1, 4)] {
        let (peer, long) = (Backend::named("peer"), Long::new());
        let mut weir = setup(&peer, &long, "").workers(before).start();
        let old = weir.pid();
        let loads = Loads::start(&weir);
        let text = weir.text().replace(
            "worker_processes @WORKERS@;",
            &format!("worker_processes {after};"),
        );
        weir.rewrite(&text);
        let new = New::start(&weir, old);
        wait_workers(new.pid, after);
        loads.progress();
        weir.signal(Signal::SIGWINCH);
        loads.progress();
        weir.signal(Signal::SIGQUIT);
        loads.finish(&long);
        weir.process().wait(PATIENCE);
        let all: BTreeSet<u32> = new.workers().into_iter().collect();
        assert_eq!(all.len(), after);
        let served = weir.each_worker(after);
        assert_eq!(served.into_keys().collect::<BTreeSet<_>>(), all);
    }
}

#[test]
fn addresses_come_and_go_with_the_new_configuration() {
    const WORD: &str = "there";
    let with = |addresses: &[&str]| {
        let server = |at: &&str| format!("server {{ listen {at}; return 200 {WORD}; }}\n");
        let servers: String = addresses.iter().map(server).collect();
        in_http(&format!("{}{servers}", in_server("")))
    };
    let before = with(&[
        "127.0.0.1:@PORT2@",
        "unix:@DIR@/gone.sock",
        "unix:@DIR@/kept.sock",
    ]);
    let after = with(&[
        "127.0.0.1:@PORT3@",
        "unix:@DIR@/kept.sock",
        "unix:@DIR@/new.sock",
    ]);
    let mut weir = Setup::whole(&before).start();
    weir.rewrite(&after);
    let new = New::start(&weir, weir.pid());
    let at = |port: &str| format!("127.0.0.1:{}", weir.port(port));
    for port in ["PORT", "PORT2", "PORT3"] {
        assert!(Client::try_connect(at(port)).is_ok(), "both serve: {port}");
    }
    for name in ["gone", "kept", "new"] {
        let path = weir.path(&format!("{name}.sock"));
        assert_eq!(Client::connect_unix(&path).get("/").unwrap().text(), WORD);
    }
    let at: Vec<String> = ["PORT", "PORT2", "PORT3"].map(at).into();
    weir.signal(Signal::SIGQUIT);
    weir.process().wait(PATIENCE);
    wait_until(PATIENCE, "the file that nobody listens on is gone", || {
        !weir.path("gone.sock").exists()
    });
    assert!(Client::try_connect(&at[0]).is_ok());
    assert!(Client::try_connect(&at[1]).is_err());
    assert!(Client::try_connect(&at[2]).is_ok());
    for name in ["kept", "new"] {
        let path = weir.path(&format!("{name}.sock"));
        assert_eq!(Client::connect_unix(&path).get("/").unwrap().text(), WORD);
    }
    new.end(Signal::SIGTERM);
    assert!(!weir.path("kept.sock").exists() && !weir.path("new.sock").exists());
}

#[test]
fn another_usr2_is_refused_while_both_run() {
    let weir = Setup::server("").start();
    let new = New::start(&weir, weir.pid());
    let refused = "the changing binary signal is ignored: you should shutdown or terminate before either old or new binary's process";
    for (count, master) in [weir.pid(), new.pid].into_iter().enumerate() {
        process::send(master, Signal::SIGUSR2);
        wait_until(PATIENCE, "it is refused", || {
            weir.error_log().matches(refused).count() == count + 1
        });
    }
    assert_eq!(workers(new.pid).len(), 2);
}

#[test]
fn a_daemon_stays_one() {
    let text = in_http(&in_server("return 200 x;")).replace("daemon off;", "daemon on;");
    let mut setup = Setup::whole(&text);
    let done = setup.run(&[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let folder = setup.dir().to_owned();
    let pid = |name: &str| -> Option<u32> {
        process::read_lossy(&folder.join("logs").join(name))
            .trim()
            .parse()
            .ok()
    };
    let old = pid("weir.pid").unwrap();
    let _leash = process::Leash::new(old).unwrap();
    let new = New::begin(old);
    wait_until(PATIENCE, "the new one has the pid file", || {
        pid("weir.pid") == Some(new.pid)
    });
    assert!(
        children(old).contains(&new.pid),
        "it is a child, no daemon anew"
    );
    process::send(old, Signal::SIGQUIT);
    wait_gone(old);
    wait_until(PATIENCE, "it noticed", || {
        process::read_lossy(&folder.join("logs/error.log")).contains("is gone")
    });
    // Its standard error is the error log, as any daemon's; nothing stands there twice.
    let log = process::read_lossy(&folder.join("logs/error.log"));
    assert!(!log.contains("weir: ["), "{log}");
    let stderr = fs::read_link(format!("/proc/{}/fd/2", new.pid)).unwrap();
    assert!(stderr.ends_with("logs/error.log"), "{stderr:?}");
    assert_eq!(setup.run(&["-s", "stop"]).code, Some(0));
    wait_gone(new.pid);
}
