//! System calls a request, counted by strace.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_bench::peer;

use crate::measure;
use crate::proxies::Proxy;
use crate::workload::Workload;

/// How long strace has to take hold of a process.
const ATTACH: Duration = Duration::from_secs(10);
/// Seconds of load while it counts.
const SECONDS: u32 = 1;
/// Calls that wait for events: how many there are depends on the load.
const WAITS: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];

/// Calls of the proxy's processes for one request of the workload.
pub fn per_request(proxy: &Proxy, workload: &Workload, folder: &Path) -> Result<f64, String> {
    let table = folder.join("strace");
    let mut strace = attach(&peer::tree(proxy.process.pid()), &table)?;
    let run = measure::load(&measure::wrk()?, proxy, workload, SECONDS);
    let pid = Pid::from_raw(strace.id().cast_signed());
    kill(pid, Signal::SIGINT).map_err(|error| error.to_string())?;
    strace.wait().map_err(|error| error.to_string())?;
    let text = fs::read_to_string(&table).map_err(|error| format!("strace: {error}"))?;
    let calls: u64 = text.lines().filter_map(row).sum();
    Ok(calls as f64 / run?.requests)
}

fn attach(pids: &[u32], table: &Path) -> Result<Child, String> {
    let mut command = Command::new(peer::program("strace")?);
    command.args(["-f", "-c", "-o"]).arg(table);
    for pid in pids {
        command.args(["-p", &pid.to_string()]);
    }
    let strace = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("strace: {error}"))?;
    let deadline = Instant::now() + ATTACH;
    while !pids.iter().all(|pid| is_traced(*pid)) {
        if Instant::now() > deadline {
            return Err(format!("strace does not trace after {ATTACH:?}"));
        }
        std::thread::yield_now();
    }
    Ok(strace)
}

fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let tracer = lines.find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`: the calls, unless they only wait.
fn row(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let calls = words.get(3)?.parse().ok()?;
    let name = words.last()?;
    (*name != "total" && !WAITS.contains(name)).then_some(calls)
}
