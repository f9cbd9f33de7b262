//! System calls of a warm worker, counted and not timed.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::process::{Process, guarded, read_lossy, title};
use crate::support::{PATIENCE, tool, wait_until};

use super::http_basic::forwarding;

const CONNECTIONS: usize = 64;
const REQUESTS: usize = 6400;
/// A read and a write on either side, and a few for what happens once.
const DATA_CALLS: f64 = 4.2;

/// The calls of one process while `run` runs, by name.
fn counted(pid: u32, run: impl FnOnce()) -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    let (table, output) = (folder.path().join("table"), folder.path().join("output"));
    let mut command = guarded(tool("strace"));
    command
        .args(["-f", "-c", "-p", &pid.to_string(), "-o"])
        .arg(&table);
    let mut strace = Process::start(&mut command, &output);
    wait_until(PATIENCE, "strace is attached", || {
        let status = read_lossy(format!("/proc/{pid}/status").as_ref());
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        assert!(strace.ended().is_none(), "{}", read_lossy(&output));
        tracer.is_some_and(|tracer| tracer.trim() != "0")
    });
    run();
    strace.signal(Signal::SIGINT);
    strace.wait(PATIENCE);
    read_lossy(&table).lines().filter_map(row).collect()
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`
fn row(line: &str) -> Option<(String, usize)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let calls = words.get(3)?.parse().ok()?;
    let name = words.last().filter(|name| **name != "total")?;
    Some(((*name).to_owned(), calls))
}

#[test]
fn a_keepalive_request_takes_four_data_calls_and_no_epoll_ctl() {
    let backend = Backend::named(&"x".repeat(127));
    let weir = forwarding(&backend, "access_log off; keepalive_requests 100000;").start();
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| weir.connect()).collect();
    let mut round = |count: usize| {
        for _ in 0..count / CONNECTIONS {
            for client in &mut clients {
                client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            }
            for client in &mut clients {
                assert_eq!(client.response("GET").unwrap().body.len(), 128);
            }
        }
    };
    round(CONNECTIONS * 5);
    let worker = weir.workers()[0];
    assert_eq!(title(worker), "weir: worker process");
    let connections = backend.connections();
    let calls = counted(worker, || round(REQUESTS));
    assert_eq!(backend.requests().len(), REQUESTS + CONNECTIONS * 5);
    let of = |names: &[&str]| -> usize { names.iter().filter_map(|name| calls.get(*name)).sum() };
    let data = of(&[
        "read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg", "sendfile",
        "splice",
    ]);
    let each = data as f64 / REQUESTS as f64;
    assert!(
        each >= 3.9,
        "the counting works: {each} data calls a request in {calls:?}"
    );
    assert!(each <= DATA_CALLS, "{each} data calls a request: {calls:?}");
    let once = REQUESTS / 50 + 4 * (backend.connections() - connections);
    assert!(
        of(&["epoll_ctl"]) <= once,
        "epoll_ctl per request: {calls:?}"
    );
    let memory = of(&["mmap", "munmap", "brk", "mremap", "madvise"]);
    assert!(
        memory <= REQUESTS / 100,
        "memory is taken while warm: {calls:?}"
    );
}
