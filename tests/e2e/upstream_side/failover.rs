//! `proxy_next_upstream` and its limits.

use std::io::Write;

use crate::support::backend::{Backend, Then, answer};
use crate::support::client::Client;
use crate::support::weir::{Setup, Weir, in_server};

/// Answers with this status and its own name.
fn saying(status: &'static str, name: &'static str) -> Backend {
    Backend::answering(move |_, out| {
        let _ = out.write_all(&answer(status, "", name.as_bytes()));
        Then::Keep
    })
}

/// Closes the connection instead of answering.
fn eater() -> Backend {
    Backend::answering(|_, _| Then::Close)
}

/// One worker with an upstream of these servers; `lines` shape the location.
fn weir(servers: &[&Backend], parameters: &str, lines: &str) -> Weir {
    let listed: String = servers
        .iter()
        .map(|server| format!("server {} {parameters};", server.address()))
        .collect();
    let location = format!(
        "location / {{ proxy_pass http://back; add_header X-Status $upstream_status always; {lines} }}"
    );
    Setup::http(&format!(
        "upstream back {{ {listed} }}\n{}",
        in_server(&location)
    ))
    .workers(1)
    .start()
}

/// Status, text, and `$upstream_status` of one request.
fn ask(client: &mut Client, method: &str) -> (u16, String, String) {
    let response = client.request(method, "/", "", b"body").unwrap();
    let tried = response.field("x-status").unwrap_or_default().to_owned();
    (response.status, response.text(), tried)
}

fn triple(status: u16, text: &str, tried: &str) -> (u16, String, String) {
    (status, text.to_owned(), tried.to_owned())
}

#[test]
fn a_status_that_is_named_goes_to_the_next_server_and_counts_as_a_failure() {
    let (bad, good) = (saying("503 Busy", "bad"), saying("200 OK", "good"));
    let weir = weir(
        &[&bad, &good],
        "fail_timeout=300s",
        "proxy_next_upstream http_503;",
    );
    let mut client = weir.connect();
    assert_eq!(ask(&mut client, "GET"), triple(200, "good", "503, 200"));
    for _ in 0..5 {
        assert_eq!(ask(&mut client, "GET"), triple(200, "good", "200"));
    }
    assert_eq!(bad.count(), 1, "max_fails=1 took it out");
    weir.wait_log("upstream server temporarily disabled");
}

#[test]
fn the_last_servers_own_answer_is_the_clients() {
    let (one, two) = (saying("503 Busy", "one"), saying("503 Busy", "two"));
    let weir = weir(
        &[&one, &two],
        "max_fails=0",
        "proxy_next_upstream http_503;",
    );
    let mut client = weir.connect();
    assert_eq!(ask(&mut client, "GET"), triple(503, "two", "503, 503"));
    // Without the word for it no status is a failure, nor is one of another kind.
    let plain = self::weir(
        &[&one, &two],
        "max_fails=0",
        "proxy_next_upstream http_500;",
    );
    assert_eq!(ask(&mut plain.connect(), "GET"), triple(503, "one", "503"));
}

#[test]
fn a_missing_page_says_nothing_of_the_servers_health() {
    let (bad, good) = (saying("404 Not Found", "bad"), saying("200 OK", "good"));
    let weir = weir(
        &[&bad, &good],
        "fail_timeout=300s",
        "proxy_next_upstream http_404;",
    );
    let mut client = weir.connect();
    for _ in 0..6 {
        assert_eq!(ask(&mut client, "GET").0, 200);
    }
    assert_eq!(bad.count(), 3, "it is asked in its turn");
}

#[test]
fn a_post_is_sent_twice_only_where_that_is_said() {
    let (bad, good) = (eater(), saying("200 OK", "good"));
    let usual = weir(&[&bad, &good], "max_fails=0", "");
    assert_eq!(ask(&mut usual.connect(), "POST").0, 502);
    assert_eq!((bad.count(), good.count()), (1, 0));
    let twice = weir(
        &[&bad, &good],
        "max_fails=0",
        "proxy_next_upstream error non_idempotent;",
    );
    assert_eq!(
        ask(&mut twice.connect(), "POST"),
        triple(200, "good", "502, 200")
    );
    assert_eq!(good.requests()[0].body, b"body");
    let failing = saying("500 Oops", "bad");
    let status = weir(
        &[&failing, &good],
        "max_fails=0",
        "proxy_next_upstream http_500;",
    );
    assert_eq!(
        ask(&mut status.connect(), "POST"),
        triple(500, "bad", "500")
    );
}

#[test]
fn tries_are_limited() {
    let servers = [eater(), eater(), eater(), saying("200 OK", "good")];
    let all: Vec<&Backend> = servers.iter().collect();
    let two = weir(&all, "max_fails=0", "proxy_next_upstream_tries 2;");
    assert_eq!(ask(&mut two.connect(), "GET").2, "502, 502");
    let off = weir(&all, "max_fails=0", "proxy_next_upstream off;");
    assert_eq!(ask(&mut off.connect(), "GET").2, "502");
    let unlimited = weir(&all, "max_fails=0", "");
    assert_eq!(ask(&mut unlimited.connect(), "GET").2, "502, 502, 502, 200");
}

#[test]
fn time_is_limited() {
    let silent = Backend::raw(|stream, _| {
        let _ = std::io::Read::read_to_end(stream, &mut Vec::new());
    });
    let good = saying("200 OK", "good");
    let late = weir(
        &[&silent, &good],
        "max_fails=0",
        "proxy_read_timeout 300ms; proxy_next_upstream_timeout 200ms;",
    );
    assert_eq!(ask(&mut late.connect(), "GET").2, "504");
    let patient = weir(
        &[&silent, &good],
        "max_fails=0",
        "proxy_read_timeout 100ms; proxy_next_upstream_timeout 60s;",
    );
    assert_eq!(ask(&mut patient.connect(), "GET").2, "504, 200");
}

#[test]
fn a_header_that_is_none_goes_on_only_where_that_is_said() {
    let noise = Backend::answering(|_, out| {
        let _ = out.write_all(b"220 smtp.example\r\n\r\n");
        Then::Close
    });
    let good = saying("200 OK", "good");
    let usual = weir(&[&noise, &good], "max_fails=0", "");
    assert_eq!(ask(&mut usual.connect(), "GET").2, "502");
    let named = weir(
        &[&noise, &good],
        "max_fails=0",
        "proxy_next_upstream invalid_header;",
    );
    assert_eq!(ask(&mut named.connect(), "GET").2, "502, 200");
}

#[test]
fn when_no_server_is_left_the_log_and_the_variables_name_the_upstream() {
    let (one, two) = (eater(), eater());
    let weir = weir(&[&one, &two], "fail_timeout=300s", "");
    let mut client = weir.connect();
    assert_eq!(ask(&mut client, "GET").2, "502, 502");
    assert_eq!(ask(&mut client, "GET").2, "502");
    weir.wait_log("no live upstreams while connecting to upstream, client: 127.0.0.1, server: ");
    weir.wait_log("upstream: \"http://back/\", host: ");
    assert_eq!(one.count() + two.count(), 2);
}
