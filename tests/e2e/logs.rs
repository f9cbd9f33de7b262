//! Access logs: formats, buffers, conditions, names with variables, rotation, full disks.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::backend::{Backend, Then, ok};
use crate::support::process::read_lossy;
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, holds_for, wait_until};

/// Long enough to see that something does not happen.
const A_WHILE: Duration = Duration::from_millis(150);

fn log(weir: &Weir, name: &str) -> String {
    read_lossy(&weir.path(&format!("logs/{name}.log")))
}

fn rename(weir: &Weir, from: &str, to: &str) {
    let path = |name: &str| weir.path(&format!("logs/{name}.log"));
    std::fs::rename(path(from), path(to)).unwrap();
}

#[track_caller]
fn wait_line(weir: &Weir, name: &str, part: &str) -> String {
    wait_until(PATIENCE, "the line is there", || {
        log(weir, name).lines().any(|line| line.contains(part))
    });
    let text = log(weir, name);
    let line = text.lines().find(|line| line.contains(part)).unwrap();
    line.to_owned()
}

#[test]
fn each_format_escapes_in_its_own_way() {
    let body = in_server(
        "location / { return 200 x; access_log logs/json.log json; access_log logs/none.log none;
         access_log logs/default.log DEFAULTS; access_log logs/access.log; }",
    );
    let weir = Setup::http(&format!(
        "log_format json escape=json '{{\"uri\":\"$request_uri\",' '\"agent\":\"$http_user_agent\",\"none\":\"$http_none\"}}';
         log_format none escape=none '$request_uri $http_user_agent $http_none|';
         log_format defaults escape=default '$request_uri' ' $http_user_agent $http_none|';
         {body}"
    ))
    .start();
    let agent = b"a\"b\\c/\t\xc3\xa9 \xff\x80";
    let mut client = weir.connect();
    for path in ["/a", "/b"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nUser-Agent: ");
        client
            .send(&[head.as_bytes(), agent, b"\r\n\r\n"].concat())
            .unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
    assert_eq!(
        wait_line(&weir, "default", "/b"),
        "/b a\\x22b\\x5Cc/\\x09\\xC3\\xA9 \\xFF\\x80 -|"
    );
    wait_line(&weir, "none", "/b");
    let none = std::fs::read(weir.path("logs/none.log")).unwrap();
    assert_eq!(
        none,
        [b"/a ", &agent[..], b" |\n/b ", &agent[..], b" |\n"].concat()
    );
    wait_line(&weir, "json", "/b");
    let json = std::fs::read(weir.path("logs/json.log")).unwrap();
    let lines: Vec<Value> = json
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["uri"], "/b");
    assert_eq!(lines[1]["none"], "");
    assert_eq!(lines[1]["agent"], "a\"b\\c/\t\u{e9} \u{fffd}\u{fffd}");
}

#[test]
fn a_condition_leaves_requests_out() {
    let weir = Setup::server(
        "access_log logs/access.log; access_log logs/some.log combined if=$arg_log;
         location / { return 200 x; }",
    )
    .start();
    let mut client = weir.connect();
    for target in [
        "/1?log=0",
        "/2?log=",
        "/3",
        "/4?log=00",
        "/5?log=yes",
        "/6?log=0",
    ] {
        client.get(target).unwrap();
    }
    wait_line(&weir, "access", "/6");
    let text = log(&weir, "some");
    let logged: Vec<_> = text
        .lines()
        .map(|line| line.split(' ').nth(6).unwrap())
        .collect();
    assert_eq!(logged, ["/4?log=00", "/5?log=yes"]);
}

/// With one worker, which logs at once to one log and with this buffer to another.
fn buffered(buffer: &str) -> Setup {
    Setup::server(&format!(
        "access_log logs/access.log; access_log logs/late.log combined {buffer};
         location / {{ return 200 x; }}"
    ))
    .workers(1)
}

#[test]
fn a_buffer_is_written_when_it_is_full_and_holds_whole_lines() {
    let weir = buffered("buffer=1k").start();
    let mut client = weir.connect();
    client.get("/first").unwrap();
    wait_line(&weir, "access", "/first");
    assert_eq!(log(&weir, "late"), "");
    let mut asked = 1;
    wait_until(PATIENCE, "the buffer is full", || {
        client.get("/next").unwrap();
        asked += 1;
        !log(&weir, "late").is_empty()
    });
    let text = log(&weir, "late");
    assert!(text.len() <= 1024 && text.ends_with('\n'), "{text}");
    assert!(text.lines().count() < asked, "the last lines still wait");
    let long = "x".repeat(2000);
    client.get(&format!("/{long}")).unwrap();
    wait_line(&weir, "late", &long);
    assert_eq!(
        log(&weir, "late").lines().count(),
        asked + 1,
        "what waited comes before a line that is longer than the buffer"
    );
}

#[test]
fn a_buffer_is_written_after_its_time() {
    let weir = buffered("buffer=64k flush=300ms").start();
    let begun = std::time::Instant::now();
    weir.get("/one");
    wait_line(&weir, "access", "/one");
    assert!(log(&weir, "late").is_empty() || begun.elapsed() > Duration::from_millis(300));
    wait_line(&weir, "late", "/one");
    assert!(begun.elapsed() >= Duration::from_millis(290));
    weir.get("/two");
    wait_line(&weir, "late", "/two");
}

