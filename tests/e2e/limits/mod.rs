//! What happens when something runs out: descriptors, connections, memory, disk, processes.

mod calls;
mod clock;
mod connections;
mod descriptors;
mod disk;
mod idle;
mod memory;
mod signals;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::{Client, Failure, Response};
use crate::support::process::read_lossy;
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, wait_for, wait_until};

/// Calls that fail in their turn; see `shm/src/fault.rs`. A release build would not look at it.
pub struct Plan {
    path: PathBuf,
}

impl Plan {
    /// Has calls of this name fail with the error of this number, in a file below `setup`'s folder.
    /// Nothing fails before [`Plan::then`].
    pub fn new(setup: Setup, call: &str, error: i32) -> (Setup, Plan) {
        let path = setup.dir().join("plan");
        std::fs::write(&path, "").unwrap();
        let variable = format!("{call}:{error}:{}", path.display());
        (setup.environment("WEIR_FAIL", variable), Plan { path })
    }

    /// What comes of the next calls: `0` is made, `1` fails.
    pub fn then(&self, steps: &str) {
        let mut file = std::fs::File::options()
            .append(true)
            .open(&self.path)
            .unwrap();
        file.write_all(steps.as_bytes()).unwrap();
    }

    /// How many calls have failed.
    pub fn failed(&self) -> usize {
        read_lossy(&self.path).matches('!').count()
    }
}

/// The processor time that a process has used.
fn used(pid: u32) -> Duration {
    let stat = read_lossy(Path::new(&format!("/proc/{pid}/stat")));
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 1..]
        .split_ascii_whitespace()
        .collect();
    // Fields 14 and 15, in hundredths of a second.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

/// One worker, whose limits the tests may change while it runs: it is of their user.
fn alterable(body: &str) -> Setup {
    let text = in_http(body).replace("daemon off;", "daemon off; user root;");
    Setup::whole(&text).workers(1)
}

/// The same, forwarding to one server.
fn forwarding(backend: &Backend, directives: &str) -> Setup {
    let location = format!("location / {{ proxy_pass http://back; {directives} }}");
    let upstream = format!("upstream back {{ server {}; }}\n", backend.address());
    alterable(&(upstream + &in_server(&location)))
}

/// Waits until a process opens and closes nothing any more.
fn rests(pid: u32) -> usize {
    let mut before = (0, 0);
    wait_for(PATIENCE, "the descriptors stay as they are", || {
        let now = open_descriptors(pid);
        before = (now, if now == before.0 { before.1 + 1 } else { 0 });
        (before.1 == 20).then_some(now)
    })
}

/// Leaves the worker so many descriptors: by a limit just above the highest that it has, and clients
/// that take what is free below.
fn leave_descriptors(weir: &Weir, free: usize) -> Vec<Client> {
    let worker = weir.workers()[0];
    let open = rests(worker);
    let entries = std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
    let numbers = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let highest: usize = numbers.map(|name| name.parse().unwrap()).max().unwrap();
    let limit = highest + 1 + free;
    limit_descriptors(worker, limit);
    let clients = (open + free..limit).map(|_| unfinished(weir)).collect();
    wait_until(PATIENCE, "they are let in", || {
        open_descriptors(worker) == limit - free
    });
    clients
}

/// Gives a running process another limit of descriptors.
fn limit_descriptors(pid: u32, limit: usize) {
    let limit = format!("--nofile={limit}:");
    let done = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &limit])
        .status();
    assert!(done.unwrap().success());
}

/// As many clients at once, each with one request; what came of them.
fn at_once(weir: &Weir, target: &str, clients: usize) -> Vec<Result<Response, Failure>> {
    let ask = || {
        let mut client = Client::try_connect(weir.address())?;
        client.request("GET", target, "Connection: close\r\n", b"")
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[track_caller]
fn all_are_served(outcomes: &[Result<Response, Failure>]) {
    for outcome in outcomes {
        match outcome {
            Ok(response) => assert_eq!(response.status, 200),
            Err(failure) => panic!("{failure}"),
        }
    }
}

/// A client that has begun a request and does not end it.
fn unfinished(weir: &Weir) -> Client {
    let mut client = weir.connect();
    client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n").unwrap();
    client
}
