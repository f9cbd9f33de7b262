//! No memory.

use std::process::Command;

use nix::libc::ENOMEM;

use super::{Plan, alterable, at_once};
use crate::http_basic;
use crate::support::backend::Backend;
use crate::support::process::{alive, read_lossy};
use crate::support::weir::{Setup, in_server};
use crate::support::{PATIENCE, wait_until};

const REASON: &str = "failed (12: Cannot allocate memory)";

/// Plans for a worker that has not served yet, so that no buffer lies ready.
fn plan(setup: Setup) -> (Setup, Plan) {
    Plan::new(setup.allow("malloc("), "malloc", ENOMEM)
}

#[test]
fn a_request_that_there_is_no_buffer_for_ends_and_no_other_does() {
    let (setup, plan) = plan(Setup::server("location / { return 200 x; }").workers(1));
    let weir = setup.start();
    plan.then("1");
    assert!(weir.connect().get("/").is_err());
    weir.wait_log(&format!("malloc(32768) {REASON} while waiting for request"));
    for _ in 0..4 {
        assert_eq!(weir.get("/").status, 200);
    }
}

#[test]
fn an_answer_that_there_is_no_buffer_for_is_500() {
    let backend = Backend::named("a");
    let (setup, plan) = plan(http_basic::forwarding(&backend, ""));
    let weir = setup.start();
    plan.then("01");
    assert_eq!(weir.get("/").status, 500);
    weir.wait_log(&format!("malloc(32768) {REASON}"));
    assert_eq!(weir.get("/").status, 200);
}

#[test]
fn a_head_that_there_is_no_room_for_is_500() {
    let body = "large_client_header_buffers 8 32k; location / { return 200 x; }";
    let (setup, plan) = plan(Setup::server(body).workers(1));
    let weir = setup.start();
    plan.then("01");
    let long = format!("X-A: {0}\r\nX-B: {0}\r\n", "a".repeat(20_000));
    let mut client = weir.connect();
    assert_eq!(client.request("GET", "/", &long, b"").unwrap().status, 500);
    weir.wait_log(REASON);
    let again = weir.connect().request("GET", "/", &long, b"");
    assert_eq!(again.unwrap().status, 200);
}

#[test]
fn an_answer_that_there_is_no_memory_to_set_aside_is_whole_all_the_same() {
    // More than the sockets between weir and a client that reads nothing can hold.
    let whole: String = ('a'..='w').cycle().take(24 << 20).collect();
    let backend = Backend::named(&whole);
    // What is set aside would all be in memory.
    let buffers = "proxy_buffering on; proxy_buffers 1024 32k; proxy_max_temp_file_size 0;";
    let (setup, plan) = plan(http_basic::forwarding(&backend, buffers));
    let weir = setup.start();
    plan.then("001");
    let mut client = weir.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    weir.wait_log(&format!("{REASON} while reading upstream"));
    assert_eq!(plan.failed(), 1);
    let answer = client.response("GET").unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.strip_suffix(b"\n") == Some(whole.as_bytes()));
}

fn limit_memory(pid: u32, limit: &str) {
    // The worker may have died of it.
    let _ = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--as={limit}:")])
        .output();
}

#[test]
fn a_worker_short_of_memory_goes_on_or_is_replaced() {
    let setup = alterable(&in_server(
        "large_client_header_buffers 8 64k; location / { return 200 x; }",
    ));
    let weir = setup.allow("malloc(").allow("exited on signal 6").start();
    assert_eq!(weir.get("/").status, 200);
    let worker = weir.workers()[0];
    let status = read_lossy(format!("/proc/{worker}/status").as_ref());
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size: usize = size
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    limit_memory(worker, &((size + 512) * 1024).to_string());
    // Requests that stay unfinished hold 32 KiB each, until there is no more.
    let mut held: Vec<_> = (0..200).map(|_| super::unfinished(&weir)).collect();
    wait_until(PATIENCE, "memory runs out", || {
        let log = weir.error_log();
        log.contains(REASON) || log.contains("exited on signal 6")
    });
    held.clear();
    limit_memory(worker, "unlimited");
    wait_until(PATIENCE, "requests are served", || {
        at_once(&weir, "/", 4)
            .iter()
            .all(|outcome| outcome.as_ref().is_ok_and(|answer| answer.status == 200))
    });
    assert!(alive(weir.pid()));
}
