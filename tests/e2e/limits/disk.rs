//! A full disk under the logs.

use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::process::read_lossy;
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, wait_until};

/// The lines that are told as lost, each time at its own line.
fn told(text: &str, end: &str) -> u64 {
    let lines = text.lines().filter(|line| line.ends_with(end));
    let count = |line: &str| -> Option<u64> {
        let words = line.strip_suffix(end)?;
        words.rsplit(' ').next()?.parse().ok()
    };
    lines.filter_map(count).sum()
}

fn lost(weir: &Weir) -> u64 {
    let rows = weir.weirctl_json(&["workers"]);
    let rows = rows["workers"].as_array().cloned().unwrap_or_default();
    rows.iter()
        .filter_map(|row| row["lost_lines"].as_u64())
        .sum()
}

/// The log `name` is a device that is always full.
fn fill(setup: &Setup, name: &str) {
    symlink("/dev/full", setup.dir().join("logs").join(name)).unwrap();
}

/// The disk has room again.
fn empty(weir: &Weir, name: &str) {
    let path = weir.path("logs").join(name);
    std::fs::remove_file(&path).unwrap();
    weir.signal(Signal::SIGUSR1);
    let worker = weir.workers()[0];
    wait_until(PATIENCE, "the worker has the new file", || {
        let entries = std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
        let mut links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.any(|link| link == path)
    });
}

fn lines(path: &Path) -> usize {
    read_lossy(path).lines().count()
}

#[test]
fn lines_of_an_access_log_that_were_lost_are_counted_and_told() {
    for buffer in ["", " combined buffer=4k flush=50ms"] {
        let setup = Setup::server(&format!(
            "access_log logs/full.log{buffer}; location / {{ return 200 x; }}"
        ))
        .workers(1)
        .allow("full.log\" failed (28: No space left on device)");
        fill(&setup, "full.log");
        let weir = setup.start();
        let mut client = weir.connect();
        let mut sent = 0;
        for _ in 0..50 {
            assert_eq!(client.get("/").unwrap().status, 200);
            sent += 1;
        }
        wait_until(PATIENCE, "they are counted", || lost(&weir) == 50);
        empty(&weir, "full.log");
        let path = weir.path("logs/full.log");
        let end = " lines of \"".to_owned() + path.to_str().unwrap() + "\" could not be written";
        wait_until(PATIENCE, "it is told", || {
            assert_eq!(client.get("/").unwrap().status, 200);
            sent += 1;
            told(&weir.error_log(), &end) >= 50
        });
        wait_until(PATIENCE, "every line is written or counted", || {
            lines(&path) as u64 + lost(&weir) == sent
        });
        assert_eq!(told(&weir.error_log(), &end), lost(&weir));
    }
}

#[test]
fn lines_of_the_error_log_that_were_lost_are_counted_in_it() {
    // Each request is a line: nobody listens there.
    let server = in_server("location / { proxy_pass http://127.0.0.1:1; }");
    let setup = Setup::whole(&in_http(&server)).workers(1);
    fill(&setup, "error.log");
    let weir = setup.start();
    for _ in 0..30 {
        assert_eq!(weir.get("/").status, 502);
    }
    empty(&weir, "error.log");
    let end = " lines of this log could not be written";
    wait_until(PATIENCE, "it is told", || {
        assert_eq!(weir.get("/").status, 502);
        told(&weir.error_log(), end) >= 30
    });
}
