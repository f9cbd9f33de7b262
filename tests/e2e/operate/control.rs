//! The control socket.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

use super::{fails, http, shared, told};
use crate::support::PATIENCE;
use crate::support::consul::{self, Consul};
use crate::support::process::read_lossy;
use crate::support::weir::{Setup, in_http};

/// The inodes of the sockets that a process has open.
fn sockets(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

#[test]
fn the_control_socket_is_its_owners_alone() {
    let folder = consul::folder();
    let mut weir = shared(&folder).workers(2).start();
    let path = weir.path("weir.control");
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(found.uid(), nix::unistd::geteuid().as_raw());
    let named = read_lossy("/proc/net/unix".as_ref());
    let line = named
        .lines()
        .find(|line| line.ends_with(&path.display().to_string()));
    // It was bound under another name.
    let temporary = format!("{}~", path.display());
    let line = line.or_else(|| named.lines().find(|line| line.ends_with(&temporary)));
    let inode = line.unwrap().split_whitespace().nth(6).unwrap();
    let socket = format!("socket:[{inode}]");
    assert!(sockets(weir.pid()).contains(&socket), "the master has it");
    for pid in weir.workers().into_iter().chain([weir.syncer()]) {
        assert!(!sockets(pid).contains(&socket), "{pid} has it too");
    }
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"{\"command\":\"halt\"}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(
        answer.contains("\"ok\":false") && answer.contains("halt"),
        "{answer}"
    );
    // Many who say nothing keep nobody out.
    let silent: Vec<_> = (0..10)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    fails(
        &weir.weirctl(&["pin", "none"]),
        1,
        "there is no upstream \"none\"",
    );
    drop(silent);
    weir.stop();
    assert!(!path.exists(), "the end takes it away");
    fails(&weir.weirctl(&["pin"]), 1, "No such file or directory");
}

#[test]
fn a_dead_masters_socket_is_replaced_and_off_is_off() {
    let folder = consul::folder();
    let mut weir = shared(&folder).workers(1).start();
    let path = weir.path("weir.control");
    let before = fs::symlink_metadata(&path).unwrap().ino();
    weir.signal(Signal::SIGKILL);
    weir.process().wait(PATIENCE);
    assert!(path.exists());
    weir.start_again();
    assert_ne!(fs::symlink_metadata(&path).unwrap().ino(), before);
    told(&weir, &["pin"]);

    let text = in_http(&http(&Consul::shared().address(), &folder));
    let text = text.replacen("events", "control off; events", 1);
    let weir = Setup::whole(&text).workers(1).start();
    assert!(!weir.path("weir.control").exists());
    fails(&weir.weirctl(&["pin"]), 1, "weir.control\": No such file");
}