#[test]
fn nothing_in_a_buffer_is_lost_by_a_signal() {
    let mut weir = buffered("buffer=64k").start();
    weir.get("/one");
    wait_line(&weir, "access", "/one");
    rename(&weir, "late", "rotated");
    weir.signal(Signal::SIGUSR1);
    wait_line(&weir, "rotated", "/one");
    wait_until(PATIENCE, "the log is there again", || {
        weir.path("logs/late.log").exists()
    });
    weir.get("/two");
    wait_line(&weir, "access", "/two");
    weir.reload();
    wait_line(&weir, "late", "/two");
    weir.get("/three");
    wait_line(&weir, "access", "/three");
    assert!(!log(&weir, "late").contains("/three"));
    weir.signal(Signal::SIGQUIT);
    assert_eq!(weir.process().wait(PATIENCE).code(), Some(0));
    wait_line(&weir, "late", "/three");
    assert_eq!(log(&weir, "rotated").lines().count(), 1);
    assert_eq!(log(&weir, "late").lines().count(), 2);
}

#[test]
fn a_fast_end_writes_buffers_too() {
    let mut weir = buffered("buffer=64k").start();
    weir.get("/one");
    wait_line(&weir, "access", "/one");
    weir.signal(Signal::SIGTERM);
    assert_eq!(weir.process().wait(PATIENCE).code(), Some(0));
    wait_line(&weir, "late", "/one");
}

/// Requests for `/a` and `/b` with logs of their own, in one worker.
fn named(cache: &str) -> Weir {
    Setup::server(&format!(
        "{cache} access_log logs/$arg_log.log; location / {{ return 200 x; }}"
    ))
    .workers(1)
    .start()
}

#[test]
fn a_name_with_variables_makes_a_log_each() {
    for cache in ["", "open_log_file_cache max=1;"] {
        let weir = named(cache);
        let mut client = weir.connect();
        for target in ["/1?log=a", "/2?log=b", "/3?log=a"] {
            client.get(target).unwrap();
        }
        wait_line(&weir, "a", "/3");
        assert_eq!(log(&weir, "a").lines().count(), 2);
        wait_line(&weir, "b", "/2");
        client.get("/4?log=none/c").unwrap();
        weir.wait_log("/logs/none/c.log\" failed (2: No such file or directory) while logging request, client: 127.0.0.1, ");
        assert!(weir.error_log().contains("[crit]"));
        assert!(weir.error_log().contains(" open() \"/"));
    }
}

#[test]
fn a_cached_log_is_reopened_by_usr1_and_one_that_is_not_at_once() {
    let weir = named("");
    weir.get("/1?log=a");
    wait_line(&weir, "a", "/1");
    rename(&weir, "a", "old");
    weir.get("/2?log=a");
    wait_line(&weir, "a", "/2");

    let weir = named("open_log_file_cache max=10;");
    weir.get("/1?log=a");
    wait_line(&weir, "a", "/1");
    rename(&weir, "a", "old");
    weir.get("/2?log=a");
    wait_line(&weir, "old", "/2");
    weir.signal(Signal::SIGUSR1);
    wait_until(PATIENCE, "the file of this name is written to", || {
        weir.get("/3?log=a");
        log(&weir, "a").contains("/3")
    });
}

#[test]
fn a_full_disk_stops_no_request_and_is_told_once_a_minute() {
    let weir = Setup::server(
        "keepalive_requests 10000000; access_log /dev/full; location / { return 200 x; }",
    )
    .workers(1)
    .allow("write() to \"/dev/full\" failed")
    .start();
    let mut client = weir.connect();
    assert_eq!(client.get("/1").unwrap().status, 200);
    weir.wait_log("write() to \"/dev/full\" failed (28: No space left on device) while logging request, client: 127.0.0.1, server: , request: \"GET /1 HTTP/1.1\"");
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(2200) {
        assert_eq!(client.get("/2").unwrap().status, 200);
    }
    assert_eq!(weir.error_log().matches("/dev/full").count(), 1);
}

#[test]
fn a_rotation_reaches_requests_of_an_older_configuration() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let backend = Backend::answering(move |_, out| {
        while !gate.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = out.write_all(&ok("late"));
        Then::Keep
    });
    let text = in_http(&in_server(&format!(
        "location / {{ proxy_pass http://{}; }}",
        backend.address()
    )));
    let mut weir = Setup::whole(&text).workers(1).start();
    let mut client = weir.connect();
    client
        .send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "the request is in flight", || backend.count() > 0);
    // The log gets another number.
    weir.rewrite(&text.replace(
        "access_log logs/",
        "access_log logs/other.log; access_log logs/",
    ));
    weir.reload();
    rename(&weir, "access", "old");
    weir.signal(Signal::SIGUSR1);
    wait_until(PATIENCE, "the worker has reopened its logs", || {
        weir.get("/who");
        log(&weir, "access").contains("/who")
    });
    open.store(true, Ordering::Release);
    assert_eq!(client.response("GET").unwrap().text(), "late");
    wait_line(&weir, "access", "/slow");
    holds_for(A_WHILE, "the old file is left alone", || {
        !log(&weir, "old").contains("/slow")
    });
}
