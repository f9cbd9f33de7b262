//! How an answer goes to the client.

use std::io::Write;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::backend::{Backend, Then, answer};
use crate::support::process::{Process, guarded, read_lossy};
use crate::support::{PATIENCE, holds_for, tool, wait_until};

use super::super::http_basic::forwarding;
use super::one;

#[test]
fn the_version_is_told_unless_it_must_not_be() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&answer("200 OK", "Server: hidden\r\n", b"x"));
        Then::Keep
    });
    let weir = one(
        "",
        &format!(
            "location /on {{ return 404; }}
             location /off {{ server_tokens off; return 404; }}
             location /build {{ server_tokens build; return 404; }}
             location /proxied {{ server_tokens off; proxy_pass http://{}; }}",
            backend.address()
        ),
    );
    let version = concat!("weir/", env!("CARGO_PKG_VERSION"));
    for (path, product) in [("/on", version), ("/off", "weir"), ("/build", version)] {
        let response = weir.get(path);
        assert_eq!(response.field("server"), Some(product), "{path}");
        let footer = format!("<hr><center>{product}</center>");
        assert!(
            response.text().contains(&footer),
            "{path}: {}",
            response.text()
        );
    }
    assert_eq!(weir.get("/proxied").fields_named("server"), ["weir"]);
}

#[test]
fn without_chunks_an_answer_lasts_until_the_end_of_the_connection() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        );
        Then::Keep
    });
    let ask = |directives: &str| {
        let weir = forwarding(&backend, directives).start();
        weir.get("/")
    };
    let chunked = ask("");
    assert_eq!(chunked.field("transfer-encoding"), Some("chunked"));
    assert!(chunked.keeps());
    let plain = ask("chunked_transfer_encoding off;");
    assert_eq!(
        (plain.field("transfer-encoding"), plain.keeps()),
        (None, false)
    );
    assert_eq!(
        (chunked.text(), plain.text()),
        ("abcde".into(), "abcde".into())
    );
}

#[test]
fn nodelay_is_a_locations() {
    let weir = one(
        "",
        "location / { return 200 x; } location /off { tcp_nodelay off; return 200 x; }",
    );
    let mut client = weir.connect();
    let worker = weir.workers()[0];
    let log = weir.path("trace");
    let mut command = guarded(tool("strace"));
    command
        .args(["-qq", "-e", "trace=setsockopt", "-o"])
        .arg(&log)
        .args(["-p", &worker.to_string()]);
    let mut strace = Process::start(&mut command, &weir.path("strace"));
    let told = || read_lossy(&log);
    wait_until(PATIENCE, "the trace sees what is set", || {
        client.get("/off").unwrap();
        client.get("/").unwrap();
        told().contains("TCP_NODELAY, [1]")
    });
    assert!(told().contains("TCP_NODELAY, [0]"), "{}", told());
    let before = told().lines().count();
    holds_for(Duration::from_millis(50), "nothing is set again", || {
        client.get("/").unwrap();
        told().lines().count() == before
    });
    strace.signal(Signal::SIGINT);
    strace.wait(PATIENCE);
}
