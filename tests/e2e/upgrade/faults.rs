//! A new binary that does not start, and masters that are killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::{Loads, Long, New, pid_in, setup, wait_gone, wait_workers};
use crate::support::backend::Backend;
use crate::support::process::{self, children, send};
use crate::support::weir::{Setup, Weir};
use crate::support::{PATIENCE, wait_until};

/// USR2 to a weir whose new binary ends with `log` in the error log: all is as it was.
#[track_caller]
fn fails(weir: &Weir, log: &str) {
    let before = children(weir.pid());
    weir.signal(Signal::SIGUSR2);
    weir.wait_log(log);
    wait_until(PATIENCE, "the old one is as it was", || {
        pid_in(weir, "weir.pid") == Some(weir.pid()) && children(weir.pid()) == before
    });
    weir.wait_log("the old one goes on");
    for name in [
        "logs/weir.pid.oldbin",
        "weir.region.oldbin",
        "weir.region.handover",
        "weir.control.oldbin",
    ] {
        assert!(!weir.path(name).exists(), "{name}");
    }
    assert_eq!(weir.weirctl(&["unpin"]).code, Some(0));
}

#[test]
fn a_broken_configuration_leaves_the_old_one_as_it_was() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let mut weir = setup(&peer, &long, "server { listen unix:@DIR@/weir.sock; }")
        .allow("unknown directive \"nonsense\"")
        .allow("the old one goes on")
        .allow("none/weir.pid")
        .start();
    let loads = Loads::start(&weir);
    let text = weir.text();
    weir.rewrite(&format!("{text}nonsense;\n"));
    fails(&weir, "unknown directive \"nonsense\"");
    // One that fails later, when it has taken over the sockets: a pid file in no folder.
    weir.rewrite(&text.replace("logs/weir.pid", "none/weir.pid"));
    weir.signal(Signal::SIGUSR2);
    wait_until(PATIENCE, "it fails", || {
        weir.error_log().matches("the old one goes on").count() == 2
    });
    assert!(weir.path("weir.sock").exists());
    weir.rewrite(&text);
    loads.progress();
    let new = New::start(&weir, weir.pid());
    loads.finish(&long);
    new.end(Signal::SIGTERM);
    assert!(weir.path("weir.sock").exists());
}

#[test]
fn what_an_earlier_upgrade_left_behind_is_not_taken_back() {
    let weir = Setup::server("")
        .allow("the old one goes on")
        .allow("nonsense")
        .start();
    for name in [
        "logs/weir.pid.oldbin",
        "weir.region.oldbin",
        "weir.control.oldbin",
    ] {
        fs::write(weir.path(name), "1\n").unwrap();
    }
    // Somebody has tidied up.
    fs::remove_file(weir.path("weir.control")).unwrap();
    let text = weir.text();
    let mut weir = weir;
    weir.rewrite(&format!("{text}nonsense;\n"));
    weir.signal(Signal::SIGUSR2);
    weir.wait_log("the old one goes on");
    assert_eq!(pid_in(&weir, "weir.pid"), Some(weir.pid()));
    assert_eq!(weir.weirctl(&["table"]).code, Some(0));
    assert!(!weir.path("weir.control").exists(), "it was not put aside");
    weir.rewrite(&text);
    let new = New::start(&weir, weir.pid());
    new.end(Signal::SIGTERM);
}

/// A weir that was started from a copy of the binary, which may be replaced.
fn own_binary(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("weir");
    fs::copy(env!("CARGO_BIN_EXE_weir"), &path).unwrap();
    path
}

