//! A full disk under the logs.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::getuid;

use super::alterable;
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
    fs::remove_file(&path).unwrap();
    weir.signal(Signal::SIGUSR1);
    let worker = weir.workers()[0];
    wait_until(PATIENCE, "the worker has the new file", || {
        let entries = fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
        let mut links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.any(|link| link == path)
    });
}

/// The whole lines.
fn lines(path: &Path) -> usize {
    read_lossy(path).matches('\n').count()
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

/// What the small disk holds, in bytes: whole pages.
const DISK: u64 = 32 * 1024;

/// weir for which this folder is a small disk of its own, which nobody else sees and which goes with it.
fn on_small_disk(setup: Setup, folder: &Path) -> Setup {
    fs::create_dir(folder).unwrap();
    let mount = format!("mount -t tmpfs -o size={DISK} none \"$0\" && exec \"$@\"");
    let mut wrapper = vec!["unshare", "--mount"];
    if !getuid().is_root() {
        wrapper.extend(["--user", "--map-root-user"]);
    }
    wrapper.extend(["sh", "-c", &mount, folder.to_str().unwrap()]);
    setup.under(&wrapper)
}

#[test]
fn a_disk_that_gets_full_and_has_room_again_costs_lines_and_no_request() {
    for buffer in ["", " combined buffer=4k flush=50ms"] {
        let location = "location / { return 200 x; }";
        let body = format!("access_log logs/disk/access.log{buffer}; {location}");
        let setup = alterable(&in_server(&body));
        let folder = setup.dir().join("logs/disk");
        let weir = on_small_disk(setup, &folder)
            .allow("access.log\" failed (28: No space left on device)")
            .start();
        // As weir sees it.
        let seen = format!("/proc/{}/root{}", weir.pid(), folder.display());
        let log = Path::new(&seen).join("access.log");
        let mut client = weir.connect();
        let mut sent = 0;
        let mut ask = || {
            assert_eq!(client.get("/").unwrap().status, 200);
            sent += 1;
            sent
        };
        let mut asked = ask();
        while lost(&weir) < 20 {
            asked = ask();
        }
        wait_until(PATIENCE, "every line is written or counted", || {
            lines(&log) as u64 + lost(&weir) == asked
        });
        // The last line that went in was cut where the disk ends, unless it ended there too.
        assert_eq!(fs::metadata(&log).unwrap().len(), DISK);
        assert!(!folder.join("access.log").exists(), "a disk of its own");
        let (written, before) = (lines(&log), lost(&weir));
        File::create(&log).unwrap();
        let path = folder.join("access.log");
        let end = format!(" lines of \"{}\" could not be written", path.display());
        wait_until(PATIENCE, "it is told", || {
            asked = ask();
            told(&weir.error_log(), &end) >= before
        });
        wait_until(PATIENCE, "every line is written or counted again", || {
            (written + lines(&log)) as u64 + lost(&weir) == asked
        });
        assert_eq!(told(&weir.error_log(), &end), lost(&weir));
    }
}
