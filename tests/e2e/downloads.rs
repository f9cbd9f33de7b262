//! Reloads while downloads go on for as long as anybody reads: no process comes or goes, and memory
//! does not grow.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::chaos::counts::memory_kb;
use crate::support::backend::{Backend, Then};
use crate::support::client::Client;
use crate::support::process::children;
use crate::support::weir::{Setup, Weir, in_http, in_server};

const RELOADS: usize = 20;
const DOWNLOADS_A_RELOAD: usize = 20;
/// What all the reloads may cost.
const GROWTH_KB: u64 = 2000;
const PAUSE: Duration = Duration::from_millis(300);

#[test]
fn reloads_under_long_downloads_cost_no_process_and_no_memory() {
    let backend = Backend::answering(|_, out| {
        let mut sent = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while sent.is_ok() {
            sent = out.write_all(b"some");
            thread::sleep(PAUSE);
        }
        Then::Close
    });
    let text = |number: usize| {
        in_http(&in_server(&format!(
            "location /long {{ proxy_pass http://{}; proxy_buffering off; }}
             location = /x {{ return 200 {number}; }}",
            backend.address()
        )))
    };
    // One: two would share the downloads now so, now so.
    let mut weir = Setup::whole(&text(0)).workers(1).start();
    let master = weir.pid();
    let before = children(master);
    // As many without a reload.
    let held: Vec<Client> = (0..RELOADS).flat_map(|_| begin(&weir)).collect();
    let plain = memory_kb(master);
    drop(held);
    let mut held = Vec::new();
    for number in 1..=RELOADS {
        held.extend(begin(&weir));
        weir.rewrite(&text(number));
        weir.reload();
        assert_eq!(weir.get("/x").text(), number.to_string());
    }
    let with_reloads = memory_kb(master);
    assert_eq!(children(master), before, "the same processes");
    for client in &mut held {
        assert!(client.fill().unwrap() > 0, "it goes on");
    }
    eprintln!("downloads: {plain} kB without reloads, {with_reloads} kB with them");
    assert!(
        with_reloads < plain + GROWTH_KB,
        "{plain} kB without reloads, {with_reloads} kB with them"
    );
}

/// Begins downloads that do not end.
fn begin(weir: &Weir) -> Vec<Client> {
    let one = |_| {
        let mut client = weir.connect();
        client
            .send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        assert_eq!(client.head().unwrap().status, 200);
        client
    };
    (0..DOWNLOADS_A_RELOAD).map(one).collect()
}
