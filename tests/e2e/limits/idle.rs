//! Very many connections that do nothing, and clients that take their time.

use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::http_basic::forwarding;
use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::load::Load;
use crate::support::process::{finish_within, guarded, read_lossy};
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, tool};

const IDLE: usize = 10_000;
/// What one of them may take of a worker's memory, in bytes.
const MOST_EACH: usize = 2048;
const SLOW: &str = "300";
/// So many of them at least have to be there at a time, however busy the machine is.
const HUNDREDS: u32 = 200;

/// The memory of all workers, in bytes.
fn memory(weir: &Weir) -> usize {
    let of = |pid: &u32| {
        let text = read_lossy(format!("/proc/{pid}/smaps_rollup").as_ref());
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let size: usize = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        size * 1024
    };
    weir.workers().iter().map(of).sum()
}

fn waiting(weir: &Weir) -> u64 {
    let rows = weir.weirctl_json(&["workers"]);
    let rows = rows["workers"].as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| row["waiting"].as_u64()).sum()
}

/// Lets this process, and what it starts, open as many files as the tests' user may.
fn raise_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = IDLE as u64 + 2000;
    assert!(
        most >= wanted,
        "`ulimit -Hn` is {most}, and has to be {wanted}"
    );
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

#[test]
fn ten_thousand_idle_connections_are_held_and_the_others_served() {
    let text = in_http(&in_server(
        "keepalive_timeout 1h; location / { return 200 x; }",
    ))
    .replace("worker_connections 2048", "worker_connections 12000");
    raise_limit();
    let weir = Setup::whole(&text).start();
    weir.each_worker(2);
    let before = memory(&weir);
    let mut idle: Vec<Client> = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut client = weir.connect();
        assert_eq!(client.get("/").unwrap().status, 200);
        idle.push(client);
    }
    assert!(waiting(&weir) >= IDLE as u64);
    let each = memory(&weir).saturating_sub(before) / IDLE;
    assert!(each < MOST_EACH, "{each} bytes a connection");
    for _ in 0..100 {
        assert_eq!(weir.get("/").status, 200);
    }
    for client in idle.iter_mut().step_by(50) {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    assert!(waiting(&weir) >= IDLE as u64);
}

/// Slow clients by the hundred for a few seconds; what slowhttptest says.
fn slow_clients(weir: &Weir, arguments: &[&str]) -> String {
    let mut command: Command = guarded(tool("slowhttptest"));
    let url = format!("http://{}/", weir.address());
    command.args(["-c", SLOW, "-r", SLOW, "-l", "4", "-p", "3", "-u", &url]);
    let done = finish_within(command.args(arguments), PATIENCE + Duration::from_secs(10));
    done.stdout + &done.stderr
}

/// The most connections that slowhttptest says it had at a time.
fn connected(said: &str) -> Option<u32> {
    let (_, shown) = said.split_once("connected:")?;
    let number = |line: &str| {
        // It is coloured.
        let plain = line.replace("\x1b[1;32m", "").replace("\x1b[0m", "");
        plain.split_whitespace().next()?.parse().ok()
    };
    let lines = shown.split("connected:");
    lines.filter_map(number).max()
}

#[test]
fn hundreds_of_slow_clients_keep_nobody_else_waiting() {
    let backend = Backend::named(&"x".repeat(100_000));
    let weir = forwarding(&backend, "").start();
    for arguments in [
        &["-H", "-i", "1", "-t", "GET", "-x", "24"][..],
        &["-B", "-i", "1", "-t", "POST", "-s", "8192", "-x", "10"],
        &[
            "-X", "-w", "10", "-y", "20", "-n", "1", "-z", "4", "-k", "3",
        ],
    ] {
        let load = Load::start(&weir.address(), "/", 2);
        let said = slow_clients(&weir, arguments);
        load.progress();
        let outcome = load.stop();
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        assert!(said.contains("YES") && !said.contains("NO\n"), "{said}");
        assert!(connected(&said) >= Some(HUNDREDS), "{said}");
    }
}