#[test]
fn the_file_that_is_there_now_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let binary = own_binary(folder.path());
    let mut setup = Setup::server("return 200 x;")
        .allow("execve() failed")
        .allow("the old one goes on");
    setup.write();
    let dir = setup.dir().to_owned();
    let output = dir.join("output");
    let mut command = process::guarded(&binary);
    command
        .arg("-p")
        .arg(&dir)
        .arg("-c")
        .arg(dir.join("conf/weir.conf"));
    let mut old = process::Process::start(&mut command, &output);
    let pid = |name: &str| -> Option<u32> {
        process::read_lossy(&dir.join("logs").join(name))
            .trim()
            .parse()
            .ok()
    };
    let log = || process::read_lossy(&dir.join("logs/error.log"));
    wait_until(PATIENCE, "it serves", || pid("weir.pid") == Some(old.pid()));

    // What cannot be executed.
    fs::remove_file(&binary).unwrap();
    fs::write(&binary, "no program").unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o644)).unwrap();
    old.signal(Signal::SIGUSR2);
    let expected = format!(
        "execve() failed while executing new binary process \"{}\" (13: Permission denied)",
        binary.display()
    );
    wait_until(PATIENCE, "it says why", || log().contains(&expected));
    wait_until(PATIENCE, "it has its pid file back", || {
        pid("weir.pid") == Some(old.pid())
    });

    // A program that is none of ours is the new binary now, by the same name.
    fs::write(
        &binary,
        "#!/bin/sh\necho \"$WEIR\" > \"$2/inherited\"; exit 3\n",
    )
    .unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    old.signal(Signal::SIGUSR2);
    wait_until(PATIENCE, "its end is noticed", || {
        log().contains("exited with code 3, the old one goes on")
    });
    let inherited = process::read_lossy(&dir.join("inherited"));
    let words: Vec<&str> = inherited.trim_end().split_terminator(';').collect();
    assert_eq!(words.len(), 2 + 2, "two workers, one address: {inherited}");
    assert_eq!(words[1], old.pid().to_string());
    assert_eq!(pid("weir.pid"), Some(old.pid()));

    fs::remove_file(&binary).unwrap();
    own_binary(folder.path());
    let new = New::begin(old.pid());
    wait_until(PATIENCE, "the new one serves", || {
        pid("weir.pid") == Some(new.pid)
    });
    old.signal(Signal::SIGQUIT);
    old.wait(PATIENCE);
    new.end(Signal::SIGTERM);
}

#[test]
fn a_new_master_that_is_killed_takes_nothing_along() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let weir = setup(&peer, &long, "")
        .allow("exited on signal 9, the old one goes on")
        .start();
    let loads = Loads::start(&weir);
    let new = New::start(&weir, weir.pid());
    weir.signal(Signal::SIGWINCH);
    loads.progress();
    let orphans = new.workers();
    // Its workers see the end of their channel: they finish what they have.
    send(new.pid, Signal::SIGKILL);
    weir.wait_log("exited on signal 9, the old one goes on");
    loads.progress();
    loads.finish(&long);
    wait_workers(weir.pid(), 2);
    orphans.into_iter().for_each(wait_gone);
    assert_eq!(pid_in(&weir, "weir.pid"), Some(weir.pid()));

    // In the middle of its start, at any point.
    for _ in 0..5 {
        let count = weir.error_log().matches("the old one goes on").count();
        let new = New::begin(weir.pid());
        send(new.pid, Signal::SIGKILL);
        wait_until(PATIENCE, "its death is noticed", || {
            weir.error_log().matches("the old one goes on").count() > count
        });
        assert_eq!(pid_in(&weir, "weir.pid"), Some(weir.pid()));
        assert_eq!(weir.get("/once").status, 200);
    }
}

#[test]
fn an_old_master_that_is_killed_leaves_the_new_one_alone() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let mut weir = setup(&peer, &long, "server { listen unix:@DIR@/weir.sock; }").start();
    let old = weir.pid();
    let loads = Loads::start(&weir);
    let new = New::start(&weir, old);
    loads.progress();
    let orphans = weir.workers();
    send(old, Signal::SIGKILL);
    weir.process().wait(PATIENCE);
    weir.wait_log(&format!("old master process {old} is gone"));
    loads.progress();
    loads.finish(&long);
    orphans.into_iter().for_each(wait_gone);
    for name in [
        "logs/weir.pid.oldbin",
        "weir.region.oldbin",
        "weir.region.handover",
        "weir.control.oldbin",
    ] {
        assert!(!weir.path(name).exists(), "{name}");
    }
    let path = weir.path("weir.sock");
    assert_eq!(
        crate::support::client::Client::connect_unix(&path)
            .get("/")
            .unwrap()
            .status,
        404
    );
    // It is a master like any other: it may be followed.
    let next = New::start(&weir, new.pid);
    new.end(Signal::SIGQUIT);
    assert_eq!(weir.get("/once").status, 200);
    next.end(Signal::SIGTERM);
}

#[test]
fn an_old_master_killed_during_the_start_of_the_new_one_does_no_harm() {
    let (peer, long) = (Backend::named("peer"), Long::new());
    let mut weir = setup(&peer, &long, "").workers(2).start();
    let new = New::begin(weir.pid());
    let old = weir.pid();
    send(old, Signal::SIGKILL);
    weir.process().wait(PATIENCE);
    wait_until(PATIENCE, "the new one serves", || {
        pid_in(&weir, "weir.pid") == Some(new.pid)
    });
    weir.wait_log(&format!("old master process {old} is gone"));
    wait_workers(new.pid, 2);
    assert_eq!(weir.get("/once").status, 200);
    let _ = long;
}
